/* SPDX-License-Identifier: ISC */
#include <drv/net.h>
#include <drv/virtio.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/virtio_wire.h>

#define RX_ENTRIES_MAX 128u /* buffers of a page: seven segments of 64 KiB */
#define RX_ENTRIES_MIN 32u  /* little guests: one such segment, or 32 small frames */
#define TX_ENTRIES 64u      /* two descriptors a frame at most */
#define TX_SIZE_MAX (256u << 10)
#define TX_SIZE_MIN (128u << 10) /* holds one segment of 64 KiB while another is sent */
#define HEADER WH_VIRTIO_NET_HDR_SIZE

/* One frame in flight; the device need not return them in order. */
struct tx_frame {
	uint32_t size;
	bool done;
};

static struct drv_net {
	struct drv_virtio dev;
	struct wh_virtq_driver rx, tx;
	struct wh_net_port port;
	uint8_t mac[6];
	bool open, broken, mergeable, blocked;
	uint8_t *tx_buffer;
	uint32_t tx_size;           /* power of two */
	uint64_t tx_head, tx_tail;  /* bytes for ever */
	uint32_t tx_first, tx_next; /* frames for ever */
	struct tx_frame tx_frame[TX_ENTRIES];
} drv_net;

DRV_VIRTIO_RING(rx_memory, RX_ENTRIES_MAX);
DRV_VIRTIO_RING(tx_memory, TX_ENTRIES);

struct wh_net_port *drv_net_port(void)
{
	return drv_net.open ? &drv_net.port : NULL;
}

void drv_net_mac(uint8_t ret_mac[6])
{
	memcpy(ret_mac, drv_net.mac, 6);
}

/* ---- Out ---- */

static bool tx_reclaim(struct drv_net *n)
{
	void *cookie;
	uint32_t written;
	bool any = false;
	int r;
	while ((r = wh_virtq_driver_get(&n->tx, &cookie, &written)) > 0) {
		((struct tx_frame *)cookie)->done = true;
		any = true;
	}
	n->broken |= r < 0;
	while (n->tx_first != n->tx_next && n->tx_frame[n->tx_first % TX_ENTRIES].done) {
		n->tx_tail += n->tx_frame[n->tx_first % TX_ENTRIES].size;
		n->tx_first++;
	}
	/* Empty: begin at the front again, so that light traffic touches few pages. */
	if (n->tx_head == n->tx_tail)
		n->tx_head = n->tx_tail = 0;
	return any;
}

static bool tx_fits(const struct drv_net *n, uint32_t size)
{
	return n->tx_size - (n->tx_head - n->tx_tail) >= size &&
	       wh_virtq_driver_free_count(&n->tx) >= 2 && n->tx_next - n->tx_first < TX_ENTRIES;
}

static void header_emit(uint8_t *h, const struct wh_net_frame *f)
{
	h[WH_VIRTIO_NET_HDR_FLAGS] = f->flags & WH_NET_NEEDS_CSUM;
	h[WH_VIRTIO_NET_HDR_GSO_TYPE] = f->gso_type;
	wh_store_le16(h + WH_VIRTIO_NET_HDR_HDR_LEN, f->hdr_len);
	wh_store_le16(h + WH_VIRTIO_NET_HDR_GSO_SIZE, f->gso_size);
	wh_store_le16(h + WH_VIRTIO_NET_HDR_CSUM_START, f->csum_start);
	wh_store_le16(h + WH_VIRTIO_NET_HDR_CSUM_OFFSET, f->csum_offset);
	wh_store_le16(h + WH_VIRTIO_NET_HDR_NUM_BUFFERS, 0);
}

/* Copies to the ring at the head, which may wrap. */
static void tx_put(struct drv_net *n, uint32_t *at, const uint8_t *from, size_t size)
{
	uint32_t offset = *at & (n->tx_size - 1);
	size_t first = n->tx_size - offset < size ? n->tx_size - offset : size;
	memcpy(n->tx_buffer + offset, from, first);
	memcpy(n->tx_buffer, from + first, size - first);
	*at += (uint32_t)size;
}

static int port_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	struct drv_net *n = port->provider;
	uint8_t header[HEADER];
	uint32_t size = HEADER + f->size;
	if (n->broken || size > n->tx_size)
		return -WH_EIO;
	if (!tx_fits(n, size))
		tx_reclaim(n);
	while (!tx_fits(n, size)) {
		n->blocked = true;
		if (!wh_virtq_driver_interrupts_on(&n->tx) || !tx_reclaim(n))
			return -WH_EAGAIN;
	}
	uint32_t start = (uint32_t)(n->tx_head & (n->tx_size - 1)), at = start;
	header_emit(header, f);
	tx_put(n, &at, header, HEADER);
	for (uint32_t i = 0; i < f->iov_count; i++)
		tx_put(n, &at, f->iov[i].base, f->iov[i].size);
	wh_assert(at - start == size);
	uint32_t first = n->tx_size - start < size ? n->tx_size - start : size;
	struct wh_iov iov[2] = { { n->tx_buffer + start, first }, { n->tx_buffer, size - first } };
	struct tx_frame *frame = &n->tx_frame[n->tx_next % TX_ENTRIES];
	*frame = (struct tx_frame){ .size = size };
	if (wh_virtq_driver_add(&n->tx, iov, size > first ? 2 : 1, 0, frame) < 0)
		return -WH_EIO;
	n->tx_next++;
	n->tx_head += size;
	return 0;
}

static void port_flush(struct wh_net_port *port)
{
	struct drv_net *n = port->provider;
	drv_virtio_kick(&n->dev, 1, &n->tx);
}

/* ---- In ---- */

static void rx_add(struct drv_net *n, void *page)
{
	struct wh_iov iov = { page, KERN_PAGE };
	if (wh_virtq_driver_add(&n->rx, &iov, 0, 1, page) < 0)
		n->broken = true;
}

/* One frame, over as many buffers as its header says. false = nothing there. */
static bool rx_frame(struct drv_net *n)
{
	struct wh_iov iov[WH_NET_FRAME_IOV_MAX];
	uint8_t header[HEADER];
	void *page;
	uint32_t written, count = 1;
	int r = wh_virtq_driver_get(&n->rx, &page, &written);
	n->broken |= r < 0;
	if (r <= 0)
		return false;
	bool good = written >= HEADER && written <= KERN_PAGE;
	memcpy(header, page, HEADER);
	uint32_t buffers = wh_load_le16(header + WH_VIRTIO_NET_HDR_NUM_BUFFERS);
	if (!n->mergeable || !good)
		buffers = 1;
	iov[0] = (struct wh_iov){ (uint8_t *)page + HEADER, good ? written - HEADER : 0 };
	for (; count < buffers && count < WH_NET_FRAME_IOV_MAX; count++) {
		/* All buffers of a frame are published together (5.1.6.4). */
		r = wh_virtq_driver_get(&n->rx, &page, &written);
		if (r <= 0)
			break;
		good &= written && written <= KERN_PAGE;
		iov[count] = (struct wh_iov){ page, written <= KERN_PAGE ? written : 0 };
	}
	struct wh_net_frame frame = {
		.iov = iov,
		.iov_count = count,
		.size = (uint32_t)wh_iov_size(iov, count),
		.flags = header[WH_VIRTIO_NET_HDR_FLAGS] & (WH_NET_NEEDS_CSUM | WH_NET_DATA_VALID),
		.gso_type = header[WH_VIRTIO_NET_HDR_GSO_TYPE] & 0x7f, /* without the ECN bit */
		.gso_size = wh_load_le16(header + WH_VIRTIO_NET_HDR_GSO_SIZE),
		.hdr_len = wh_load_le16(header + WH_VIRTIO_NET_HDR_HDR_LEN),
		.csum_start = wh_load_le16(header + WH_VIRTIO_NET_HDR_CSUM_START),
		.csum_offset = wh_load_le16(header + WH_VIRTIO_NET_HDR_CSUM_OFFSET),
	};
	if (good && count == (buffers ? buffers : 1) && n->port.receive)
		(void)n->port.receive(&n->port, &frame); /* our user always takes it */
	for (uint32_t i = 0; i < count; i++)
		rx_add(n, (void *)((uintptr_t)iov[i].base & ~(uintptr_t)(KERN_PAGE - 1)));
	return true;
}

void drv_net_poll(void)
{
	struct drv_net *n = &drv_net;
	bool any = false;
	if (!n->open)
		return;
	do {
		while (!n->broken && rx_frame(n))
			any = true;
	} while (!n->broken && wh_virtq_driver_interrupts_on(&n->rx));
	if (any) {
		drv_virtio_kick(&n->dev, 0, &n->rx);
		if (n->port.receive_done)
			n->port.receive_done(&n->port);
	}
	if (n->blocked && tx_reclaim(n)) {
		n->blocked = false;
		wh_virtq_driver_interrupts_off(&n->tx);
		if (n->port.writable)
			n->port.writable(&n->port);
	}
}

/* ---- Start ---- */

static uint32_t link_features(uint64_t features)
{
	return (features & WH_VIRTIO_NET_F_CSUM ? WH_NET_LINK_CSUM : 0) |
	       (features & WH_VIRTIO_NET_F_HOST_TSO4 ? WH_NET_LINK_TSO4 : 0) |
	       (features & WH_VIRTIO_NET_F_HOST_TSO6 ? WH_NET_LINK_TSO6 : 0);
}

static int negotiate(struct drv_net *n)
{
	const uint64_t plain = WH_VIRTIO_NET_F_CSUM | WH_VIRTIO_NET_F_GUEST_CSUM |
			       WH_VIRTIO_NET_F_MTU | WH_VIRTIO_NET_F_MAC |
			       WH_VIRTIO_NET_F_HOST_TSO4 | WH_VIRTIO_NET_F_HOST_TSO6;
	/* Large frames come in only where they may be spread over pages. */
	const uint64_t large =
		WH_VIRTIO_NET_F_MRG_RXBUF | WH_VIRTIO_NET_F_GUEST_TSO4 | WH_VIRTIO_NET_F_GUEST_TSO6;
	uint64_t offered = n->dev.transport->features(&n->dev);
	bool merge = offered & WH_VIRTIO_NET_F_MRG_RXBUF;
	int r = drv_virtio_start(&n->dev, plain | (merge ? large : 0));
	if (r < 0)
		return r;
	n->mergeable = n->dev.features & WH_VIRTIO_NET_F_MRG_RXBUF;
	n->port.link_features = link_features(n->dev.features);
	n->port.mtu = 1500;
	if (n->dev.features & WH_VIRTIO_NET_F_MTU) {
		uint8_t mtu[2];
		n->dev.transport->config_read(&n->dev, WH_VIRTIO_NET_CONFIG_MTU, mtu, 2);
		n->port.mtu = wh_load_le16(mtu);
	}
	/* 1280 is IPv6's least; above a page a frame would need merging. */
	if (n->port.mtu < 1280 || (!merge && n->port.mtu > KERN_PAGE - HEADER - 14))
		return -WH_ENODEV;
	if (n->dev.features & WH_VIRTIO_NET_F_MAC) {
		n->dev.transport->config_read(&n->dev, WH_VIRTIO_NET_CONFIG_MAC, n->mac, 6);
	} else {
		kern_random(n->mac, 6);
		n->mac[0] = (uint8_t)((n->mac[0] & 0xfc) | 2);
	}
	return 0;
}

static int queues_start(struct drv_net *n)
{
	size_t ram = kern_pages_total_count();
	uint32_t entries = RX_ENTRIES_MIN;
	while (entries < RX_ENTRIES_MAX && entries * 2 <= ram / 32)
		entries *= 2;
	int r = drv_virtio_queue(&n->dev, 0, &n->rx, entries, rx_memory.ring, rx_memory.slots);
	if (r >= 0)
		r = drv_virtio_queue(&n->dev, 1, &n->tx, TX_ENTRIES, tx_memory.ring,
				     tx_memory.slots);
	if (r < 0)
		return r;
	n->tx_size = entries == RX_ENTRIES_MAX ? TX_SIZE_MAX : TX_SIZE_MIN;
	n->tx_buffer = kern_pages_alloc(n->tx_size / KERN_PAGE);
	uint8_t *pages = kern_pages_alloc(n->rx.size);
	if (!n->tx_buffer || !pages)
		return -WH_ENOMEM;
	for (uint32_t i = 0; i < n->rx.size; i++)
		rx_add(n, pages + (size_t)i * KERN_PAGE);
	wh_virtq_driver_interrupts_off(&n->tx);
	return 0;
}

int drv_net_init(void)
{
	struct drv_net *n = &drv_net;
	const struct wh_boot_device *boot = drv_virtio_find(WH_VIRTIO_ID_NET, 0);
	if (!boot)
		return 0;
	int r = drv_virtio_open(&n->dev, boot);
	if (r >= 0)
		r = negotiate(n);
	if (r >= 0)
		r = queues_start(n);
	if (r < 0)
		return r;
	n->port.send = port_send;
	n->port.flush = port_flush;
	n->port.provider = n;
	n->open = true;
	n->dev.transport->driver_ok(&n->dev);
	drv_virtio_kick(&n->dev, 0, &n->rx);
	return 0;
}
