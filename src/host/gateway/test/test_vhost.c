/* SPDX-License-Identifier: ISC */
/* The vhost-user port: a front end by hand, right and wrong; and the segments that the switch finishes. */
#include "front_end.h"

#include "../segment.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/net_wire.h>
#include <wherry/os.h>
#include <wherry/test.h>

#define FRAME_AT 0x10000u
#define BUFFERS_AT 0x40000u
#define HEADER WH_VIRTIO_NET_HDR_SIZE

static struct front_end f;

static int user_send(const uint8_t *bytes, uint32_t size, uint8_t flags, uint8_t gso)
{
	struct wh_iov iov = { (void *)bytes, size };
	struct wh_net_frame frame = { .iov = &iov, .iov_count = 1, .size = size };
	frame.flags = flags;
	frame.gso_type = gso;
	frame.gso_size = gso ? 1000 : 0;
	frame.csum_start = flags ? 34 : 0;
	frame.csum_offset = flags ? 16 : 0;
	int error = f.port->send(f.port, &frame);
	if (f.port->flush)
		f.port->flush(f.port);
	return error;
}

static void frames_cross(void)
{
	uint8_t *frame, bytes[3000] = { 0 };
	void *cookie;
	uint32_t size;
	front_begin(&f);
	frame = f.memory + FRAME_AT;
	CHECK_EQ(user_send(bytes, 60, 0, 0), -WH_ENETDOWN); /* no ring yet */
	front_start(&f, FRONT_FEATURES);
	CHECK_EQ(f.port->link_features, WH_NET_LINK_CSUM | WH_NET_LINK_TSO4);
	CHECK(f.writable > 0);
	/* guest to user; the second one leaves its checksum undone */
	memset(frame, 0, HEADER);
	memset(frame + HEADER, 0x5a, 100);
	front_send(&f, FRAME_AT, HEADER + 100);
	CHECK_EQ(f.received, 1);
	CHECK_EQ(f.last_frame.size, 100);
	frame[0] = WH_NET_NEEDS_CSUM;
	wh_store_le16(frame + 6, 34);
	wh_store_le16(frame + 8, 16);
	front_send(&f, FRAME_AT, HEADER + 100);
	CHECK_EQ(f.last_frame.csum_start, 34);
	CHECK(front_called(&f, 1));
	CHECK_EQ(wh_virtq_driver_get(&f.ring[1], &cookie, &size), 1);
	/* a user without room gets it again */
	f.refuse = 1;
	front_send(&f, FRAME_AT, HEADER + 100);
	CHECK_EQ(f.received, 2);
	f.port->resume(f.port);
	front_settle(&f);
	CHECK_EQ(f.received, 3);
	/* user to guest: no buffers; then one frame in three of them */
	CHECK_EQ(user_send(bytes, 60, 0, 0), -WH_EAGAIN);
	uint32_t writable = f.writable;
	for (uint32_t i = 0; i < 4; i++)
		front_offer(&f, BUFFERS_AT + i * 2048, 1024);
	CHECK(f.writable > writable);
	for (uint32_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)i;
	CHECK_EQ(user_send(bytes, 3000, WH_NET_NEEDS_CSUM, WH_NET_GSO_TCPV4), 0);
	CHECK(front_called(&f, 0));
	for (uint32_t i = 0, done = 0; i < 3; i++, done += size) {
		CHECK_EQ(wh_virtq_driver_get(&f.ring[0], &cookie, &size), 1);
		uint32_t skip = i ? 0 : HEADER;
		CHECK_EQ(size, i < 2 ? 1024 : 3000 + HEADER - 2048);
		CHECK_MEM((uint8_t *)cookie + skip, bytes + done + skip - HEADER, size - skip);
	}
	CHECK_EQ(wh_load_le16(f.memory + BUFFERS_AT + WH_VIRTIO_NET_HDR_NUM_BUFFERS), 3);
	CHECK_EQ(f.memory[BUFFERS_AT], WH_NET_NEEDS_CSUM);
	CHECK_EQ(f.memory[BUFFERS_AT + 1], WH_NET_GSO_TCPV4);
	/* one buffer is left: too small, then right */
	CHECK_EQ(user_send(bytes, 2000, 0, 0), -WH_EAGAIN);
	CHECK_EQ(user_send(bytes, 1000, 0, 0), 0);
	front_end(&f);
}

static void restarts(void)
{
	struct wh_vhost_stats stats;
	void *cookie;
	uint32_t size;
	front_begin(&f);
	front_start(&f, FRONT_FEATURES);
	for (int i = 0; i < 5; i++)
		front_send(&f, FRAME_AT, HEADER + 60);
	/* memory at another place, while it runs */
	front_region(&f, VHOST_SET_MEM_TABLE, FRONT_GUEST, FRONT_MEMORY, FRONT_USER, 0,
		     f.memory_fd);
	CHECK(!f.gone);
	front_send(&f, FRAME_AT, HEADER + 60);
	CHECK_EQ(f.received, 6);
	/* stopped and gone on */
	front_state(&f, VHOST_GET_VRING_BASE, 1, 0);
	CHECK_EQ(front_answer(&f, VHOST_GET_VRING_BASE), (int64_t)6 << 32 | 1);
	front_send(&f, FRAME_AT, HEADER + 60);
	CHECK_EQ(f.received, 6);
	front_start_ring(&f, 1, 6);
	CHECK_EQ(f.received, 7); /* what waited */
	while (wh_virtq_driver_get(&f.ring[1], &cookie, &size) > 0)
		;
	CHECK_EQ(wh_virtq_driver_free_count(&f.ring[1]), FRONT_RING_SIZE);
	/* disabled: nothing moves */
	front_state(&f, VHOST_SET_VRING_ENABLE, 1, 0);
	front_send(&f, FRAME_AT, HEADER + 60);
	CHECK_EQ(f.received, 7);
	front_state(&f, VHOST_SET_VRING_ENABLE, 1, 1);
	CHECK_EQ(f.received, 8);
	/* a slot more and less */
	front_region(&f, VHOST_ADD_MEM_REG, 0, 4096, 4096, 8192, f.memory_fd);
	front_region(&f, VHOST_REM_MEM_REG, 0, 4096, 4096, 8192, -1);
	CHECK(!f.gone);
	wh_vhost_port_stats(f.vhost, &stats);
	CHECK_EQ(stats.frames_in, 8);
	wh_os_close(&f.peer);
	front_settle(&f);
	CHECK_STR(f.gone, "the client has left");
	front_end(&f);
}

/* Begins, lets the front end do wrong, and looks at what it is told. */
static void wrong(void (*act)(void), const char *why)
{
	front_begin(&f);
	front_start(&f, FRONT_FEATURES);
	act();
	front_settle(&f);
	CHECK_STR(f.gone ? f.gone : "nothing", why);
	(void)user_send(f.memory, 60, 0, 0);
	front_end(&f);
}

static void version(void)
{
	uint32_t header[3] = { VHOST_SET_OWNER, 2, 0 };
	(void)!write(f.peer, header, sizeof header);
}
static void long_one(void)
{
	uint32_t header[3] = { VHOST_SET_OWNER, VHOST_VERSION, VHOST_PAYLOAD_MAX + 1 };
	(void)!write(f.peer, header, sizeof header);
}
static void short_one(void)
{
	front_say(&f, VHOST_SET_FEATURES, 0, "1234", 4, NULL, 0);
}
static void unknown(void)
{
	front_say(&f, 99, 0, NULL, 0, NULL, 0);
}
static void logging(void)
{
	front_u64(&f, VHOST_SET_FEATURES, FRONT_FEATURES | VHOST_F_LOG_ALL);
}
static void not_offered(void)
{
	front_u64(&f, VHOST_SET_FEATURES, FRONT_FEATURES | 1ull << 60);
}
static void many_fds(void)
{
	int fds[9];
	for (int i = 0; i < 9; i++)
		fds[i] = f.memory_fd;
	front_say(&f, VHOST_SET_OWNER, 0, NULL, 0, fds, 9);
}
static void beyond_file(void)
{
	front_region(&f, VHOST_SET_MEM_TABLE, 0, FRONT_MEMORY, FRONT_USER, 4096, f.memory_fd);
}
static void wrapping(void)
{
	front_region(&f, VHOST_SET_MEM_TABLE, 0, FRONT_MEMORY, FRONT_USER, UINT64_MAX - 4095,
		     f.memory_fd);
}
static void overlapping(void)
{
	front_region(&f, VHOST_ADD_MEM_REG, FRONT_GUEST + 4096, 4096, 0, 0, f.memory_fd);
}
static void overlapping_user(void)
{
	front_region(&f, VHOST_ADD_MEM_REG, 0, 4096, FRONT_USER + 4096, 0, f.memory_fd);
}
static void no_memory_fd(void)
{
	front_region(&f, VHOST_SET_MEM_TABLE, 0, FRONT_MEMORY, FRONT_USER, 0, -1);
}
static void device_memory(void)
{
	int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	front_region(&f, VHOST_SET_MEM_TABLE, 0, 4096, FRONT_USER, 0, fd);
	wh_os_close(&fd);
}
static void memory_gone_from_rings(void)
{
	front_region(&f, VHOST_SET_MEM_TABLE, 0, 4096, 4096, 0, f.memory_fd);
}
static void no_such_region(void)
{
	front_region(&f, VHOST_REM_MEM_REG, 1, 2, 3, 0, -1);
}
static void ring_number(void)
{
	front_state(&f, VHOST_SET_VRING_NUM, 16, 64);
}
static void ring_size(void)
{
	front_state(&f, VHOST_SET_VRING_NUM, 2, 2048);
}
static void ring_outside(void)
{
	uint64_t payload[5] = { 0, FRONT_USER + FRONT_MEMORY - 16, FRONT_USER, FRONT_USER, 0 };
	front_say(&f, VHOST_SET_VRING_ADDR, 0, payload, sizeof payload, NULL, 0);
}
static void ring_address_log(void)
{
	uint64_t payload[5] = { (uint64_t)VHOST_ADDR_LOG << 32, 0, 0, 0, 0 };
	front_say(&f, VHOST_SET_VRING_ADDR, 0, payload, sizeof payload, NULL, 0);
}
static void polling(void)
{
	front_ring_fd(&f, VHOST_SET_VRING_KICK, 0, -1);
}
static void kick_is_file(void)
{
	front_ring_fd(&f, VHOST_SET_VRING_KICK, 0, f.memory_fd);
}
static void mtu(void)
{
	front_u64(&f, VHOST_NET_SET_MTU, 9000);
}
static void answers_unread(void)
{
	for (int i = 0; i < 100000 && !f.gone; i++)
		front_say(&f, VHOST_GET_FEATURES, 0, NULL, 0, NULL, 0);
}

static void hostile_messages(void)
{
	wrong(version, "not vhost-user of version 1");
	wrong(long_one, "a message that is too long");
	wrong(short_one, "a message that is too short");
	wrong(unknown, "a request that was not offered");
	wrong(logging, "dirty logging (live migration) is not offered");
	wrong(not_offered, "features that were not offered");
	wrong(many_fds, "too many descriptors");
	wrong(beyond_file, "memory beyond the end of its file");
	wrong(wrapping, "a memory region of no sense");
	wrong(overlapping, "memory regions that overlap");
	wrong(overlapping_user, "memory regions that overlap");
	wrong(no_memory_fd, "a memory table of wrong size");
	wrong(device_memory, "memory that is no file");
	wrong(memory_gone_from_rings, "a ring outside the memory");
	wrong(no_such_region, "there is no such memory region");
	wrong(ring_number, "a ring of no such number");
	wrong(ring_size, "a ring of wrong size");
	wrong(ring_outside, "a ring of wrong size or alignment, or outside the memory");
	wrong(ring_address_log, "dirty logging (live migration) is not offered");
	wrong(polling, "a ring without a kick descriptor: polling is not offered");
	wrong(kick_is_file, "a notification that is no eventfd");
	wrong(mtu, "an MTU larger than ours");
	wrong(answers_unread, "answers are not read");
}

static void acknowledged(void)
{
	front_begin(&f);
	front_start(&f, FRONT_FEATURES);
	uint64_t mtu1 = 1400, mtu2 = 9000;
	front_say(&f, VHOST_NET_SET_MTU, VHOST_NEED_REPLY, &mtu1, 8, NULL, 0);
	CHECK_EQ(front_answer(&f, VHOST_NET_SET_MTU), 0);
	CHECK_EQ(f.port->mtu, 1400);
	front_say(&f, VHOST_NET_SET_MTU, VHOST_NEED_REPLY, &mtu2, 8, NULL, 0);
	CHECK_EQ(front_answer(&f, VHOST_NET_SET_MTU), 1);
	CHECK(f.gone);
	front_end(&f);
}

static void hostile_rings(void)
{
	struct wh_vhost_stats stats;
	uint64_t count;
	front_begin(&f);
	front_start(&f, FRONT_FEATURES);
	/* headers of no sense are the frame's loss */
	memset(f.memory + FRAME_AT, 0, 256);
	f.memory[FRAME_AT + 1] = WH_NET_GSO_TCPV4;
	front_send(&f, FRAME_AT, HEADER + 60);
	front_send(&f, FRAME_AT, HEADER + 5);
	f.memory[FRAME_AT] = WH_NET_NEEDS_CSUM;
	wh_store_le16(f.memory + FRAME_AT + 6, 60);
	front_send(&f, FRAME_AT, HEADER + 60);
	wh_vhost_port_stats(f.vhost, &stats);
	CHECK_EQ(stats.bad_in, 3);
	CHECK_EQ(f.received, 0);
	/* a descriptor that points outside stops the ring, and says so */
	struct wh_iov iov = { f.memory + FRONT_MEMORY, 100 };
	CHECK_EQ(wh_virtq_driver_add(&f.ring[1], &iov, 1, 0, &f), 0);
	count = 1;
	(void)!write(f.kick[1], &count, sizeof count);
	front_settle(&f);
	wh_vhost_port_stats(f.vhost, &stats);
	CHECK_EQ(stats.bad_rings, 1);
	CHECK_EQ(read(f.err[1], &count, sizeof count), sizeof count);
	CHECK(!f.gone);
	front_send(&f, FRAME_AT, HEADER + 60);
	CHECK_EQ(f.received, 0);
	/* the other one works, until its index jumps */
	front_offer(&f, BUFFERS_AT, 2048);
	CHECK_EQ(user_send(f.memory, 60, 0, 0), 0);
	wh_store_le16(f.memory + (f.ring[0].driver_address - FRONT_GUEST) + 2, 9999);
	CHECK(user_send(f.memory, 60, 0, 0) < 0);
	wh_vhost_port_stats(f.vhost, &stats);
	CHECK_EQ(stats.bad_rings, 2);
	/* the driver resets the device and begins anew */
	front_state(&f, VHOST_GET_VRING_BASE, 1, 0);
	CHECK(front_answer(&f, VHOST_GET_VRING_BASE) >= 0);
	struct wh_virtq_driver_config ring = { .size = FRONT_RING_SIZE,
					       .ring = f.memory + 8192,
					       .slots = f.slots[1],
					       .bias = FRONT_GUEST - (uintptr_t)f.memory,
					       .features = FRONT_FEATURES };
	CHECK_EQ(wh_virtq_driver_init(&f.ring[1], &ring), 0);
	front_start_ring(&f, 1, 0);
	memset(f.memory + FRAME_AT, 0, 256);
	front_send(&f, FRAME_AT, HEADER + 60);
	CHECK_EQ(f.received, 1);
	front_end(&f);
}

static void bus_error(int signal, siginfo_t *info, void *context)
{
	if (!wh_vhost_port_fault(f.vhost, info->si_addr))
		abort();
}

/* The front end cuts its memory off while it is read. */
static void memory_cut(void)
{
	struct sigaction action = { .sa_sigaction = bus_error, .sa_flags = SA_SIGINFO }, before;
	front_begin(&f);
	front_start(&f, FRONT_FEATURES);
	sigaction(SIGBUS, &action, &before);
	CHECK_EQ(wh_vhost_port_fault(f.vhost, &f), false);
	front_send(&f, FRAME_AT, HEADER + 60);
	front_send(&f, BUFFERS_AT, HEADER + 60);
	CHECK_EQ(f.received, 2);
	struct wh_iov iov = { f.memory + BUFFERS_AT, HEADER + 60 };
	CHECK_EQ(wh_virtq_driver_add(&f.ring[1], &iov, 1, 0, &f), 0);
	CHECK_EQ(ftruncate(f.memory_fd, 32768), 0); /* the rings stay, the frame goes */
	uint64_t one = 1;
	(void)!write(f.kick[1], &one, sizeof one);
	front_settle(&f);
	CHECK_STR(f.gone ? f.gone : "nothing", "its memory went away");
	sigaction(SIGBUS, &before, NULL);
	CHECK_EQ(ftruncate(f.memory_fd, FRONT_MEMORY), 0);
	front_end(&f);
}

/* ---- segments ---- */

static struct {
	uint32_t count, bytes;
	uint8_t frames[8][2048];
	uint32_t sizes[8];
} out;

static void emitted(void *ctx, const struct wh_net_frame *frame)
{
	CHECK(out.count < 8 && !frame->flags && !frame->gso_type);
	out.sizes[out.count] = frame->size;
	wh_iov_read(frame->iov, frame->iov_count, 0, out.frames[out.count++], 2048);
	out.bytes += frame->size;
}

static bool sum_good(const uint8_t *ip, uint32_t size, bool is4)
{
	uint32_t head = is4 ? 20 : 40;
	uint32_t sum = is4 ? wh_wire_sum_pseudo(ip + 12, ip + 16, 4, 6, size - head)
			   : wh_wire_sum_pseudo(ip + 8, ip + 24, 16, 6, size - head);
	return !wh_wire_sum_finish(wh_wire_sum(sum, ip + head, size - head)) &&
	       (!is4 || !wh_wire_sum_finish(wh_wire_sum(0, ip, 20)));
}

static void segments(void)
{
	static uint8_t scratch[WH_NET_FRAME_SIZE_MAX];
	for (int is4 = 0; is4 < 2; is4++) {
		uint32_t head = is4 ? 20 : 40, size = 14 + head + 20 + 2501;
		uint8_t p[14 + 40 + 20 + 2501] = { 0 }, *ip = p + 14, *tcp = ip + head;
		for (uint32_t i = 0; i < 2501; i++)
			tcp[20 + i] = (uint8_t)(i * 7);
		ip[0] = is4 ? 0x45 : 0x60;
		ip[is4 ? 9 : 6] = 6;
		ip[is4 ? 15 : 23] = 1;
		ip[is4 ? 19 : 39] = 2;
		wh_store_be16(ip + (is4 ? 4 : 30), 0xffff); /* an id that wraps */
		tcp[12] = 0x50;
		tcp[13] = 0x99; /* CWR, ACK, PSH, FIN */
		wh_store_be32(tcp + 4, 0xfffffff0);
		struct wh_iov iov = { p, size };
		struct wh_net_frame frame = { &iov, 1, size, WH_NET_NEEDS_CSUM };
		frame.gso_type = is4 ? WH_NET_GSO_TCPV4 : WH_NET_GSO_TCPV6;
		frame.gso_size = 1000;
		frame.csum_start = (uint16_t)(14 + head);
		frame.csum_offset = 16;
		memset(&out, 0, sizeof out);
		CHECK_EQ(segment_finish(&frame, scratch, emitted, NULL), 0);
		CHECK_EQ(out.count, 3);
		for (uint32_t i = 0; i < 3; i++) {
			const uint8_t *at = out.frames[i] + 14, *t = at + head;
			CHECK_EQ(out.sizes[i], i < 2 ? 14 + head + 1020 : 14 + head + 521);
			CHECK(sum_good(at, out.sizes[i] - 14, is4));
			CHECK_EQ(wh_load_be32(t + 4), 0xfffffff0 + i * 1000);
			CHECK_EQ(t[13], (i ? 0 : 0x80) | 0x10 | (i == 2 ? 9 : 0));
			CHECK_MEM(t + 20, tcp + 20 + i * 1000, out.sizes[i] - 34 - head);
		}
		/* checksum only; and headers that fit no such frame */
		frame.gso_type = 0;
		wh_store_be16(
			tcp + 16,
			wh_wire_sum_fold(is4 ? wh_wire_sum_pseudo(ip + 12, ip + 16, 4, 6, 2521)
					     : wh_wire_sum_pseudo(ip + 8, ip + 24, 16, 6, 2521)));
		memset(&out, 0, sizeof out);
		CHECK_EQ(segment_finish(&frame, scratch, emitted, NULL), 0);
		CHECK_EQ(out.count, 1);
		frame.gso_type = is4 ? WH_NET_GSO_TCPV6 : WH_NET_GSO_TCPV4;
		CHECK_EQ(segment_finish(&frame, scratch, emitted, NULL), -WH_EINVAL);
		frame.gso_type = WH_NET_GSO_UDP_L4;
		CHECK_EQ(segment_finish(&frame, scratch, emitted, NULL), -WH_EINVAL);
		frame.gso_type = is4 ? WH_NET_GSO_TCPV4 : WH_NET_GSO_TCPV6;
		frame.size = 14 + head + 10;
		CHECK_EQ(segment_finish(&frame, scratch, emitted, NULL), -WH_EINVAL);
		CHECK_EQ(out.count, 1);
	}
}

/* A TCP frame of the guest's (or to it) between two ports. */
static uint32_t tcp_frame(uint8_t *p, uint16_t from, uint16_t to, bool to_guest)
{
	memset(p, 0, 60);
	p[12] = 0x08;
	p[14] = 0x45;
	p[14 + 9] = WH_WIRE_PROTO_TCP;
	p[14 + (to_guest ? 12 : 16)] = 198;
	p[14 + (to_guest ? 16 : 12)] = 10;
	wh_store_be16(p + 34, from);
	wh_store_be16(p + 36, to);
	return 60;
}

static bool called[2];

/* Which pair does a frame of this flow come to? */
static uint32_t pair_of(uint16_t port)
{
	uint8_t bytes[60];
	void *cookie;
	uint32_t size, found = 9;
	CHECK_EQ(user_send(bytes, tcp_frame(bytes, 80, port, true), 0, 0), 0);
	for (uint32_t pair = 0; pair < 2; pair++)
		if (wh_virtq_driver_get(&f.ring[2 * pair], &cookie, &size) == 1) {
			CHECK_EQ(found, 9);
			CHECK_EQ(size, 60 + HEADER);
			called[pair] |= front_called(&f, 2 * pair); /* not each time: EVENT_IDX */
			found = pair;
		}
	CHECK(found < 2);
	front_offer_to(&f, found, BUFFERS_AT, 2048);
	return found;
}

/* Frames of a flow come to one ring: by hash, or where the guest sends the flow. */
static void pairs(void)
{
	const uint64_t features = FRONT_FEATURES | WH_VIRTIO_NET_F_MQ;
	uint32_t count[2] = { 0, 0 };
	uint8_t bytes[60];
	front_begin(&f);
	front_start(&f, features);
	front_start_pair(&f, features, 1);
	for (uint32_t i = 0; i < 8; i++)
		front_offer_to(&f, i % 2, BUFFERS_AT + i * 2048, 2048);
	for (uint16_t port = 40000; port < 40064; port++) {
		uint32_t pair = pair_of(port);
		count[pair]++;
		CHECK_EQ(pair_of(port), pair);
	}
	CHECK(count[0] > 8 && count[1] > 8);
	CHECK(called[0] && called[1]);
	for (uint16_t port = 40000; port < 40032; port++) {
		uint32_t pair = port % 2;
		memset(f.memory + FRAME_AT, 0, HEADER);
		uint32_t size = tcp_frame(f.memory + FRAME_AT + HEADER, port, 80, false);
		front_send_on(&f, pair, FRAME_AT, HEADER + size);
		CHECK_EQ(pair_of(port), pair);
	}
	/* The second one has no buffers: who sends waits; then it is switched off, and all go to the first one. */
	void *cookie;
	uint32_t size, full = 0;
	uint16_t port = 40001; /* sent on the second pair */
	while (user_send(bytes, tcp_frame(bytes, 80, port, true), 0, 0) == 0)
		full++;
	CHECK_EQ(full, 4);
	CHECK_EQ(user_send(bytes, tcp_frame(bytes, 80, 40002, true), 0, 0), 0);
	CHECK_EQ(wh_virtq_driver_get(&f.ring[0], &cookie, &size), 1);
	uint32_t writable = f.writable;
	front_state(&f, VHOST_SET_VRING_ENABLE, 2, 0);
	front_settle(&f);
	CHECK(f.writable > writable);
	CHECK_EQ(user_send(bytes, tcp_frame(bytes, 80, port, true), 0, 0), 0);
	CHECK_EQ(wh_virtq_driver_get(&f.ring[0], &cookie, &size), 1);
	/* and the other way */
	front_state(&f, VHOST_SET_VRING_ENABLE, 2, 1);
	front_state(&f, VHOST_SET_VRING_ENABLE, 0, 0);
	CHECK_EQ(user_send(bytes, tcp_frame(bytes, 80, 40002, true), 0, 0), -WH_EAGAIN);
	front_offer_to(&f, 1, BUFFERS_AT, 2048);
	CHECK_EQ(user_send(bytes, tcp_frame(bytes, 80, 40002, true), 0, 0), 0);
	front_state(&f, VHOST_SET_VRING_ENABLE, 2, 0);
	CHECK_EQ(user_send(bytes, tcp_frame(bytes, 80, 40002, true), 0, 0), -WH_ENETDOWN);
	front_end(&f);
}

/* Several datagrams in one frame, for a receiver of single ones. */
static void datagrams_cut(void)
{
	static uint8_t scratch[WH_NET_FRAME_SIZE_MAX];
	for (int is4 = 0; is4 < 2; is4++) {
		uint32_t head = is4 ? 20 : 40, size = 14 + head + 8 + 2501;
		uint8_t p[14 + 40 + 8 + 2501] = { 0 }, *ip = p + 14, *udp = ip + head;
		for (uint32_t i = 0; i < 2501; i++)
			udp[8 + i] = (uint8_t)(i * 7);
		ip[0] = is4 ? 0x45 : 0x60;
		ip[is4 ? 9 : 6] = WH_WIRE_PROTO_UDP;
		wh_store_be16(udp + 4, 2509);
		struct wh_iov iov = { p, size };
		struct wh_net_frame frame = { &iov, 1, size, WH_NET_NEEDS_CSUM };
		frame.gso_type = WH_NET_GSO_UDP_L4;
		frame.gso_size = 1000;
		frame.csum_start = (uint16_t)(14 + head);
		frame.csum_offset = 6;
		memset(&out, 0, sizeof out);
		CHECK_EQ(segment_finish(&frame, scratch, emitted, NULL), 0);
		CHECK_EQ(out.count, 3);
		for (uint32_t i = 0; i < 3; i++) {
			const uint8_t *at = out.frames[i] + 14, *u = at + head;
			uint32_t whole = i < 2 ? 1008 : 509;
			uint32_t sum = is4 ? wh_wire_sum_pseudo(at + 12, at + 16, 4, 17, whole)
					   : wh_wire_sum_pseudo(at + 8, at + 24, 16, 17, whole);
			CHECK_EQ(out.sizes[i], 14 + head + whole);
			CHECK_EQ(wh_load_be16(u + 4), whole);
			CHECK(!wh_wire_sum_finish(wh_wire_sum(sum, u, whole)));
			CHECK_MEM(u + 8, udp + 8 + i * 1000, whole - 8);
		}
		frame.gso_size = 1; /* more than anybody makes */
		CHECK_EQ(segment_finish(&frame, scratch, emitted, NULL), -WH_EINVAL);
		CHECK_EQ(out.count, 3);
	}
}

int main(void)
{
	RUN(frames_cross);
	RUN(restarts);
	RUN(acknowledged);
	RUN(hostile_messages);
	RUN(hostile_rings);
	RUN(memory_cut);
	RUN(segments);
	RUN(datagrams_cut);
	RUN(pairs);
	return test_end();
}
