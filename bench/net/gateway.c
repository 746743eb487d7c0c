/* SPDX-License-Identifier: ISC */
/*
 * The gateway's path alone: a guest (our stack, on a link of two frame rings) and the gateway in
 * one process and thread, clients in another process on the host's loopback. Prints one line of
 * JSON per test: what the gateway makes of one processor, and its system calls per operation.
 *
 *	bench-gateway LOAD [SECONDS [PART-OF-NAME]]     LOAD = bench/http/load
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/gateway.h>
#include <wherry/os.h>

#include "../../src/host/gateway/gateway_host.h"

#define SLOTS 256u

struct link_end {
	struct wh_net_port port;
	struct link_end *other;
	struct slot {
		struct wh_net_frame frame;
		uint8_t *bytes;
	} slots[SLOTS];
	uint32_t first, count;
	bool refused;
};

static struct wh_loop *loop;
static struct wh_gateway *gateway;
static struct wh_net *guest;
static struct link_end host_end, guest_end;
static struct wh_loop_timer guest_timer;
static uint64_t calls, sleeps;

void wh_assert_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

/* ---- link ---- */

static int link_send(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	struct link_end *end = port->provider, *to = end->other;
	if (to->count == SLOTS) {
		to->refused = true;
		return -WH_EAGAIN;
	}
	struct slot *slot = &to->slots[(to->first + to->count++) % SLOTS];
	slot->frame = *frame;
	wh_iov_read(frame->iov, frame->iov_count, 0, slot->bytes, frame->size);
	return 0;
}

static bool link_deliver(struct link_end *to)
{
	bool moved = to->count > 0;
	while (to->count) {
		struct slot *slot = &to->slots[to->first];
		struct wh_iov iov = { slot->bytes, slot->frame.size };
		slot->frame.iov = &iov;
		slot->frame.iov_count = 1;
		(void)to->port.receive(&to->port, &slot->frame);
		to->first = (to->first + 1) % SLOTS;
		to->count--;
	}
	if (to->refused) {
		to->refused = false;
		to->other->port.writable(&to->other->port);
		moved = true;
	}
	return moved;
}

static bool guest_run(struct wh_loop_hook *hook)
{
	bool moved = link_deliver(&host_end);
	moved |= link_deliver(&guest_end);
	uint64_t deadline = wh_net_run(guest, wh_loop_now(loop));
	if (deadline == WH_NET_NEVER)
		wh_loop_timer_stop(loop, &guest_timer);
	else
		wh_loop_timer_start(loop, &guest_timer, deadline);
	return moved || host_end.count || guest_end.count;
}

static void guest_deadline(struct wh_loop_timer *timer)
{
}

static void link_init(struct link_end *end, struct link_end *other, uint32_t mtu)
{
	end->other = other;
	end->port = (struct wh_net_port){ .send = link_send,
					  .link_features = WH_NET_LINK_CSUM | WH_NET_LINK_TSO4 |
							   WH_NET_LINK_TSO6,
					  .mtu = mtu,
					  .provider = end };
	for (uint32_t i = 0; i < SLOTS; i++)
		if (!end->slots[i].bytes)
			end->slots[i].bytes = malloc(WH_NET_FRAME_SIZE_MAX);
}

/* ---- the guest's programs: 80 = HTTP, 81 = takes everything, 82 = gives for ever ---- */

static const char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world";
static uint8_t zeros[65536];

static void http_event(struct wh_net_tcp *s, uint32_t events)
{
	struct wh_iov iov[2];
	uint32_t n;
	if (events & WH_NET_FAILED) {
		wh_net_tcp_close(s);
		return;
	}
	while ((n = wh_net_tcp_peek(s, iov)) >= 4) {
		char text[2048];
		size_t got = wh_iov_read(iov, 2, 0, text, sizeof text - 1);
		text[got] = 0;
		char *end = strstr(text, "\r\n\r\n");
		if (!end)
			break;
		bool close_it = strstr(text, "close") != NULL;
		wh_net_tcp_consume(s, (uint32_t)(end + 4 - text));
		wh_net_tcp_write(s, response, sizeof response - 1);
		if (close_it) {
			wh_net_tcp_close(s);
			return;
		}
	}
	if (wh_net_tcp_at_end(s))
		wh_net_tcp_close(s);
}

static void sink_event(struct wh_net_tcp *s, uint32_t events)
{
	struct wh_iov iov[2];
	uint32_t n = wh_net_tcp_peek(s, iov);
	wh_net_tcp_consume(s, n);
	if (events & WH_NET_FAILED || wh_net_tcp_at_end(s))
		wh_net_tcp_close(s);
}

static void source_event(struct wh_net_tcp *s, uint32_t events)
{
	if (events & WH_NET_FAILED) {
		wh_net_tcp_close(s);
		return;
	}
	while (wh_net_tcp_write(s, zeros, sizeof zeros)) {
	}
}

static const struct wh_net_tcp_ops ops[3] = { { .event = http_event },
					      { .event = sink_event },
					      { .event = source_event } };

static void listener_event(struct wh_net_tcp *s, uint32_t events)
{
	struct wh_net_tcp *got;
	const struct wh_net_tcp_ops *o = wh_net_tcp_ctx(s);
	while (wh_net_tcp_take(s, &got) == 0) {
		wh_net_tcp_set_ops(got, o, NULL);
		o->event(got, WH_NET_CONNECTED);
	}
}

/* ---- counting ---- */

static struct wh_gateway_host counted;

#define COUNT(member, result, params, args)            \
	static result counted_##member params          \
	{                                              \
		calls++;                               \
		return gateway_host_linux.member args; \
	}
COUNT(socket, int, (void *c, int a, int b, int d), (c, a, b, d))
COUNT(accept, int, (void *c, int a, struct sockaddr *b, socklen_t *d), (c, a, b, d))
COUNT(send, long, (void *c, int a, const struct msghdr *b), (c, a, b))
COUNT(receive, long, (void *c, int a, struct msghdr *b, int d), (c, a, b, d))
COUNT(option_set, int, (void *c, int a, int b, int d, const void *e, socklen_t g),
      (c, a, b, d, e, g))
COUNT(shutdown, void, (void *c, int a), (c, a))
COUNT(close, void, (void *c, int a), (c, a))
COUNT(watch, int, (void *c, struct wh_loop *l, struct wh_loop_fd *w), (c, l, w))
COUNT(watch_modify, int, (void *c, struct wh_loop *l, struct wh_loop_fd *w, uint32_t e),
      (c, l, w, e))

static void counted_init(void)
{
	counted = gateway_host_linux;
	counted.socket = counted_socket;
	counted.accept = counted_accept;
	counted.send = counted_send;
	counted.receive = counted_receive;
	counted.option_set = counted_option_set;
	counted.shutdown = counted_shutdown;
	counted.close = counted_close;
	counted.watch = counted_watch;
	counted.watch_modify = counted_watch_modify;
}

/* ---- tests ---- */

static void world_start(uint32_t mtu, uint16_t ports[3])
{
	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
	struct wh_net_config net = WH_NET_CONFIG_INIT;
	struct wh_gateway_addresses a;
	static const struct wh_net_ops none;
	static const struct wh_net_tcp_ops listener = { .event = listener_event };
	static struct wh_loop_hook hook = { .before_sleep = guest_run };
	config.host = &counted;
	wh_assert(wh_loop_new(&loop) == 0);
	wh_assert(wh_gateway_new(&config, loop, &gateway, NULL) == 0);
	link_init(&host_end, &guest_end, mtu);
	link_init(&guest_end, &host_end, mtu);
	wh_assert(wh_gateway_attach(gateway, &host_end.port) == 0);
	wh_gateway_addresses(gateway, &a);
	net.alloc = &wh_os_allocator;
	net.ops = &none;
	net.lossless = true;
	net.key[0] = 1;
	memcpy(net.mac, a.guest_mac, 6);
	wh_assert(wh_net_new(&net, wh_loop_now(loop), &guest) == 0);
	wh_assert(wh_net_tcp_enable(guest) == 0);
	struct wh_net_ip ip = wh_net_ip4(a.guest_ip4), router = wh_net_ip4(a.gateway_ip4);
	wh_assert(wh_net_address_add(guest, &ip, 24) == 0);
	wh_net_gateway_set(guest, &router);
	wh_net_attach(guest, &guest_end.port);
	wh_loop_hook_add(loop, &hook);
	wh_loop_timer_init(&guest_timer, guest_deadline, NULL);
	for (uint16_t i = 0; i < 3; i++) {
		struct wh_net_end local = { .port = (uint16_t)(80 + i) }, bound;
		struct wh_net_tcp *s;
		struct wh_gateway_rule rule = { .protocol = WH_GATEWAY_TCP,
						.guest_port = local.port };
		wh_assert(wh_net_tcp_listen(guest, &local, false, 1024, &listener,
					    (void *)(uintptr_t)&ops[i], &s) == 0);
		wh_assert(wh_gateway_publish(gateway, &rule, NULL, &bound, NULL) == 0);
		ports[i] = bound.port;
	}
}

static double processor_seconds(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* Runs the loop until the child ends. */
static void run_child(pid_t child, const char *name, bool bytes)
{
	struct wh_gateway_stats before, after;
	double cpu = processor_seconds();
	uint64_t begin = wh_os_now();
	wh_gateway_stats(gateway, &before);
	calls = sleeps = 0;
	while (waitpid(child, NULL, WNOHANG) == 0) {
		wh_loop_step(loop, 20);
		sleeps++;
	}
	double seconds = (double)(wh_os_now() - begin) * 1e-9;
	cpu = processor_seconds() - cpu;
	wh_gateway_stats(gateway, &after);
	double moved = (double)(after.tcp_bytes_in - before.tcp_bytes_in + after.tcp_bytes_out -
				before.tcp_bytes_out);
	double operations = bytes ? moved / 1e9
				  : (double)(after.tcp_bytes_out - before.tcp_bytes_out) /
					    (sizeof response - 1);
	printf("{\"test\":\"%s\",\"seconds\":%.2f,\"cpu_seconds\":%.2f,", name, seconds, cpu);
	if (bytes)
		printf("\"gbit_per_s\":%.2f,\"cpu_s_per_gb\":%.3f,\"calls_per_mb\":%.1f,",
		       moved * 8e-9 / seconds, cpu / operations, (double)calls / (moved / 1e6));
	else
		printf("\"requests_per_s\":%.0f,\"cpu_us_per_request\":%.2f,"
		       "\"calls_per_request\":%.2f,\"sleeps_per_request\":%.2f,",
		       operations / seconds, cpu * 1e6 / operations, (double)calls / operations,
		       (double)sleeps / operations);
	printf("\"stack_frames_in\":%llu,\"retransmits\":%llu}\n",
	       (unsigned long long)(after.stack.frames_in - before.stack.frames_in),
	       (unsigned long long)(after.stack.tcp_retransmits - before.stack.tcp_retransmits));
	fflush(stdout);
	for (int i = 0; i < 200; i++)
		wh_loop_step(loop, 0);
}

static const char *only = ""; /* a part of the names of the tests that are wanted */

static void bulk(const char *name, uint16_t port, bool send_it, double seconds)
{
	if (!strstr(name, only))
		return;
	pid_t child = fork();
	if (child) {
		run_child(child, name, true);
		return;
	}
	static char buffer[1 << 18];
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof to))
		_exit(1);
	uint64_t end = wh_os_now() + (uint64_t)(seconds * 1e9);
	while (wh_os_now() < end)
		if ((send_it ? send(fd, buffer, sizeof buffer, 0)
			     : recv(fd, buffer, sizeof buffer, 0)) <= 0)
			_exit(1);
	_exit(0);
}

static void http(const char *name, const char *load, uint16_t port, const char *connections,
		 const char *seconds, const char *mode)
{
	if (!strstr(name, only))
		return;
	fflush(stdout);
	pid_t child = fork();
	if (child) {
		run_child(child, name, false);
		return;
	}
	char text[8];
	snprintf(text, sizeof text, "%u", port);
	execl(load, load, "127.0.0.1", text, "/", connections, seconds, mode, (char *)NULL);
	_exit(1);
}

static long resident_kib(void)
{
	char text[128];
	long pages = 0;
	if (wh_os_read_text("/proc/self/statm", text, sizeof text) > 0)
		sscanf(text, "%*d %ld", &pages);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Memory of connections that have carried a request and are idle: both stacks' part. */
static void memory(uint16_t port)
{
	enum { CONNECTIONS = 1000 };
	int fds[CONNECTIONS];
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct wh_gateway_stats stats;
	long before = resident_kib();
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int i = 0; i < CONNECTIONS; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fds[i], (struct sockaddr *)&to, sizeof to) ||
		    write(fds[i], "GET / HTTP/1.1\r\n\r\n", 18) < 0)
			break;
		for (int k = 0; k < 8; k++)
			wh_loop_step(loop, 0);
	}
	wh_gateway_stats(gateway, &stats);
	printf("{\"test\":\"memory\",\"flows\":%u,\"resident_kib\":%ld,\"kib_per_flow\":%.1f}\n",
	       stats.tcp_flows, before, (double)(resident_kib() - before) / stats.tcp_flows);
	for (int i = 0; i < CONNECTIONS; i++)
		close(fds[i]);
}

int main(int argc, char **argv)
{
	uint16_t ports[3];
	if (argc < 2) {
		fprintf(stderr, "usage: %s LOAD [SECONDS [PART-OF-NAME]]\n", argv[0]);
		return 2;
	}
	const char *seconds = argc > 2 ? argv[2] : "1";
	only = argc > 3 ? argv[3] : only;
	counted_init();
	world_start(1500, ports);
	bulk("bulk in, MTU 1500", ports[1], true, atof(seconds));
	bulk("bulk out, MTU 1500", ports[2], false, atof(seconds));
	http("keep, 1 connection", argv[1], ports[0], "1", seconds, "keep");
	http("keep, 64 connections", argv[1], ports[0], "64", seconds, "keep");
	http("close, 1 connection", argv[1], ports[0], "1", seconds, "close");
	http("close, 64 connections", argv[1], ports[0], "64", seconds, "close");
	if (strstr("memory", only))
		memory(ports[0]);
	return 0;
}
