/* SPDX-License-Identifier: ISC */
#include "world.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wherry/os.h>

/* ---- link ---- */

static int link_send(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	struct link_end *end = port->provider, *to = end->other;
	if (to->count >= to->capacity) {
		to->refused = true;
		return -WH_EAGAIN;
	}
	struct link_frame *slot = &to->queue[(to->first + to->count++) % LINK_FRAMES_MAX];
	slot->bytes = malloc(frame->size ? frame->size : 1);
	CHECK_EQ(wh_iov_read(frame->iov, frame->iov_count, 0, slot->bytes, frame->size),
		 frame->size);
	slot->frame = *frame;
	slot->iov = (struct wh_iov){ slot->bytes, frame->size };
	slot->frame.iov = &slot->iov;
	slot->frame.iov_count = 1;
	end->frames++;
	return 0;
}

static void link_flush(struct wh_net_port *port)
{
	struct link_end *end = port->provider;
	end->kicks++;
}

static bool link_deliver(struct world *world, struct link_end *to, bool to_guest)
{
	bool moved = false;
	while (to->count && to->port.receive) {
		struct link_frame *slot = &to->queue[to->first];
		if (!world->filter || world->filter(world, &slot->frame, to_guest))
			(void)to->port.receive(&to->port, &slot->frame);
		free(slot->bytes);
		slot->bytes = NULL;
		to->first = (to->first + 1) % LINK_FRAMES_MAX;
		to->count--;
		moved = true;
	}
	if (to->refused && to->count < to->capacity) {
		to->refused = false;
		if (to->other->port.writable)
			to->other->port.writable(&to->other->port);
		moved = true;
	}
	return moved;
}

static bool link_run(struct wh_loop_hook *hook)
{
	struct world *world = hook->ctx;
	bool moved = link_deliver(world, &world->host_end, false);
	if (world->guest && !world->guest_stopped) {
		moved |= link_deliver(world, &world->guest_end, true);
		uint64_t deadline = wh_net_run(world->guest, wh_loop_now(world->loop));
		if (deadline == WH_NET_NEVER)
			wh_loop_timer_stop(world->loop, &world->timer);
		else
			wh_loop_timer_start(world->loop, &world->timer, deadline);
	}
	return moved || world->host_end.count ||
	       (world->guest && !world->guest_stopped && world->guest_end.count);
}

static void guest_deadline(struct wh_loop_timer *timer)
{
}

static void guest_udp_error(void *ctx, const struct wh_net_tuple *tuple, int error)
{
	struct world *world = ctx;
	world->udp_errors++;
	world->last_udp_error = error;
}

static void link_end_init(struct link_end *end, struct link_end *other)
{
	*end = (struct link_end){ .other = other, .capacity = LINK_FRAMES_MAX };
	end->port = (struct wh_net_port){ .send = link_send,
					  .flush = link_flush,
					  .link_features = WH_NET_LINK_CSUM | WH_NET_LINK_TSO4 |
							   WH_NET_LINK_TSO6,
					  .mtu = 1500,
					  .provider = end };
}

/* ---- world ---- */

void world_init(struct world *world)
{
	memset(world, 0, sizeof *world);
	CHECK_EQ(wh_loop_new(&world->loop), 0);
	world->config = (struct wh_gateway_config)WH_GATEWAY_CONFIG_INIT;
	world->config.host_loopback = true;
	world->config.alloc = &test_allocator;
	world->config.resolv_conf = "/nonexistent";
	world->config.hosts = "";
	link_end_init(&world->host_end, &world->guest_end);
	link_end_init(&world->guest_end, &world->host_end);
}

void world_start_gateway(struct world *world)
{
	struct wh_diag diag;
	CHECK_EQ(wh_gateway_new(&world->config, world->loop, &world->gateway, &diag), 0);
	CHECK_EQ(wh_gateway_attach(world->gateway, &world->host_end.port), 0);
	world->hook = (struct wh_loop_hook){ .before_sleep = link_run, .ctx = world };
	wh_loop_hook_add(world->loop, &world->hook);
	wh_loop_timer_init(&world->timer, guest_deadline, world);
}

void world_start_guest(struct world *world)
{
	struct wh_gateway_addresses a;
	wh_gateway_addresses(world->gateway, &a);
	struct wh_net_config net = WH_NET_CONFIG_INIT;
	world->guest_ops = (struct wh_net_ops){ .udp_error = guest_udp_error };
	net.alloc = &test_allocator;
	net.ops = &world->guest_ops;
	net.ctx = world;
	net.key[0] = test_seed();
	net.lossless = true;
	memcpy(net.mac, a.guest_mac, 6);
	CHECK_EQ(wh_net_new(&net, wh_loop_now(world->loop), &world->guest), 0);
	CHECK_EQ(wh_net_tcp_enable(world->guest), 0);
	CHECK_EQ(wh_net_udp_enable(world->guest), 0);
	struct wh_net_ip ip4 = wh_net_ip4(a.guest_ip4), gateway4 = wh_net_ip4(a.gateway_ip4);
	struct wh_net_ip ip6 = wh_net_ip6(a.guest_ip6), gateway6 = wh_net_ip6(a.gateway_ip6);
	CHECK_EQ(wh_net_address_add(world->guest, &ip4, a.prefix4), 0);
	wh_net_gateway_set(world->guest, &gateway4);
	if (a.prefix6) {
		CHECK_EQ(wh_net_address_add(world->guest, &ip6, a.prefix6), 0);
		wh_net_gateway_set(world->guest, &gateway6);
	}
	wh_net_attach(world->guest, &world->guest_end.port);
}

void world_start(struct world *world)
{
	world_start_gateway(world);
	world_start_guest(world);
}

static void link_end_fini(struct link_end *end)
{
	for (; end->count; end->count--, end->first = (end->first + 1) % LINK_FRAMES_MAX)
		free(end->queue[end->first].bytes);
}

void world_stop(struct world *world)
{
	wh_gateway_free(world->gateway);
	wh_net_free(world->guest);
	link_end_fini(&world->host_end);
	link_end_fini(&world->guest_end);
	wh_loop_hook_remove(world->loop, &world->hook);
	wh_loop_timer_stop(world->loop, &world->timer);
	CHECK_EQ(wh_loop_deadline(world->loop), UINT64_MAX); /* no timer was forgotten */
	wh_loop_free(world->loop);
	CHECK_EQ(test_alloc_live(), 0);
}

uint64_t world_clock(void)
{
	return wh_os_now();
}

void world_settle(struct world *world)
{
	for (int idle = 0; idle < 3;) {
		bool busy = wh_loop_step(world->loop, 0) > 0 || world->host_end.count;
		busy |= world->guest && !world->guest_stopped && world->guest_end.count;
		idle = busy ? 0 : idle + 1;
	}
}

/* ---- pattern: a period that fits no buffer size ---- */

#define PATTERN_PERIOD 65521u

static uint8_t pattern[2 * PATTERN_PERIOD];

static void pattern_make(void)
{
	uint64_t state = 1;
	if (pattern[0])
		return;
	for (uint32_t i = 0; i < PATTERN_PERIOD; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		pattern[i] = pattern[i + PATTERN_PERIOD] = (uint8_t)(state >> 56 | 1);
	}
}

void pattern_fill(uint64_t offset, void *to, size_t size)
{
	pattern_make();
	for (size_t done = 0; done < size;) {
		size_t n = size - done < PATTERN_PERIOD ? size - done : PATTERN_PERIOD;
		memcpy((char *)to + done, pattern + (offset + done) % PATTERN_PERIOD, n);
		done += n;
	}
}

bool pattern_check(uint64_t offset, const void *from, size_t size)
{
	pattern_make();
	for (size_t done = 0; done < size;) {
		size_t n = size - done < PATTERN_PERIOD ? size - done : PATTERN_PERIOD;
		if (memcmp((const char *)from + done, pattern + (offset + done) % PATTERN_PERIOD,
			   n))
			return false;
		done += n;
	}
	return true;
}

/* ---- host programs ---- */

static socklen_t loopback(int family, uint16_t port, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof *ret);
	if (family == AF_INET) {
		struct sockaddr_in *a = (struct sockaddr_in *)ret;
		*a = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
		a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof *a;
	}
	struct sockaddr_in6 *a = (struct sockaddr_in6 *)ret;
	*a = (struct sockaddr_in6){ .sin6_family = AF_INET6,
				    .sin6_port = htons(port),
				    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	return sizeof *a;
}

static int host_bound(int family, int type, uint16_t *ret_port)
{
	struct sockaddr_storage address;
	socklen_t size = loopback(family, 0, &address);
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size)) {
		if (family == AF_INET6)
			test_skip("no IPv6 on this host's loopback");
		test_fail(__FILE__, __LINE__, "bind: errno %d", errno);
	}
	CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	*ret_port = ntohs(family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
					    : ((struct sockaddr_in6 *)&address)->sin6_port);
	return fd;
}

int host_listen(int family, uint16_t *ret_port)
{
	int fd = host_bound(family, SOCK_STREAM, ret_port);
	CHECK_EQ(listen(fd, 64), 0);
	return fd;
}

int host_udp(int family, uint16_t *ret_port)
{
	return host_bound(family, SOCK_DGRAM, ret_port);
}

static void program_event(struct wh_loop_fd *watch, uint32_t events);

static void program_begin(struct program *program, struct world *world, int fd)
{
	program->world = world;
	program->watch = (struct wh_loop_fd){ .fd = fd, .fn = program_event, .ctx = program };
	CHECK_EQ(wh_loop_add(world->loop, &program->watch), 0);
	program_update(program);
}

void program_accept(struct program *program, struct world *world, int listener)
{
	int fd = -1;
	socklen_t size = sizeof program->peer;
	UNTIL(world, (fd = accept4(listener, (struct sockaddr *)&program->peer, &size,
				   SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
	program_begin(program, world, fd);
}

void program_connect(struct program *program, struct world *world, int family, uint16_t port)
{
	struct sockaddr_storage address;
	socklen_t size = loopback(family, port, &address);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0);
	CHECK_EQ(connect(fd, (struct sockaddr *)&address, size), 0); /* the kernel's backlog */
	int on = 1;
	CHECK_EQ(ioctl(fd, FIONBIO, &on), 0);
	program_begin(program, world, fd);
}

void program_close(struct program *program)
{
	if (!program->world || program->watch.fd < 0)
		return;
	wh_loop_remove(program->world->loop, &program->watch);
	close(program->watch.fd);
	program->watch.fd = -1;
}

void program_reset(struct program *program)
{
	struct linger now = { .l_onoff = 1 };
	CHECK_EQ(setsockopt(program->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
	program_close(program);
}

void program_update(struct program *program)
{
	uint32_t events = 0;
	if (program->watch.fd < 0)
		return;
	if (!program->lazy && !program->at_end && !program->error)
		events |= WH_LOOP_READ;
	if (program->sent < program->to_send && !program->error)
		events |= WH_LOOP_WRITE;
	if (program->shut_after && program->sent == program->to_send && !program->shut) {
		program->shut = true;
		shutdown(program->watch.fd, SHUT_WR);
	}
	if (program->close_after && program->sent == program->to_send)
		program_close(program);
	else
		wh_loop_modify(program->world->loop, &program->watch, events);
}

static void program_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct program *program = watch->ctx;
	static uint8_t buffer[200000];
	if ((events & (WH_LOOP_READ | WH_LOOP_HANGUP)) && !program->lazy && !program->at_end) {
		ssize_t n = recv(watch->fd, buffer, sizeof buffer, 0);
		if (n > 0 && !pattern_check(program->received, buffer, (size_t)n))
			program->mismatch = true;
		if (n > 0)
			program->received += (uint64_t)n;
		else if (n == 0)
			program->at_end = true;
		else if (errno != EAGAIN)
			program->error = errno;
	}
	if (events & WH_LOOP_WRITE && program->sent < program->to_send) {
		uint64_t left = program->to_send - program->sent;
		size_t size = left < sizeof buffer ? (size_t)left : sizeof buffer;
		pattern_fill(program->sent, buffer, size);
		ssize_t n = send(watch->fd, buffer, size, MSG_NOSIGNAL);
		if (n > 0)
			program->sent += (uint64_t)n;
		else if (errno != EAGAIN)
			program->error = errno;
	}
	if (events & WH_LOOP_HANGUP && program->error)
		program_close(program);
	program_update(program);
}

/* ---- guest programs ---- */

void app_pump(struct app *app)
{
	struct wh_iov iov[2];
	uint32_t n;
	while (app->tcp && !app->lazy && (n = wh_net_tcp_peek(app->tcp, iov))) {
		for (int i = 0; i < 2; i++) {
			if (!pattern_check(app->received, iov[i].base, iov[i].size))
				app->mismatch = true;
			app->received += iov[i].size;
		}
		wh_net_tcp_consume(app->tcp, n);
	}
	while (app->tcp && app->connected && app->sent < app->to_send &&
	       (n = wh_net_tcp_reserve(app->tcp, iov))) {
		uint32_t done = 0;
		for (int i = 0; i < 2 && app->sent < app->to_send; i++) {
			uint64_t left = app->to_send - app->sent;
			size_t size = left < iov[i].size ? (size_t)left : iov[i].size;
			pattern_fill(app->sent, iov[i].base, size);
			app->sent += size;
			done += (uint32_t)size;
		}
		wh_net_tcp_commit(app->tcp, done);
	}
	if (app->tcp && app->connected && app->shut_after && app->sent == app->to_send &&
	    !app->shut) {
		app->shut = true;
		wh_net_tcp_shutdown(app->tcp);
	}
	if (app->tcp && wh_net_tcp_at_end(app->tcp))
		app->at_end = true;
}

static void app_event(struct wh_net_tcp *s, uint32_t events)
{
	struct app *app = wh_net_tcp_ctx(s);
	if (events & WH_NET_CONNECTED)
		app->connected = true;
	if (events & WH_NET_DRAINED)
		app->drained = true;
	if (events & WH_NET_FAILED) {
		app->failed = true;
		app->error = wh_net_tcp_error(s);
		wh_net_tcp_close(s);
		app->tcp = NULL;
	}
	app_pump(app);
}

static const struct wh_net_tcp_ops app_ops = { .event = app_event };

void app_connect_to(struct app *app, struct world *world, const struct wh_net_end *to)
{
	app->world = world;
	app->tuple = (struct wh_net_tuple){ .remote = *to };
	CHECK_EQ(wh_net_tcp_connect(world->guest, &app->tuple, &app_ops, app, &app->tcp), 0);
}

void app_connect(struct app *app, struct world *world, bool ip6, uint16_t port)
{
	struct wh_gateway_addresses a;
	wh_gateway_addresses(world->gateway, &a);
	struct wh_net_end to = { ip6 ? wh_net_ip6(a.gateway_ip6) : wh_net_ip4(a.gateway_ip4),
				 port };
	app_connect_to(app, world, &to);
}

static void listener_event(struct wh_net_tcp *s, uint32_t events)
{
	struct app_listener *listener = wh_net_tcp_ctx(s);
	struct wh_net_tcp *got;
	while (listener->next && wh_net_tcp_take(s, &got) == 0) {
		struct app *app = listener->next;
		listener->next = NULL;
		app->world = listener->world;
		app->tcp = got;
		app->connected = true;
		app->tuple = *wh_net_tcp_tuple(got);
		wh_net_tcp_set_ops(got, &app_ops, app);
		app_pump(app);
	}
}

void app_listen(struct app_listener *listener, struct world *world, uint16_t port)
{
	static const struct wh_net_tcp_ops ops = { .event = listener_event };
	struct wh_net_end local = { .port = port };
	listener->world = world;
	CHECK_EQ(wh_net_tcp_listen(world->guest, &local, false, 64, &ops, listener, &listener->tcp),
		 0);
}

void app_unlisten(struct app_listener *listener)
{
	wh_net_tcp_close(listener->tcp);
	listener->tcp = NULL;
}

void app_close(struct app *app)
{
	if (app->tcp)
		wh_net_tcp_close(app->tcp);
	app->tcp = NULL;
}

void app_abort(struct app *app)
{
	wh_net_tcp_abort(app->tcp);
	app->tcp = NULL;
}

struct wh_net_end end4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port)
{
	const uint8_t ip[4] = { a, b, c, d };
	return (struct wh_net_end){ wh_net_ip4(ip), port };
}
