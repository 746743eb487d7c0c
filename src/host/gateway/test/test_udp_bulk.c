/* SPDX-License-Identifier: ISC */
/*
 * Many datagrams at once, both ways, over links that take several as one frame and links that do not: nothing is lost, joined or
 * cut elsewhere than between datagrams, whatever their sizes.
 */
#include "world.h"

#include "../gateway_host.h"

#include <netinet/in.h>
#include <unistd.h>
#include <wherry/base/hash.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define LOG_MAX 512u

static struct world w;
static struct wh_gateway_stats stats;

/* What came, in order: sizes, and whether the bytes were the pattern from the datagram's number on. */
struct log {
	uint32_t count, bad;
	uint32_t sizes[LOG_MAX];
};
static struct log guest_log;
static struct wh_net_udp *guest;
static uint64_t random_state;

static void log_add(struct log *log, const uint8_t *bytes, uint32_t size)
{
	CHECK(log->count < LOG_MAX);
	log->bad += !pattern_check(log->count, bytes, size);
	log->sizes[log->count++] = size;
}

static void on_datagram(struct wh_net_udp *u, const struct wh_net_tuple *tuple,
			const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	static uint8_t bytes[65536];
	CHECK_EQ(wh_iov_read(iov, count, 0, bytes, size), size);
	log_add(&guest_log, bytes, size);
}

static void begin(bool uso)
{
	uint32_t features = WH_NET_LINK_CSUM | (uso ? WH_NET_LINK_USO : 0);
	world_init(&w);
	w.host_end.port.link_features = w.guest_end.port.link_features = features;
	memset(&guest_log, 0, sizeof guest_log);
	random_state = test_seed();
}

static void start(void)
{
	static const struct wh_net_udp_ops ops = { .datagram = on_datagram };
	struct wh_net_tuple any = { 0 };
	world_start(&w);
	CHECK_EQ(wh_net_udp_open(w.guest, &any, 0, &ops, NULL, &guest), 0);
}

static int guest_send(uint16_t port, const uint8_t *bytes, uint32_t size, uint16_t segment)
{
	struct wh_net_tuple tuple = { .local = wh_net_udp_tuple(guest)->local,
				      .remote = end4(10, 0, 2, 2, port) };
	struct wh_iov iov = { (void *)(uintptr_t)bytes, size };
	struct wh_net_send_options options = { .segment = segment };
	return wh_net_udp_send(w.guest, guest, &tuple, &iov, 1, &options);
}

/* Opens the flow: the host's socket knows the guest's address afterwards. */
static void meet(int fd, uint16_t port, struct sockaddr_in *ret_from)
{
	char c;
	socklen_t size = sizeof *ret_from;
	UNTIL(&w, guest_send(port, (const uint8_t *)"x", 1, 0) == 1);
	UNTIL(&w, recvfrom(fd, &c, 1, 0, (struct sockaddr *)ret_from, &size) == 1);
}

static void host_take(int fd, struct log *log)
{
	static uint8_t bytes[65536];
	ssize_t n;
	while ((n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) >= 0)
		log_add(log, bytes, (uint32_t)n);
}

static const struct {
	uint32_t size, segment, count;
} cases[] = { { 1400, 1400, 1 },   { 1401, 1400, 2 }, { 14000, 1400, 10 },
	      { 13999, 1400, 10 }, { 777, 7, 111 },   { 128, 1, 128 },
	      { 60000, 1472, 41 }, { 0, 100, 1 },     { 3000, 1473, 3 } };

/* The guest's bursts: one frame of many, or many frames, for the kernel to cut or not. */
static void from_the_guest(void)
{
	static uint8_t bytes[65536];
	for (int uso = 0; uso < 2; uso++) {
		struct log log = { 0 };
		struct sockaddr_in from;
		uint32_t expected = 0;
		uint16_t port;
		begin(uso);
		start();
		int fd = host_udp(AF_INET, &port);
		meet(fd, port, &from);
		for (unsigned i = 0; i < WH_ARRAY_COUNT(cases); i++) {
			for (uint32_t k = 0; k < cases[i].count; k++) {
				uint32_t at = k * cases[i].segment, left = cases[i].size - at;
				pattern_fill(expected + k, bytes + at,
					     left < cases[i].segment ? left : cases[i].segment);
			}
			CHECK_EQ(guest_send(port, bytes, cases[i].size, (uint16_t)cases[i].segment),
				 (int)cases[i].size);
			uint32_t first = expected;
			expected += cases[i].count;
			UNTIL(&w, (host_take(fd, &log), log.count >= expected));
			for (uint32_t k = first; k < expected; k++) {
				uint32_t left = cases[i].size - (k - first) * cases[i].segment;
				CHECK_EQ(log.sizes[k],
					 left < cases[i].segment ? left : cases[i].segment);
			}
		}
		world_settle(&w);
		host_take(fd, &log);
		CHECK_EQ(log.count, expected);
		CHECK_EQ(log.bad, 0);
		wh_gateway_stats(w.gateway, &stats);
		CHECK_EQ(stats.udp_out, expected + 1);
		CHECK_EQ(stats.udp_dropped, 0);
		close(fd);
		world_stop(&w);
	}
}

/* A kernel that does not cut. */
static long send_whole(void *ctx, int fd, const struct msghdr *message)
{
	return message->msg_controllen ? -WH_EIO : gateway_host_linux.send(ctx, fd, message);
}

static void a_kernel_that_does_not_cut(void)
{
	static uint8_t bytes[14000];
	struct wh_gateway_host host = gateway_host_linux;
	struct log log = { 0 };
	struct sockaddr_in from;
	uint16_t port;
	host.send = send_whole;
	host.receive_many = NULL; /* nor reads many */
	begin(true);
	w.config.host = &host;
	start();
	int fd = host_udp(AF_INET, &port);
	meet(fd, port, &from);
	for (uint32_t k = 0; k < 10; k++)
		pattern_fill(k, bytes + k * 1400, 1400);
	CHECK_EQ(guest_send(port, bytes, 13999, 1400), 13999);
	UNTIL(&w, (host_take(fd, &log), log.count == 10));
	CHECK_EQ(log.bad, 0);
	CHECK_EQ(log.sizes[9], 1399);
	for (uint32_t k = 0; k < 10; k++)
		CHECK_EQ(sendto(fd, bytes + k * 1400, 1400, 0, (struct sockaddr *)&from,
				sizeof from),
			 1400);
	UNTIL(&w, guest_log.count == 10);
	CHECK_EQ(guest_log.bad, 0);
	close(fd);
	world_stop(&w);
}

/* Sizes that come in runs, as bulk flows have them, with others in between. whole: in one frame each, as fragments
 * behind the first are lost on a full link. */
static uint32_t size_next(uint32_t *size, uint32_t *left, bool whole)
{
	static const uint32_t odd[] = { 0, 1, 63, 64, 65, 1399, 1401, 1472, 2048, 9000 };
	uint32_t r = (uint32_t)wh_random_next(&random_state);
	if (!*left) {
		*left = r % 40;
		*size = 1 + (r >> 8) % 1472;
	}
	--*left;
	return r >> 20 & 7 ? *size : odd[(r >> 24) % (whole ? 8 : WH_ARRAY_COUNT(odd))];
}

/* The host's bursts, while the guest takes no more than `capacity` frames at a time. */
static void to_the_guest(bool uso, uint32_t capacity)
{
	static uint8_t bytes[9000];
	uint32_t sizes[LOG_MAX], sent = 0, size = 0, left = 0;
	struct sockaddr_in from;
	uint16_t port;
	begin(uso);
	start();
	int fd = host_udp(AF_INET, &port);
	meet(fd, port, &from);
	w.guest_end.capacity = capacity;
	while (sent < 400) {
		w.guest_stopped =
			true; /* so that bursts lie in the socket; fewer than its buffer holds */
		for (uint32_t burst = 0; burst < 50; burst++, sent++) {
			sizes[sent] = size_next(&size, &left, capacity < 10);
			pattern_fill(sent, bytes, sizes[sent]);
			CHECK_EQ(sendto(fd, bytes, sizes[sent], 0, (struct sockaddr *)&from,
					sizeof from),
				 sizes[sent]);
		}
		world_settle(&w);
		w.guest_stopped = false;
		UNTIL(&w, guest_log.count >= sent);
	}
	world_settle(&w);
	CHECK_EQ(guest_log.count, sent);
	CHECK_EQ(guest_log.bad, 0);
	for (uint32_t i = 0; i < sent; i++)
		CHECK_EQ(guest_log.sizes[i], sizes[i]);
	wh_gateway_stats(w.gateway, &stats);
	CHECK_EQ(stats.udp_in, sent);
	CHECK_EQ(stats.udp_dropped, 0);
	close(fd);
	world_stop(&w);
}

static void bursts_to_the_guest(void)
{
	to_the_guest(false, LINK_FRAMES_MAX);
	to_the_guest(true, LINK_FRAMES_MAX);
}

static void bursts_to_a_slow_guest(void)
{
	to_the_guest(false, 3);
	to_the_guest(true, 1);
}

/* The host's program sends many in one call, which its kernel may hand over as one (UDP_GRO). */
static void gathered_by_the_kernel(void)
{
	static uint8_t bytes[30 * 1200];
	for (int uso = 0; uso < 2; uso++) {
		struct sockaddr_in from;
		uint16_t port;
		uint32_t frames = 0;
		begin(uso);
		start();
		int fd = host_udp(AF_INET, &port);
		meet(fd, port, &from);
		CHECK_EQ(connect(fd, (struct sockaddr *)&from, sizeof from), 0);
		for (uint32_t k = 0; k < 10;
		     k++) { /* so that the gateway takes it for a bulk flow */
			pattern_fill(k, bytes, 1200);
			CHECK_EQ(send(fd, bytes, 1200, 0), 1200);
		}
		UNTIL(&w, guest_log.count == 10);
		int segment = 1200;
		if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment))
			test_skip("a kernel without UDP_SEGMENT");
		for (uint32_t burst = 0; burst < 3; burst++) {
			for (uint32_t k = 0; k < 30; k++)
				pattern_fill(10 + burst * 30 + k, bytes + k * 1200, 1200);
			uint32_t size = 30 * 1200 - burst * 7; /* a short last one */
			uint64_t before = w.host_end.frames;
			CHECK_EQ(send(fd, bytes, size, 0), size);
			UNTIL(&w, guest_log.count == 10 + (burst + 1) * 30);
			CHECK_EQ(guest_log.sizes[guest_log.count - 1], 1200 - burst * 7);
			frames += (uint32_t)(w.host_end.frames - before);
		}
		CHECK_EQ(guest_log.bad, 0);
		CHECK(uso ? frames <= 9 : frames == 90);
		close(fd);
		world_stop(&w);
	}
}

int main(void)
{
	RUN(from_the_guest);
	RUN(a_kernel_that_does_not_cut);
	RUN(bursts_to_the_guest);
	RUN(bursts_to_a_slow_guest);
	RUN(gathered_by_the_kernel);
	return test_end();
}
