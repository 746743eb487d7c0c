/* SPDX-License-Identifier: ISC */
#include "../gateway_host.h"
#include "world.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <unistd.h>

#define MB (1024u * 1024u)

static struct world w;
static struct wh_gateway_stats stats;

static const struct wh_gateway_stats *now(void)
{
	wh_gateway_stats(w.gateway, &stats);
	return &stats;
}

static void begin(void)
{
	world_init(&w);
	world_start(&w);
}

/* ---- guest to host ---- */

static void transfer_out(int family, uint64_t out, uint64_t in)
{
	uint16_t port;
	struct app app = { .to_send = out, .shut_after = true };
	struct program program = { .to_send = in, .shut_after = true };
	begin();
	int listener = host_listen(family, &port);
	app_connect(&app, &w, family == AF_INET6, port);
	program_accept(&program, &w, listener);
	UNTIL(&w, program.at_end && app.at_end);
	CHECK_EQ(program.received, out);
	CHECK_EQ(app.received, in);
	CHECK(!program.mismatch && !app.mismatch);
	program_close(&program);
	app_close(&app);
	UNTIL(&w, now()->tcp_flows == 0);
	CHECK_EQ(stats.tcp_bytes_out, out);
	CHECK_EQ(stats.tcp_bytes_in, in);
	CHECK_EQ(stats.tcp_out_opened, 1);
	CHECK_EQ(stats.descriptors, 0);
	close(listener);
	world_stop(&w);
}

static void bytes_go_out(void)
{
	transfer_out(AF_INET, 100 * MB, 0);
}

static void bytes_come_in(void)
{
	transfer_out(AF_INET, 0, 100 * MB);
}

static void bytes_go_both_ways(void)
{
	transfer_out(AF_INET, 20 * MB + 1, 20 * MB + 3);
}

static void bytes_go_over_ip6(void)
{
	transfer_out(AF_INET6, 3 * MB, 3 * MB);
}

static void empty_connection(void)
{
	transfer_out(AF_INET, 0, 0);
}

static void half_close_keeps_the_other_way(void)
{
	uint16_t port;
	struct app app = { .to_send = 1000, .shut_after = true };
	struct program program = { 0 };
	begin();
	int listener = host_listen(AF_INET, &port);
	app_connect(&app, &w, false, port);
	program_accept(&program, &w, listener);
	UNTIL(&w, program.at_end);
	world_settle(&w);
	CHECK(!app.at_end);
	CHECK_EQ(now()->tcp_flows, 1);
	program.to_send = MB;
	program.shut_after = true;
	program_update(&program);
	UNTIL(&w, app.at_end);
	CHECK_EQ(app.received, MB);
	CHECK(!app.mismatch);
	app_close(&app);
	program_close(&program);
	UNTIL(&w, now()->tcp_flows == 0);
	close(listener);
	world_stop(&w);
}

/* Bytes and the end arrive at once; an urgent byte, at which a read of the socket stops, is among them. */
static void the_end_comes_with_the_bytes(void)
{
	for (int urgent = 0; urgent < 2; urgent++) {
		uint16_t port;
		struct app app = { 0 };
		struct program program = { .lazy = true };
		begin();
		int listener = host_listen(AF_INET, &port);
		app_connect(&app, &w, false, port);
		program_accept(&program, &w, listener);
		UNTIL(&w, app.connected);
		int fd = program.watch.fd;
		CHECK_EQ(send(fd, "one", 3, 0), 3);
		if (urgent)
			CHECK_EQ(send(fd, "!", 1, MSG_OOB), 1);
		CHECK_EQ(send(fd, "two", 3, 0), 3);
		CHECK_EQ(shutdown(fd, SHUT_WR), 0);
		UNTIL(&w, app.at_end);
		CHECK(app.received == 6 || (urgent && app.received == 7));
		app_close(&app);
		program_close(&program);
		UNTIL(&w, now()->tcp_flows == 0);
		close(listener);
		world_stop(&w);
	}
}

static void refused_connect_is_a_reset(void)
{
	uint16_t port;
	struct app app = { 0 };
	begin();
	close(host_listen(AF_INET, &port)); /* a port on which nobody listens */
	app_connect(&app, &w, false, port);
	UNTIL(&w, app.failed);
	CHECK_EQ(app.error, WH_ECONNREFUSED);
	CHECK_EQ(now()->tcp_out_failed, 1);
	CHECK_EQ(stats.descriptors, 0);
	world_stop(&w);
}

static void forbidden_destinations_fail_at_once(void)
{
	world_init(&w);
	w.config.host_loopback = false;
	world_start(&w);
	const struct wh_net_end targets[] = { end4(10, 0, 2, 2, 22), end4(10, 0, 2, 3, 80),
					      end4(10, 0, 2, 77, 80), end4(240, 0, 0, 1, 80) };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(targets); i++) {
		struct app app = { 0 };
		/* The guest would ask for the neighbour's MAC in vain: say that it is the gateway. */
		const uint8_t mac[6] = { 0x52, 0x55, 0x0a, 0, 2, 2 };
		(void)wh_net_neighbour_set(w.guest, &targets[i].ip, mac);
		app_connect_to(&app, &w, &targets[i]);
		UNTIL(&w, app.failed);
	}
	CHECK_EQ(now()->descriptors, 0);
	CHECK_EQ(stats.tcp_out_opened, 0);
	world_stop(&w);
}

static void reset_passes(bool guest_resets)
{
	uint16_t port;
	struct app app = { .to_send = 10 };
	struct program program = { 0 };
	begin();
	int listener = host_listen(AF_INET, &port);
	app_connect(&app, &w, false, port);
	program_accept(&program, &w, listener);
	UNTIL(&w, program.received == 10);
	if (guest_resets) {
		app_abort(&app);
		UNTIL(&w, program.error);
		CHECK_EQ(program.error, ECONNRESET);
	} else {
		program_reset(&program);
		UNTIL(&w, app.failed);
		CHECK_EQ(app.error, WH_ECONNRESET);
	}
	UNTIL(&w, now()->tcp_flows == 0);
	program_close(&program);
	close(listener);
	world_stop(&w);
}

static void guest_reset_reaches_the_host(void)
{
	reset_passes(true);
}

static void host_reset_reaches_the_guest(void)
{
	reset_passes(false);
}

static void guest_gives_up_while_connecting(void)
{
	struct app app = { 0 };
	uint16_t port;
	begin();
	int listener = host_listen(AF_INET, &port);
	app_connect(&app, &w, false, port);
	app_abort(&app);
	world_settle(&w);
	UNTIL(&w, now()->tcp_flows == 0 && stats.descriptors == 0);
	close(listener);
	world_stop(&w);
}

static void guest_that_stops_reading_stops_the_host(void)
{
	uint16_t port;
	struct app app = { .lazy = true };
	struct program program = { .to_send = 64 * MB, .shut_after = true };
	begin();
	int listener = host_listen(AF_INET, &port);
	app_connect(&app, &w, false, port);
	program_accept(&program, &w, listener);
	uint64_t before;
	do {
		before = program.sent;
		world_settle(&w);
	} while (program.sent != before);
	CHECK(program.sent < 64 * MB);
	/* Other flows are not held up. */
	struct app other = { .to_send = 5000, .shut_after = true };
	struct program second = { 0 };
	app_connect(&other, &w, false, port);
	program_accept(&second, &w, listener);
	UNTIL(&w, second.at_end);
	CHECK_EQ(second.received, 5000);
	app.lazy = false;
	app_pump(&app);
	UNTIL(&w, app.at_end);
	CHECK_EQ(app.received, 64 * MB);
	CHECK(!app.mismatch);
	app_close(&app);
	app_close(&other);
	program_close(&program);
	program_close(&second);
	close(listener);
	world_stop(&w);
}

static void host_that_stops_reading_stops_the_guest(void)
{
	uint16_t port;
	struct app app = { .to_send = 64 * MB, .shut_after = true };
	struct program program = { .lazy = true };
	begin();
	int listener = host_listen(AF_INET, &port);
	app_connect(&app, &w, false, port);
	program_accept(&program, &w, listener);
	uint64_t before;
	do {
		before = app.sent;
		world_settle(&w);
	} while (app.sent != before);
	CHECK(app.sent < 64 * MB);
	program.lazy = false;
	program_update(&program);
	UNTIL(&w, program.at_end);
	CHECK_EQ(program.received, 64 * MB);
	CHECK(!program.mismatch);
	app_close(&app);
	program_close(&program);
	close(listener);
	world_stop(&w);
}

static void slow_link_loses_nothing(void)
{
	uint16_t port;
	struct app app = { .to_send = 4 * MB, .shut_after = true };
	struct program program = { .to_send = 4 * MB, .shut_after = true };
	begin();
	w.guest_end.capacity = 3; /* the guest posts few buffers */
	w.host_end.capacity = 2;
	int listener = host_listen(AF_INET, &port);
	app_connect(&app, &w, false, port);
	program_accept(&program, &w, listener);
	UNTIL(&w, program.at_end && app.at_end);
	CHECK(program.received == 4 * MB && app.received == 4 * MB);
	CHECK(!program.mismatch && !app.mismatch);
	CHECK_EQ(now()->stack.tcp_retransmits, 0);
	app_close(&app);
	program_close(&program);
	close(listener);
	world_stop(&w);
}

static void flow_table_full_refuses_new_ones(void)
{
	uint16_t port;
	struct app apps[5] = { 0 };
	struct program programs[4] = { 0 };
	world_init(&w);
	w.config.tcp_flows_max = 4;
	world_start(&w);
	int listener = host_listen(AF_INET, &port);
	for (int i = 0; i < 4; i++) {
		app_connect(&apps[i], &w, false, port);
		program_accept(&programs[i], &w, listener);
	}
	app_connect(&apps[4], &w, false, port);
	UNTIL(&w, apps[4].failed);
	CHECK_EQ(now()->tcp_flows, 4);
	CHECK_EQ(stats.tcp_out_refused, 1);
	program_close(&programs[0]);
	app_close(&apps[0]);
	UNTIL(&w, now()->tcp_flows == 3);
	apps[4] = (struct app){ 0 };
	app_connect(&apps[4], &w, false, port);
	program_accept(&programs[0], &w, listener);
	for (int i = 0; i < 4; i++)
		program_close(&programs[i]);
	for (int i = 0; i < 5; i++)
		app_close(&apps[i]);
	close(listener);
	world_stop(&w);
}

static void many_short_connections_leave_nothing(void)
{
	uint16_t port;
	begin();
	int listener = host_listen(AF_INET, &port);
	for (int i = 0; i < 300; i++) {
		struct app app = { .to_send = 100, .shut_after = true };
		struct program program = { .to_send = 3000,
					   .close_after = false,
					   .shut_after = true };
		app_connect(&app, &w, false, port);
		program_accept(&program, &w, listener);
		UNTIL(&w, app.at_end && program.at_end);
		CHECK(app.received == 3000 && program.received == 100);
		app_close(&app);
		program_close(&program);
	}
	UNTIL(&w, now()->tcp_flows == 0);
	CHECK_EQ(stats.tcp_out_opened, 300);
	CHECK_EQ(stats.descriptors, 0);
	CHECK_EQ(stats.stack.tcp_sockets, 0);
	close(listener);
	world_stop(&w);
}

static int connect_for_ever(void *ctx, int fd, const struct sockaddr *to, socklen_t size)
{
	return -WH_EINPROGRESS;
}

static int watch_never(void *ctx, struct wh_loop *loop, struct wh_loop_fd *watch)
{
	return 0;
}

/* Frames with a SYN each, from many ports, to a host that does not answer. */
static void syn_flood_is_bounded(void)
{
	struct wh_gateway_host host = gateway_host_linux;
	struct app apps[50] = { 0 };
	host.connect = connect_for_ever;
	host.watch = watch_never;
	world_init(&w);
	w.config.host = &host;
	w.config.tcp_pending_max = 20;
	world_start(&w);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(apps); i++)
		app_connect(&apps[i], &w, false, (uint16_t)(1000 + i));
	UNTIL(&w, now()->tcp_out_refused == 30);
	CHECK_EQ(stats.tcp_pending, 20);
	CHECK_EQ(stats.descriptors, 20);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(apps); i++)
		app_close(&apps[i]);
	world_stop(&w);
}

/* ---- published ---- */

static uint16_t publish(const char *text)
{
	struct wh_gateway_rule rule;
	struct wh_net_end bound;
	struct wh_diag diag;
	uint32_t id;
	CHECK_EQ(wh_gateway_rule_parse(text, &rule, &diag), 0);
	if (wh_gateway_publish(w.gateway, &rule, &id, &bound, &diag))
		test_fail(__FILE__, __LINE__, "%s: %s", text, diag.text);
	return bound.port;
}

static void published(int family, const char *text, uint64_t out, uint64_t in)
{
	struct app app = { .to_send = in, .shut_after = true };
	struct program program = { .to_send = out, .shut_after = true };
	struct app_listener listener = { .next = &app };
	begin();
	uint16_t port = publish(text);
	app_listen(&listener, &w, 80);
	program_connect(&program, &w, family, port);
	UNTIL(&w, program.at_end && app.at_end);
	CHECK_EQ(program.received, in);
	CHECK_EQ(app.received, out);
	CHECK(!program.mismatch && !app.mismatch);
	/* A loopback client appears as the gateway. */
	const uint8_t self[4] = { 10, 0, 2, 2 };
	struct wh_net_ip gateway = wh_net_ip4(self);
	CHECK(wh_net_ip_equal(&app.tuple.remote.ip, &gateway));
	CHECK_EQ(app.tuple.local.port, 80);
	app_close(&app);
	app_unlisten(&listener);
	program_close(&program);
	UNTIL(&w, now()->tcp_flows == 0);
	CHECK_EQ(stats.tcp_in_accepted, 1);
	world_stop(&w);
}

static void published_port_serves(void)
{
	published(AF_INET, "0:80", MB, 100 * MB);
}

static void published_port_serves_ip6_loopback(void)
{
	uint16_t port;
	close(host_listen(AF_INET6, &port)); /* skips without IPv6 */
	published(AF_INET6, "[::1]:0:80", MB, MB);
}

static void published_on_all_addresses(void)
{
	published(AF_INET, "*:0:80", 1000, MB);
}

static void client_before_the_guest_exists(void)
{
	struct app app = { .to_send = 1000, .shut_after = true };
	struct program program = { .to_send = 10, .shut_after = true };
	struct app_listener listener = { .next = &app };
	world_init(&w);
	world_start_gateway(&w);
	uint16_t port = publish("0:80");
	program_connect(&program, &w, AF_INET, port);
	world_settle(&w);
	CHECK_EQ(now()->tcp_flows, 1);
	world_start_guest(&w);
	world_settle(&w);
	CHECK(!program.error && !program.at_end);
	app_listen(&listener, &w, 80);
	UNTIL(&w, program.at_end && app.at_end);
	CHECK_EQ(program.received, 1000);
	CHECK_EQ(app.received, 10);
	app_close(&app);
	app_unlisten(&listener);
	program_close(&program);
	world_stop(&w);
}

static void refusal_after_boot_is_a_reset(void)
{
	struct app app = { 0 };
	struct program first = { 0 }, second = { 0 };
	struct app_listener listener = { .next = &app };
	begin();
	uint16_t port = publish("0:80");
	app_listen(&listener, &w, 80);
	program_connect(&first, &w, AF_INET, port);
	UNTIL(&w, app.connected);
	app_unlisten(&listener);
	program_connect(&second, &w, AF_INET, port);
	UNTIL(&w, second.error);
	CHECK_EQ(second.error, ECONNRESET);
	CHECK_EQ(now()->tcp_in_failed, 1);
	program_close(&first);
	program_close(&second);
	app_close(&app);
	world_stop(&w);
}

static void boot_window_ends(void)
{
	struct program program = { 0 };
	world_init(&w);
	w.config.boot_window_ms = 30;
	world_start(&w);
	uint16_t port = publish("0:80");
	program_connect(&program, &w, AF_INET, port);
	UNTIL(&w, program.error);
	CHECK_EQ(program.error, ECONNRESET);
	CHECK_EQ(now()->tcp_flows, 0);
	program_close(&program);
	world_stop(&w);
}

static void busy_port_is_explained(void)
{
	uint16_t port;
	struct wh_gateway_rule rule = { .protocol = WH_GATEWAY_TCP, .guest_port = 80 };
	struct wh_diag diag = { "" };
	uint32_t id;
	begin();
	int listener = host_listen(AF_INET, &port);
	rule.host.port = port;
	CHECK_EQ(wh_gateway_publish(w.gateway, &rule, &id, NULL, &diag), -WH_EADDRINUSE);
	CHECK(diag.text[0]);
	CHECK_EQ(now()->rules, 0);
	CHECK_EQ(stats.descriptors, 0);
	close(listener);
	CHECK_EQ(wh_gateway_publish(w.gateway, &rule, &id, NULL, &diag), 0);
	CHECK_EQ(wh_gateway_unpublish(w.gateway, id), 0);
	CHECK_EQ(wh_gateway_unpublish(w.gateway, id), -WH_ENOENT);
	CHECK_EQ(now()->descriptors, 0);
	world_stop(&w);
}

static uint32_t activations;

static void count_activation(void *ctx, uint32_t rule)
{
	activations += rule;
	CHECK(ctx == &activations);
}

static void activation_is_told_once(void)
{
	struct program programs[2] = { 0 };
	struct app app = { 0 };
	struct app_listener listener = { .next = &app };
	struct wh_gateway_rule rule = { .protocol = WH_GATEWAY_TCP,
					.guest_port = 80,
					.activated = count_activation,
					.ctx = &activations };
	struct wh_net_end bound;
	begin();
	activations = 0;
	app_listen(&listener, &w, 80);
	CHECK_EQ(wh_gateway_publish(w.gateway, &rule, NULL, &bound, NULL), 0);
	world_settle(&w);
	CHECK_EQ(activations, 0);
	program_connect(&programs[0], &w, AF_INET, bound.port);
	program_connect(&programs[1], &w, AF_INET, bound.port);
	UNTIL(&w, now()->tcp_in_accepted == 2);
	CHECK_EQ(activations, 1);
	program_close(&programs[0]);
	program_close(&programs[1]);
	UNTIL(&w, app.at_end);
	app_close(&app);
	app_unlisten(&listener);
	world_stop(&w);
}

static void unpublish_resets_who_waits(void)
{
	struct program program = { 0 };
	struct wh_gateway_rule rule = { .protocol = WH_GATEWAY_TCP, .guest_port = 80 };
	struct wh_net_end bound;
	uint32_t id;
	begin();
	CHECK_EQ(wh_gateway_publish(w.gateway, &rule, &id, &bound, NULL), 0);
	program_connect(&program, &w, AF_INET, bound.port);
	UNTIL(&w, now()->tcp_flows == 1);
	CHECK_EQ(wh_gateway_unpublish(w.gateway, id), 0);
	UNTIL(&w, program.error);
	program_close(&program);
	world_stop(&w);
}

static void descriptors_run_out(void)
{
	struct rlimit old, low;
	struct program programs[12] = { 0 };
	struct app apps[12] = { 0 };
	world_init(&w);
	w.config.descriptors_reserve = 1;
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
	world_start(&w);
	uint16_t port;
	int listener = host_listen(AF_INET, &port);
	uint16_t open_port = publish("0:80");
	for (int i = 0; i < 12; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0); /* room for the test's own */
		CHECK(fd >= 0);
		programs[i].watch.fd = fd;
	}
	low = old;
	int next = dup(listener);
	close(next);
	low.rlim_cur = (rlim_t)next + 3;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
	for (int i = 0; i < 12; i++)
		app_connect(&apps[i], &w, false, port);
	UNTIL(&w, now()->tcp_out_opened + now()->tcp_out_failed == 12);
	CHECK(stats.tcp_out_opened <= 3);
	CHECK(stats.descriptors_refused > 0);
	/* A client of a published port waits in the backlog instead of being lost. */
	close(programs[11].watch.fd);
	struct program client = { .to_send = 10, .shut_after = true };
	struct app server = { .to_send = 20, .shut_after = true };
	struct app_listener guest_listener = { .next = &server };
	app_listen(&guest_listener, &w, 80);
	program_connect(&client, &w, AF_INET, open_port);
	world_settle(&w);
	CHECK_EQ(client.received, 0);
	CHECK(!client.error);
	for (int i = 0; i < 12; i++)
		app_close(&apps[i]);
	for (int i = 0; i < 11; i++)
		close(programs[i].watch.fd);
	setrlimit(RLIMIT_NOFILE, &old);
	UNTIL(&w, client.at_end);
	CHECK_EQ(client.received, 20);
	program_close(&client);
	app_close(&server);
	app_unlisten(&guest_listener);
	close(listener);
	world_stop(&w);
}

/* A guest that ends right after its last write; the client is slow. */
static void finish_delivers_what_was_sent(void)
{
	uint16_t port;
	struct app app = { .to_send = 64 * MB }, idle = { 0 };
	struct program program = { .lazy = true }, second = { 0 };
	begin();
	int listener = host_listen(AF_INET, &port);
	app_connect(&app, &w, false, port);
	program_accept(&program, &w, listener);
	app_connect(&idle, &w, false, port);
	program_accept(&second, &w, listener);
	world_settle(&w);
	uint64_t held = now()->tcp_bytes_out;
	CHECK(held < app.sent);
	CHECK_EQ(wh_gateway_finish(w.gateway, 0), 1); /* nobody reads */
	UNTIL(&w, second.at_end);
	program.lazy = false;
	program_update(&program);
	UNTIL(&w, program.error);
	program_close(&program);
	program_close(&second);
	app_close(&app);
	app_close(&idle);
	/* The same with a reader. */
	struct app again = { .to_send = 64 * MB };
	struct program reader = { .lazy = true };
	app_connect(&again, &w, false, port);
	program_accept(&reader, &w, listener);
	world_settle(&w);
	w.guest_stopped = true;
	reader.lazy = false;
	program_update(&reader);
	CHECK_EQ(wh_gateway_finish(w.gateway, 20000), 0);
	UNTIL(&w, reader.at_end);
	CHECK(reader.received > held && !reader.mismatch);
	program_close(&reader);
	app_close(&again);
	close(listener);
	world_stop(&w);
}

static void detach_ends_flows(void)
{
	uint16_t port;
	struct app app = { .to_send = 10 };
	struct program program = { 0 };
	begin();
	int listener = host_listen(AF_INET, &port);
	app_connect(&app, &w, false, port);
	program_accept(&program, &w, listener);
	UNTIL(&w, program.received == 10);
	CHECK_EQ(wh_gateway_attach(w.gateway, &w.host_end.port), -WH_EBUSY);
	wh_gateway_detach(w.gateway);
	UNTIL(&w, program.error);
	CHECK_EQ(program.error, ECONNRESET);
	program_close(&program);
	app_close(&app);
	close(listener);
	world_stop(&w);
}

int main(void)
{
	RUN(empty_connection);
	RUN(bytes_go_out);
	RUN(bytes_come_in);
	RUN(bytes_go_both_ways);
	RUN(half_close_keeps_the_other_way);
	RUN(the_end_comes_with_the_bytes);
	RUN(refused_connect_is_a_reset);
	RUN(forbidden_destinations_fail_at_once);
	RUN(guest_reset_reaches_the_host);
	RUN(host_reset_reaches_the_guest);
	RUN(guest_gives_up_while_connecting);
	RUN(guest_that_stops_reading_stops_the_host);
	RUN(host_that_stops_reading_stops_the_guest);
	RUN(slow_link_loses_nothing);
	RUN(flow_table_full_refuses_new_ones);
	RUN(syn_flood_is_bounded);
	RUN(many_short_connections_leave_nothing);
	RUN(published_port_serves);
	RUN(published_on_all_addresses);
	RUN(client_before_the_guest_exists);
	RUN(refusal_after_boot_is_a_reset);
	RUN(boot_window_ends);
	RUN(busy_port_is_explained);
	RUN(activation_is_told_once);
	RUN(unpublish_resets_who_waits);
	RUN(descriptors_run_out);
	RUN(finish_delivers_what_was_sent);
	RUN(detach_ends_flows);
	/* Skipped without IPv6. */
	RUN(bytes_go_over_ip6);
	RUN(published_port_serves_ip6_loopback);
	return test_end();
}
