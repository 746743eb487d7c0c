/* SPDX-License-Identifier: ISC */
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/dev_net.h>

#include "fake_vmm.h"

#define ALL_LINK (WH_NET_LINK_CSUM | WH_NET_LINK_TSO4 | WH_NET_LINK_TSO6 | WH_NET_LINK_USO)

static struct wh_dev_net *net;
static struct wh_net_port *port;
static struct {
	struct wh_net_frame f;
	uint8_t data[WH_NET_FRAME_SIZE_MAX];
	unsigned count, writable;
	bool full;
} seen;

static int receive(struct wh_net_port *p, const struct wh_net_frame *f)
{
	if (seen.full)
		return -WH_EAGAIN;
	seen.f = *f;
	seen.count++;
	CHECK_EQ(wh_iov_read(f->iov, f->iov_count, 0, seen.data, sizeof seen.data), f->size);
	return 0;
}

static void writable(struct wh_net_port *p)
{
	seen.writable++;
}

static void set_up(uint64_t features)
{
	struct wh_dev_net_config c = { .size = sizeof c,
				       .mac = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 },
				       .offloads = ALL_LINK };
	memset(&seen, 0, sizeof seen);
	CHECK_EQ(wh_dev_net_new(&c, fake_new(), &net, NULL), 0);
	port = wh_dev_net_port(net);
	port->receive = receive;
	port->writable = writable;
	CHECK_MEM(fake.shm->config, c.mac, 6);
	CHECK_EQ(port->mtu, 1500);
	struct wh_net_frame f = { .size = 60 };
	CHECK_EQ(port->send(port, &f), -WH_EAGAIN); /* nobody there yet */
	fake_start(features, 64);
	CHECK_EQ(seen.writable, 1);
}

static void tear_down(void)
{
	wh_dev_net_free(net);
	fake_free();
}

/* Sends header and `size` bytes of frame in `pieces` buffers. */
static void transmit(const uint8_t *header, uint32_t size, uint32_t pieces)
{
	uint8_t *p = fake.ram + FAKE_DATA;
	struct wh_iov v[64];
	memcpy(p, header, WH_VIRTIO_NET_HDR_SIZE);
	for (uint32_t i = 0; i < size; i++)
		p[WH_VIRTIO_NET_HDR_SIZE + i] = (uint8_t)(i * 5);
	uint32_t total = size + WH_VIRTIO_NET_HDR_SIZE, part = total / pieces;
	for (uint32_t i = 0; i < pieces; i++)
		v[i] = (struct wh_iov){ p + i * part, i + 1 < pieces ? part : total - i * part };
	CHECK_EQ(fake_ask(1, v, pieces, 0), 0);
}

static void header(uint8_t *h, uint8_t flags, uint8_t gso, uint16_t gso_size, uint16_t start,
		   uint16_t offset)
{
	memset(h, 0, WH_VIRTIO_NET_HDR_SIZE);
	h[WH_VIRTIO_NET_HDR_FLAGS] = flags;
	h[WH_VIRTIO_NET_HDR_GSO_TYPE] = gso;
	wh_store_le16(h + WH_VIRTIO_NET_HDR_GSO_SIZE, gso_size);
	wh_store_le16(h + WH_VIRTIO_NET_HDR_CSUM_START, start);
	wh_store_le16(h + WH_VIRTIO_NET_HDR_CSUM_OFFSET, offset);
}

static void from_guest(void)
{
	uint8_t h[WH_VIRTIO_NET_HDR_SIZE];
	set_up(WH_VIRTIO_NET_F_CSUM | WH_VIRTIO_NET_F_HOST_TSO4);
	header(h, 0, 0, 0, 0, 0);
	transmit(h, 60, 1);
	CHECK_EQ(seen.f.size, 60);
	CHECK_EQ(seen.f.flags, 0);
	header(h, WH_NET_NEEDS_CSUM, WH_NET_GSO_TCPV4, 1460, 34, 16);
	transmit(h, 60000, 3);
	CHECK_EQ(seen.f.size, 60000);
	CHECK_EQ(seen.f.gso_type, WH_NET_GSO_TCPV4);
	CHECK_EQ(seen.f.gso_size, 1460);
	CHECK_EQ(seen.f.csum_start, 34);
	for (uint32_t i = 0; i < 60000; i++)
		CHECK_EQ(seen.data[i], (uint8_t)(i * 5));
	header(h, 0, 0, 0, 0, 0);
	transmit(h, 1000, 50); /* more pieces than a frame has: copied together */
	CHECK_EQ(seen.f.size, 1000);
	CHECK_EQ(seen.f.iov_count, 1);
	CHECK_EQ(seen.data[999], (uint8_t)(999 * 5));
	CHECK_EQ(seen.count, 3);
	CHECK(!fake_broken());
	tear_down();
}

static void nonsense_is_dropped(void)
{
	static const struct {
		uint8_t flags, gso;
		uint16_t gso_size, start, offset;
		uint32_t size;
	} bad[] = {
		{ 1, 0, 0, 34, 16, 50 },          /* checksum behind the end */
		{ 1, 0, 0, 65535, 65535, 60000 }, /* the same, with wrap */
		{ 1, 1, 0, 34, 16, 1000 },        /* segments of no bytes */
		{ 0, 1, 1460, 0, 0, 1000 },       /* segments without checksum */
		{ 1, 4, 1460, 34, 16, 1000 },     /* TSO6 was not negotiated */
		{ 1, 77, 1460, 34, 16, 1000 },    /* unknown */
		{ 0, 0, 0, 0, 0, 13 },            /* no Ethernet header */
		{ 0, 0, 0, 0, 0, 66000 },         /* too long */
	};
	uint8_t h[WH_VIRTIO_NET_HDR_SIZE];
	set_up(WH_VIRTIO_NET_F_CSUM | WH_VIRTIO_NET_F_HOST_TSO4);
	for (size_t i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		header(h, bad[i].flags, bad[i].gso, bad[i].gso_size, bad[i].start, bad[i].offset);
		transmit(h, bad[i].size, 1);
	}
	struct wh_iov tiny = { fake.ram + FAKE_DATA, 5 };
	CHECK_EQ(fake_ask(1, &tiny, 1, 0), 0);
	CHECK_EQ(fake_ask(1, &tiny, 0, 1), 0);
	CHECK_EQ(seen.count, 0);
	CHECK(!fake_broken());
	tear_down();
}

static void held_and_resumed(void)
{
	set_up(WH_VIRTQ_F_EVENT_IDX);
	void *cookie;
	uint32_t written;
	struct wh_iov v = { fake.ram + FAKE_DATA, WH_VIRTIO_NET_HDR_SIZE + 60 };
	seen.full = true;
	for (int i = 0; i < 3; i++)
		fake_send(1, &v, 1, 0, &v);
	CHECK_EQ(fake_get(1, &cookie, &written), 0);
	CHECK_EQ(seen.count, 0);
	seen.full = false;
	port->resume(port);
	CHECK_EQ(seen.count, 3);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(fake_get(1, &cookie, &written), 1);
	fake_send(1, &v, 1, 0, &v);
	CHECK_EQ(seen.count, 4);
	tear_down();
}

static uint8_t frame_data[WH_NET_FRAME_SIZE_MAX];

static struct wh_net_frame frame(struct wh_iov *v, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++)
		frame_data[i] = (uint8_t)(i * 3);
	v[0] = (struct wh_iov){ frame_data, 14 };
	v[1] = (struct wh_iov){ frame_data + 14, size - 14 };
	return (struct wh_net_frame){ .iov = v, .iov_count = 2, .size = size };
}

static void to_guest(void)
{
	set_up(WH_VIRTIO_NET_F_MRG_RXBUF | WH_VIRTIO_NET_F_GUEST_CSUM | WH_VIRTIO_NET_F_GUEST_TSO4);
	CHECK_EQ(port->link_features, WH_NET_LINK_CSUM | WH_NET_LINK_TSO4);
	uint8_t *p = fake.ram + FAKE_DATA;
	struct wh_iov v[2], rx;
	struct wh_net_frame f = frame(v, 5000);
	void *cookie;
	uint32_t written;
	CHECK_EQ(port->send(port, &f), -WH_EAGAIN);
	for (uint32_t i = 0; i < 2; i++) {
		rx = (struct wh_iov){ p + i * 2048, 2048 };
		fake_send(0, &rx, 0, 1, rx.base);
	}
	CHECK_EQ(seen.writable, 2);                 /* told at the first buffer */
	CHECK_EQ(port->send(port, &f), -WH_EAGAIN); /* two of three */
	CHECK_EQ(fake_get(0, &cookie, &written), 0);
	rx = (struct wh_iov){ p + 2 * 2048, 2048 };
	fake_send(0, &rx, 0, 1, rx.base);
	CHECK_EQ(seen.writable, 3);
	f.flags = WH_NET_NEEDS_CSUM;
	f.gso_type = WH_NET_GSO_TCPV4;
	f.gso_size = 1460;
	f.csum_start = 34;
	f.csum_offset = 16;
	CHECK_EQ(port->send(port, &f), 0);
	CHECK(!(fake.shm->interrupt & 1));
	port->flush(port);
	CHECK(fake.shm->interrupt & 1);
	CHECK_EQ(p[WH_VIRTIO_NET_HDR_FLAGS], WH_NET_NEEDS_CSUM);
	CHECK_EQ(wh_load_le16(p + WH_VIRTIO_NET_HDR_GSO_SIZE), 1460);
	CHECK_EQ(wh_load_le16(p + WH_VIRTIO_NET_HDR_NUM_BUFFERS), 3);
	uint32_t sizes[] = { 2048, 2048, 5012 - 4096 };
	for (uint32_t i = 0; i < 3; i++) {
		CHECK_EQ(fake_get(0, &cookie, &written), 1);
		CHECK_EQ(written, sizes[i]);
	}
	CHECK_MEM(p + WH_VIRTIO_NET_HDR_SIZE, frame_data, 5000);
	f.gso_type = WH_NET_GSO_TCPV6; /* the guest did not ask for that */
	CHECK_EQ(port->send(port, &f), -WH_EMSGSIZE);
	tear_down();
}

static void without_merging(void)
{
	set_up(0);
	CHECK_EQ(port->link_features, 0);
	struct wh_iov v[2],
		rx[2] = { { fake.ram + FAKE_DATA, 7 }, { fake.ram + FAKE_DATA + 7, 1505 } };
	struct wh_net_frame f = frame(v, 1500);
	void *cookie;
	uint32_t written;
	fake_send(0, rx, 0, 2, rx);  /* the header is split */
	f.flags = WH_NET_DATA_VALID; /* says nothing to a guest without checksums */
	CHECK_EQ(port->send(port, &f), 0);
	CHECK_EQ(fake_get(0, &cookie, &written), 1);
	CHECK_EQ(written, 1512);
	CHECK_EQ(fake.ram[FAKE_DATA + WH_VIRTIO_NET_HDR_FLAGS], 0);
	CHECK_EQ(fake.ram[FAKE_DATA + WH_VIRTIO_NET_HDR_NUM_BUFFERS], 1);
	CHECK_MEM(fake.ram + FAKE_DATA + WH_VIRTIO_NET_HDR_SIZE, frame_data, 1500);
	fake_send(0, rx, 0, 2, rx);
	f = frame(v, 1501);
	CHECK_EQ(port->send(port, &f), -WH_EMSGSIZE);
	f = frame(v, 100); /* the buffer is still there */
	CHECK_EQ(port->send(port, &f), 0);
	tear_down();
}

int main(void)
{
	RUN(from_guest);
	RUN(nonsense_is_dropped);
	RUN(held_and_resumed);
	RUN(to_guest);
	RUN(without_merging);
	return test_end();
}
