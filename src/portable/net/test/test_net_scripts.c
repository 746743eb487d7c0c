/* SPDX-License-Identifier: ISC */
/*
 * Runs the scripts of a folder: one stack, and a peer whose every segment is written down, at exact
 * times. scripts/README.md describes the language. A script fails on any segment that it does not
 * expect, so "nothing is sent" needs no words.
 */
#include <dirent.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <wherry/base/bytes.h>
#include "sim.h"

#define PEER_ISS 1000u
#define SENT_MAX 512
#define WORDS_MAX 24

struct sent {
	struct wh_wire_tcp t;
	uint32_t size;
	uint64_t at;
	uint8_t tos;
	bool pattern_good;
};

static struct {
	char path[512];
	int line;
	struct wh_net *net;
	struct wh_net_config config;
	struct wh_net_port port;
	uint64_t begin, now, deadline;
	struct sent sent[SENT_MAX];
	uint32_t sent_count, taken;
	uint32_t iss; /* the stack's */
	struct wh_net_tcp *listener, *s;
	uint32_t events;
	uint64_t written, read;
	bool started, blocked, six, timestamps, ce;
	uint32_t echo;    /* the stack's last timestamp */
	uint32_t ts_base; /* and what it would have been at the script's start */
	uint32_t peer_ts_base;
	uint16_t window, peer_port;
	uint32_t icmp_count;
	uint8_t icmp_type, icmp_code;
} v;

static const uint8_t mac[6] = { 0x52, 0x54, 0, 0, 0, 1 }, peer_mac[6] = { 0x52, 0x54, 0, 0, 0, 2 };
static const uint8_t own4[4] = { 10, 0, 2, 1 }, peer4[4] = { 10, 0, 2, 2 };
static const uint8_t own6[16] = { 0xfd, 1, [15] = 1 }, peer6[16] = { 0xfd, 1, [15] = 2 };

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	test_fail(v.path, v.line, "%s", text);
}

static uint8_t byte_at(uint64_t at)
{
	return (uint8_t)(at * 7 + (at >> 8) * 13 + 3);
}

/* ---- Words ---- */

static uint32_t number(const char *word)
{
	char *end;
	long long n = strtoll(word, &end, 0);
	if (!*word || *end)
		fail("\"%s\" is not a number", word);
	return (uint32_t)n;
}

/* Up to `max` numbers that are separated by any of `by`; returns how many. */
static uint32_t numbers(const char *word, const char *by, uint32_t *ret, uint32_t max)
{
	uint32_t count = 0;
	char copy[128], *at = copy;
	snprintf(copy, sizeof copy, "%s", word);
	for (char *part; at && count < max;) {
		part = strsep(&at, by);
		ret[count++] = number(part);
	}
	return count;
}

static uint8_t flags_parse(const char *word)
{
	static const char letters[] = "FSRP.UEW";
	uint8_t flags = 0;
	for (; *word; word++) {
		const char *at = strchr(letters, *word);
		if (!at)
			fail("\"%s\" are not flags", word);
		flags |= (uint8_t)(1u << (at - letters));
	}
	return flags;
}

static void segment_print(char *to, size_t size, const struct sent *p)
{
	static const char letters[] = "FSRP.UEW";
	char flags[9] = "";
	uint32_t sequence = p->t.sequence - v.iss, n = 0;
	for (int i = 0; i < 8; i++)
		if (p->t.flags >> i & 1)
			flags[n++] = letters[i];
	n = (uint32_t)snprintf(to, size, "> %s %d:%d ack %d win %u at %.3f ms", flags, sequence,
			       sequence + p->size, p->t.acknowledgement - PEER_ISS, p->t.window,
			       (double)(p->at - v.begin) / 1e6);
	for (uint32_t i = 0; i < p->t.sack_count && n < size; i++)
		n += (uint32_t)snprintf(to + n, size - n, " sack %d-%d",
					p->t.sack[i].start - PEER_ISS, p->t.sack[i].end - PEER_ISS);
}

/* ---- The wire ---- */

static int port_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	uint8_t b[70000];
	size_t n = wh_iov_read(f->iov, f->iov_count, 0, b, sizeof b);
	size_t at = v.six ? 54 : 34;
	uint8_t protocol = b[v.six ? 20 : 23];
	if (v.blocked)
		return -WH_EAGAIN;
	if (protocol == WH_WIRE_PROTO_ICMP || protocol == WH_WIRE_PROTO_ICMP6) {
		v.icmp_count++;
		v.icmp_type = b[at];
		v.icmp_code = b[at + 1];
	}
	if (protocol != WH_WIRE_PROTO_TCP)
		return 0;
	struct sent *p = &v.sent[v.sent_count++];
	CHECK(v.sent_count < SENT_MAX);
	CHECK(wh_wire_tcp_parse(b + at, n - at, f->size - at, &p->t) > 0);
	p->size = (uint32_t)(f->size - at - p->t.header_size);
	p->at = v.now;
	p->tos = v.six ? (uint8_t)(wh_load_be32(b + 14) >> 20) : b[15];
	if (p->t.has_timestamp) {
		v.echo = p->t.timestamp;
		v.ts_base = v.echo - (uint32_t)((v.now - v.begin) / MS);
	}
	p->pattern_good = true;
	for (uint32_t i = 0; i < p->size; i++) /* byte 0 of the stream has number iss + 1 */
		p->pattern_good &=
			b[at + p->t.header_size + i] == byte_at(p->t.sequence - v.iss - 1 + i);
	return 0;
}

static void on_event(struct wh_net_tcp *s, uint32_t events);
static const struct wh_net_tcp_ops ops = { .event = on_event };

static void on_event(struct wh_net_tcp *s, uint32_t events)
{
	struct wh_net_tcp *n;
	if ((events & WH_NET_ACCEPTABLE) && !v.s && !wh_net_tcp_take(s, &n)) {
		v.s = n;
		wh_net_tcp_set_ops(v.s, &ops, 0);
	}
	v.events |= events;
}

static void run(void)
{
	v.deadline = wh_net_run(v.net, v.now);
}

static void start(void)
{
	if (v.started)
		return;
	v.started = true;
	struct wh_net_ip own = v.six ? wh_net_ip6(own6) : wh_net_ip4(own4);
	struct wh_net_ip peer = v.six ? wh_net_ip6(peer6) : wh_net_ip4(peer4);
	CHECK_EQ(wh_net_new(&v.config, v.now, &v.net), 0);
	CHECK_EQ(wh_net_tcp_enable(v.net), 0);
	CHECK_EQ(wh_net_address_add(v.net, &own, v.six ? 64 : 24), 0);
	CHECK_EQ(wh_net_neighbour_set(v.net, &peer, peer_mac), 0);
	v.port.send = port_send;
	wh_net_attach(v.net, &v.port);
	run();
}

/* Lets time pass, stopping at each deadline. */
static void pass(double ms)
{
	start();
	uint64_t end = v.now + (uint64_t)(ms * 1e6);
	run();
	while (v.deadline <= end) {
		if (v.deadline > v.now)
			v.now = v.deadline;
		run();
	}
	v.now = end;
	run();
}

static void inject_frame(uint8_t protocol, uint8_t *b, size_t size)
{
	struct wh_wire_eth eth = { .type = v.six ? WH_WIRE_ETH_IP6 : WH_WIRE_ETH_IP4 };
	size_t at = v.six ? 54 : 34;
	memcpy(eth.to, mac, 6);
	memcpy(eth.from, peer_mac, 6);
	wh_wire_eth_emit(b, &eth);
	if (v.six) {
		struct wh_wire_ip6 ip = { .next_header = protocol,
					  .hop_limit = 64,
					  .traffic_class = v.ce ? 3 : 0,
					  .payload_size = (uint16_t)size };
		memcpy(ip.from, peer6, 16);
		memcpy(ip.to, own6, 16);
		wh_wire_ip6_emit(b + 14, &ip);
	} else {
		struct wh_wire_ip4 ip = { .protocol = protocol,
					  .ttl = 64,
					  .tos = v.ce ? 3 : 0,
					  .total_size = (uint16_t)(20 + size) };
		memcpy(ip.from, peer4, 4);
		memcpy(ip.to, own4, 4);
		wh_wire_ip4_emit(b + 14, &ip);
	}
	struct wh_iov iov = { b, at + size };
	struct wh_net_frame f = {
		.iov = &iov, .iov_count = 1, .size = (uint32_t)iov.size, .flags = WH_NET_DATA_VALID
	};
	wh_net_time(v.net, v.now);
	CHECK_EQ(v.port.receive(&v.port, &f), 0);
	run();
}

static void inject(const struct wh_wire_tcp *t, uint32_t size)
{
	static uint8_t b[70000];
	size_t at = v.six ? 54 : 34, n = wh_wire_tcp_emit(b + at, t);
	for (uint32_t i = 0; i < size; i++)
		b[at + n + i] = byte_at(t->sequence - PEER_ISS - 1 + i);
	inject_frame(WH_WIRE_PROTO_TCP, b, n + size);
}

/* ---- Segments ---- */

struct want {
	struct wh_wire_tcp t;
	uint32_t size;
	bool ack, window, sack, no_sack, no_sackok, no_ts, no_scale, ect, no_ect, urgent, ts_given;
};

static void sack_parse(const char *word, struct wh_wire_tcp *t)
{
	uint32_t n[8], count = numbers(word, "-,", n, 8);
	for (uint32_t i = 0; i + 1 < count; i += 2) {
		t->sack[t->sack_count].start = n[i];
		t->sack[t->sack_count++].end = n[i + 1];
	}
}

/* FLAGS SEQ[:END] and what follows. */
static void segment_parse(char **w, int count, struct want *p)
{
	uint32_t n[2] = { 0, 0 };
	if (count < 2)
		fail("a segment has flags and a sequence number");
	p->t.flags = flags_parse(w[0]);
	if (numbers(w[1], ":", n, 2) == 1)
		n[1] = n[0];
	p->t.sequence = n[0];
	p->size = n[1] - n[0];
	for (int i = 2; i < count; i++) {
		const char *key = w[i], *value = i + 1 < count ? w[i + 1] : "";
		bool used = true;
		if (!strcmp(key, "ack"))
			p->ack = true, p->t.acknowledgement = number(value);
		else if (!strcmp(key, "win"))
			p->window = true, p->t.window = (uint16_t)number(value);
		else if (!strcmp(key, "mss"))
			p->t.has_mss = true, p->t.mss = (uint16_t)number(value);
		else if (!strcmp(key, "ws"))
			p->t.has_scale = true, p->t.scale = (uint8_t)number(value);
		else if (!strcmp(key, "sack"))
			p->sack = true, sack_parse(value, &p->t);
		else if (!strcmp(key, "urg"))
			p->urgent = true, p->t.urgent = (uint16_t)number(value);
		else if (!strcmp(key, "port"))
			p->t.from = (uint16_t)number(value);
		else if (!strcmp(key, "ts") && numbers(value, ":", n, 2))
			p->ts_given = p->t.has_timestamp = true, p->t.timestamp = n[0],
			p->t.timestamp_echo = n[1];
		else
			used = false;
		i += used;
		p->t.sack_permitted |= !strcmp(key, "sackok");
		p->no_sack |= !strcmp(key, "nosack");
		p->no_sackok |= !strcmp(key, "nosackok");
		p->no_ts |= !strcmp(key, "nots");
		p->no_scale |= !strcmp(key, "nows");
		p->ect |= !strcmp(key, "ect");
		p->no_ect |= !strcmp(key, "noect");
		v.ce |= !strcmp(key, "ce");
	}
}

static void do_inject(char **w, int count)
{
	struct want p = { 0 };
	start();
	v.ce = false;
	segment_parse(w, count, &p);
	uint32_t ms = (uint32_t)((v.now - v.begin) / MS);
	if (p.t.flags & WH_WIRE_TCP_SYN) {
		v.timestamps = p.t.has_timestamp;
		v.peer_ts_base = p.t.timestamp - ms;
	}
	p.t.sequence += PEER_ISS;
	if (p.t.flags & WH_WIRE_TCP_ACK)
		p.t.acknowledgement += v.iss;
	if (p.window)
		v.window = p.t.window;
	p.t.window = v.window;
	for (uint32_t i = 0; i < p.t.sack_count; i++) {
		p.t.sack[i].start += v.iss;
		p.t.sack[i].end += v.iss;
	}
	if (v.timestamps && !p.no_ts && !p.ts_given) {
		p.t.has_timestamp = true;
		p.t.timestamp = v.peer_ts_base + ms;
		p.t.timestamp_echo = p.t.flags & WH_WIRE_TCP_ACK ? v.echo : 0;
	}
	if (p.ts_given && (p.t.flags & WH_WIRE_TCP_ACK))
		p.t.timestamp_echo += v.ts_base;
	if (!p.t.from)
		p.t.from = v.peer_port;
	p.t.to = v.s ? wh_net_tcp_tuple(v.s)->local.port : 80;
	inject(&p.t, p.size);
	v.ce = false;
}

static void sack_compare(const struct sent *got, const struct want *p, const char *text)
{
	bool same = got->t.sack_count == p->t.sack_count;
	for (uint32_t i = 0; same && i < p->t.sack_count; i++)
		same = got->t.sack[i].start - PEER_ISS == p->t.sack[i].start &&
		       got->t.sack[i].end - PEER_ISS == p->t.sack[i].end;
	if (!same)
		fail("other SACK blocks: %s", text);
}

static void do_expect(char **w, int count)
{
	struct want p = { 0 };
	char text[256];
	segment_parse(w, count, &p);
	if (v.taken == v.sent_count)
		fail("nothing was sent by %.3f ms", (double)(v.now - v.begin) / 1e6);
	const struct sent *got = &v.sent[v.taken++];
	if (got->t.flags & WH_WIRE_TCP_SYN)
		v.iss = got->t.sequence - p.t.sequence;
	segment_print(text, sizeof text, got);
	if (v.now - got->at > MS)
		fail("too early, now is %.3f ms: %s", (double)(v.now - v.begin) / 1e6, text);
	if ((got->t.flags & ~WH_WIRE_TCP_PSH) != (p.t.flags & ~WH_WIRE_TCP_PSH) ||
	    got->t.sequence - v.iss != p.t.sequence || got->size != p.size)
		fail("sent %s", text);
	if ((p.ack && got->t.acknowledgement - PEER_ISS != p.t.acknowledgement) ||
	    (p.window && got->t.window != p.t.window))
		fail("other acknowledgement or window: %s", text);
	if (!got->pattern_good)
		fail("other bytes: %s", text);
	if (p.sack || p.no_sack)
		sack_compare(got, &p, text);
	if ((p.t.has_mss && got->t.mss != p.t.mss) ||
	    (p.t.has_scale && (!got->t.has_scale || got->t.scale != p.t.scale)) ||
	    (p.no_scale && got->t.has_scale) || (p.t.sack_permitted && !got->t.sack_permitted) ||
	    (p.no_sackok && got->t.sack_permitted) || (p.no_ts && got->t.has_timestamp) ||
	    (p.ts_given && !got->t.has_timestamp))
		fail("other options: %s, mss %u scale %d sackok %d ts %d", text, got->t.mss,
		     got->t.has_scale ? got->t.scale : -1, got->t.sack_permitted,
		     got->t.has_timestamp);
	if (p.ts_given && p.t.timestamp_echo && got->t.timestamp_echo != p.t.timestamp_echo)
		fail("echoes %u: %s", got->t.timestamp_echo, text);
	if ((p.ect && (got->tos & 3) != 2) || (p.no_ect && (got->tos & 3)))
		fail("ECN field %u: %s", got->tos & 3, text);
}

/* ---- Other lines ---- */

static void do_option(char **w, int count)
{
	struct wh_net_config *c = &v.config;
	const char *key = w[0], *value = count > 1 ? w[1] : "";
	if (v.started)
		fail("options come first");
	if (!strcmp(key, "ip6"))
		v.six = true;
	else if (!strcmp(key, "cc"))
		c->cc = !strcmp(value, "cubic")  ? &wh_net_cc_cubic
			: !strcmp(value, "reno") ? &wh_net_cc_reno
						 : 0;
	else if (!strcmp(key, "lossless"))
		c->lossless = true, c->cc = 0;
	else if (!strcmp(key, "buffers"))
		c->tcp_buffer_start = c->tcp_receive_max = c->tcp_send_max = number(value);
	else if (!strcmp(key, "buffers-max"))
		c->tcp_receive_max = c->tcp_send_max = number(value);
	else if (!strcmp(key, "ecn"))
		c->ecn = true;
	else if (!strcmp(key, "half-open"))
		c->tcp_half_open_max = number(value);
	else if (!strcmp(key, "mtu"))
		v.port.mtu = number(value);
	else if (!strcmp(key, "offload"))
		v.port.link_features = WH_NET_LINK_CSUM | WH_NET_LINK_TSO4 | WH_NET_LINK_TSO6;
	else
		fail("option %s is unknown", key);
}

static struct wh_net_end own_end(uint16_t port)
{
	struct wh_net_end e = { v.six ? wh_net_ip6(own6) : wh_net_ip4(own4), port };
	return e;
}

static void do_listen(char **w, int count)
{
	struct wh_net_end at = own_end(80);
	start();
	CHECK_EQ(wh_net_tcp_listen(v.net, &at, false, count ? number(w[0]) : 4, &ops, 0,
				   &v.listener),
		 0);
}

static void do_connect(char **w, int count)
{
	struct wh_net_tuple t = { .local = own_end(40000) };
	start();
	t.remote = (struct wh_net_end){ v.six ? wh_net_ip6(peer6) : wh_net_ip4(peer4), 80 };
	v.peer_port = 80;
	CHECK_EQ(wh_net_tcp_connect(v.net, &t, &ops, 0, &v.s), 0);
	run();
}

/* A passive handshake with a round trip of 100 ms, unless said otherwise. */
static void do_established(char **w, int count)
{
	char syn[256] = "SEW 0 win 20000", *words[WORDS_MAX], *at = syn;
	uint32_t rtt = 100, mss = 1000;
	bool sack = true, ecn = false;
	do_listen(w, 0);
	for (int i = 0; i < count; i++) {
		if (!strcmp(w[i], "rtt") && i + 1 < count)
			rtt = number(w[++i]);
		else if (!strcmp(w[i], "mss") && i + 1 < count)
			mss = number(w[++i]);
		else if (!strcmp(w[i], "nosack"))
			sack = false;
		else if (!strcmp(w[i], "ecn"))
			ecn = true;
		else
			snprintf(syn + strlen(syn), sizeof syn - strlen(syn), " %s", w[i]);
	}
	snprintf(syn + strlen(syn), sizeof syn - strlen(syn), " mss %u%s", mss,
		 sack ? " sackok" : "");
	int n = 0;
	for (char *word; (word = strsep(&at, " "));)
		words[n++] = word;
	if (!ecn)
		words[0][1] = 0;
	do_inject(words, n);
	v.iss = v.sent[v.taken++].t.sequence;
	pass(rtt);
	char flags[] = ".", one[] = "1", ack[] = "ack", *last[] = { flags, one, ack, one };
	do_inject(last, 4);
	if (!v.s)
		fail("not established");
	v.events = 0;
}

static void do_write(char **w, int count)
{
	struct wh_iov iov[2];
	for (uint32_t left = number(count ? w[0] : ""); left;) {
		uint32_t n = wh_net_tcp_reserve(v.s, iov), done = 0;
		if (!n)
			fail("no room for %u of the bytes", left);
		for (int i = 0; i < 2; i++)
			for (size_t k = 0; k < iov[i].size && done < left; k++, done++)
				((uint8_t *)iov[i].base)[k] = byte_at(v.written++);
		wh_net_tcp_commit(v.s, done);
		left -= done;
	}
	run();
}

static void do_read(char **w, int count)
{
	struct wh_iov iov[2];
	uint32_t want = number(count ? w[0] : ""), have = wh_net_tcp_peek(v.s, iov), done = 0;
	if (have < want)
		fail("%u bytes can be read", have);
	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < iov[i].size && done < want; k++, done++)
			if (((uint8_t *)iov[i].base)[k] != byte_at(v.read++))
				fail("byte %llu differs", (unsigned long long)v.read - 1);
	wh_net_tcp_consume(v.s, want);
	run();
}

static void do_unread(char **w, int count)
{
	struct wh_iov iov[2];
	uint32_t have = wh_net_tcp_peek(v.s, iov);
	if (have != number(count ? w[0] : ""))
		fail("%u bytes can be read", have);
}

static void do_shutdown(char **w, int count)
{
	wh_net_tcp_shutdown(v.s);
	run();
}

static void do_close(char **w, int count)
{
	wh_net_tcp_close(v.s);
	v.s = 0;
	run();
}

static void do_abort(char **w, int count)
{
	wh_net_tcp_abort(v.s);
	v.s = 0;
	run();
}

static void do_set(char **w, int count)
{
	static const char *const names[] = { "nodelay",      "cork",          "keepalive",
					     "keep-idle",    "keep-interval", "keep-count",
					     "user-timeout", "tos",           "hop-limit",
					     "receive-max",  "send-max",      "mss" };
	for (uint32_t i = 0; i < WH_ARRAY_COUNT(names); i++) {
		if (count == 2 && !strcmp(w[0], names[i])) {
			CHECK_EQ(wh_net_tcp_set(v.s, (enum wh_net_tcp_option)i, number(w[1])), 0);
			run();
			return;
		}
	}
	fail("set %s is unknown", count ? w[0] : "");
}

static void do_state(char **w, int count)
{
	struct wh_net_tcp_info i;
	wh_net_tcp_info(v.s, &i);
	const char *name = wh_net_tcp_state_name(i.state);
	if (!count || strcmp(name, w[0]))
		fail("state is %s", name);
}

static void do_error(char **w, int count)
{
	static const struct {
		const char *name;
		int error;
	} names[] = { { "none", 0 },
		      { "refused", WH_ECONNREFUSED },
		      { "reset", WH_ECONNRESET },
		      { "timeout", WH_ETIMEDOUT },
		      { "unreachable", WH_EHOSTUNREACH },
		      { "net-unreachable", WH_ENETUNREACH },
		      { "denied", WH_EACCES },
		      { "protocol", WH_EPROTO } };
	int error = wh_net_tcp_error(v.s);
	for (size_t i = 0; i < WH_ARRAY_COUNT(names); i++)
		if (count && !strcmp(w[0], names[i].name) && names[i].error == error)
			return;
	fail("error is %d", error);
}

static void do_events(char **w, int count)
{
	static const char *const names[] = { "connected", "readable", "writable",  "peer-closed",
					     "failed",    "drained",  "acceptable" };
	uint32_t want = 0;
	for (int k = 0; k < count; k++)
		for (uint32_t i = 0; i < WH_ARRAY_COUNT(names); i++)
			if (!strcmp(w[k], names[i]))
				want |= 1u << i;
	if ((v.events & want) != want || (!count && v.events))
		fail("events are 0x%x, wanted 0x%x", v.events, want);
	v.events = 0;
}

static void do_stat(char **w, int count)
{
#define FIELD(name)                                              \
	{                                                        \
#name, offsetof(struct wh_net_stats, name),      \
			sizeof(((struct wh_net_stats *)0)->name) \
	}
	static const struct {
		const char *name;
		size_t at, size;
	} fields[] = {
		FIELD(tcp_retransmits),    FIELD(tcp_timeouts),     FIELD(tcp_challenge_acks),
		FIELD(tcp_paws_dropped),   FIELD(tcp_recoveries),   FIELD(tcp_undone),
		FIELD(tcp_probes),         FIELD(tcp_reneged),      FIELD(tcp_ecn_reduced),
		FIELD(tcp_black_holes),    FIELD(tcp_mtu_probes),   FIELD(tcp_cookies_sent),
		FIELD(tcp_cookies_taken),  FIELD(tcp_cookies_bad),  FIELD(tcp_sockets),
		FIELD(tcp_time_wait),      FIELD(tcp_half_open),    FIELD(tcp_backlog_dropped),
		FIELD(tcp_window_dropped), FIELD(tcp_out_of_order), FIELD(tcp_resets_in),
		FIELD(tcp_failed),         FIELD(tcp_buffer_bytes), FIELD(tcp_out_of_order_dropped),
	};
	struct wh_net_stats st;
	wh_net_stats_get(v.net, &st);
	for (size_t i = 0; count == 2 && i < WH_ARRAY_COUNT(fields); i++) {
		uint64_t value = 0;
		if (strcmp(fields[i].name, w[0]))
			continue;
		memcpy(&value, (char *)&st + fields[i].at, fields[i].size);
		if (value != number(w[1]))
			fail("%s is %llu", w[0], (unsigned long long)value);
		return;
	}
	fail("stat %s is unknown", count ? w[0] : "");
}

static void do_info(char **w, int count)
{
	struct wh_net_tcp_info i;
	wh_net_tcp_info(v.s, &i);
	const struct {
		const char *name;
		uint64_t value;
	} fields[] = { { "cwnd", i.congestion_window }, { "ssthresh", i.slow_start_threshold },
		       { "mss", i.mss_send },           { "rto", i.rto_ns / MS },
		       { "rtt", i.rtt_ns / MS },        { "flight", i.in_flight },
		       { "window", i.window_send },     { "unsent", i.unsent } };
	for (size_t k = 0; count == 2 && k < WH_ARRAY_COUNT(fields); k++) {
		if (strcmp(fields[k].name, w[0]))
			continue;
		if (fields[k].value != number(w[1]))
			fail("%s is %llu", w[0], (unsigned long long)fields[k].value);
		return;
	}
	fail("info %s is unknown", count ? w[0] : "");
}

static void do_block(char **w, int count)
{
	v.blocked = true;
}

static void do_unblock(char **w, int count)
{
	v.blocked = false;
	v.port.writable(&v.port);
	run();
}

static void do_any(char **w, int count)
{
	v.taken = v.sent_count;
}

/* So many SYNs from other ports, whose answers do not matter. */
static void do_flood(char **w, int count)
{
	start();
	for (uint32_t i = 0, n = number(count ? w[0] : ""); i < n; i++) {
		struct wh_wire_tcp t = { .from = (uint16_t)(10000 + i),
					 .to = 80,
					 .flags = WH_WIRE_TCP_SYN,
					 .sequence = i,
					 .window = 1000 };
		inject(&t, 0);
		v.sent_count = v.taken;
	}
}

/* icmp TYPE CODE seq N [mtu N]: about a segment of ours. */
static void do_icmp(char **w, int count)
{
	static uint8_t b[256];
	uint32_t sequence = 0, mtu = 0;
	size_t at = v.six ? 54 : 34, ip_size = v.six ? 40 : 20;
	if (count < 2)
		fail("icmp TYPE CODE");
	for (int i = 2; i + 1 < count; i += 2) {
		if (!strcmp(w[i], "seq"))
			sequence = number(w[i + 1]);
		else
			mtu = number(w[i + 1]);
	}
	uint8_t *p = b + at, *quote = p + 8;
	memset(b, 0, sizeof b);
	p[0] = (uint8_t)number(w[0]);
	p[1] = (uint8_t)number(w[1]);
	wh_store_be32(p + 4, mtu);
	if (v.six) {
		struct wh_wire_ip6 ip = { .next_header = 6, .hop_limit = 64, .payload_size = 1020 };
		memcpy(ip.from, own6, 16);
		memcpy(ip.to, peer6, 16);
		wh_wire_ip6_emit(quote, &ip);
	} else {
		struct wh_wire_ip4 ip = { .protocol = 6, .ttl = 64, .total_size = 1040 };
		memcpy(ip.from, own4, 4);
		memcpy(ip.to, peer4, 4);
		wh_wire_ip4_emit(quote, &ip);
	}
	wh_store_be16(quote + ip_size, wh_net_tcp_tuple(v.s)->local.port);
	wh_store_be16(quote + ip_size + 2, wh_net_tcp_tuple(v.s)->remote.port);
	wh_store_be32(quote + ip_size + 4, v.iss + sequence);
	inject_frame(v.six ? WH_WIRE_PROTO_ICMP6 : WH_WIRE_PROTO_ICMP, b, 8 + ip_size + 8);
}

/* ---- Scripts ---- */

static void none(char **w, int count)
{
}

static const struct {
	const char *name;
	void (*fn)(char **w, int count);
} verbs[] = { { "option", do_option },     { "listen", do_listen },
	      { "connect", do_connect },   { "established", do_established },
	      { "<", do_inject },          { "write", do_write },
	      { "read", do_read },         { "unread", do_unread },
	      { "shutdown", do_shutdown }, { "close", do_close },
	      { "abort", do_abort },       { "set", do_set },
	      { "state", do_state },       { "error", do_error },
	      { "events", do_events },     { "stat", do_stat },
	      { "info", do_info },         { "block", do_block },
	      { "unblock", do_unblock },   { "flood", do_flood },
	      { "icmp", do_icmp },         { "wait", none } };

static void nothing_unexpected(void)
{
	char text[256];
	if (v.taken == v.sent_count)
		return;
	segment_print(text, sizeof text, &v.sent[v.taken]);
	fail("unexpected: %s", text);
}

static void line_run(char *line)
{
	char *words[WORDS_MAX], *comment = strchr(line, '#');
	int count = 0, at = 0;
	if (comment)
		*comment = 0;
	for (char *word; (word = strsep(&line, " \t\n"));)
		if (*word && count < WORDS_MAX)
			words[count++] = word;
	if (count && words[0][0] == '+')
		pass(strtod(words[at++] + 1, 0));
	if (at == count)
		return;
	const char *verb = words[at++];
	if (!strcmp(verb, ">")) {
		do_expect(words + at, count - at);
		return;
	}
	if (!strcmp(verb, "any")) {
		do_any(words, 0);
		return;
	}
	nothing_unexpected();
	for (size_t i = 0; i < WH_ARRAY_COUNT(verbs); i++) {
		if (!strcmp(verb, verbs[i].name)) {
			verbs[i].fn(words + at, count - at);
			return;
		}
	}
	fail("\"%s\" is unknown", verb);
}

static void script(FILE *f)
{
	char line[512];
	sim_config(&v.config);
	memcpy(v.config.mac, mac, 6);
	v.config.tcp_buffer_start = v.config.tcp_receive_max = v.config.tcp_send_max = 16384;
	v.now = v.begin = 1000 * SEC;
	v.port.mtu = 1500;
	v.peer_port = 4000;
	for (v.line = 1; fgets(line, sizeof line, f); v.line++) {
		if (v.line == 1 && strncmp(line, "# RFC ", 6))
			fail("the first line names the RFC and section");
		line_run(line);
	}
	nothing_unexpected();
	wh_net_free(v.net);
	CHECK_EQ(test_alloc_live(), 0);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
	static char *names[512];
	int count = 0;
	const char *folder = argc > 1 ? argv[1] : ".";
	DIR *d = opendir(folder);
	for (struct dirent *e; d && (e = readdir(d)) && count < 512;) {
		size_t n = strlen(e->d_name);
		if (n > 4 && !strcmp(e->d_name + n - 4, ".tcp") &&
		    (argc < 3 || strstr(e->d_name, argv[2])))
			names[count++] = strdup(e->d_name);
	}
	if (d)
		closedir(d);
	qsort(names, (size_t)count, sizeof *names, compare);
	for (int i = 0; i < count; i++) {
		memset(&v, 0, sizeof v);
		snprintf(v.path, sizeof v.path, "%s/%s", folder, names[i]);
		FILE *f = fopen(v.path, "r");
		test_begin(names[i]);
		if (setjmp(test_jump)) {
			wh_net_free(v.net);
			if (f)
				fclose(f);
			free(names[i]);
			continue;
		}
		CHECK(f);
		script(f);
		test_passed();
		fclose(f);
		free(names[i]);
	}
	if (!count)
		printf("no scripts in %s\n", folder);
	return count ? test_end() : 1;
}
