/* SPDX-License-Identifier: ISC */
/*
 * IP, ICMP, neighbour discovery and address configuration against a wire that a test writes on;
 * and properties: fragments against a model, sequence arithmetic, sequence ranges.
 */
#include "sim.h"
#include "tcp_priv.h"

#define SENT_MAX 64

static struct {
	struct wh_net *net;
	struct wh_net_port port;
	uint64_t now, random;
	struct {
		uint8_t bytes[1600];
		uint32_t size;
	} sent[SENT_MAX];
	uint32_t sent_count;
	uint8_t got[70000];
	uint32_t got_count, got_size, configured;
} v;

static const uint8_t mac[6] = { 0x52, 0x54, 0, 0, 0, 1 }, peer_mac[6] = { 0x52, 0x54, 0, 0, 0, 2 };
static const uint8_t own4[4] = { 10, 0, 2, 1 }, peer4[4] = { 10, 0, 2, 2 };
static const uint8_t own6[16] = { 0xfd, 1, [15] = 1 }, peer6[16] = { 0xfd, 1, [15] = 2 };
static const uint8_t router6[16] = { 0xfe, 0x80, [15] = 9 };
static const uint8_t all_nodes[16] = { 0xff, 2, [15] = 1 };

static uint64_t below(uint64_t n)
{
	return wh_random_next(&v.random) % n;
}

static int port_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	if (v.sent_count == SENT_MAX)
		return 0;
	v.sent[v.sent_count].size =
		(uint32_t)wh_iov_read(f->iov, f->iov_count, 0, v.sent[v.sent_count].bytes, 1600);
	v.sent_count++;
	return 0;
}

static void on_datagram(struct wh_net_udp *u, const struct wh_net_tuple *tuple,
			const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	v.got_count++;
	v.got_size = size;
	CHECK_EQ(wh_iov_read(iov, count, 0, v.got, sizeof v.got), size);
}

static void on_configured(void *ctx)
{
	v.configured++;
}

static void begin(bool addresses)
{
	static const struct wh_net_ops ops = { .configured = on_configured };
	static const struct wh_net_udp_ops udp_ops = { .datagram = on_datagram };
	struct wh_net_config c;
	struct wh_net_ip ip4 = wh_net_ip4(own4), ip6 = wh_net_ip6(own6), peer = wh_net_ip4(peer4);
	struct wh_net_ip other = wh_net_ip6(peer6);
	struct wh_net_tuple local = { .local = { .port = 53 } };
	struct wh_net_udp *u;
	memset(&v, 0, sizeof v);
	v.random = test_seed();
	v.now = 1000 * SEC;
	sim_config(&c);
	c.ops = &ops;
	memcpy(c.mac, mac, 6);
	CHECK_EQ(wh_net_new(&c, v.now, &v.net), 0);
	CHECK_EQ(wh_net_tcp_enable(v.net), 0);
	CHECK_EQ(wh_net_udp_enable(v.net), 0);
	v.port = (struct wh_net_port){ .send = port_send, .mtu = 1500 };
	wh_net_attach(v.net, &v.port);
	if (!addresses)
		return;
	CHECK_EQ(wh_net_address_add(v.net, &ip4, 24), 0);
	CHECK_EQ(wh_net_address_add(v.net, &ip6, 64), 0);
	CHECK_EQ(wh_net_neighbour_set(v.net, &peer, peer_mac), 0);
	CHECK_EQ(wh_net_neighbour_set(v.net, &other, peer_mac), 0);
	CHECK_EQ(wh_net_udp_open(v.net, &local, 0, &udp_ops, 0, &u), 0);
}

static void end(void)
{
	wh_net_free(v.net);
	CHECK_EQ(test_alloc_live(), 0);
}

static void pass(uint64_t time)
{
	uint64_t until = v.now + time, deadline;
	while ((deadline = wh_net_run(v.net, v.now)) <= until)
		v.now = deadline > v.now ? deadline : v.now;
	v.now = until;
	(void)wh_net_run(v.net, v.now);
}

static void inject(uint8_t *frame, size_t size, bool six)
{
	struct wh_wire_eth eth = { .type = six ? WH_WIRE_ETH_IP6 : WH_WIRE_ETH_IP4 };
	memcpy(eth.to, mac, 6);
	memcpy(eth.from, peer_mac, 6);
	if (six && frame[38] == 0xff) {
		eth.to[0] = eth.to[1] = 0x33;
		memcpy(eth.to + 2, frame + 50, 4);
	}
	wh_wire_eth_emit(frame, &eth);
	struct wh_iov iov = { frame, size };
	struct wh_net_frame f = {
		.iov = &iov, .iov_count = 1, .size = (uint32_t)size, .flags = WH_NET_DATA_VALID
	};
	wh_net_time(v.net, v.now);
	CHECK_EQ(v.port.receive(&v.port, &f), 0);
	(void)wh_net_run(v.net, v.now);
}

/* A packet with `next` as next header; body is complete. */
static void inject6(const uint8_t *from, const uint8_t *to, uint8_t next, uint8_t hop_limit,
		    const void *body, size_t size)
{
	uint8_t frame[2000];
	struct wh_wire_ip6 ip = { .next_header = next,
				  .hop_limit = hop_limit,
				  .payload_size = (uint16_t)size };
	memcpy(ip.from, from, 16);
	memcpy(ip.to, to, 16);
	wh_wire_ip6_emit(frame + 14, &ip);
	memcpy(frame + 54, body, size);
	inject(frame, 54 + size, true);
}

/* An ICMPv6 message that was sent since; NULL = none of this type. */
static const uint8_t *sent6(uint8_t type)
{
	for (uint32_t i = v.sent_count; i-- > 0;) {
		const uint8_t *b = v.sent[i].bytes;
		size_t at = b[20] == 0 ? 62 : 54; /* behind hop-by-hop options */
		if (b[12] == 0x86 && b[20] == 0 && b[54] != 58)
			continue;
		if (b[12] == 0x86 && (b[20] == 58 || b[20] == 0) && b[at] == type)
			return b;
	}
	return 0;
}

static const uint8_t *sent4(uint8_t type)
{
	for (uint32_t i = v.sent_count; i-- > 0;) {
		const uint8_t *b = v.sent[i].bytes;
		if (b[12] == 8 && !b[13] && b[23] == 1 && b[34] == type)
			return b;
	}
	return 0;
}

/* ---- Fragments ---- */

static uint8_t datagram[9000];

static void fragment_inject(bool six, uint32_t id, uint32_t offset, uint32_t size, bool more)
{
	uint8_t frame[2000];
	if (six) {
		struct wh_wire_ip6 ip = { .next_header = 44,
					  .hop_limit = 64,
					  .payload_size = (uint16_t)(size + 8) };
		memcpy(ip.from, peer6, 16);
		memcpy(ip.to, own6, 16);
		wh_wire_ip6_emit(frame + 14, &ip);
		wh_wire_ip6_fragment_emit(frame + 54, 17, (uint16_t)(offset & ~7u), more, id);
		memcpy(frame + 62, datagram + offset, size);
		inject(frame, 62 + size, true);
		return;
	}
	struct wh_wire_ip4 ip = { .protocol = 17,
				  .ttl = 64,
				  .id = (uint16_t)id,
				  .fragment_offset = (uint16_t)(offset & ~7u),
				  .more_fragments = more,
				  .total_size = (uint16_t)(20 + size) };
	memcpy(ip.from, peer4, 4);
	memcpy(ip.to, own4, 4);
	wh_wire_ip4_emit(frame + 14, &ip);
	memcpy(frame + 34, datagram + offset, size);
	inject(frame, 34 + size, false);
}

static uint32_t datagram_make(bool six)
{
	uint32_t size = 16 + (uint32_t)below(sizeof datagram - 16);
	for (uint32_t i = 0; i < size; i++)
		datagram[i] = (uint8_t)below(256);
	struct wh_wire_udp udp = { .from = 7, .to = 53, .size = (uint16_t)size };
	wh_wire_udp_emit(datagram, &udp);
	const uint8_t *from = six ? peer6 : peer4, *to = six ? own6 : own4;
	uint32_t sum = wh_wire_sum_pseudo(from, to, six ? 16 : 4, 17, size);
	uint16_t value = wh_wire_sum_finish(wh_wire_sum(sum, datagram, size));
	value = value ? value : 0xffff; /* RFC 768: 0 means none */
	datagram[6] = (uint8_t)(value >> 8);
	datagram[7] = (uint8_t)value;
	return size;
}

/* Cut at random places, in random order, some pieces twice: it arrives once and whole. With one
 * piece missing or one that overlaps, never. */
static void fragments_model(void)
{
	begin(true);
	for (uint32_t round = 0; round < 3000; round++) {
		struct {
			uint32_t offset, size;
		} piece[64];
		bool six = below(2);
		uint32_t size = datagram_make(six), count = 0, at = 0, kind = (uint32_t)below(4);
		while (at < size && count < 16) {
			uint32_t n = 8 + (uint32_t)below(180) * 8;
			n = n > size - at || count == 15 ? size - at : n;
			n = n > 1400 ? 1400 : n;
			piece[count].offset = at;
			piece[count++].size = n;
			at += n;
		}
		if (at < size || count < 2)
			continue;
		for (uint32_t i = count; i > 1; i--) { /* shuffle */
			uint32_t k = (uint32_t)below(i), o = piece[k].offset, n = piece[k].size;
			piece[k] = piece[i - 1];
			piece[i - 1].offset = o;
			piece[i - 1].size = n;
		}
		v.got_count = 0;
		uint32_t odd = (uint32_t)below(count);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t end_ = piece[i].offset + piece[i].size;
			if (i == odd && kind == 1)
				continue;            /* missing */
			if (i == odd && kind == 2) { /* overlaps what comes before or after it */
				uint32_t o = piece[i].offset >= 8 ? piece[i].offset - 8 : 0;
				uint32_t n = end_ < size ? end_ + 8 - o : end_ - o;
				if (n <= 1408 && o + n <= size)
					fragment_inject(six, round, o, n, o + n < size);
			}
			fragment_inject(six, round, piece[i].offset, piece[i].size, end_ < size);
			if (i + 1 < count && kind == 3 && below(2)) /* an exact repeat */
				fragment_inject(six, round, piece[i].offset, piece[i].size,
						end_ < size);
		}
		if (kind == 1)
			CHECK_EQ(v.got_count, 0);
		if (kind == 0 || kind == 3) {
			CHECK_EQ(v.got_count, 1);
			CHECK_EQ(v.got_size, size - 8);
			CHECK_MEM(v.got, datagram + 8, size - 8);
		}
		if (v.got_count) /* what arrives is right in any case */
			CHECK_MEM(v.got, datagram + 8, size - 8);
		pass(MS);
		v.sent_count = 0;
	}
	end();
}

/* RFC 5722: one overlap, and nothing of it is delivered. */
static void fragments_overlap(void)
{
	begin(true);
	for (int six = 0; six < 2; six++) {
		uint32_t size;
		while ((size = datagram_make(six)) < 1000 || size > 1400)
			;
		fragment_inject(six, 1, 0, 504, true);
		fragment_inject(six, 1, 496, size - 496, false);
		CHECK_EQ(v.got_count, 0);
		fragment_inject(six, 1, 504, size - 504, false);
		CHECK_EQ(v.got_count, 0); /* the first one went with the overlap */
	}
	end();
}

/* RFC 792 and 4443, 3.3: told if the first fragment came. */
static void fragments_late(void)
{
	begin(true);
	(void)datagram_make(false);
	fragment_inject(false, 1, 0, 800, true);
	fragment_inject(true, 1, 0, 800, true);
	fragment_inject(false, 2, 800, 800, true);
	pass(29 * SEC);
	CHECK(!sent4(WH_WIRE_ICMP_TIME_EXCEEDED));
	pass(2 * SEC);
	const uint8_t *four = sent4(WH_WIRE_ICMP_TIME_EXCEEDED);
	const uint8_t *six = sent6(WH_WIRE_ICMP6_TIME_EXCEEDED);
	CHECK(four && six);
	CHECK_EQ(four[35], 1);
	CHECK_EQ(six[55], 1);
	CHECK_MEM(four + 42 + 12, peer4, 4); /* quotes its header */
	CHECK_EQ(six[62 + 6], 44);
	CHECK_EQ(v.sent_count, 2);
	end();
}

/* ---- RFC 8200's refusals ---- */

static void parameter_problems(void)
{
	begin(true);
	/* An option of type 0x9e: "discard and tell", then an unknown protocol. */
	uint8_t option[16] = { 59, 0, 0x9e, 4, [8] = 1 };
	inject6(peer6, own6, 60, 64, option, 8);
	const uint8_t *b = sent6(WH_WIRE_ICMP6_PARAMETER);
	CHECK(b);
	CHECK_EQ(b[55], 2);
	CHECK_EQ(wh_load_be32(b + 58), 42);
	v.sent_count = 0;
	option[2] = 0x5e; /* "discard" alone */
	inject6(peer6, own6, 60, 64, option, 8);
	CHECK_EQ(v.sent_count, 0);
	option[2] = 0x1e; /* "skip" */
	option[0] = 200;
	inject6(peer6, own6, 60, 64, option, 16);
	b = sent6(WH_WIRE_ICMP6_PARAMETER);
	CHECK(b);
	CHECK_EQ(b[55], 1);
	v.sent_count = 0;
	uint8_t routing[8] = { 59, 0, 0, 1 }; /* one segment left */
	inject6(peer6, own6, 43, 64, routing, 8);
	b = sent6(WH_WIRE_ICMP6_PARAMETER);
	CHECK(b);
	CHECK_EQ(b[55], 0);
	CHECK_EQ(wh_load_be32(b + 58), 42);
	v.sent_count = 0;
	fragment_inject(true, 1, 0, 801, true); /* not a multiple of eight */
	b = sent6(WH_WIRE_ICMP6_PARAMETER);
	CHECK(b);
	CHECK_EQ(wh_load_be32(b + 58), 4);
	end();
}

/* RFC 4443, 2.4 (f), RFC 1812 4.3.2.8: errors are rationed. */
static void errors_limited(void)
{
	uint8_t body[8] = { 1 };
	struct wh_net_stats st;
	begin(true);
	for (int i = 0; i < 2000; i++)
		inject6(peer6, own6, 200, 64, body, 8);
	wh_net_stats_get(v.net, &st);
	CHECK(st.icmp_out <= 50);
	CHECK_EQ(st.icmp_out + st.icmp_limited, 2000);
	end();
}

/* ---- Multicast ---- */

static void multicast(void)
{
	begin(true);
	uint8_t echo[8] = { 128 }, query[28] = { 130, [5] = 10 },
		group[16] = { 0xff, 2, [15] = 0x55 };
	inject6(peer6, all_nodes, 58, 64, echo, 8);
	CHECK(sent6(129));
	v.sent_count = 0;
	inject6(peer6, group, 58, 64, echo, 8); /* nobody of that group is here */
	CHECK_EQ(v.sent_count, 0);
	uint8_t udp[12] = { 0, 7, 0, 99, 0, 12, 1, 1 };
	inject6(peer6, all_nodes, 17, 64, udp, 12); /* no port: no error about a group */
	CHECK_EQ(v.sent_count, 0);
	/* A router asks who listens: one group, as our addresses end alike. */
	inject6(router6, all_nodes, 58, 1, query, 28);
	const uint8_t *b = sent6(143);
	CHECK(b);
	CHECK_EQ(b[21], 1); /* hop limit */
	CHECK_EQ(wh_load_be16(b + 62 + 6), 1);
	CHECK_EQ(b[62 + 8], 2);
	CHECK_EQ(b[62 + 8 + 4], 0xff);
	uint32_t sum = wh_wire_sum_pseudo(b + 22, b + 38, 16, 58, 28);
	CHECK_EQ(wh_wire_sum_fold(wh_wire_sum(sum, b + 62, 28)), 0xffff);
	v.sent_count = 0;
	inject6(peer6, all_nodes, 58, 1, query, 28); /* not from the link */
	inject6(router6, all_nodes, 58, 64, query, 28);
	CHECK_EQ(v.sent_count, 0);
	end();
}

/* ---- Stateless configuration ---- */

static uint8_t advert_hop_limit = 255;

static void advertise(uint16_t lifetime_s, uint32_t valid_s, uint32_t dns_lifetime_s)
{
	uint8_t b[WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX];
	struct wh_wire_router_advert ra = { .lifetime_s = lifetime_s,
					    .mtu = 1400,
					    .prefix_count = 1,
					    .prefix = { { .prefix = { 0xfd, 9 },
							  .length = 64,
							  .autonomous = true,
							  .valid_s = valid_s } },
					    .dns_count = 1,
					    .dns_lifetime_s = dns_lifetime_s };
	memcpy(ra.dns[0], peer6, 16);
	size_t n = wh_wire_router_advert_emit(b, &ra);
	inject6(router6, all_nodes, 58, advert_hop_limit, b, n);
}

static struct wh_net_ip formed(void)
{
	uint8_t ip[16] = { 0xfd, 9, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, 1 };
	return wh_net_ip6(ip);
}

static void lifetimes(void)
{
	struct wh_net_ip ip = formed(), dns[4], far = wh_net_ip6((const uint8_t[16]){ 0x20, 1 });
	begin(false);
	CHECK_EQ(wh_net_autoconf_start(v.net, "x"), 0);
	CHECK(sent6(WH_WIRE_ICMP6_ROUTER_SOLICIT) && sent6(143));
	advertise(1800, 10000, 600);
	const uint8_t *probe = sent6(WH_WIRE_ICMP6_NEIGHBOUR_SOLICIT);
	CHECK(probe); /* RFC 4862, 5.4.2: from nobody */
	CHECK_MEM(probe + 62, ip.bytes, 16);
	CHECK_EQ(probe[22] | probe[37], 0);
	CHECK(wh_net_address_own(v.net, &ip)); /* optimistic */
	CHECK_EQ(wh_net_dns_servers(v.net, dns, 4), 1);
	struct net_route r;
	CHECK_EQ(net_route(v.net, &far, &r), 0);
	CHECK_EQ(r.mtu, 1400);
	pass(601 * SEC);
	CHECK_EQ(wh_net_dns_servers(v.net, dns, 4), 0);
	CHECK_EQ(net_route(v.net, &far, &r), 0);
	pass(1200 * SEC);
	CHECK_EQ(net_route(v.net, &far, &r), -WH_ENETUNREACH);
	CHECK(wh_net_address_own(v.net, &ip));
	advertise(1800, 10, 600); /* nobody shortens it below two hours */
	pass(7100 * SEC);
	CHECK(wh_net_address_own(v.net, &ip));
	pass(200 * SEC);
	CHECK(!wh_net_address_own(v.net, &ip));
	advertise(1800, 10000, 600);
	CHECK_EQ(net_route(v.net, &far, &r), 0);
	advertise(0, 10000, 0); /* the router resigns, the name server too */
	CHECK_EQ(net_route(v.net, &far, &r), -WH_ENETUNREACH);
	CHECK_EQ(wh_net_dns_servers(v.net, dns, 4), 0);
	end();
}

static void claim(bool advert)
{
	uint8_t b[32];
	struct wh_net_ip ip = formed(), group = net_solicited_node(&ip);
	static const uint8_t none[16];
	struct wh_wire_neighbour n = { .has_mac = advert, .flags = WH_WIRE_NDP_OVERRIDE };
	memcpy(n.target, ip.bytes, 16);
	memcpy(n.mac, peer_mac, 6);
	size_t size = wh_wire_neighbour_emit(
		b, advert ? WH_WIRE_ICMP6_NEIGHBOUR_ADVERT : WH_WIRE_ICMP6_NEIGHBOUR_SOLICIT, &n);
	if (!advert)
		b[4] = 0;
	inject6(advert ? ip.bytes : none, advert ? all_nodes : group.bytes, 58, 255, b, size);
}

static void duplicate_address(void)
{
	struct wh_net_ip ip = formed();
	struct wh_net_stats st;
	for (int advert = 0; advert < 2; advert++) {
		begin(false);
		CHECK_EQ(wh_net_autoconf_start(v.net, "x"), 0);
		advertise(1800, 10000, 600);
		claim(advert);
		wh_net_stats_get(v.net, &st);
		/* An advertisement comes from the address itself, so it never passes as one. */
		CHECK_EQ(wh_net_address_own(v.net, &ip), false);
		CHECK_EQ(st.address_duplicates, 1);
		advertise(1800, 10000, 600);
		CHECK(!wh_net_address_own(v.net, &ip)); /* not tried again */
		end();
		begin(false);
		CHECK_EQ(wh_net_autoconf_start(v.net, "x"), 0);
		advertise(1800, 10000, 600);
		pass(1100 * MS); /* later it is ours, and is defended */
		v.sent_count = 0;
		claim(advert);
		CHECK(wh_net_address_own(v.net, &ip));
		CHECK(advert || sent6(WH_WIRE_ICMP6_NEIGHBOUR_ADVERT));
		end();
	}
}

/* RFC 4861, 6.1.2 and 7.1: what a router may have passed on is not believed. */
static void hop_limits(void)
{
	struct wh_net_ip ip = formed();
	begin(false);
	CHECK_EQ(wh_net_autoconf_start(v.net, "x"), 0);
	advert_hop_limit = 254;
	advertise(1800, 10000, 600);
	CHECK(!wh_net_address_own(v.net, &ip));
	advert_hop_limit = 255;
	advertise(1800, 10000, 600);
	CHECK(wh_net_address_own(v.net, &ip));
	end();
}

/* RFC 1122, 3.2.1.3; RFC 4291, 2.7: addresses that cannot be a source, and checksums. */
static void unbelievable(void)
{
	static const uint8_t sources[][4] = {
		{ 127, 0, 0, 1 }, { 10, 0, 2, 1 }, { 224, 0, 0, 1 }, { 10, 0, 2, 255 }
	};
	struct wh_net_stats st;
	begin(true);
	for (uint32_t i = 0; i <= WH_ARRAY_COUNT(sources); i++) {
		uint8_t frame[54];
		const uint8_t *from = i < WH_ARRAY_COUNT(sources) ? sources[i] : peer4;
		struct wh_wire_ip4 ip = { .protocol = 6, .ttl = 64, .total_size = 40 };
		struct wh_wire_tcp t = { .from = 1, .to = 2, .flags = WH_WIRE_TCP_SYN };
		struct wh_wire_eth eth = { .type = WH_WIRE_ETH_IP4 };
		memcpy(ip.from, from, 4);
		memcpy(ip.to, own4, 4);
		memcpy(eth.to, mac, 6);
		memcpy(eth.from, peer_mac, 6);
		wh_wire_eth_emit(frame, &eth);
		wh_wire_ip4_emit(frame + 14, &ip);
		wh_wire_tcp_emit(frame + 34, &t);
		uint32_t sum = wh_wire_sum_pseudo(from, own4, 4, 6, 20);
		uint16_t value = wh_wire_sum_finish(wh_wire_sum(sum, frame + 34, 20));
		wh_store_be16(frame + 50, (uint16_t)(value ^ (i == WH_ARRAY_COUNT(sources))));
		struct wh_iov iov = { frame, sizeof frame };
		struct wh_net_frame f = { .iov = &iov, .iov_count = 1, .size = sizeof frame };
		CHECK_EQ(v.port.receive(&v.port, &f), 0);
		pass(MS);
		CHECK_EQ(v.sent_count, 0);
	}
	wh_net_stats_get(v.net, &st);
	CHECK_EQ(st.in_martian, WH_ARRAY_COUNT(sources));
	CHECK_EQ(st.in_checksum, 1);
	end();
}

/* RFC 5227, 2.4 (b): contradicted, once in ten seconds. */
static void arp_defended(void)
{
	begin(true);
	uint8_t frame[42];
	struct wh_wire_eth eth = { .type = WH_WIRE_ETH_ARP };
	struct wh_wire_arp arp = { .op = 1 };
	memset(eth.to, 0xff, 6);
	memcpy(eth.from, peer_mac, 6);
	memcpy(arp.sender_mac, peer_mac, 6);
	memcpy(arp.sender_ip, own4, 4);
	memcpy(arp.target_ip, own4, 4);
	wh_wire_eth_emit(frame, &eth);
	wh_wire_arp_emit(frame + 14, &arp);
	struct wh_iov iov = { frame, sizeof frame };
	struct wh_net_frame f = { .iov = &iov, .iov_count = 1, .size = sizeof frame };
	for (int i = 0; i < 20; i++)
		CHECK_EQ(v.port.receive(&v.port, &f), 0);
	CHECK_EQ(v.sent_count, 1);
	CHECK_MEM(v.sent[0].bytes + 22, mac, 6);
	pass(11 * SEC);
	CHECK_EQ(v.port.receive(&v.port, &f), 0);
	CHECK_EQ(v.sent_count, 2);
	end();
}

/* RFC 4861, 7.3.3, and RFC 1122, 2.3.2.1 (2): a neighbour that was silent is asked by unicast and used meanwhile; only
 * when it does not answer are all asked. */
static void neighbours_are_probed(void)
{
	static const uint8_t silent4[4] = { 10, 0, 2, 77 }, silent6[16] = { 0xfd, 1, [15] = 77 };
	static const uint8_t their_mac[6] = { 0x52, 0x54, 0, 0, 0, 77 };
	const struct wh_net_ip both[2] = { wh_net_ip4(silent4), wh_net_ip6(silent6) };
	uint8_t found[6];
	for (int version = 0; version < 2; version++) {
		const struct wh_net_ip *ip = &both[version];
		begin(true);
		net_neighbour_learn(v.net, ip, their_mac, true);
		pass(44 * SEC);
		v.sent_count = 0;
		CHECK_EQ(net_neighbour_resolve(v.net, ip, found), 0);
		CHECK_EQ(v.sent_count, 0); /* it was heard not long ago */
		for (uint32_t i = 1; i <= 3; i++) {
			pass(2 * SEC);
			CHECK_EQ(net_neighbour_resolve(v.net, ip, found), 0);
			CHECK_EQ(net_neighbour_resolve(v.net, ip, found), 0);
			CHECK_EQ(v.sent_count, i); /* one in a second */
			CHECK_MEM(v.sent[i - 1].bytes, their_mac, 6);
			CHECK_EQ(v.sent[i - 1].bytes[12], version ? 0x86 : 0x08);
		}
		pass(2 * SEC);
		CHECK_EQ(net_neighbour_resolve(v.net, ip, found), -WH_EAGAIN);
		CHECK_EQ(v.sent_count, 4);
		CHECK(v.sent[3].bytes[0] & 1); /* all are asked now */
		net_neighbour_learn(v.net, ip, peer_mac, false);
		CHECK_EQ(net_neighbour_resolve(v.net, ip, found), 0);
		CHECK_MEM(found, peer_mac, 6);
		CHECK_EQ(v.sent_count, 4);
		/* An answer to a probe counts for another while. */
		pass(50 * SEC);
		CHECK_EQ(net_neighbour_resolve(v.net, ip, found), 0);
		CHECK_EQ(v.sent_count, 5);
		net_neighbour_learn(v.net, ip, peer_mac, false);
		pass(40 * SEC);
		CHECK_EQ(net_neighbour_resolve(v.net, ip, found), 0);
		CHECK_EQ(v.sent_count, 5);
		end();
	}
}

/* An IPv4 packet of IGMP's. */
static void igmp_query(const uint8_t *group, const uint8_t *body, size_t size, uint8_t ttl)
{
	uint8_t frame[100] = { 0 };
	struct wh_wire_ip4 ip = { .ttl = ttl, .protocol = WH_WIRE_PROTO_IGMP };
	ip.total_size = (uint16_t)(WH_WIRE_IP4_SIZE + size);
	memcpy(ip.from, peer4, 4);
	memcpy(ip.to, group, 4);
	wh_wire_ip4_emit(frame + 14, &ip);
	memcpy(frame + 34, body, size);
	wh_store_be16(frame + 36, wh_wire_sum_finish(wh_wire_sum(0, frame + 34, size)));
	inject(frame, 34 + size, false);
}

/* The IGMP message in frame `index`: its head is checked (RFC 3376, 4: TTL 1, router alert). */
static const uint8_t *igmp_sent(uint32_t index, const uint8_t to[4])
{
	const uint8_t *f = v.sent[index].bytes;
	CHECK(index < v.sent_count);
	CHECK_EQ(f[14], 0x46);
	CHECK_EQ(f[22], 1);
	CHECK_EQ(f[23], WH_WIRE_PROTO_IGMP);
	CHECK_MEM(f + 30, to, 4);
	CHECK_EQ(wh_load_be32(f + 34), 0x94040000);
	CHECK_EQ(f[0], 1);
	CHECK_EQ(wh_wire_sum_fold(wh_wire_sum(0, f + 14, 24)), 0xffff);
	CHECK_EQ(wh_wire_sum_fold(wh_wire_sum(0, f + 38, v.sent[index].size - 38)), 0xffff);
	return f + 38;
}

/* RFC 3376 (5.1, 5.2, 7.2) and RFC 2236: what is joined and left is said, and again when a router asks. */
static void groups4_are_reported(void)
{
	static const uint8_t mdns[4] = { 224, 0, 0, 251 }, other[4] = { 239, 1, 2, 3 };
	static const uint8_t routers3[4] = { 224, 0, 0, 22 }, routers2[4] = { 224, 0, 0, 2 };
	static const uint8_t all_hosts[4] = { 224, 0, 0, 1 };
	static const uint8_t query3[12] = { 0x11, 100 }, query2[8] = { 0x11, 100 };
	uint8_t specific[12] = { 0x11, 10, 0, 0, 239, 1, 2, 3 };
	const struct wh_net_ip one = wh_net_ip4(mdns), two = wh_net_ip4(other);
	const struct wh_net_ip hosts = wh_net_ip4(all_hosts), no = wh_net_ip4(peer4);
	begin(true);
	CHECK_EQ(wh_net_group_join(v.net, &no), -WH_EINVAL);
	CHECK_EQ(wh_net_group_join(v.net, &hosts), 0); /* 6: never told */
	CHECK_EQ(v.sent_count, 0);
	CHECK_EQ(wh_net_group_join(v.net, &one), 0);
	CHECK_EQ(wh_net_group_join(v.net, &one), 0); /* once for all who want it */
	CHECK_EQ(v.sent_count, 1);
	const uint8_t *p = igmp_sent(0, routers3);
	CHECK_EQ(p[0], 0x22);
	CHECK_EQ(p[7], 1);
	CHECK_EQ(p[8], 4); /* change to "exclude nobody" */
	CHECK_MEM(p + 12, mdns, 4);
	CHECK_EQ(wh_net_group_join(v.net, &two), 0);
	v.sent_count = 0;
	igmp_query(all_hosts, query3, sizeof query3, 1);
	CHECK_EQ(v.sent_count, 1);
	p = igmp_sent(0, routers3);
	CHECK_EQ(p[7], 2); /* all hosts' is not among them */
	igmp_query(other, specific, sizeof specific, 1);
	p = igmp_sent(1, routers3);
	CHECK_EQ(p[7], 1);
	CHECK_EQ(p[8], 2);
	igmp_query(all_hosts, query3, sizeof query3, 64); /* from afar */
	CHECK_EQ(v.sent_count, 2);
	v.sent_count = 0;
	CHECK_EQ(wh_net_group_leave(v.net, &one), 0);
	CHECK_EQ(v.sent_count, 0);
	CHECK_EQ(wh_net_group_leave(v.net, &one), 0);
	CHECK_EQ(v.sent_count, 1);
	CHECK_EQ(igmp_sent(0, routers3)[8], 3); /* change to "include nobody" */
	CHECK_EQ(wh_net_group_leave(v.net, &one), -WH_EADDRNOTAVAIL);
	/* A router that speaks version 2 is answered so, for a while. */
	v.sent_count = 0;
	igmp_query(all_hosts, query2, sizeof query2, 1);
	CHECK_EQ(v.sent_count, 1);
	CHECK_EQ(igmp_sent(0, other)[0], 0x16);
	CHECK_EQ(wh_net_group_leave(v.net, &two), 0);
	CHECK_EQ(igmp_sent(1, routers2)[0], 0x17);
	pass(401 * SEC);
	v.sent_count = 0;
	CHECK_EQ(wh_net_group_join(v.net, &two), 0);
	CHECK_EQ(igmp_sent(0, routers3)[0], 0x22);
	end();
}

/* RFC 3810, 5.2 and 6.1. */
static void groups6_are_reported(void)
{
	static const uint8_t group[16] = { 0xff, 5, [15] = 0x77 };
	const struct wh_net_ip ip = wh_net_ip6(group);
	begin(true);
	CHECK(!net_mld_member(v.net, &ip));
	CHECK_EQ(wh_net_group_join(v.net, &ip), 0);
	CHECK(net_mld_member(v.net, &ip));
	CHECK_EQ(v.sent_count, 1);
	const uint8_t *p = v.sent[0].bytes + 14 + 40 + 8;
	CHECK_EQ(p[0], WH_WIRE_ICMP6_MLD2_REPORT);
	CHECK_EQ(p[8], 4);
	CHECK_MEM(p + 12, group, 16);
	CHECK_EQ(wh_net_group_leave(v.net, &ip), 0);
	CHECK_EQ(v.sent_count, 2);
	CHECK_EQ(v.sent[1].bytes[14 + 40 + 8 + 8], 3);
	CHECK(!net_mld_member(v.net, &ip));
	for (uint32_t i = 0; i < WH_NET_GROUPS_MAX; i++) {
		struct wh_net_ip many = ip;
		many.bytes[14] = (uint8_t)i;
		CHECK_EQ(wh_net_group_join(v.net, &many), 0);
	}
	struct wh_net_ip last = ip;
	last.bytes[13] = 1;
	CHECK_EQ(wh_net_group_join(v.net, &last), -WH_ENOBUFS);
	end();
}

/* ---- Properties ---- */

static void sequence_arithmetic(void)
{
	v.random = test_seed();
	for (int i = 0; i < 100000; i++) {
		uint32_t a = (uint32_t)wh_random_next(&v.random);
		uint32_t d = (uint32_t)below(0x7fffffff) + 1, b = a + d;
		CHECK(tcp_before(a, b) && !tcp_before(b, a) && !tcp_before(a, a));
		CHECK_EQ(tcp_diff(b, a), (int32_t)d);
		CHECK_EQ(tcp_max(a, b), b);
		CHECK_EQ(tcp_max(b, a), b);
	}
}

/* Ranges against a map of bytes, around the wrap of the sequence space. */
static void ranges_model(void)
{
	static uint8_t map[2000];
	v.random = test_seed();
	for (int round = 0; round < 300; round++) {
		struct tcp_range r[TCP_OOO_MAX];
		uint32_t count = 0, base = 0u - (uint32_t)below(2000), cut = 0;
		memset(map, 0, sizeof map);
		for (int i = 0; i < 40; i++) {
			uint32_t start = cut + (uint32_t)below(1900 - cut), index;
			uint32_t end_ = start + 1 + (uint32_t)below(100);
			if (tcp_range_insert(r, &count, TCP_OOO_MAX, base + start, base + end_,
					     &index)) {
				memset(map + start, 1, end_ - start);
				CHECK(index < count);
			} else {
				CHECK_EQ(count, TCP_OOO_MAX);
			}
			if (!below(8)) {
				cut += (uint32_t)below(100);
				tcp_range_cut(r, &count, base + cut);
				memset(map, 0, cut);
			}
			uint32_t k = 0, at = 0;
			for (; at < sizeof map; k++) { /* the same islands in both */
				while (at < sizeof map && !map[at])
					at++;
				if (at == sizeof map)
					break;
				CHECK(k < count);
				CHECK_EQ(r[k].start - base, at);
				while (at < sizeof map && map[at])
					at++;
				CHECK_EQ(r[k].end - base, at);
			}
			CHECK_EQ(k, count);
		}
	}
}

/* The scoreboard against a map: what is SACKed, lost, sent again; whatever is done, it may forget and be
 * careful, but never claims more than was said. */
static void scoreboard_model(void)
{
	static uint8_t sacked[4000];
	static struct wh_net net;
	static struct wh_net_tcp s;
	v.random = test_seed();
	for (int round = 0; round < 400; round++) {
		uint32_t base = 0u - (uint32_t)below(4000), next = 0, una = 0;
		memset(&s, 0, sizeof s);
		memset(sacked, 0, sizeof sacked);
		s.net = &net;
		s.mss = 100;
		s.snd_una = s.snd_nxt = s.fack = base;
		s.srtt = below(2) * 1000000;
		for (int i = 0; i < 200; i++) {
			struct tcp_delivery d = { 0 };
			uint32_t a = una + (uint32_t)below(next - una + 1);
			uint32_t b = a + (uint32_t)below(next - a + 1);
			net.now += below(3) * 50000;
			switch (below(6)) {
			case 0:
			case 1:
				b = next + 1 + (uint32_t)below(100);
				if (b >= sizeof sacked)
					break;
				tcp_sent_add(&s, base + b);
				s.snd_nxt = base + (next = b);
				break;
			case 2:
				if (a == b)
					break;
				tcp_sent_sack(&s, base + a, base + b, &d);
				memset(sacked + a, 1, b - a);
				break;
			case 3:
				tcp_sent_lost(&s, base + a, base + b);
				break;
			case 4:
				if (a < b)
					tcp_sent_again(&s, base + a, base + b);
				break;
			default:
				a = una + (a - una) / 8;
				tcp_sent_ack(&s, base + a, &d);
				s.snd_una = base + (una = a);
			}
			uint32_t marked = 0, lost = 0, at = una;
			CHECK(s.sent_count <= TCP_SENT_MAX);
			for (uint32_t k = 0; k < s.sent_count; k++) {
				const struct tcp_sent *r = &s.sent[k];
				uint32_t end_ = r->end - base;
				CHECK(end_ > at && end_ <= next);
				for (; at < end_; at++) {
					marked += r->flags == TCP_SACKED;
					lost += (r->flags & TCP_LOST) != 0;
					CHECK(!(r->flags & TCP_SACKED) || sacked[at]);
				}
			}
			CHECK_EQ(at, next);
			CHECK_EQ(s.sacked_bytes, marked);
			CHECK_EQ(s.lost_bytes, lost);
		}
	}
}

int main(void)
{
	RUN(fragments_model);
	RUN(fragments_overlap);
	RUN(fragments_late);
	RUN(parameter_problems);
	RUN(errors_limited);
	RUN(multicast);
	RUN(lifetimes);
	RUN(duplicate_address);
	RUN(hop_limits);
	RUN(unbelievable);
	RUN(arp_defended);
	RUN(neighbours_are_probed);
	RUN(groups4_are_reported);
	RUN(groups6_are_reported);
	RUN(sequence_arithmetic);
	RUN(ranges_model);
	RUN(scoreboard_model);
	return test_end();
}
