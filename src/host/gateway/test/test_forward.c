/* SPDX-License-Identifier: ISC */
/* Ports and Unix sockets that lead elsewhere, both ways: forwards, ranges, other machines, activation. */
#include "../gateway_priv.h"
#include "world.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct world w;
static struct wh_gateway_stats stats;
static char folder[64];

static const struct wh_gateway_stats *now(void)
{
	wh_gateway_stats(w.gateway, &stats);
	return &stats;
}

static const char *path_of(const char *name)
{
	static char path[2][100];
	static unsigned turn;
	turn ^= 1;
	snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
	return path[turn];
}

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	memcpy(a.sun_path, path, wh_strlen(path) + 1);
	return a;
}

static int unix_listen(const char *path)
{
	struct sockaddr_un a = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&a, sizeof a) && !listen(fd, 8));
	return fd;
}

static uint32_t forward(const char *text)
{
	struct wh_gateway_forward f;
	struct wh_diag diag = { "" };
	uint32_t id = 0;
	int error = wh_gateway_forward_parse(text, &f, &diag);
	if (!error)
		error = wh_gateway_forward_add(w.gateway, &f, &id, &diag);
	if (error)
		test_fail(__FILE__, __LINE__, "%s: %s", text, diag.text);
	return id;
}

static int publish(const char *text, uint32_t activation_ms, uint32_t *ret_id,
		   struct wh_net_end *ret_bound)
{
	struct wh_gateway_rule rule;
	struct wh_diag diag = { "" };
	int error = wh_gateway_rule_parse(text, &rule, &diag);
	if (error < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", text, diag.text);
	rule.activation_ms = activation_ms;
	return wh_gateway_publish(w.gateway, &rule, ret_id, ret_bound, &diag);
}

static void begin(void)
{
	world_init(&w);
	w.config.host_loopback = false; /* what is forwarded is reached all the same */
	world_start(&w);
}

/* Both directions of a connection from the guest to `to`, which comes out at `listener`. */
static void carries(const struct wh_net_end *to, int listener)
{
	struct app app = { .to_send = 300000 };
	struct program server = { .to_send = 200000 };
	app_connect_to(&app, &w, to);
	program_accept(&server, &w, listener);
	UNTIL(&w, server.received == 300000 && app.received == 200000);
	CHECK(!server.mismatch && !app.mismatch);
	app_close(&app);
	program_close(&server);
}

static void tcp_to_the_host(void)
{
	uint16_t port;
	char text[100];
	struct wh_gateway_forward f;
	begin();
	int listener = host_listen(AF_INET, &port);
	snprintf(text, sizeof text, "7777=127.0.0.1:%u", port);
	uint32_t id = forward(text);
	struct wh_net_end to = end4(10, 0, 2, 2, 7777);
	carries(&to, listener);
	to.ip = w.gateway->self[1]; /* the port is the gateway's by either version */
	carries(&to, listener);
	snprintf(text, sizeof text, "192.0.2.5:80=127.0.0.1:%u", port);
	forward(text);
	to = end4(192, 0, 2, 5, 80);
	carries(&to, listener);
	CHECK_EQ(wh_gateway_forward_get(w.gateway, 0, &f), 0);
	CHECK(f.id == id && f.hits == 2);
	CHECK_EQ(wh_gateway_forward_get(w.gateway, 2, &f), -WH_ENOENT);
	/* Policy is asked about what the guest means. */
	struct wh_gateway_policy deny;
	CHECK_EQ(wh_gateway_policy_parse("192.0.2.5", true, &deny, NULL), 0);
	CHECK_EQ(wh_gateway_policy_add(w.gateway, &deny, 0, NULL), 0);
	struct app app = { 0 };
	app_connect_to(&app, &w, &to);
	UNTIL(&w, app.failed);
	/* Without the forward the port is closed again. */
	CHECK_EQ(wh_gateway_forward_remove(w.gateway, id), 0);
	CHECK_EQ(wh_gateway_forward_remove(w.gateway, id), -WH_ENOENT);
	struct app closed = { 0 };
	app_connect(&closed, &w, false, 7777);
	UNTIL(&w, closed.failed);
	CHECK_EQ(closed.error, WH_ECONNREFUSED);
	close(listener);
	world_stop(&w);
}

static void unix_sockets_of_the_host(void)
{
	char text[200];
	begin();
	const char *path = path_of("server");
	int listener = unix_listen(path);
	snprintf(text, sizeof text, "80=unix:%s", path);
	forward(text);
	struct wh_net_end to = end4(10, 0, 2, 2, 80);
	carries(&to, listener);
	close(listener);
	struct app app = { 0 };
	app_connect_to(&app, &w, &to); /* nobody listens any more */
	UNTIL(&w, app.failed);
	CHECK_EQ(app.error, WH_ECONNREFUSED);
	unlink(path);
	world_stop(&w);
}

static struct {
	struct wh_net_udp *socket;
	uint32_t count;
	struct wh_net_tuple tuple;
} client;

static void client_datagram(struct wh_net_udp *u, const struct wh_net_tuple *tuple,
			    const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	client.count++;
	client.tuple = *tuple;
}

static void udp_to_the_host(void)
{
	static const struct wh_net_udp_ops ops = { .datagram = client_datagram };
	static const struct wh_net_tuple any;
	uint16_t port;
	char text[100], byte = 'x';
	struct sockaddr_in from;
	socklen_t size = sizeof from;
	begin();
	memset(&client, 0, sizeof client);
	int fd = host_udp(AF_INET, &port);
	snprintf(text, sizeof text, "53=127.0.0.1:%u/udp", port);
	forward(text);
	CHECK_EQ(wh_net_udp_open(w.guest, &any, 0, &ops, NULL, &client.socket), 0);
	struct wh_net_tuple tuple = { .local = wh_net_udp_tuple(client.socket)->local,
				      .remote = end4(10, 0, 2, 2, 53) };
	struct wh_iov iov = { &byte, 1 };
	CHECK_EQ(wh_net_udp_send(w.guest, client.socket, &tuple, &iov, 1, NULL), 1);
	UNTIL(&w, recvfrom(fd, &byte, 1, 0, (struct sockaddr *)&from, &size) == 1);
	CHECK_EQ(sendto(fd, "y", 1, 0, (struct sockaddr *)&from, size), 1);
	UNTIL(&w, client.count == 1);
	/* The answer comes from where the question went. */
	CHECK(wh_net_ip_equal(&client.tuple.remote.ip, &w.gateway->self[0]));
	CHECK_EQ(client.tuple.remote.port, 53);
	wh_net_udp_close(client.socket);
	close(fd);
	world_stop(&w);
}

static void unix_clients_of_the_guest(void)
{
	char text[200];
	uint32_t id;
	struct stat st;
	struct app app = { .to_send = 5000 };
	struct app_listener listener = { .next = &app };
	struct wh_gateway_published p;
	begin();
	const char *path = path_of("guest");
	close(unix_listen(path)); /* one that was left behind */
	snprintf(text, sizeof text, "unix:%s:80", path);
	CHECK_EQ(publish(text, 0, &id, NULL), 0);
	CHECK(!stat(path, &st) && (st.st_mode & 0777) == 0600);
	CHECK_EQ(publish(text, 0, NULL, NULL), -WH_EADDRINUSE);
	CHECK_EQ(wh_gateway_published_list(w.gateway, &p, 1), 1);
	CHECK_STR(p.path, path);
	app_listen(&listener, &w, 80);
	struct sockaddr_un a = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	UNTIL(&w, app.connected);
	CHECK(wh_net_ip_equal(&app.tuple.remote.ip, &w.gateway->self[0]));
	static uint8_t bytes[7000];
	pattern_fill(0, bytes, sizeof bytes);
	CHECK_EQ(send(fd, bytes, sizeof bytes, 0), sizeof bytes);
	UNTIL(&w, app.received == sizeof bytes && !app.mismatch);
	size_t got = 0;
	while (got < 5000) {
		UNTIL(&w, recv(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_PEEK) > 0);
		got += (size_t)recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
	}
	CHECK_EQ(got, 5000);
	close(fd);
	CHECK_EQ(wh_gateway_unpublish(w.gateway, id), 0);
	CHECK(stat(path, &st) && errno == ENOENT);
	app_close(&app);
	app_unlisten(&listener);
	world_stop(&w);
}

static void ranges(void)
{
	struct wh_gateway_published list[8];
	struct wh_net_end bound;
	uint32_t id = 0, first;
	uint16_t base;
	char text[100];
	begin();
	/* Where there are five free ports in a row. */
	for (int tries = 0; tries < 50 && !id; tries++) {
		close(host_listen(AF_INET, &base));
		if (base > 65000)
			continue;
		snprintf(text, sizeof text, "127.0.0.1:%u-%u:8000-8004", base, base + 4);
		if (publish(text, 0, &id, &bound))
			id = 0;
	}
	CHECK(id && bound.port == base);
	CHECK_EQ(wh_gateway_published_list(w.gateway, list, 8), 5);
	for (unsigned i = 0; i < 5; i++) {
		CHECK_EQ(list[i].host.port, base + i);
		CHECK_EQ(list[i].guest_port, 8000 + i);
	}
	/* A range of which one is taken is not published at all. */
	snprintf(text, sizeof text, "127.0.0.1:%u-%u:9000", base - 2, base + 1);
	CHECK_EQ(publish(text, 0, &first, NULL), -WH_EADDRINUSE);
	CHECK_EQ(wh_gateway_published_list(w.gateway, list, 8), 5);
	struct app app = { 0 };
	struct app_listener listener = { .next = &app };
	struct program program = { 0 };
	app_listen(&listener, &w, 8003);
	program_connect(&program, &w, AF_INET, (uint16_t)(base + 3));
	UNTIL(&w, app.connected);
	program_close(&program);
	app_close(&app);
	app_unlisten(&listener);
	CHECK_EQ(wh_gateway_unpublish(w.gateway, id), 0);
	CHECK_EQ(wh_gateway_published_list(w.gateway, list, 8), 0);
	world_stop(&w);
}

/* The guest begins to listen after the first client came, long after the boot. */
static void clients_are_held_after_activation(void)
{
	struct wh_net_end bound;
	struct app app = { 0 };
	struct app_listener listener = { .next = &app };
	struct program program = { .to_send = 1000 }, early = { 0 };
	world_init(&w);
	w.config.boot_window_ms = 1;
	world_start(&w);
	CHECK_EQ(publish("0:80", 0, NULL, &bound), 0);
	uint64_t end = world_clock() + 5 * GATEWAY_MS;
	UNTIL(&w, world_clock() > end);
	program_connect(&early, &w, AF_INET, bound.port);
	UNTIL(&w, early.at_end || early.error); /* nobody waits without being told to */
	program_close(&early);
	CHECK_EQ(publish("0:81", 20000, NULL, &bound), 0);
	program_connect(&program, &w, AF_INET, bound.port);
	UNTIL(&w, now()->tcp_in_retries > 2);
	CHECK(!program.at_end && !program.error);
	app_listen(&listener, &w, 81);
	UNTIL(&w, app.received == 1000);
	program_close(&program);
	app_close(&app);
	app_unlisten(&listener);
	world_stop(&w);
}

static void texts(void)
{
	static const char *const bad[] = { "",
					   "80",
					   "80=",
					   "0=127.0.0.1:80",
					   "80=127.0.0.1",
					   "80=127.0.0.1:0",
					   "x:80=127.0.0.1:80",
					   "80=127.0.0.1:80/sctp",
					   "80=::1:80",
					   "80=unix" };
	static const char *const bad_rules[] = { "1-0:5",         "0-5:5",         "1-3:5-9",
						 "1-2000:1-2000", "1:2@",          "1:2@name",
						 "1:2@::1",       "unix:/x:1/udp", "unix:/x:1-2",
						 "65530:1-20",    "1-20:65530",    "1:2:3:4" };
	struct wh_gateway_forward f;
	struct wh_gateway_rule r;
	struct wh_diag diag;
	for (unsigned i = 0; i < WH_ARRAY_COUNT(bad); i++)
		if (wh_gateway_forward_parse(bad[i], &f, &diag) != -WH_EINVAL)
			test_fail(__FILE__, __LINE__, "%s was taken", bad[i]);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(bad_rules); i++)
		if (wh_gateway_rule_parse(bad_rules[i], &r, &diag) != -WH_EINVAL)
			test_fail(__FILE__, __LINE__, "%s was taken", bad_rules[i]);
	CHECK_EQ(wh_gateway_forward_parse("[2001:db8::1]:80=[::1]:8080/udp", &f, &diag), 0);
	CHECK(f.protocol == WH_GATEWAY_UDP && f.meant.port == 80 && f.to.port == 8080);
	CHECK_EQ(wh_gateway_forward_parse("80=unix:/a=b/c:d", &f, &diag), 0);
	CHECK_STR(f.path, "/a=b/c:d");
	CHECK_EQ(wh_gateway_rule_parse("*:8000-8009:80-89@[fd77::5]/udp", &r, &diag), 0);
	CHECK(r.count == 10 && r.guest.bytes[15] == 5 && r.protocol == WH_GATEWAY_UDP);
	CHECK_EQ(wh_gateway_rule_parse("8000-8009:80", &r, &diag), 0);
	CHECK_EQ(r.count, 10);
	CHECK_EQ(wh_gateway_rule_parse("unix:/run/a:b@10.0.2.2/x:80@10.0.2.9", &r, &diag), 0);
	CHECK_STR(r.path, "/run/a:b@10.0.2.2/x");
	CHECK_EQ(r.guest.bytes[15], 9);
	begin();
	CHECK_EQ(wh_gateway_forward_parse("10.0.2.99:80=127.0.0.1:80", &f, &diag), 0);
	CHECK_EQ(wh_gateway_forward_add(w.gateway, &f, NULL, &diag), -WH_EADDRNOTAVAIL);
	forward("80=127.0.0.1:80");
	CHECK_EQ(wh_gateway_forward_parse("80=127.0.0.1:81", &f, &diag), 0);
	CHECK_EQ(wh_gateway_forward_add(w.gateway, &f, NULL, &diag), -WH_EADDRINUSE);
	CHECK_EQ(publish("0:80@192.0.2.1", 0, NULL, NULL), -WH_EADDRNOTAVAIL);
	CHECK_EQ(publish("0:80@10.0.2.2", 0, NULL, NULL), -WH_EADDRNOTAVAIL);
	world_stop(&w);
}

int main(void)
{
	snprintf(folder, sizeof folder, "/tmp/wherry-test-XXXXXX");
	CHECK(mkdtemp(folder) != NULL);
	RUN(tcp_to_the_host);
	RUN(unix_sockets_of_the_host);
	RUN(udp_to_the_host);
	RUN(unix_clients_of_the_guest);
	RUN(ranges);
	RUN(clients_are_held_after_activation);
	RUN(texts);
	rmdir(folder);
	return test_end();
}
