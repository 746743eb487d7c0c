/* SPDX-License-Identifier: ISC */
/*
 * Interoperability with Linux's TCP: our stack on a tap with the virtio-net header, in a
 * network namespace of its own, Linux's sockets at the other end. Skips where
 * namespaces or taps are not allowed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/virtio_net.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/net.h>
#include <wherry/test.h>

#define TOTAL 8000000u

static struct {
	int tap;
	struct wh_net *net;
	struct wh_net_port port;
	uint64_t random;
	uint32_t loss_percent;
	volatile bool stop;
	struct wh_net_tcp *listener, *s;
	volatile uint64_t sent, received;
	volatile bool bad, closed;
} g;

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint8_t byte_at(uint64_t at)
{
	return (uint8_t)(at * 17 + (at >> 8) + (at >> 16));
}

static bool lost(void)
{
	return g.loss_percent && wh_random_next(&g.random) % 100 < g.loss_percent;
}

static int port_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	struct virtio_net_hdr h = { .flags = f->flags & WH_NET_NEEDS_CSUM,
				    .gso_type = f->gso_type,
				    .hdr_len = f->hdr_len,
				    .gso_size = f->gso_size,
				    .csum_start = f->csum_start,
				    .csum_offset = f->csum_offset };
	struct iovec iov[WH_NET_FRAME_IOV_MAX + 1] = { { &h, sizeof h } };
	for (uint32_t i = 0; i < f->iov_count; i++)
		iov[i + 1] = (struct iovec){ f->iov[i].base, f->iov[i].size };
	if (lost())
		return 0;
	return writev(g.tap, iov, (int)f->iov_count + 1) < 0 ? (errno == EAGAIN ? -WH_EAGAIN : 0)
							     : 0;
}

/* Checks what comes, answers with as much of the pattern. */
static void on_event(struct wh_net_tcp *s, uint32_t events)
{
	struct wh_iov iov[2];
	if (events & WH_NET_ACCEPTABLE) {
		static const struct wh_net_tcp_ops ops = { .event = on_event };
		if (!wh_net_tcp_take(s, &g.s))
			wh_net_tcp_set_ops(g.s, &ops, 0);
		return;
	}
	if (events & WH_NET_FAILED)
		g.bad = true;
	uint32_t n = wh_net_tcp_peek(s, iov);
	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < iov[i].size; k++, g.received++)
			g.bad |= ((uint8_t *)iov[i].base)[k] != byte_at(g.received);
	wh_net_tcp_consume(s, n);
	while (g.sent < TOTAL && (n = wh_net_tcp_reserve(s, iov))) {
		uint32_t done = 0;
		for (int i = 0; i < 2; i++)
			for (size_t k = 0; k < iov[i].size && g.sent < TOTAL; k++, done++)
				((uint8_t *)iov[i].base)[k] = byte_at(g.sent++);
		wh_net_tcp_commit(s, done);
	}
	if (g.sent == TOTAL)
		wh_net_tcp_shutdown(s);
	if (events & WH_NET_DRAINED)
		g.closed = true;
}
static const struct wh_net_tcp_ops listen_ops = { .event = on_event };

static void *stack_thread(void *unused)
{
	static uint8_t buffer[70000];
	while (!g.stop) {
		uint64_t deadline = wh_net_run(g.net, now_ns()), now = now_ns();
		int ms = deadline == WH_NET_NEVER ? 100
			 : deadline <= now        ? 0
						  : (int)((deadline - now) / 1000000 + 1);
		struct pollfd p = { g.tap, POLLIN, 0 };
		(void)poll(&p, 1, ms > 100 ? 100 : ms); /* looks at the tap either way */
		wh_net_time(g.net, now_ns());
		ssize_t n;
		for (int burst = 0; burst < 32 && (n = read(g.tap, buffer, sizeof buffer)) > 0;
		     burst++) {
			struct virtio_net_hdr h;
			memcpy(&h, buffer, sizeof h);
			struct wh_iov iov = { buffer + sizeof h, (size_t)n - sizeof h };
			struct wh_net_frame f = { .iov = &iov,
						  .iov_count = 1,
						  .size = (uint32_t)iov.size,
						  .flags = h.flags,
						  .gso_type = h.gso_type & 0x7f,
						  .gso_size = h.gso_size };
			if (!lost())
				wh_net_input(g.net, &f);
		}
	}
	return NULL;
}

static void link_up(const char *name)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq r = { 0 };
	struct sockaddr_in a = { .sin_family = AF_INET };
	strcpy(r.ifr_name, name);
	a.sin_addr.s_addr = htonl(0x0a090001);
	memcpy(&r.ifr_addr, &a, sizeof a);
	CHECK(!ioctl(s, SIOCSIFADDR, &r));
	a.sin_addr.s_addr = htonl(0xffffff00);
	memcpy(&r.ifr_netmask, &a, sizeof a);
	CHECK(!ioctl(s, SIOCSIFNETMASK, &r));
	CHECK(!ioctl(s, SIOCGIFFLAGS, &r));
	r.ifr_flags |= IFF_UP;
	CHECK(!ioctl(s, SIOCSIFFLAGS, &r));
	close(s);
}

static void tap_open(bool offload)
{
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) && unshare(CLONE_NEWNET))
		test_skip("no network namespace of our own");
	g.tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (g.tap < 0 || ioctl(g.tap, TUNSETIFF, &r))
		test_skip("no tap");
	if (offload)
		CHECK(!ioctl(g.tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6));
	link_up(r.ifr_name);
}

static void begin(bool offload, uint32_t loss)
{
	static const uint8_t own[4] = { 10, 9, 0, 2 }, mac[6] = { 2, 0, 0, 0, 0, 9 };
	struct wh_net_config c = WH_NET_CONFIG_INIT;
	struct wh_net_ip ip = wh_net_ip4(own);
	struct wh_net_end at = { ip, 80 };
	memset(&g, 0, sizeof g);
	g.random = test_seed();
	g.loss_percent = loss;
	tap_open(offload);
	c.alloc = &test_allocator;
	c.cc = &wh_net_cc_cubic;
	memcpy(c.mac, mac, 6);
	CHECK_EQ(wh_net_new(&c, now_ns(), &g.net), 0);
	CHECK_EQ(wh_net_tcp_enable(g.net), 0);
	CHECK_EQ(wh_net_address_add(g.net, &ip, 24), 0);
	g.port = (struct wh_net_port){ .send = port_send,
				       .mtu = 1500,
				       .link_features =
					       offload ? WH_NET_LINK_CSUM | WH_NET_LINK_TSO4 : 0 };
	wh_net_attach(g.net, &g.port);
	CHECK_EQ(wh_net_tcp_listen(g.net, &at, false, 4, &listen_ops, 0, &g.listener), 0);
}

static void *writer(void *argument)
{
	static uint8_t data[10007];
	int s = (int)(intptr_t)argument;
	for (uint64_t at = 0; at < TOTAL;) {
		size_t n = TOTAL - at < sizeof data ? (size_t)(TOTAL - at) : sizeof data;
		for (size_t i = 0; i < n; i++)
			data[i] = byte_at(at + i);
		ssize_t w = send(s, data, n, MSG_NOSIGNAL);
		if (w <= 0)
			break;
		at += (uint64_t)w;
	}
	shutdown(s, SHUT_WR);
	return NULL;
}

static void transfer(bool offload, uint32_t loss)
{
	static uint8_t data[65536];
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(80) };
	pthread_t stack, write_thread;
	begin(offload, loss);
	a.sin_addr.s_addr = htonl(0x0a090002);
	uint64_t start = now_ns(), at = 0;
	CHECK(!pthread_create(&stack, NULL, stack_thread, NULL));
	int s = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(!connect(s, (void *)&a, sizeof a));
	CHECK(!pthread_create(&write_thread, NULL, writer, (void *)(intptr_t)s));
	for (ssize_t n; (n = read(s, data, sizeof data)) > 0;)
		for (ssize_t i = 0; i < n; i++, at++)
			if (data[i] != byte_at(at))
				test_fail(__FILE__, __LINE__, "byte %llu differs",
					  (unsigned long long)at);
	pthread_join(write_thread, NULL);
	struct tcp_info info;
	socklen_t size = sizeof info;
	CHECK(!getsockopt(s, IPPROTO_TCP, TCP_INFO, &info, &size));
	close(s);
	while ((g.received < TOTAL || !g.closed) && now_ns() - start < 30000000000ull)
		usleep(1000); /* what Linux still has to send */
	uint64_t took = now_ns() - start;
	g.stop = true;
	pthread_join(stack, NULL);
	struct wh_net_stats st;
	wh_net_stats_get(g.net, &st);
	printf("# offload %d loss %u%%: %llu ms, retransmits %llu ours %u Linux's, time-outs %llu "
	       "ours\n",
	       offload, loss, (unsigned long long)took / 1000000,
	       (unsigned long long)st.tcp_retransmits, info.tcpi_total_retrans,
	       (unsigned long long)st.tcp_timeouts);
	CHECK_EQ(at, TOTAL);
	CHECK_EQ(g.received, TOTAL);
	CHECK(!g.bad && g.closed);
	CHECK_EQ(st.in_checksum, 0);
	wh_net_free(g.net);
	close(g.tap);
	CHECK_EQ(test_alloc_live(), 0);
}

static void plain(void)
{
	transfer(false, 0);
}
static void offload(void)
{
	transfer(true, 0);
}
static void plain_loss(void)
{
	transfer(false, 2);
}
static void offload_loss(void)
{
	transfer(true, 2);
}

int main(void)
{
	RUN(plain);
	RUN(offload);
	RUN(plain_loss);
	RUN(offload_loss);
	return test_end();
}
