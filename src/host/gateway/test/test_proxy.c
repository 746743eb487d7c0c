/* SPDX-License-Identifier: ISC */
/* Connections through the host's HTTP proxy: what it is told, what must not break, and when it fails. */
#include "../proxy_priv.h"
#include "world.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct world w;
static struct wh_gateway_stats stats;

static const struct wh_gateway_stats *now(void)
{
	wh_gateway_stats(w.gateway, &stats);
	return &stats;
}

/* ---- the proxy: one connection, driven by the test ---- */

static int listener, peer;
static char heard[65536];
static size_t heard_size;

static bool hear(void)
{
	if (peer < 0)
		peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (peer < 0)
		return false;
	ssize_t n = recv(peer, heard + heard_size, sizeof heard - 1 - heard_size, 0);
	if (n > 0)
		heard_size += (size_t)n;
	heard[heard_size] = 0;
	return n > 0;
}

static void say(const char *text)
{
	CHECK_EQ(send(peer, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

#define UNTIL_HEARD(text) UNTIL(&w, (hear(), strstr(heard, text)))

/* ---- the guest's client ---- */

static struct {
	struct wh_net_tcp *tcp;
	bool connected, failed, at_end;
	uint32_t size;
	char bytes[65536];
} client;

static void client_event(struct wh_net_tcp *s, uint32_t events)
{
	client.connected |= (events & WH_NET_CONNECTED) != 0;
	client.failed |= (events & WH_NET_FAILED) != 0;
	client.size += wh_net_tcp_read(s, client.bytes + client.size,
				       (uint32_t)sizeof client.bytes - 1 - client.size);
	client.bytes[client.size] = 0;
	client.at_end |= wh_net_tcp_at_end(s);
}

static void client_open(const struct wh_net_end *to)
{
	static const struct wh_net_tcp_ops ops = { .event = client_event };
	struct wh_net_tuple tuple = { .remote = *to };
	memset(&client, 0, sizeof client);
	heard_size = 0;
	heard[0] = 0;
	peer = -1;
	CHECK_EQ(wh_net_tcp_connect(w.guest, &tuple, &ops, NULL, &client.tcp), 0);
}

static void client_say(const char *text)
{
	UNTIL(&w, client.connected);
	CHECK_EQ(wh_net_tcp_write(client.tcp, text, (uint32_t)strlen(text)), strlen(text));
}

static void client_end(void)
{
	wh_net_tcp_close(client.tcp);
	if (peer >= 0)
		close(peer);
	peer = -1;
	world_settle(&w);
}

static void begin(const char *user, const char *except)
{
	char url[100];
	uint16_t port;
	struct wh_diag diag = { "" };
	world_init(&w);
	w.config.host_loopback = false;
	world_start(&w);
	listener = host_listen(AF_INET, &port);
	snprintf(url, sizeof url, "http://%s127.0.0.1:%u/", user, port);
	CHECK_EQ(wh_gateway_proxy_set(w.gateway, WH_GATEWAY_PROXY_BOTH, url, &diag), 0);
	CHECK_EQ(wh_gateway_proxy_exclude(w.gateway, except, &diag), 0);
	struct wh_net_end named = end4(192, 0, 2, 1, 0);
	proxy_note(w.gateway, "www.example.org", &named.ip);
}

static void end(void)
{
	close(listener);
	world_stop(&w);
}

/* ---- cases ---- */

static void tls_by_connect(void)
{
	struct wh_net_end to = end4(192, 0, 2, 1, 443);
	begin("user:p%40ss@", "");
	client_open(&to);
	UNTIL_HEARD("\r\n\r\n");
	CHECK_STR(heard, "CONNECT www.example.org:443 HTTP/1.1\r\nHost: www.example.org:443\r\n"
			 "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n");
	CHECK(!client.connected); /* the SYN is answered when the proxy agrees */
	say("HTTP/1.1 200 Connection");
	world_settle(&w);
	CHECK(!client.connected);
	say(" established\r\nVia: x\r\n\r\nserver speaks first");
	UNTIL(&w, client.size == 19);
	CHECK_STR(client.bytes, "server speaks first");
	client_say("hello");
	UNTIL_HEARD("hello");
	CHECK_EQ(now()->proxied, 1);
	client_end();
	/* An address that no name was asked for. */
	to = end4(192, 0, 2, 9, 443);
	client_open(&to);
	UNTIL_HEARD("CONNECT 192.0.2.9:443 ");
	say("HTTP/1.0 407 Proxy Authentication Required\r\n\r\n");
	UNTIL(&w, client.failed);
	CHECK(!client.connected);
	CHECK_EQ(now()->proxy_failed, 1);
	client_end();
	/* Nonsense, too much of it, and an end. */
	static char flood[PROXY_ANSWER_MAX + 2];
	memset(flood, 'x', sizeof flood - 1);
	const char *const bad[] = { "SSH-2.0-x\r\n\r\n", flood, "HTTP/1.1 20" };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		client_open(&to);
		UNTIL_HEARD("\r\n\r\n");
		say(bad[i]);
		close(peer);
		peer = -1;
		UNTIL(&w, client.failed);
		client_end();
	}
	end();
}

/* Programs that are told of the proxy find it at the gateway, and say what they like. */
static void proxy_at_the_gateway(void)
{
	const struct wh_net_end to = end4(10, 0, 2, 2, 3128);
	begin("", "");
	client_open(&to);
	client_say("CONNECT a.example:22 HTTP/1.1\r\n\r\n");
	UNTIL_HEARD("CONNECT a.example:22 HTTP/1.1\r\n\r\n");
	say("HTTP/1.1 200 ok\r\n\r\n");
	UNTIL(&w, client.size == 19);
	CHECK_EQ(now()->proxied, 0); /* nothing is looked at */
	client_end();
	struct wh_diag diag;
	CHECK_EQ(wh_gateway_proxy_set(w.gateway, WH_GATEWAY_PROXY_BOTH, NULL, &diag), 0);
	client_open(&to);
	UNTIL(&w, client.failed);
	client_end();
	end();
}

static void requests_in_the_proxys_form(void)
{
	struct wh_net_end to = end4(192, 0, 2, 1, 80);
	begin("user:p%40ss@", "");
	client_open(&to);
	UNTIL(&w, client.connected);
	client_say("GET /a?b=c HTTP/1.1\r\nHost: www.exam");
	world_settle(&w);
	hear();
	CHECK_EQ(heard_size, 0);
	client_say(
		"ple.org\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\nX: y\r\n\r\nbody\r\n\r\n");
	UNTIL_HEARD("body\r\n\r\n");
	CHECK_STR(heard, "GET http://www.example.org/a?b=c HTTP/1.1\r\nHost: www.example.org\r\n"
			 "X: y\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n"
			 "Connection: close\r\n\r\nbody\r\n\r\n");
	say("HTTP/1.1 200 OK\r\n\r\ndone");
	close(peer);
	peer = -1;
	UNTIL(&w, client.at_end);
	CHECK(strstr(client.bytes, "done"));
	client_end();
	/* HTTP/1.0 without Host: the name that was asked for. */
	client_open(&to);
	client_say("GET / HTTP/1.0\n\n");
	UNTIL_HEARD("Connection: close\r\n\r\n");
	CHECK(strstr(heard, "GET http://www.example.org/ HTTP/1.0\n") == heard);
	client_end();
	/* Where rules decide by name, the guest's Host does not lead elsewhere. */
	struct wh_gateway_policy allow;
	CHECK_EQ(wh_gateway_policy_parse("*", false, &allow, NULL), 0);
	CHECK_EQ(wh_gateway_policy_add(w.gateway, &allow, 0, NULL), 0);
	client_open(&to);
	client_say("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n");
	UNTIL_HEARD("Connection: close\r\n\r\n");
	CHECK(strstr(heard, "GET http://www.example.org/ ") == heard);
	client_end();
	client_open(&to);
	client_say("GET / HTTP/1.1\r\nHost: www.example.org:80\r\n\r\n");
	UNTIL_HEARD("Connection: close\r\n\r\n");
	CHECK(strstr(heard, "GET http://www.example.org:80/ ") == heard);
	client_end();
	end();
}

/* HTTP/2 without TLS, WebSocket, something else, a head without an end: untouched, by CONNECT. */
static void what_is_no_plain_request_is_not_touched(void)
{
	static char long_head[PROXY_HEAD_MAX + 1];
	struct wh_net_end to = end4(192, 0, 2, 1, 80);
	memset(long_head, 'x', sizeof long_head - 1);
	memcpy(long_head, "GET / HTTP/1.1\r\nX: ", 19);
	const char *const first[] = { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
				      "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: "
				      "websocket\r\nConnection: Upgrade\r\n\r\n",
				      "\x16\x03\x01",
				      "SSH-2.0-OpenSSH\r\n",
				      "GET http://a/ HTTP/1.1\r\n\r\n",
				      "OPTIONS * HTTP/1.1\r\n\r\n",
				      "GET /a b c HTTP/1.1\r\n\r\n",
				      "GET /\r\n",
				      long_head };
	begin("", "");
	for (unsigned i = 0; i < WH_ARRAY_COUNT(first); i++) {
		client_open(&to);
		UNTIL(&w, client.connected);
		client_say(first[i]);
		UNTIL_HEARD("\r\n\r\n");
		CHECK_STR(heard, "CONNECT www.example.org:80 HTTP/1.1\r\n"
				 "Host: www.example.org:80\r\n\r\n");
		heard_size = 0;
		say("HTTP/1.1 200 OK\r\n\r\nanswer");
		UNTIL(&w, client.size == 6);
		UNTIL(&w, (hear(), heard_size == strlen(first[i])));
		CHECK(!memcmp(heard, first[i], heard_size));
		client_end();
	}
	/* The guest ends its side in the middle of a request. */
	client_open(&to);
	client_say("GET / HT");
	wh_net_tcp_shutdown(client.tcp);
	UNTIL_HEARD("CONNECT ");
	client_end();
	end();
}

static void failures_have_a_page(void)
{
	struct wh_net_end to = end4(192, 0, 2, 1, 80), tls = end4(192, 0, 2, 1, 443);
	begin("", "");
	/* WebSocket, and the proxy does not like CONNECT. */
	client_open(&to);
	client_say("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
	UNTIL_HEARD("CONNECT ");
	say("HTTP/1.1 403 Forbidden\r\n\r\n");
	UNTIL(&w, client.at_end);
	CHECK(strstr(client.bytes, "HTTP/1.1 503 ") == client.bytes);
	CHECK(strstr(client.bytes, "127.0.0.1"));
	client_end();
	/* What is no HTTP is reset. */
	client_open(&to);
	client_say("SSH-2.0-x\r\n");
	UNTIL_HEARD("CONNECT ");
	say("HTTP/1.1 403 Forbidden\r\n\r\n");
	UNTIL(&w, client.failed);
	client_end();
	/* The proxy leaves before anything was said. */
	client_open(&to);
	UNTIL(&w, client.connected && (hear(), peer >= 0));
	close(peer);
	peer = -1;
	UNTIL(&w, client.failed);
	client_end();
	/* Nobody is there. */
	close(listener);
	listener = -1;
	client_open(&to);
	UNTIL(&w, client.connected);
	client_say("GET / HTTP/1.1\r\n\r\n");
	UNTIL(&w, client.at_end);
	CHECK(strstr(client.bytes, "HTTP/1.1 503 ") == client.bytes);
	client_end();
	client_open(&tls);
	UNTIL(&w, client.failed);
	CHECK(!client.connected);
	client_end();
	/* A page that nobody fetches ends with the gateway. */
	client_open(&to);
	UNTIL(&w, client.connected);
	wh_gateway_detach(w.gateway);
	wh_net_tcp_close(client.tcp);
	listener = dup(0);
	end();
}

static bool carried(const char *except, uint8_t last, uint16_t port)
{
	struct wh_net_end to = end4(192, 0, 2, last, port);
	CHECK_EQ(wh_gateway_proxy_exclude(w.gateway, except, NULL), 0);
	return proxy_carries(w.gateway, &to);
}

static void exceptions(void)
{
	begin("", "");
	CHECK(carried("", 1, 80) && carried("", 1, 443) && !carried("", 1, 8080));
	static const char *const past[] = { "*",
					    "example.org",
					    "EXAMPLE.org",
					    ".example.org",
					    "www.example.org",
					    "*.example.org",
					    "www*",
					    "*w.ex*le.*",
					    "192.0.2.1",
					    "a, b 192.0.0.0/16",
					    "localhost,192.0.2.0/30" };
	static const char *const through[] = {
		"",      "ample.org", ".www.example.org", "www",
		"*.com", "192.0.2.2", "192.0.3.0/24",     "192.0.2.0/33",
		"[::1]", "fd00::/8",  "w*w.example.or"
	};
	for (unsigned i = 0; i < WH_ARRAY_COUNT(past); i++)
		if (carried(past[i], 1, 80))
			test_fail(__FILE__, __LINE__, "%s does not lead past", past[i]);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(through); i++)
		if (!carried(through[i], 1, 80))
			test_fail(__FILE__, __LINE__, "%s leads past", through[i]);
	CHECK(carried("example.org", 9, 80)); /* has no name */
	/* More names than are kept. */
	for (unsigned i = 0; i < PROXY_NAMES_MAX; i++) {
		struct wh_net_end e = end4(198, 51, 100, (uint8_t)i, 0);
		proxy_note(w.gateway, "x.example", &e.ip);
	}
	CHECK(carried("example.org", 1, 80));
	struct wh_net_end own = { w.gateway->self[0], 80 };
	CHECK(!proxy_carries(w.gateway, &own));
	CHECK_EQ(wh_gateway_proxy_set(w.gateway, WH_GATEWAY_PROXY_HTTP, NULL, NULL), 0);
	CHECK(!carried("", 1, 80) && carried("", 1, 443));
	end();
}

static void urls(void)
{
	static char long_user[400];
	static const char *const bad[] = { "https://127.0.0.1:1",
					   "",
					   "http://",
					   "http://name:80",
					   "http://127.0.0.1:0",
					   "http://127.0.0.1:x",
					   "http://a%4:b@127.0.0.1",
					   "http://[::1:80",
					   long_user };
	struct wh_gateway_proxy p;
	world_init(&w);
	world_start(&w);
	memset(long_user, 'u', sizeof long_user - 12);
	memcpy(long_user + sizeof long_user - 12, "@127.0.0.1", 11);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(bad); i++)
		if (wh_gateway_proxy_set(w.gateway, WH_GATEWAY_PROXY_BOTH, bad[i], NULL) >= 0)
			test_fail(__FILE__, __LINE__, "%s was taken", bad[i]);
	CHECK_EQ(wh_gateway_proxy_set(w.gateway, WH_GATEWAY_PROXY_BOTH, "127.0.0.1", NULL), 0);
	wh_gateway_proxy_get(w.gateway, &p);
	CHECK_EQ(p.http.port, 80);
	CHECK_EQ(wh_gateway_proxy_set(w.gateway, WH_GATEWAY_PROXY_HTTPS, "http://me@[::1]:3128/x",
				      NULL),
		 0);
	wh_gateway_proxy_get(w.gateway, &p);
	CHECK_EQ(p.https.port, 3128);
	CHECK_STR(w.gateway->proxy->https.auth, "bWU6");
	world_stop(&w);
}

int main(void)
{
	RUN(tls_by_connect);
	RUN(proxy_at_the_gateway);
	RUN(requests_in_the_proxys_form);
	RUN(what_is_no_plain_request_is_not_touched);
	RUN(failures_have_a_page);
	RUN(exceptions);
	RUN(urls);
	return test_end();
}
