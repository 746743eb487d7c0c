/* SPDX-License-Identifier: ISC */
/* What one guest may use, and what happens when the host has no more: rates, connections, flows, descriptors. */
#include "../gateway_priv.h"
#include "world.h"

#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

static struct world w;
static struct wh_gateway_stats stats;

static const struct wh_gateway_stats *now(void)
{
	wh_gateway_stats(w.gateway, &stats);
	return &stats;
}

/* ---- rates ---- */

/* 1 MB at 4 MB/s cannot come in less than about (1 MB - burst) / rate. */
static void rate_in(void)
{
	struct program server = { 0 };
	struct app app = { 0 };
	uint16_t port;
	const uint64_t size = 1000000, rate = 4000000;
	world_init(&w);
	w.config.limits.rate_in = rate;
	world_start(&w);
	int listener = host_listen(AF_INET, &port);
	server.to_send = size;
	uint64_t begun = world_clock();
	app_connect(&app, &w, false, port);
	program_accept(&server, &w, listener);
	UNTIL(&w, app.received == size);
	uint64_t took = world_clock() - begun;
	CHECK(!app.mismatch);
	CHECK(took > (size - rate / 10 - 70000) * GATEWAY_S / rate);
	CHECK(now()->rate_waits > 0);
	CHECK_EQ(stats.rate_dropped, 0);
	app_close(&app);
	program_close(&server);
	close(listener);
	world_stop(&w);
}

/* ---- the port holds what it is told to hold, as the tap does ---- */

static struct {
	struct wh_net_frame frame;
	struct wh_iov iov;
	uint8_t bytes[70000];
	bool full;
} held[256];
static unsigned held_first, held_count;

static void hold_resume(struct wh_net_port *port)
{
	while (held_count) {
		if (port->receive(port, &held[held_first % 256].frame) == -WH_EAGAIN)
			return;
		held_first++;
		held_count--;
	}
}

static bool hold(struct world *world, const struct wh_net_frame *frame, bool to_guest)
{
	struct wh_net_port *port = &world->host_end.port;
	if (to_guest)
		return true;
	if (!held_count && port->receive(port, frame) != -WH_EAGAIN)
		return false;
	CHECK(held_count < 256);
	unsigned at = (held_first + held_count++) % 256;
	held[at].frame = *frame;
	held[at].iov = (struct wh_iov){ held[at].bytes, frame->size };
	held[at].frame.iov = &held[at].iov;
	held[at].frame.iov_count = 1;
	CHECK_EQ(wh_iov_read(frame->iov, frame->iov_count, 0, held[at].bytes, frame->size),
		 frame->size);
	return false;
}

static void rate_out(void)
{
	held_first = held_count = 0;
	struct world *world = &w;
	world_init(world);
	struct program server = { 0 };
	struct app app = { 0 };
	uint16_t port;
	const uint64_t size = 1000000, rate = 4000000;
	w.config.limits.rate_out = rate;
	w.filter = hold;
	w.host_end.port.resume = hold_resume;
	world_start(&w);
	int listener = host_listen(AF_INET, &port);
	app.to_send = size;
	uint64_t begun = world_clock();
	app_connect(&app, &w, false, port);
	program_accept(&server, &w, listener);
	UNTIL(&w, server.received == size);
	CHECK(!server.mismatch);
	CHECK(world_clock() - begun > (size - rate / 10 - 140000) * GATEWAY_S / rate);
	CHECK(now()->rate_waits > 0);
	CHECK_EQ(stats.stack.tcp_out_of_order, 0); /* nothing was lost on the way */
	app_close(&app);
	program_close(&server);
	close(listener);
	world_stop(&w);
}

/* ---- connections ---- */

static void connections_a_second(void)
{
	static struct app apps[8];
	uint16_t port;
	world_init(&w);
	w.config.limits.connects = 4;
	world_start(&w);
	int listener = host_listen(AF_INET, &port);
	memset(apps, 0, sizeof apps);
	for (unsigned i = 0; i < 8; i++)
		app_connect(&apps[i], &w, false, port);
	UNTIL(&w, now()->tcp_out_opened >= 4 && stats.limit_refused >= 4);
	CHECK_EQ(stats.tcp_out_opened, 4);
	/* They are not refused: their SYNs come again, and get through. */
	UNTIL(&w, now()->tcp_out_opened == 8);
	for (unsigned i = 0; i < 8; i++) {
		UNTIL(&w, apps[i].connected);
		CHECK(!apps[i].failed);
		app_abort(&apps[i]);
	}
	close(listener);
	world_stop(&w);
}

static void flows_of_one_guest(void)
{
	static struct app apps[4];
	uint16_t port;
	world_init(&w);
	w.config.limits.flows = 3;
	world_start(&w);
	int listener = host_listen(AF_INET, &port);
	memset(apps, 0, sizeof apps);
	for (unsigned i = 0; i < 4; i++)
		app_connect(&apps[i], &w, false, port);
	UNTIL(&w, now()->limit_refused > 0 && stats.tcp_out_opened == 3);
	app_abort(&apps[0]);
	UNTIL(&w, now()->tcp_out_opened == 4); /* there is room again */
	for (unsigned i = 1; i < 4; i++)
		app_abort(&apps[i]);
	close(listener);
	world_stop(&w);
}

/* Several guests: one of them cannot have all flows, and alone it can. */
static void shares(void)
{
	const uint8_t a[6] = { 2, 0, 0, 0, 0, 1 }, b[6] = { 2, 0, 0, 0, 0, 2 };
	world_init(&w);
	w.config.tcp_flows_max = 16;
	w.config.udp_flows_max = 16;
	world_start(&w);
	struct account *first = account_of(w.gateway, a), *second = account_of(w.gateway, b);
	CHECK(first != second && account_of(w.gateway, a) == first);
	first->tcp_flows = w.gateway->tcp_flow_count = 15;
	CHECK(account_connect(w.gateway, first));
	second->udp_flows = 1;
	CHECK(!account_connect(w.gateway, first));
	CHECK(account_connect(w.gateway, second));
	first->udp_flows = w.gateway->udp_flow_count = 13;
	CHECK(!account_may_udp(w.gateway, first) && account_may_udp(w.gateway, second));
	/* MACs that are made up share what is left. */
	for (unsigned i = 0; i < GUESTS_MAX; i++) {
		uint8_t mac[6] = { 2, 0, 0, 0, 1, (uint8_t)i };
		account_of(w.gateway, mac)->tcp_flows++;
	}
	const uint8_t x[6] = { 2, 9 }, y[6] = { 2, 8 };
	CHECK(account_of(w.gateway, x) == account_of(w.gateway, y));
	CHECK(account_of(w.gateway, x) == &w.gateway->accounts[GUESTS_MAX]);
	w.gateway->tcp_flow_count = w.gateway->udp_flow_count = 0;
	memset(w.gateway->accounts, 0, sizeof w.gateway->accounts);
	world_stop(&w);
}

/* ---- clients ---- */

static int client_connect(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK_EQ(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static bool client_was_reset(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET;
}

static uint16_t published(uint32_t *ret_id)
{
	struct wh_gateway_rule rule;
	struct wh_net_end bound;
	struct wh_diag diag;
	CHECK_EQ(wh_gateway_rule_parse("0:80", &rule, &diag), 0);
	CHECK_EQ(wh_gateway_publish(w.gateway, &rule, ret_id, &bound, &diag), 0);
	return bound.port;
}

/* Of a rule: so many at a time; of a guest: so many in a second. Others are refused, and counted. */
static void clients_are_limited(void)
{
	const struct wh_gateway_rule_limits two = { .connections = 2 }, none = { 0 };
	static struct app_listener listener;
	int fd[5];
	uint32_t id;
	world_init(&w);
	world_start(&w);
	uint16_t port = published(&id);
	CHECK_EQ(wh_gateway_rule_limits_set(w.gateway, id + 9, &two), -WH_ENOENT);
	CHECK_EQ(wh_gateway_rule_limits_set(w.gateway, id, &two), 0);
	for (int i = 0; i < 3; i++)
		fd[i] = client_connect(port);
	UNTIL(&w, now()->limit_refused == 1);
	UNTIL(&w, client_was_reset(fd[2]));
	CHECK(!client_was_reset(fd[0]) && !client_was_reset(fd[1]));
	close(fd[0]);
	close(fd[1]);
	close(fd[2]);
	UNTIL(&w, now()->tcp_flows == 0);
	CHECK_EQ(wh_gateway_rule_limits_set(w.gateway, id, &none), 0);
	app_listen(&listener, &w, 80);
	struct wh_gateway_limits l = { .clients = 3 };
	wh_gateway_limits_set(w.gateway, &l);
	for (int i = 0; i < 5; i++)
		fd[i] = client_connect(port);
	UNTIL(&w, now()->limit_refused == 3);
	UNTIL(&w, client_was_reset(fd[3]) && client_was_reset(fd[4]));
	CHECK(!client_was_reset(fd[0]) && !client_was_reset(fd[2]));
	for (int i = 0; i < 5; i++)
		close(fd[i]);
	app_unlisten(&listener);
	world_stop(&w);
}

/* One guest has limits of its own; the others have everybody's. */
static void limits_of_one_guest(void)
{
	const uint8_t a[6] = { 2, 0, 0, 0, 0, 1 }, b[6] = { 2, 0, 0, 0, 0, 2 };
	struct wh_gateway_limits l = { .flows = 1, .connects = 1 }, got;
	uint8_t mac[6];
	world_init(&w);
	world_start(&w);
	CHECK_EQ(wh_gateway_guest_limits_set(w.gateway, a, &l), 0);
	struct account *first = account_of(w.gateway, a), *second = account_of(w.gateway, b);
	CHECK(account_connect(w.gateway, first) && !account_connect(w.gateway, first));
	first->udp_flows = second->udp_flows = 1;
	CHECK(!account_may_udp(w.gateway, first) && account_may_udp(w.gateway, second));
	CHECK(account_connect(w.gateway, second) && account_connect(w.gateway, second));
	CHECK_EQ(now()->limit_refused, 1);
	CHECK(!w.gateway->rates_limited);
	l.rate_out = 1000;
	CHECK_EQ(wh_gateway_guest_limits_set(w.gateway, a, &l), 0);
	CHECK(w.gateway->rates_limited);
	CHECK_EQ(wh_gateway_guest_limits_get(w.gateway, 0, mac, &got), 0);
	CHECK(!memcmp(mac, a, 6) && got.rate_out == 1000);
	CHECK_EQ(wh_gateway_guest_limits_get(w.gateway, 1, mac, &got), -WH_ENOENT);
	CHECK_EQ(wh_gateway_guest_limits_set(w.gateway, a, NULL), 0);
	CHECK(!w.gateway->rates_limited && account_may_udp(w.gateway, first));
	for (unsigned i = 0; i <= WH_GATEWAY_GUEST_LIMITS_MAX; i++) {
		uint8_t many[6] = { 2, 0, 0, 0, 7, (uint8_t)i };
		CHECK_EQ(wh_gateway_guest_limits_set(w.gateway, many, &l),
			 i < WH_GATEWAY_GUEST_LIMITS_MAX ? 0 : -WH_ENOSPC);
	}
	memset(w.gateway->accounts, 0, sizeof w.gateway->accounts);
	world_stop(&w);
}

/* ---- the host has no more descriptors ---- */

static struct wh_gateway_host poor;
static uint32_t poor_sockets_left;

static int poor_socket(void *ctx, int domain, int type, int protocol)
{
	if (!poor_sockets_left)
		return -WH_EMFILE;
	poor_sockets_left--;
	return gateway_host_linux.socket(ctx, domain, type, protocol);
}

static void no_datagram(struct wh_net_udp *u, const struct wh_net_tuple *tuple,
			const struct wh_iov *iov, uint32_t count, uint32_t size)
{
}

static int poor_connect(void *ctx, int fd, const struct sockaddr *address, socklen_t size)
{
	if (!poor_sockets_left)
		return -WH_EADDRNOTAVAIL;
	return gateway_host_linux.connect(ctx, fd, address, size);
}

/* The host has no ephemeral port left for this address: the guest hears a refusal, nothing stays, and what runs goes on. */
static void out_of_ports(void)
{
	struct app app = { 0 }, second = { 0 };
	struct program server = { 0 };
	uint16_t port;
	poor = gateway_host_linux;
	poor.connect = poor_connect;
	poor_sockets_left = 1;
	world_init(&w);
	w.config.host = &poor;
	world_start(&w);
	int listener = host_listen(AF_INET, &port);
	app.to_send = 100;
	app_connect(&app, &w, false, port);
	program_accept(&server, &w, listener);
	UNTIL(&w, server.received == 100);
	poor_sockets_left = 0;
	for (int i = 0; i < 50; i++) {
		memset(&second, 0, sizeof second);
		app_connect(&second, &w, false, port);
		UNTIL(&w, second.failed);
		app_close(&second);
	}
	CHECK_EQ(now()->tcp_out_failed + stats.tcp_out_refused, 50);
	CHECK_EQ(stats.tcp_flows, 1);
	CHECK_EQ(stats.descriptors, 1);
	app.to_send = 200;
	app_pump(&app);
	UNTIL(&w, server.received == 200);
	app_close(&app);
	program_close(&server);
	close(listener);
	world_stop(&w);
}

static void out_of_descriptors(void)
{
	struct app app = { 0 }, second = { 0 };
	struct program server = { 0 };
	struct wh_net_udp *udp[3];
	static const struct wh_net_udp_ops ops = { .datagram = no_datagram };
	uint16_t port, udp_port;
	poor = gateway_host_linux;
	poor.socket = poor_socket;
	poor_sockets_left = 3;
	world_init(&w);
	w.config.host = &poor;
	world_start(&w);
	int listener = host_listen(AF_INET, &port), sink = host_udp(AF_INET, &udp_port);
	app.to_send = 100;
	app_connect(&app, &w, false, port);
	program_accept(&server, &w, listener);
	UNTIL(&w, server.received == 100);
	/* UDP: when there is no descriptor, the flow that was used least recently goes. */
	for (unsigned i = 0; i < 3; i++) {
		static const struct wh_net_tuple any;
		char byte = 1;
		struct wh_iov iov = { &byte, 1 };
		CHECK_EQ(wh_net_udp_open(w.guest, &any, 0, &ops, NULL, &udp[i]), 0);
		struct wh_net_tuple tuple = { .local = wh_net_udp_tuple(udp[i])->local,
					      .remote = end4(10, 0, 2, 2, udp_port) };
		CHECK_EQ(wh_net_udp_send(w.guest, udp[i], &tuple, &iov, 1, NULL), 1);
		UNTIL(&w, now()->udp_out + stats.udp_dropped == i + 1);
		if (i == 1)
			poor_sockets_left = 0;
	}
	CHECK(stats.descriptors_refused > 0);
	CHECK_EQ(stats.udp_evicted, 1);
	/* TCP is refused, and what runs goes on. */
	app_connect(&second, &w, false, port);
	UNTIL(&w, second.failed);
	CHECK_EQ(second.error, WH_ECONNREFUSED);
	app.to_send = 200;
	app_pump(&app);
	UNTIL(&w, server.received == 200);
	for (unsigned i = 0; i < 3; i++)
		wh_net_udp_close(udp[i]);
	app_close(&app);
	program_close(&server);
	close(listener);
	close(sink);
	world_stop(&w);
}

int main(void)
{
	RUN(rate_in);
	RUN(rate_out);
	RUN(connections_a_second);
	RUN(flows_of_one_guest);
	RUN(shares);
	RUN(clients_are_limited);
	RUN(limits_of_one_guest);
	RUN(out_of_descriptors);
	RUN(out_of_ports);
	return test_end();
}
