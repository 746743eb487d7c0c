/* SPDX-License-Identifier: ISC */
/* The DNS forwarder against fake servers of the test on loopback, UDP and TCP. */
#include "../dns_priv.h"
#include "world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <wherry/base/bytes.h>

static struct world w;
static struct wh_gateway_stats stats;

static const struct wh_gateway_stats *now(void)
{
	wh_gateway_stats(w.gateway, &stats);
	return &stats;
}

/* ---- a server ---- */

struct server {
	int fd; /* UDP */
	uint16_t port;
	uint32_t queries;
	uint16_t last_id, last_edns;
	char last_name[WH_WIRE_DNS_NAME_SIZE];
	struct sockaddr_in from;
	enum { ANSWER, SILENT, SERVFAIL, WRONG_ID, WRONG_NAME, WRONG_SOURCE, BIG, CUT_UDP } mode;
	struct wh_loop_fd watch;
};

static uint32_t make_answer(struct server *s, const uint8_t *query, size_t size, uint8_t *answer,
			    size_t answer_max)
{
	struct wh_wire_dns dns;
	const uint8_t ip[4] = { 192, 0, 2, 55 };
	CHECK(wh_wire_dns_parse(query, size, &dns) >= 0);
	s->queries++;
	s->last_id = dns.id;
	s->last_edns = dns.udp_size;
	memcpy(s->last_name, dns.name, sizeof dns.name);
	dns.response = dns.recursion_available = true;
	dns.answers = dns.authorities = dns.additionals = dns.udp_size = 0;
	if (s->mode == SERVFAIL)
		dns.rcode = WH_WIRE_DNS_SERVFAIL;
	if (s->mode == WRONG_ID)
		dns.id ^= 1;
	if (s->mode == WRONG_NAME)
		dns.name[0] ^= 1;
	dns.truncated = s->mode == CUT_UDP;
	int n = wh_wire_dns_emit(answer, answer_max, &dns);
	CHECK(n > 0);
	int records = s->mode == SERVFAIL || s->mode == CUT_UDP ? 0 : s->mode == BIG ? 60 : 1;
	for (int i = 0; i < records; i++) {
		n = wh_wire_dns_append(answer, (size_t)n, answer_max, WH_WIRE_DNS_A, 60, ip, 4);
		CHECK(n > 0);
	}
	return (uint32_t)n;
}

static void server_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct server *s = watch->ctx;
	uint8_t query[2048], answer[4096];
	socklen_t size = sizeof s->from;
	ssize_t n = recvfrom(s->fd, query, sizeof query, 0, (struct sockaddr *)&s->from, &size);
	if (n < 0)
		return;
	uint32_t length = make_answer(s, query, (size_t)n, answer, sizeof answer);
	int out = s->fd;
	uint16_t port;
	if (s->mode == SILENT)
		return;
	if (s->mode == WRONG_SOURCE)
		out = host_udp(AF_INET, &port);
	CHECK_EQ(sendto(out, answer, length, 0, (struct sockaddr *)&s->from, size), length);
	if (out != s->fd)
		close(out);
}

static void server_start(struct server *s)
{
	memset(s, 0, sizeof *s);
	s->fd = host_udp(AF_INET, &s->port);
	s->watch = (struct wh_loop_fd){
		.fd = s->fd, .events = WH_LOOP_READ, .fn = server_event, .ctx = s
	};
	CHECK_EQ(wh_loop_add(w.loop, &s->watch), 0);
}

static void server_stop(struct server *s)
{
	wh_loop_remove(w.loop, &s->watch);
	close(s->fd);
}

/* ---- the guest's resolver ---- */

struct resolver {
	struct wh_net_udp *socket;
	uint32_t answers;
	uint8_t bytes[65536];
	uint32_t size;
	struct wh_wire_dns dns;
};
static struct resolver r;

static void answer_came(struct wh_net_udp *u, const struct wh_net_tuple *tuple,
			const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	r.answers++;
	r.size = size;
	CHECK_EQ(wh_iov_read(iov, count, 0, r.bytes, size), size);
	CHECK(wh_wire_dns_parse(r.bytes, size, &r.dns) >= 0);
}

static void begin(struct server *servers, unsigned count)
{
	static const struct wh_net_udp_ops ops = { .datagram = answer_came };
	struct wh_net_tuple tuple = { .local = { .port = 0 } };
	memset(&r, 0, sizeof r);
	for (unsigned i = 0; i < count; i++) {
		server_start(&servers[i]);
		w.config.resolvers[i] = end4(127, 0, 0, 1, servers[i].port);
	}
	w.config.resolver_count = count;
	w.config.dns_timeout_ms = 40;
	world_start(&w);
	CHECK_EQ(wh_net_udp_open(w.guest, &tuple, 0, &ops, &r, &r.socket), 0);
}

static uint32_t make_query(uint8_t *p, size_t max, uint16_t id, const char *name, uint16_t type,
			   uint16_t edns)
{
	struct wh_wire_dns dns = { .id = id,
				   .recursion_desired = true,
				   .questions = 1,
				   .type = type,
				   .class_ = WH_WIRE_DNS_IN };
	memcpy(dns.name, name, wh_strlen(name) + 1);
	int n = wh_wire_dns_emit(p, max, &dns);
	CHECK(n > 0);
	if (edns) {
		const uint8_t opt[11] = { 0, 0, WH_WIRE_DNS_OPT, (uint8_t)(edns >> 8),
					  (uint8_t)edns };
		memcpy(p + n, opt, sizeof opt);
		wh_store_be16(p + 10, 1);
		n += 11;
	}
	return (uint32_t)n;
}

static void ask(uint16_t id, const char *name, uint16_t type, uint16_t edns)
{
	uint8_t query[600];
	struct wh_net_tuple tuple = { .local = wh_net_udp_tuple(r.socket)->local,
				      .remote = end4(10, 0, 2, 3, 53) };
	struct wh_iov iov = { query, make_query(query, sizeof query, id, name, type, edns) };
	CHECK(wh_net_udp_send(w.guest, r.socket, &tuple, &iov, 1, NULL) > 0);
}

/* The address of the first answer. */
static const uint8_t *first_address(void)
{
	struct wh_wire_dns_record record;
	size_t at = r.dns.question_end;
	CHECK_EQ(wh_wire_dns_next(r.bytes, r.size, &at, &record), 1);
	return r.bytes + record.data_offset;
}

/* ---- cases ---- */

static void questions_are_forwarded(void)
{
	struct server s[1];
	uint16_t ids[16], ports[16];
	world_init(&w);
	begin(s, 1);
	unsigned same_ids = 0, same_ports = 0;
	for (uint16_t i = 0; i < 16; i++) {
		ask(0x4000 + i, "www.example.org", WH_WIRE_DNS_A, 1232);
		UNTIL(&w, r.answers == i + 1u);
		CHECK_EQ(r.dns.id, 0x4000 + i);
		CHECK_EQ(r.dns.rcode, 0);
		CHECK_EQ(first_address()[3], 55);
		ids[i] = s[0].last_id;
		ports[i] = s[0].from.sin_port;
		for (uint16_t k = 0; k < i; k++) {
			same_ids += ids[k] == ids[i];
			same_ports += ports[k] == ports[i];
		}
	}
	/* Fresh ids and ports: one accident in 16 is likely once in 500 runs, three never. */
	CHECK(same_ids < 3 && same_ports < 3);
	CHECK_STR(s[0].last_name, "www.example.org");
	CHECK_EQ(s[0].last_edns, 1232);
	CHECK_EQ(now()->dns_answers, 16);
	CHECK_EQ(stats.descriptors, 0);
	server_stop(s);
	world_stop(&w);
}

static void silent_server_then_the_next(void)
{
	struct server s[2];
	world_init(&w);
	begin(s, 2);
	s[0].mode = SILENT;
	ask(1, "a.example", WH_WIRE_DNS_A, 0);
	UNTIL(&w, r.answers == 1);
	CHECK_EQ(r.dns.rcode, 0);
	CHECK_EQ(s[0].queries, 1);
	CHECK_EQ(s[1].queries, 1);
	CHECK_EQ(now()->dns_retries, 1);
	/* A server that fails, too. */
	s[0].mode = SERVFAIL;
	ask(2, "b.example", WH_WIRE_DNS_A, 0);
	UNTIL(&w, r.answers == 2);
	CHECK_EQ(r.dns.rcode, 0);
	s[1].mode = SERVFAIL;
	ask(3, "c.example", WH_WIRE_DNS_A, 0);
	UNTIL(&w, r.answers == 3);
	CHECK_EQ(r.dns.rcode, WH_WIRE_DNS_SERVFAIL);
	CHECK_EQ(r.dns.id, 3);
	server_stop(&s[0]);
	server_stop(&s[1]);
	world_stop(&w);
}

static void no_server_is_servfail(void)
{
	struct server s[1];
	world_init(&w);
	begin(s, 0);
	ask(9, "a.example", WH_WIRE_DNS_A, 0);
	UNTIL(&w, r.answers == 1);
	CHECK_EQ(r.dns.rcode, WH_WIRE_DNS_SERVFAIL);
	CHECK_EQ(r.dns.id, 9);
	world_stop(&w);
	/* A server that is not there: port unreachable brings the failure soon. */
	world_init(&w);
	begin(s, 1);
	server_stop(s);
	ask(10, "a.example", WH_WIRE_DNS_A, 0);
	UNTIL(&w, r.answers == 1);
	CHECK_EQ(r.dns.rcode, WH_WIRE_DNS_SERVFAIL);
	/* One that never answers. */
	world_stop(&w);
	world_init(&w);
	begin(s, 1);
	s[0].mode = SILENT;
	ask(11, "a.example", WH_WIRE_DNS_A, 0);
	UNTIL(&w, r.answers == 1);
	CHECK_EQ(r.dns.rcode, WH_WIRE_DNS_SERVFAIL);
	CHECK_EQ(now()->descriptors, 0);
	server_stop(s);
	world_stop(&w);
}

static void forged_answers_are_ignored(void)
{
	struct server s[1];
	world_init(&w);
	w.config.dns_timeout_ms = 40;
	begin(s, 1);
	const int modes[] = { WRONG_ID, WRONG_NAME, WRONG_SOURCE };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(modes); i++) {
		s[0].mode = modes[i];
		uint32_t before = s[0].queries;
		ask((uint16_t)i, "a.example", WH_WIRE_DNS_A, 0);
		UNTIL(&w, s[0].queries > before && now()->dns_bad_answers > i);
		CHECK_EQ(r.answers, i);
		s[0].mode = ANSWER; /* the next try is honest */
		UNTIL(&w, r.answers == i + 1);
		CHECK_EQ(r.dns.rcode, 0);
	}
	server_stop(s);
	world_stop(&w);
}

static void large_answers_are_truncated(void)
{
	struct server s[1];
	world_init(&w);
	begin(s, 1);
	s[0].mode = BIG;
	ask(1, "big.example", WH_WIRE_DNS_A, 0);
	UNTIL(&w, r.answers == 1);
	CHECK(r.size <= 512 && r.dns.truncated);
	CHECK_EQ(r.dns.answers, 0);
	ask(2, "big.example", WH_WIRE_DNS_A, 4096);
	UNTIL(&w, r.answers == 2);
	CHECK(!r.dns.truncated);
	CHECK_EQ(r.dns.answers, 60);
	server_stop(s);
	world_stop(&w);
}

static void local_names(void)
{
	struct server s[1];
	world_init(&w);
	begin(s, 1);
	ask(1, "gateway.internal", WH_WIRE_DNS_A, 0);
	UNTIL(&w, r.answers == 1);
	CHECK_MEM(first_address(), ((const uint8_t[]){ 10, 0, 2, 2 }), 4);
	ask(2, "host.internal", WH_WIRE_DNS_AAAA, 0);
	UNTIL(&w, r.answers == 2);
	CHECK_EQ(first_address()[15], 2);
	ask(3, "host.internal", WH_WIRE_DNS_TXT, 0);
	UNTIL(&w, r.answers == 3);
	CHECK_EQ(r.dns.rcode, 0);
	CHECK_EQ(r.dns.answers, 0);
	ask(4, "localhost", WH_WIRE_DNS_A, 0);
	UNTIL(&w, r.answers == 4);
	CHECK_EQ(first_address()[0], 127);
	CHECK_EQ(s[0].queries, 0);
	server_stop(s);
	world_stop(&w);
}

static char *temporary(const char *text)
{
	static char path[64];
	snprintf(path, sizeof path, "/tmp/wherry-test-XXXXXX");
	int fd = mkstemp(path);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, text, wh_strlen(text)), wh_strlen(text));
	close(fd);
	return path;
}

static void hosts_file_is_asked_first(void)
{
	struct server s[1];
	world_init(&w);
	w.config.host_loopback = false;
	char *path = temporary("# comment\n127.0.0.1 localhost own-name\n"
			       "192.0.2.7\tPrinter printer.lan # here\n2001:db8::7 printer\n"
			       "not-an-address x\n192.0.2.8");
	w.config.hosts = path;
	begin(s, 1);
	ask(1, "printer", WH_WIRE_DNS_A, 0);
	UNTIL(&w, r.answers == 1);
	CHECK_MEM(first_address(), ((const uint8_t[]){ 192, 0, 2, 7 }), 4);
	ask(2, "printer.lan", WH_WIRE_DNS_AAAA, 0); /* known, without IPv6 */
	UNTIL(&w, r.answers == 2);
	CHECK_EQ(r.dns.answers, 0);
	CHECK_EQ(r.dns.rcode, 0);
	ask(3, "printer", WH_WIRE_DNS_AAAA, 0);
	UNTIL(&w, r.answers == 3);
	CHECK_EQ(first_address()[15], 7);
	CHECK_EQ(s[0].queries, 0);
	ask(4, "own-name", WH_WIRE_DNS_A, 0); /* the host's loopback is not the guest's business */
	UNTIL(&w, r.answers == 4);
	CHECK_EQ(s[0].queries, 1);
	unlink(path);
	server_stop(s);
	world_stop(&w);
}

static void resolv_conf_is_read(void)
{
	static const char text[] =
		"# generated\nsearch old.example\nnameserver 192.0.2.1\n"
		"nameserver\nnameserver fe80::1%eth0\n\tnameserver 2001:db8::1 x\n"
		"search one.example two.example # three\noptions edns0\n"
		"nameserver 127.0.0.1";
	struct server s[1];
	world_init(&w);
	char *path = temporary(text);
	w.config.resolv_conf = path;
	begin(s, 0);
	CHECK_STR(dns_search(w.gateway), "one.example two.example");
	const struct gateway_dns *dns = w.gateway->dns;
	CHECK_EQ(dns->server_count, 3);
	CHECK_EQ(dns->servers[0].ip.bytes[15], 1);
	CHECK_EQ(dns->servers[1].ip.bytes[0], 0x20);
	CHECK(gateway_is_loopback(&dns->servers[2].ip));
	unlink(path);
	world_stop(&w);
}

/* ---- TCP ---- */

struct tcp_client {
	struct wh_net_tcp *tcp;
	bool connected, failed, at_end;
	uint32_t size;
	uint8_t bytes[65536];
};

static void client_event(struct wh_net_tcp *s, uint32_t events)
{
	struct tcp_client *c = wh_net_tcp_ctx(s);
	c->connected |= (events & WH_NET_CONNECTED) != 0;
	c->failed |= (events & WH_NET_FAILED) != 0;
	c->size += wh_net_tcp_read(s, c->bytes + c->size, (uint32_t)sizeof c->bytes - c->size);
	c->at_end |= wh_net_tcp_at_end(s);
}

static void tcp_open(struct tcp_client *c)
{
	static const struct wh_net_tcp_ops ops = { .event = client_event };
	struct wh_net_tuple tuple = { .remote = end4(10, 0, 2, 3, 53) };
	memset(c, 0, sizeof *c);
	CHECK_EQ(wh_net_tcp_connect(w.guest, &tuple, &ops, c, &c->tcp), 0);
	UNTIL(&w, c->connected || c->failed);
}

static struct tcp_client client;

/* The server's TCP side on the same port. */
static int stream_listener(const struct server *s)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(s->port) };
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (bind(listener, (struct sockaddr *)&a, sizeof a))
		test_skip("the port is taken for TCP");
	CHECK_EQ(listen(listener, 8), 0);
	return listener;
}

static void tcp_questions(void)
{
	struct server s[1];
	uint8_t query[600];
	world_init(&w);
	begin(s, 1);
	int listener = stream_listener(&s[0]);
	tcp_open(&client);
	CHECK(client.connected);
	/* A local name first, then one that is forwarded; both in one segment. */
	uint32_t n = make_query(query + 2, 500, 7, "host.internal", WH_WIRE_DNS_A, 0);
	wh_store_be16(query, (uint16_t)n);
	uint32_t m = make_query(query + 2 + n + 2, 200, 8, "big.example", WH_WIRE_DNS_A, 0);
	wh_store_be16(query + 2 + n, (uint16_t)m);
	CHECK_EQ(wh_net_tcp_write(client.tcp, query, 4 + n + m), 4 + n + m);
	int fd = -1;
	uint8_t got[1000], answer[4096];
	UNTIL(&w, (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0);
	ssize_t size;
	UNTIL(&w, (size = recv(fd, got, sizeof got, 0)) > 2);
	CHECK_EQ(size, 2 + m);
	s[0].mode = BIG;
	uint32_t length =
		make_answer(&s[0], got + 2, (size_t)size - 2, answer + 2, sizeof answer - 2);
	wh_store_be16(answer, (uint16_t)length);
	CHECK_EQ(send(fd, answer, 1, 0), 1); /* in pieces */
	world_settle(&w);
	CHECK_EQ(send(fd, answer + 1, length + 1, 0), length + 1);
	uint32_t first = 0;
	UNTIL(&w, client.size > 2 && (first = 2u + wh_load_be16(client.bytes)) <= client.size);
	CHECK_EQ(wh_load_be16(client.bytes + 2), 7);
	UNTIL(&w, client.size == first + 2 + length);
	CHECK_EQ(wh_load_be16(client.bytes + first + 2), 8);
	wh_net_tcp_shutdown(client.tcp);
	UNTIL(&w, client.at_end);
	wh_net_tcp_close(client.tcp);
	CHECK_EQ(now()->descriptors, 0);
	close(fd);
	close(listener);
	server_stop(s);
	world_stop(&w);
}

static void many_questions_in_one_write(void)
{
	struct server s[1];
	uint8_t query[200];
	world_init(&w);
	begin(s, 0); /* all fail at once */
	tcp_open(&client);
	for (uint16_t i = 0; i < 100; i++) {
		uint32_t n = make_query(query + 2, 190, i, "a.example", WH_WIRE_DNS_A, 0);
		wh_store_be16(query, (uint16_t)n);
		CHECK_EQ(wh_net_tcp_write(client.tcp, query, 2 + n), 2 + n);
	}
	wh_net_tcp_shutdown(client.tcp);
	UNTIL(&w, client.at_end);
	uint32_t at = 0, count = 0;
	for (; at + 2 <= client.size; count++)
		at += 2u + wh_load_be16(client.bytes + at);
	CHECK_EQ(count, 100);
	CHECK_EQ(at, client.size);
	wh_net_tcp_close(client.tcp);
	world_stop(&w);
}

static void tcp_nonsense_is_reset(void)
{
	struct server s[1];
	world_init(&w);
	begin(s, 0);
	static const struct {
		uint8_t bytes[16];
		uint32_t size;
	} bad[] = { { { 0, 0 }, 2 }, { { 0, 5, 1, 2, 3, 4, 5 }, 7 }, { { 0xff, 0xff, 1 }, 3 } };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		tcp_open(&client);
		wh_net_tcp_write(client.tcp, bad[i].bytes, bad[i].size);
		UNTIL(&w, client.failed);
		wh_net_tcp_close(client.tcp);
	}
	/* The guest leaves in the middle of a question. */
	tcp_open(&client);
	wh_net_tcp_write(client.tcp, "\0\40abc", 5);
	wh_net_tcp_shutdown(client.tcp);
	UNTIL(&w, client.at_end || client.failed);
	wh_net_tcp_close(client.tcp);
	world_stop(&w);
}

static void malformed_questions(void)
{
	struct server s[1];
	world_init(&w);
	begin(s, 1);
	static const struct {
		uint8_t bytes[20];
		uint32_t size;
		int rcode; /* -1 = no answer */
	} cases[] = {
		{ { 1, 2, 3 }, 3, -1 },
		{ { 1, 2, 1, 0, 0, 9, 0, 0, 0, 0, 0, 0 }, 12, WH_WIRE_DNS_FORMERR },
		{ { 1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1 },
		  18,
		  WH_WIRE_DNS_FORMERR },
		{ { 1, 2, 0x81, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1 }, 17, -1 },
		{ { 1, 2, 0x29, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1 },
		  17,
		  WH_WIRE_DNS_NOTIMP },
	};
	for (unsigned i = 0; i < WH_ARRAY_COUNT(cases); i++) {
		struct wh_net_tuple tuple = { .local = wh_net_udp_tuple(r.socket)->local,
					      .remote = end4(10, 0, 2, 3, 53) };
		struct wh_iov iov = { (void *)(uintptr_t)cases[i].bytes, cases[i].size };
		uint32_t before = r.answers;
		CHECK(wh_net_udp_send(w.guest, r.socket, &tuple, &iov, 1, NULL) > 0);
		world_settle(&w);
		CHECK_EQ(r.answers - before, cases[i].rcode >= 0);
		if (cases[i].rcode >= 0)
			CHECK_EQ(r.dns.rcode, cases[i].rcode);
	}
	CHECK_EQ(s[0].queries, 0);
	server_stop(s);
	world_stop(&w);
}

static void too_many_questions_fail_soon(void)
{
	struct server s[1];
	world_init(&w);
	begin(s, 1);
	s[0].mode = SILENT;
	for (uint16_t i = 0; i < WH_GATEWAY_DNS_QUERIES_MAX + 50; i++) {
		ask(i, "a.example", WH_WIRE_DNS_A, 0);
		if (i % 16 == 0)
			wh_loop_step(w.loop, 0);
	}
	UNTIL(&w, r.answers == WH_GATEWAY_DNS_QUERIES_MAX + 50u);
	CHECK_EQ(now()->descriptors, 0);
	server_stop(s);
	world_stop(&w);
}

/* ---- which server, which names ---- */

static uint32_t asked(const char *name, uint16_t type)
{
	static uint16_t id;
	uint32_t before = r.answers;
	ask(++id, name, type, 0);
	UNTIL(&w, r.answers == before + 1);
	CHECK_EQ(r.dns.id, id);
	return r.dns.rcode;
}

static void domains_have_their_servers(void)
{
	struct server s[1], corp[2];
	struct wh_gateway_zone zone;
	world_init(&w);
	begin(s, 1);
	server_start(&corp[0]);
	server_start(&corp[1]);
	struct wh_net_end a = end4(127, 0, 0, 1, corp[0].port), none = { .port = 53 };
	struct wh_net_end b = end4(127, 0, 0, 1, corp[1].port);
	CHECK_EQ(wh_gateway_zone_add(w.gateway, "Corp.Example.", &a), 0);
	CHECK_EQ(wh_gateway_zone_add(w.gateway, "lab.corp.example", &b), 0);
	CHECK_EQ(wh_gateway_zone_add(w.gateway, "no name", &b), -WH_EINVAL);
	CHECK_EQ(wh_gateway_zone_add(w.gateway, "x", &none), -WH_EINVAL);
	CHECK_EQ(asked("www.corp.example", WH_WIRE_DNS_A), 0);
	CHECK_EQ(corp[0].queries, 1);
	CHECK_EQ(asked("corp.example", WH_WIRE_DNS_A), 0);
	CHECK_EQ(corp[0].queries, 2);
	CHECK_EQ(asked("a.b.lab.corp.example", WH_WIRE_DNS_A), 0);
	CHECK_EQ(corp[1].queries, 1);
	CHECK_EQ(asked("notcorp.example", WH_WIRE_DNS_A), 0);
	CHECK_EQ(s[0].queries, 1);
	/* A private name is not asked elsewhere, whatever its server does. */
	corp[0].mode = SILENT;
	CHECK_EQ(asked("secret.corp.example", WH_WIRE_DNS_A), WH_WIRE_DNS_SERVFAIL);
	CHECK_EQ(s[0].queries, 1);
	CHECK_EQ(wh_gateway_zone_get(w.gateway, 1, &zone), 0);
	CHECK_STR(zone.domain, "lab.corp.example");
	CHECK_EQ(wh_gateway_zone_get(w.gateway, 2, &zone), -WH_ENOENT);
	CHECK_EQ(wh_gateway_zone_remove(w.gateway, "corp.example"), 0);
	CHECK_EQ(wh_gateway_zone_remove(w.gateway, "corp.example"), -WH_ENOENT);
	CHECK_EQ(asked("www.corp.example", WH_WIRE_DNS_A), 0);
	CHECK_EQ(s[0].queries, 2);
	/* Other servers for the rest, while it runs. */
	wh_gateway_resolvers_set(w.gateway, &b, 1);
	CHECK_EQ(asked("elsewhere.example", WH_WIRE_DNS_A), 0);
	CHECK_EQ(corp[1].queries, 2);
	server_stop(s);
	server_stop(&corp[0]);
	server_stop(&corp[1]);
	world_stop(&w);
}

/* Its time-out is paid a few times, not with every question. */
static void dead_server_is_asked_last(void)
{
	struct server s[2];
	world_init(&w);
	begin(s, 2);
	s[0].mode = SILENT;
	for (int i = 0; i < 3; i++)
		CHECK_EQ(asked("a.example", WH_WIRE_DNS_A), 0);
	CHECK_EQ(s[0].queries, 3);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(asked("a.example", WH_WIRE_DNS_A), 0);
	CHECK_EQ(s[0].queries, 3);
	CHECK_EQ(s[1].queries, 8);
	/* When it is the only one that is left, it is asked, and is well again. */
	s[0].mode = ANSWER;
	s[1].mode = SERVFAIL;
	CHECK_EQ(asked("a.example", WH_WIRE_DNS_A), 0);
	s[1].mode = ANSWER;
	CHECK_EQ(asked("a.example", WH_WIRE_DNS_A), 0);
	CHECK_EQ(s[0].queries, 5);
	server_stop(&s[0]);
	server_stop(&s[1]);
	world_stop(&w);
}

static void types_are_filtered(void)
{
	struct server s[1];
	world_init(&w);
	w.config.dns_filter = WH_GATEWAY_FILTER_AAAA;
	begin(s, 1);
	CHECK_EQ(asked("a.example", WH_WIRE_DNS_AAAA), 0);
	CHECK_EQ(r.dns.answers, 0);
	CHECK_EQ(s[0].queries, 0);
	CHECK_EQ(now()->dns_filtered, 1);
	CHECK_EQ(asked("a.example", WH_WIRE_DNS_A), 0);
	CHECK_EQ(r.dns.answers, 1);
	CHECK_EQ(asked("gateway.internal", WH_WIRE_DNS_AAAA), 0);
	CHECK_EQ(r.dns.answers, 1);
	wh_gateway_filter_set(w.gateway, WH_GATEWAY_FILTER_A);
	CHECK_EQ(asked("a.example", WH_WIRE_DNS_A), 0);
	CHECK_EQ(r.dns.answers, 0);
	server_stop(s);
	world_stop(&w);
}

static void check_name(const char *question, const char *name)
{
	char got[WH_WIRE_DNS_NAME_SIZE];
	CHECK_EQ(asked(question, WH_WIRE_DNS_PTR), name ? 0 : WH_WIRE_DNS_NXDOMAIN);
	if (!name)
		return;
	CHECK(wh_wire_dns_name_parse(r.bytes, r.size, (size_t)(first_address() - r.bytes), got) >=
	      0);
	CHECK_STR(got, name);
}

static void addresses_have_names(void)
{
	struct server s[1];
	struct wh_net_end db = end4(192, 0, 2, 9, 0), dev = end4(192, 0, 2, 10, 0);
	world_init(&w);
	char *path = temporary("192.0.2.7 printer.lan printer\n");
	w.config.hosts = path;
	w.config.hostname = "boat";
	begin(s, 1);
	CHECK_EQ(wh_gateway_name_add(w.gateway, "db.test", &db.ip), 0);
	CHECK_EQ(wh_gateway_name_add(w.gateway, "*.dev.test", &dev.ip), 0);
	CHECK_EQ(wh_gateway_name_add(w.gateway, "own.dev.test", &db.ip), 0);
	CHECK_EQ(wh_gateway_name_add(w.gateway, "*.", &dev.ip), -WH_EINVAL);
	CHECK_EQ(wh_gateway_name_add(w.gateway, "a.*.test", &dev.ip), -WH_EINVAL);
	CHECK_EQ(asked("x.y.dev.test", WH_WIRE_DNS_A), 0);
	CHECK_EQ(first_address()[3], 10);
	CHECK_EQ(asked("own.dev.test", WH_WIRE_DNS_A), 0);
	CHECK_EQ(first_address()[3], 9);
	CHECK_EQ(asked("a.localhost", WH_WIRE_DNS_A), 0);
	CHECK_EQ(first_address()[0], 127);
	CHECK_EQ(s[0].queries, 0);
	check_name("2.2.0.10.in-addr.arpa", "gateway.internal");
	check_name("15.2.0.10.in-addr.arpa", "boat");
	check_name("9.2.0.192.in-addr.arpa", "db.test");
	check_name("7.2.0.192.in-addr.arpa", "printer.lan");
	check_name("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.9.7.2.7.2.7.5.6.8.6.7.7.d.f.ip6.arpa",
		   "gateway.internal");
	check_name("99.2.0.10.in-addr.arpa", NULL); /* ours, and nobody */
	CHECK_EQ(s[0].queries, 0);
	CHECK_EQ(asked("1.1.1.300.in-addr.arpa", WH_WIRE_DNS_PTR), 0);
	CHECK_EQ(asked("dev.test", WH_WIRE_DNS_A), 0); /* itself is not under it */
	CHECK_EQ(s[0].queries, 2);
	unlink(path);
	server_stop(s);
	world_stop(&w);
}

/* ---- rules with names ---- */

static void policy(const char *text, bool deny)
{
	struct wh_gateway_policy p;
	struct wh_diag diag = { "" };
	if (wh_gateway_policy_parse(text, deny, &p, &diag) < 0)
		test_fail(__FILE__, __LINE__, "%s", diag.text);
	CHECK_EQ(wh_gateway_policy_add(w.gateway, &p, 0, NULL), 0);
}

static bool denies(uint8_t last, uint16_t port)
{
	struct wh_net_end end = end4(192, 0, 2, last, 0);
	return policy_denies(w.gateway, false, WH_GATEWAY_TCP, &end.ip, port);
}

static void names_in_rules(void)
{
	struct server s[1];
	world_init(&w);
	begin(s, 1);
	policy("good.example:443/tcp", false);
	policy("*.evil.example", true);
	policy("*", true);
	CHECK(denies(55, 443));
	CHECK_EQ(asked("other.example", WH_WIRE_DNS_A), 0); /* the same address, another name */
	CHECK(denies(55, 443));
	CHECK_EQ(asked("good.example", WH_WIRE_DNS_A), 0);
	CHECK_EQ(first_address()[3], 55);
	CHECK(!denies(55, 443));
	CHECK(denies(55, 80)); /* not this port */
	CHECK(denies(56, 443));
	/* A denied name is not found, and not asked for. */
	uint32_t before = s[0].queries;
	CHECK_EQ(asked("very.evil.example", WH_WIRE_DNS_A), WH_WIRE_DNS_NXDOMAIN);
	CHECK_EQ(s[0].queries, before);
	CHECK_EQ(asked("evil.example", WH_WIRE_DNS_A), 0);
	/* Names that are answered from here count as well. */
	struct wh_net_end here = end4(192, 0, 2, 77, 0);
	CHECK_EQ(wh_gateway_name_add(w.gateway, "good.example", &here.ip), 0);
	CHECK(denies(77, 443));
	CHECK_EQ(asked("good.example", WH_WIRE_DNS_A), 0);
	CHECK(!denies(77, 443));
	/* More addresses than are kept: the ones that end first go. */
	for (unsigned i = 0; i < 2 * WH_GATEWAY_POLICY_ADDRESSES_MAX; i++) {
		struct wh_net_end end = end4(198, 51, 100, (uint8_t)i, 0);
		policy_name_answer(w.gateway, "good.example", &end.ip, 1000 + i);
	}
	CHECK(denies(77, 443));
	struct wh_net_end last = end4(198, 51, 100, 2 * WH_GATEWAY_POLICY_ADDRESSES_MAX - 1, 0);
	CHECK(!policy_denies(w.gateway, false, WH_GATEWAY_TCP, &last.ip, 443));
	server_stop(s);
	world_stop(&w);
}

/* The guest asks again before the answer: one question goes out. */
static void repeated_questions_are_one(void)
{
	struct server s[1];
	world_init(&w);
	w.config.dns_timeout_ms = 0;
	begin(s, 1);
	CHECK_EQ(asked("a.example", WH_WIRE_DNS_A), 0); /* the link's addresses are known now */
	r.answers = s[0].queries = 0;
	s[0].mode = SILENT;
	for (int i = 0; i < 20; i++)
		ask(7, "a.example", WH_WIRE_DNS_A, 0);
	ask(8, "a.example", WH_WIRE_DNS_A, 0);
	UNTIL(&w, s[0].queries == 2);
	CHECK_EQ(w.gateway->dns->query_count, 2);
	UNTIL(&w, r.answers == 2);
	server_stop(s);
	world_stop(&w);
}

/* Answers one question over TCP in the mode `mode`; returns when it is sent. */
static void answer_by_stream(struct server *s, int listener, int mode)
{
	uint8_t got[1000], answer[4096];
	ssize_t size;
	int fd = -1;
	UNTIL(&w, (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0);
	UNTIL(&w, (size = recv(fd, got, sizeof got, 0)) > 2);
	s->mode = mode;
	uint32_t n = make_answer(s, got + 2, (size_t)size - 2, answer + 2, sizeof answer - 2);
	s->mode = CUT_UDP;
	wh_store_be16(answer, (uint16_t)n);
	CHECK_EQ(send(fd, answer, n + 2, 0), n + 2);
	close(fd);
}

/* RFC 7766, 5: a datagram with TC is asked again over TCP, by the gateway when the guest takes more than it got. */
static void cut_answers_are_fetched(void)
{
	struct server s[1];
	world_init(&w);
	begin(s, 1);
	int listener = stream_listener(&s[0]);
	s[0].mode = CUT_UDP;
	ask(1, "cut.example", WH_WIRE_DNS_A, 4096);
	answer_by_stream(&s[0], listener, BIG);
	UNTIL(&w, r.answers == 1);
	CHECK(!r.dns.truncated);
	CHECK_EQ(r.dns.id, 1);
	CHECK_EQ(r.dns.answers, 60);
	/* It does not fit: the guest asks by TCP itself. */
	ask(2, "cut.example", WH_WIRE_DNS_A, 600);
	answer_by_stream(&s[0], listener, BIG);
	UNTIL(&w, r.answers == 2);
	CHECK(r.dns.truncated && !r.dns.answers);
	/* Who takes 512 bytes gets what there is, and nobody is asked twice. */
	uint32_t before = s[0].queries;
	ask(3, "cut.example", WH_WIRE_DNS_A, 0);
	UNTIL(&w, r.answers == 3);
	CHECK(r.dns.truncated);
	CHECK_EQ(s[0].queries, before + 1);
	/* Nobody answers by TCP: TC again, no error. */
	close(listener);
	ask(4, "cut.example", WH_WIRE_DNS_A, 4096);
	UNTIL(&w, r.answers == 4);
	CHECK(r.dns.truncated);
	CHECK_EQ(r.dns.rcode, 0);
	CHECK_EQ(now()->descriptors, 0);
	server_stop(s);
	world_stop(&w);
}

static void record(const char *name, const char *type, const char *data, int error)
{
	uint32_t id;
	CHECK_EQ(wh_gateway_record_add(w.gateway, name, type, data, &id), error);
}

/* Record number `index` of the answer that came last. */
static struct wh_wire_dns_record answered(uint32_t index)
{
	struct wh_wire_dns_record found = { .type = 0 };
	size_t at = r.dns.question_end;
	for (uint32_t i = 0; i <= index; i++)
		CHECK_EQ(wh_wire_dns_next(r.bytes, r.size, &at, &found), 1);
	return found;
}

static void asks(uint16_t id, const char *name, uint16_t type)
{
	uint32_t before = r.answers;
	ask(id, name, type, 0);
	UNTIL(&w, r.answers == before + 1);
	CHECK_EQ(r.dns.rcode, 0);
	CHECK_STR(r.dns.name, name);
}

static void records_of_all_types(void)
{
	struct wh_wire_dns_record a;
	struct server s[1];
	char name[WH_WIRE_DNS_NAME_SIZE];
	const struct wh_net_ip ip = end4(192, 0, 2, 9, 0).ip;
	world_init(&w);
	begin(s, 1);
	CHECK_EQ(wh_gateway_name_add(w.gateway, "db.test", &ip), 0);
	record("_pg._tcp.test", "srv", "10 5 5432 db.test", 0);
	record("_pg._tcp.test", "srv", "20 5 5433 db2.test", 0);
	record("db.test", "txt", "v=1 two words", 0);
	record("test", "mx", "10 db.test", 0);
	record("192.0.2.77", "ptr", "seventy-seven.test", 0);
	record("fd00::1", "ptr", "one.test", 0);
	asks(1, "_pg._tcp.test", WH_WIRE_DNS_SRV);
	CHECK_EQ(r.dns.answers, 2);
	a = answered(0);
	CHECK_EQ(wh_load_be16(r.bytes + a.data_offset), 10);
	CHECK_EQ(wh_load_be16(r.bytes + a.data_offset + 4), 5432);
	CHECK(wh_wire_dns_name_parse(r.bytes, r.size, a.data_offset + 6u, name) > 0);
	CHECK_STR(name, "db.test");
	asks(2, "db.test", WH_WIRE_DNS_TXT);
	a = answered(0);
	CHECK_EQ(r.bytes[a.data_offset], 13);
	CHECK_MEM(r.bytes + a.data_offset + 1, "v=1 two words", 13);
	asks(3, "test", WH_WIRE_DNS_MX);
	CHECK_EQ(answered(0).type, WH_WIRE_DNS_MX);
	asks(4, "77.2.0.192.in-addr.arpa", WH_WIRE_DNS_PTR);
	a = answered(0);
	CHECK(wh_wire_dns_name_parse(r.bytes, r.size, a.data_offset, name) > 0);
	CHECK_STR(name, "seventy-seven.test");
	asks(5, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
	     WH_WIRE_DNS_PTR);
	CHECK_EQ(r.dns.answers, 1);
	asks(6, "db.test", WH_WIRE_DNS_A); /* beside them, the address */
	CHECK_EQ(first_address()[3], 9);
	asks(7, "test", WH_WIRE_DNS_TXT); /* the name is ours: no other type of it */
	CHECK_EQ(r.dns.answers, 0);
	CHECK_EQ(s[0].queries, 0);
	/* What is none. */
	record("a.test", "srv", "1 2 db.test", -WH_EINVAL);
	record("a.test", "srv", "1 2 70000 db.test", -WH_EINVAL);
	record("a.test", "cname", "bad..name", -WH_EINVAL);
	record("a b", "txt", "x", -WH_EINVAL);
	record("a.test", "loc", "x", -WH_EINVAL);
	record("db.test", "cname", "x.test", -WH_EEXIST);
	struct wh_gateway_record kept;
	CHECK_EQ(wh_gateway_record_get(w.gateway, 2, &kept), 0);
	CHECK_STR(kept.data, "v=1 two words");
	CHECK_EQ(wh_gateway_record_remove(w.gateway, kept.id), 0);
	CHECK_EQ(wh_gateway_record_remove(w.gateway, kept.id), -WH_ENOENT);
	/* More than a datagram holds: TC. */
	char text[256];
	memset(text, 'x', 255);
	text[255] = 0;
	for (int i = 0; i < 4; i++)
		record("long.test", "txt", text, 0);
	asks(8, "long.test", WH_WIRE_DNS_TXT);
	CHECK(r.dns.truncated && r.size <= 512);
	server_stop(s);
	world_stop(&w);
}

static void aliases_are_followed(void)
{
	struct server s[1];
	const struct wh_net_ip ip = end4(192, 0, 2, 9, 0).ip;
	world_init(&w);
	begin(s, 1);
	CHECK_EQ(wh_gateway_name_add(w.gateway, "db.test", &ip), 0);
	record("here.test", "cname", "db.test", 0);
	record("there.test", "cname", "www.example.org", 0);
	asks(1, "here.test", WH_WIRE_DNS_A);
	CHECK_EQ(r.dns.answers, 2);
	CHECK_EQ(answered(0).type, WH_WIRE_DNS_CNAME);
	CHECK_STR(answered(1).name, "db.test");
	CHECK_EQ(r.bytes[answered(1).data_offset + 3], 9);
	CHECK_EQ(s[0].queries, 0);
	asks(2, "there.test", WH_WIRE_DNS_A);
	CHECK_STR(s[0].last_name, "www.example.org");
	CHECK_EQ(r.dns.answers, 2);
	CHECK_STR(answered(0).name, "there.test");
	CHECK_STR(answered(1).name, "www.example.org");
	CHECK_EQ(r.bytes[answered(1).data_offset + 3], 55);
	asks(3, "there.test", WH_WIRE_DNS_CNAME);
	CHECK_EQ(r.dns.answers, 1);
	/* A rule about the target holds for its other names. */
	policy("www.example.org", true);
	ask(4, "there.test", WH_WIRE_DNS_A, 0);
	UNTIL(&w, r.answers == 4);
	CHECK_EQ(r.dns.rcode, WH_WIRE_DNS_NXDOMAIN);
	server_stop(s);
	world_stop(&w);
}

int main(void)
{
	RUN(cut_answers_are_fetched);
	RUN(records_of_all_types);
	RUN(aliases_are_followed);
	RUN(domains_have_their_servers);
	RUN(dead_server_is_asked_last);
	RUN(types_are_filtered);
	RUN(addresses_have_names);
	RUN(names_in_rules);
	RUN(repeated_questions_are_one);
	RUN(questions_are_forwarded);
	RUN(silent_server_then_the_next);
	RUN(no_server_is_servfail);
	RUN(forged_answers_are_ignored);
	RUN(large_answers_are_truncated);
	RUN(local_names);
	RUN(hosts_file_is_asked_first);
	RUN(resolv_conf_is_read);
	RUN(many_questions_in_one_write);
	RUN(tcp_nonsense_is_reset);
	RUN(malformed_questions);
	RUN(too_many_questions_fail_soon);
	RUN(tcp_questions);
	return test_end();
}
