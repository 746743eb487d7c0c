/* SPDX-License-Identifier: ISC */
/*
 * Interoperability with Linux's TCP: our stack on a tap with the virtio-net header, in a
 * network namespace of its own, Linux's sockets at the other end; between them a shim of
 * frames that loses, delays, reorders and doubles them in both directions, by seed. Every byte
 * is compared. Skips where namespaces or taps are not allowed.
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

#define HELD_MAX 4096

struct wire {
	uint32_t loss_percent, duplicate_percent;
	uint32_t delay_us, jitter_us;
	bool offload, six, active;  /* active: we connect */
	const char *sysctl, *value; /* of the namespace, below /proc/sys/net */
	const struct wh_net_tcp_cc *cc;
	bool ecn;
};

struct held {
	uint64_t at;
	uint8_t *bytes; /* with the virtio-net header */
	uint32_t size;
};

static struct {
	int tap;
	struct wh_net *net;
	struct wh_net_port port;
	uint64_t random;
	const struct wire *wire;
	struct held held[2][HELD_MAX]; /* frames on the way: to Linux, to us; earliest first */
	uint32_t held_count[2];
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

/* ---- The shim ---- */

static uint32_t percent(void)
{
	return (uint32_t)(wh_random_next(&g.random) % 100);
}

static void frame_in(const uint8_t *buffer, uint32_t n)
{
	struct virtio_net_hdr h;
	memcpy(&h, buffer, sizeof h);
	struct wh_iov iov = { (void *)(buffer + sizeof h), n - sizeof h };
	struct wh_net_frame f = { .iov = &iov,
				  .iov_count = 1,
				  .size = (uint32_t)iov.size,
				  .flags = h.flags,
				  .gso_type = h.gso_type & 0x7f,
				  .gso_size = h.gso_size };
	wh_net_input(g.net, &f);
}

/* Takes one frame: now, later, twice or never. The bytes are copied. */
static void shim(int direction, const uint8_t *bytes, uint32_t size)
{
	const struct wire *w = g.wire;
	if (percent() < w->loss_percent)
		return;
	for (uint32_t copies = percent() < w->duplicate_percent ? 2 : 1; copies; copies--) {
		uint32_t *count = &g.held_count[direction];
		uint64_t us = w->delay_us;
		us += w->jitter_us ? wh_random_next(&g.random) % w->jitter_us : 0;
		struct held h = { now_ns() + us * 1000, malloc(size), size };
		if (*count == HELD_MAX || !h.bytes) {
			free(h.bytes);
			return;
		}
		memcpy(h.bytes, bytes, size);
		uint32_t i = (*count)++;
		struct held *q = g.held[direction];
		for (; i && q[i - 1].at > h.at; i--)
			q[i] = q[i - 1];
		q[i] = h;
	}
}

/* Delivers what is due; returns when the next is. */
static uint64_t shim_run(void)
{
	uint64_t next = WH_NET_NEVER;
	for (int d = 0; d < 2; d++) {
		uint32_t done = 0, count = g.held_count[d];
		for (; done < count && g.held[d][done].at <= now_ns(); done++) {
			struct held *h = &g.held[d][done];
			if (d)
				frame_in(h->bytes, h->size);
			else if (write(g.tap, h->bytes, h->size) < 0 && errno == EAGAIN)
				break;
			free(h->bytes);
		}
		/* Delivery may have added behind. */
		g.held_count[d] -= done;
		memmove(g.held[d], g.held[d] + done, g.held_count[d] * sizeof(struct held));
		if (g.held_count[d] && g.held[d][0].at < next)
			next = g.held[d][0].at;
	}
	return next;
}

static int port_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	static uint8_t buffer[70000];
	struct virtio_net_hdr h = { .flags = f->flags & WH_NET_NEEDS_CSUM,
				    .gso_type = f->gso_type,
				    .hdr_len = f->hdr_len,
				    .gso_size = f->gso_size,
				    .csum_start = f->csum_start,
				    .csum_offset = f->csum_offset };
	memcpy(buffer, &h, sizeof h);
	size_t n =
		wh_iov_read(f->iov, f->iov_count, 0, buffer + sizeof h, sizeof buffer - sizeof h);
	shim(0, buffer, (uint32_t)(sizeof h + n));
	return 0;
}

/* ---- Our end ---- */

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
		uint64_t deadline = wh_net_run(g.net, now_ns()), next = shim_run(), now = now_ns();
		if (wh_net_pending(g.net))
			continue;
		deadline = next < deadline ? next : deadline;
		uint64_t ns = deadline <= now ? 0 : deadline - now;
		ns = ns > 100000000 ? 100000000 : ns;
		struct pollfd p = { g.tap, POLLIN, 0 };
		struct timespec t = { 0, (long)ns };
		(void)ppoll(&p, 1, &t, NULL); /* looks at the tap either way */
		wh_net_time(g.net, now_ns());
		ssize_t n;
		for (int burst = 0; burst < 32 && (n = read(g.tap, buffer, sizeof buffer)) > 0;
		     burst++)
			shim(1, buffer, (uint32_t)n);
		(void)shim_run();
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
	if (!g.wire->six)
		return;
	s = socket(AF_INET6, SOCK_DGRAM, 0);
	struct {
		struct in6_addr addr;
		uint32_t prefix;
		int index;
	} six = { .prefix = 64 };
	CHECK(!ioctl(s, SIOCGIFINDEX, &r));
	six.index = r.ifr_ifindex;
	CHECK(inet_pton(AF_INET6, "fd09::1", &six.addr) == 1);
	CHECK(!ioctl(s, SIOCSIFADDR, &six));
	/* The kernel finishes with the address in a thread of its own. */
	struct sockaddr_in6 here = { .sin6_family = AF_INET6, .sin6_addr = six.addr };
	for (int tries = 0; bind(s, (void *)&here, sizeof here) && tries < 5000; tries++)
		usleep(1000);
	close(s);
}

static void sysctl_set(const char *name, const char *value)
{
	char path[128];
	snprintf(path, sizeof path, "/proc/sys/net/%s", name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		test_skip("a setting of the namespace cannot be changed");
	close(fd);
}

static void tap_open(bool offload)
{
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) && unshare(CLONE_NEWNET))
		test_skip("no network namespace of our own");
	if (g.wire->six) /* addresses are good at once */
		sysctl_set("ipv6/conf/default/accept_dad", "0");
	g.tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (g.tap < 0 || ioctl(g.tap, TUNSETIFF, &r))
		test_skip("no tap");
	if (offload)
		CHECK(!ioctl(g.tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6));
	if (g.wire->sysctl)
		sysctl_set(g.wire->sysctl, g.wire->value);
	link_up(r.ifr_name);
}

static const uint8_t own4[4] = { 10, 9, 0, 2 }, linux4[4] = { 10, 9, 0, 1 };
static const uint8_t own6[16] = { 0xfd, 9, [15] = 2 }, linux6[16] = { 0xfd, 9, [15] = 1 };

static void begin(const struct wire *w)
{
	static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 9 };
	struct wh_net_config c = WH_NET_CONFIG_INIT;
	struct wh_net_ip ip = w->six ? wh_net_ip6(own6) : wh_net_ip4(own4);
	struct wh_net_end at = { ip, 80 };
	memset(&g, 0, sizeof g);
	g.random = test_seed();
	g.wire = w;
	tap_open(w->offload);
	c.alloc = &test_allocator;
	c.cc = w->cc ? w->cc : &wh_net_cc_cubic;
	c.ecn = w->ecn;
	memcpy(c.mac, mac, 6);
	CHECK_EQ(wh_net_new(&c, now_ns(), &g.net), 0);
	CHECK_EQ(wh_net_tcp_enable(g.net), 0);
	CHECK_EQ(wh_net_address_add(g.net, &ip, w->six ? 64 : 24), 0);
	g.port = (struct wh_net_port){ .send = port_send,
				       .mtu = 1500,
				       .link_features = w->offload ? WH_NET_LINK_CSUM |
									     WH_NET_LINK_TSO4 |
									     WH_NET_LINK_TSO6
								   : 0 };
	wh_net_attach(g.net, &g.port);
	CHECK_EQ(wh_net_tcp_listen(g.net, &at, false, 4, &listen_ops, 0, &g.listener), 0);
}

static socklen_t address(struct sockaddr_storage *a, bool six, const uint8_t four[4],
			 const uint8_t sixteen[16], uint16_t port)
{
	struct sockaddr_in *in = (void *)a;
	struct sockaddr_in6 *in6 = (void *)a;
	memset(a, 0, sizeof *a);
	if (six) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, sixteen, 16);
		return sizeof *in6;
	}
	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	memcpy(&in->sin_addr, four, 4);
	return sizeof *in;
}

/* A socket of Linux's that is connected to ours, by either side. */
static int join(const struct wire *w, pthread_t *stack)
{
	struct sockaddr_storage a;
	int s = socket(w->six ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
	if (!w->active) {
		socklen_t size = address(&a, w->six, own4, own6, 80);
		CHECK(!pthread_create(stack, NULL, stack_thread, NULL));
		CHECK(!connect(s, (void *)&a, size));
		return s;
	}
	static const struct wh_net_tcp_ops ops = { .event = on_event };
	socklen_t size = address(&a, w->six, linux4, linux6, 0);
	CHECK(!bind(s, (void *)&a, size) && !listen(s, 1));
	CHECK(!getsockname(s, (void *)&a, &size));
	struct wh_net_tuple t = { .remote = {
					  w->six ? wh_net_ip6(linux6) : wh_net_ip4(linux4),
					  ntohs(w->six ? ((struct sockaddr_in6 *)&a)->sin6_port
						       : ((struct sockaddr_in *)&a)->sin_port) } };
	CHECK_EQ(wh_net_tcp_connect(g.net, &t, &ops, 0, &g.s), 0);
	CHECK(!pthread_create(stack, NULL, stack_thread, NULL));
	int c = accept(s, NULL, NULL);
	CHECK(c >= 0);
	close(s);
	return c;
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

static void transfer(const struct wire *w)
{
	static uint8_t data[65536];
	pthread_t stack, write_thread;
	begin(w);
	uint64_t start = now_ns(), at = 0;
	int s = join(w, &stack);
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
	while ((g.received < TOTAL || !g.closed) && now_ns() - start < 60000000000ull)
		usleep(1000); /* what Linux still has to send */
	uint64_t took = now_ns() - start;
	g.stop = true;
	pthread_join(stack, NULL);
	struct wh_net_stats st;
	wh_net_stats_get(g.net, &st);
	printf("# %llu ms, repeats %llu ours %u Linux's, time-outs %llu, probes %llu, undone "
	       "%llu\n",
	       (unsigned long long)took / 1000000, (unsigned long long)st.tcp_retransmits,
	       info.tcpi_total_retrans, (unsigned long long)st.tcp_timeouts,
	       (unsigned long long)st.tcp_probes, (unsigned long long)st.tcp_undone);
	CHECK_EQ(at, TOTAL);
	CHECK_EQ(g.received, TOTAL);
	CHECK(!g.bad && g.closed);
	CHECK_EQ(st.in_checksum + st.in_malformed, 0);
	if (w->ecn)
		CHECK(info.tcpi_options & TCPI_OPT_ECN);
	for (int d = 0; d < 2; d++)
		while (g.held_count[d])
			free(g.held[d][--g.held_count[d]].bytes);
	wh_net_free(g.net);
	close(g.tap);
	CHECK_EQ(test_alloc_live(), 0);
}

#define CASE(name, ...)                                   \
	static void name(void)                            \
	{                                                 \
		static const struct wire w = __VA_ARGS__; \
		transfer(&w);                             \
	}

CASE(plain, { .active = true })
CASE(plain_six, { .six = true })
CASE(offload, { .offload = true })
CASE(offload_six, { .offload = true, .six = true, .active = true })
CASE(loss, { .loss_percent = 2, .active = true })
CASE(loss_offload, { .loss_percent = 2, .offload = true })
CASE(delay, { .delay_us = 5000 })
CASE(reorder, { .delay_us = 4000, .jitter_us = 3000, .six = true })
CASE(duplicate, { .duplicate_percent = 20, .delay_us = 500, .jitter_us = 500, .active = true })
CASE(everything, { .loss_percent = 1, .duplicate_percent = 5, .delay_us = 2000, .jitter_us = 2000 })
CASE(everything_offload, { .loss_percent = 1,
			   .duplicate_percent = 5,
			   .delay_us = 2000,
			   .jitter_us = 2000,
			   .offload = true,
			   .active = true })
CASE(no_sack, { .loss_percent = 1, .delay_us = 500, .sysctl = "ipv4/tcp_sack", .value = "0" })
CASE(no_timestamps, { .loss_percent = 1,
		      .delay_us = 1000,
		      .jitter_us = 1000,
		      .sysctl = "ipv4/tcp_timestamps",
		      .value = "0",
		      .cc = &wh_net_cc_reno })
CASE(no_scaling, { .delay_us = 200, .sysctl = "ipv4/tcp_window_scaling", .value = "0" })
CASE(ecn, { .ecn = true, .active = true, .sysctl = "ipv4/tcp_ecn", .value = "1" })

int main(void)
{
	RUN(plain);
	RUN(plain_six);
	RUN(offload);
	RUN(offload_six);
	RUN(loss);
	RUN(loss_offload);
	RUN(delay);
	RUN(reorder);
	RUN(duplicate);
	RUN(everything);
	RUN(everything_offload);
	RUN(no_sack);
	RUN(no_timestamps);
	RUN(no_scaling);
	RUN(ecn);
	return test_end();
}
