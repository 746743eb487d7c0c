/* SPDX-License-Identifier: ISC */
/* Parsers at the end of mapped memory, cut at every length; emitters against bytes by hand. */
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/net_wire.h>
#include <wherry/test.h>

static uint16_t plain_sum(const uint8_t *p, size_t size)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < size; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void checksums(void)
{
	uint64_t state = test_seed();
	for (size_t size = 0; size < 300; size++) {
		uint8_t *p = test_guarded(size);
		for (size_t i = 0; i < size; i++)
			p[i] = (uint8_t)wh_random_next(&state);
		CHECK_EQ(wh_wire_sum_fold(wh_wire_sum(0, p, size)), plain_sum(p, size));
		/* In three scattered pieces, from an offset. */
		size_t a = size ? wh_random_next(&state) % size : 0;
		size_t b = a + (size > a ? wh_random_next(&state) % (size - a) : 0);
		struct wh_iov iov[3] = { { p, a }, { p + a, b - a }, { p + b, size - b } };
		size_t skip = size / 3;
		CHECK_EQ(wh_wire_sum_fold(wh_wire_sum_iov(0, iov, 3, skip, size - skip)),
			 plain_sum(p + skip, size - skip));
		test_guarded_free(p, size);
	}
}

/* Every prefix of a good message: refused or parsed, never read past. */
#define PREFIXES(bytes, call)                                  \
	for (size_t size = 0; size <= sizeof(bytes); size++) { \
		uint8_t *p = test_guarded(size);               \
		memcpy(p, bytes, size);                        \
		int got = call;                                \
		CHECK(got >= 0 || got == -WH_EBADMSG);         \
		CHECK(got <= (int)size);                       \
		test_guarded_free(p, size);                    \
	}

static void link_layer(void)
{
	uint8_t b[WH_WIRE_ARP_SIZE];
	struct wh_wire_arp in = { .op = 1,
				  .sender_mac = { 1, 2, 3, 4, 5, 6 },
				  .sender_ip = { 10, 0, 2, 15 },
				  .target_ip = { 10, 0, 2, 2 } },
			   out;
	struct wh_wire_eth eth;
	CHECK_EQ(wh_wire_arp_emit(b, &in), sizeof b);
	PREFIXES(b, wh_wire_arp_parse(p, size, &out))
	PREFIXES(b, wh_wire_eth_parse(p, size, &eth))
	CHECK(wh_wire_arp_parse(b, sizeof b, &out) == sizeof b);
	CHECK_MEM(&in, &out, sizeof in);
	b[1] = 6; /* not Ethernet */
	CHECK_EQ(wh_wire_arp_parse(b, sizeof b, &out), -WH_EBADMSG);
}

static void ip4(void)
{
	uint8_t b[40] = { 0 };
	struct wh_wire_ip4 in = { .ttl = 64,
				  .protocol = 17,
				  .total_size = 40,
				  .id = 0x1234,
				  .dont_fragment = true,
				  .from = { 1, 2, 3, 4 },
				  .to = { 5, 6, 7, 8 } },
			   out;
	CHECK_EQ(wh_wire_ip4_emit(b, &in), 20);
	PREFIXES(b, wh_wire_ip4_parse(p, size, size, &out))
	CHECK_EQ(wh_wire_ip4_parse(b, 20, 40, &out), 20);
	CHECK_EQ(out.id, 0x1234);
	CHECK(out.dont_fragment && !out.more_fragments);
	CHECK_EQ(wh_wire_ip4_parse(b, 40, 39, &out), -WH_EBADMSG);
	b[8]--;
	CHECK_EQ(wh_wire_ip4_parse(b, 40, 40, &out), -WH_EBADMSG); /* checksum */
	in.fragment_offset = 65512; /* behind the end of any packet */
	wh_wire_ip4_emit(b, &in);
	CHECK_EQ(wh_wire_ip4_parse(b, 40, 40, &out), 20);
	in.total_size = 60;
	wh_wire_ip4_emit(b, &in);
	CHECK_EQ(wh_wire_ip4_parse(b, 40, 60, &out), -WH_EBADMSG);
}

static void ip6(void)
{
	static const uint8_t chain[] = { 60, 0, 5, 2, 0, 0, 1, 0, /* hop-by-hop: router alert */
					 44, 0, 1, 4, 0, 0, 0, 0, /* destination: PadN */
					 6,  0, 0, 1, 0, 0, 0, 9, /* fragment, first */
					 1,  2, 3, 4 };
	uint8_t b[40];
	struct wh_wire_ip6 in = { .next_header = 6, .payload_size = 0, .flow = 0x12345 }, out;
	struct wh_wire_ip6_extensions x;
	wh_wire_ip6_emit(b, &in);
	PREFIXES(b, wh_wire_ip6_parse(p, size, size, &out))
	PREFIXES(chain, wh_wire_ip6_extensions_parse(p, size, 0, &x))
	CHECK_EQ(wh_wire_ip6_extensions_parse(chain, sizeof chain, 0, &x), 24);
	CHECK_EQ(x.protocol, 6);
	CHECK(x.fragment && x.more_fragments && !x.routed);
	CHECK_EQ(x.fragment_id, 9);
	CHECK_EQ(x.previous_next, 8);
	uint8_t many[8 * 12];
	for (size_t i = 0; i < sizeof many; i += 8)
		memcpy(many + i, "\x3c\0\1\4\0\0\0\0", 8);
	CHECK_EQ(wh_wire_ip6_extensions_parse(many, sizeof many, 60, &x), -WH_EBADMSG);
}

static void tcp_options(void)
{
	uint8_t b[WH_WIRE_TCP_SIZE_MAX] = { 0 };
	struct wh_wire_tcp in = { .from = 1,
				  .to = 2,
				  .sequence = 3,
				  .acknowledgement = 4,
				  .window = 5,
				  .flags = WH_WIRE_TCP_SYN,
				  .has_mss = true,
				  .mss = 1460,
				  .has_scale = true,
				  .scale = 7,
				  .sack_permitted = true,
				  .has_timestamp = true,
				  .timestamp = 77,
				  .timestamp_echo = 78 },
			   out;
	size_t n = wh_wire_tcp_emit(b, &in);
	CHECK_EQ(n, 40);
	PREFIXES(b, wh_wire_tcp_parse(p, size, size, &out))
	CHECK_EQ(wh_wire_tcp_parse(b, n, n, &out), (int)n);
	CHECK(out.has_mss && out.mss == 1460 && out.scale == 7 && out.sack_permitted);
	CHECK_EQ(out.timestamp_echo, 78);
	in = (struct wh_wire_tcp){ .has_timestamp = true, .sack_count = 4 };
	for (uint32_t i = 0; i < 4; i++)
		in.sack[i].start = i * 10, in.sack[i].end = i * 10 + 5;
	n = wh_wire_tcp_emit(b, &in);
	CHECK_EQ(wh_wire_tcp_parse(b, n, n, &out), (int)n);
	CHECK_EQ(out.sack_count, 3); /* the fourth does not fit beside a timestamp */
	CHECK_EQ(out.sack[2].end, 25);
	/* Lengths that lie. */
	static const uint8_t bad[][4] = { { 2, 0, 0, 0 }, { 2, 200, 0, 0 }, { 8, 1, 1, 1 }, { 2 } };
	for (size_t i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		memset(b, 0, sizeof b);
		b[12] = 6 << 4;
		memcpy(b + 20, bad[i], 4);
		CHECK_EQ(wh_wire_tcp_parse(b, 24, 24, &out), 24);
		CHECK(!out.has_mss && !out.has_timestamp);
	}
	b[12] = 4 << 4;
	CHECK_EQ(wh_wire_tcp_parse(b, 24, 24, &out), -WH_EBADMSG);
}

static void udp(void)
{
	uint8_t b[12] = { 0 };
	struct wh_wire_udp in = { .from = 1, .to = 2, .size = 12 }, out;
	wh_wire_udp_emit(b, &in);
	PREFIXES(b, wh_wire_udp_parse(p, size, size, &out))
	b[5] = 7;
	CHECK_EQ(wh_wire_udp_parse(b, 12, 12, &out), -WH_EBADMSG);
}

static void ndp(void)
{
	uint8_t b[WH_WIRE_NDP_SOLICIT_SIZE], r[WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX];
	struct wh_wire_neighbour in = { .target = { 0xfd }, .has_mac = true, .mac = { 2 } }, out;
	struct wh_wire_router_advert ra = { .hop_limit = 64,
					    .lifetime_s = 1800,
					    .mtu = 1500,
					    .has_mac = true,
					    .prefix_count = 1,
					    .prefix = { { .prefix = { 0xfd, 7 },
							  .length = 64,
							  .on_link = true,
							  .autonomous = true,
							  .valid_s = 100,
							  .preferred_s = 50 } },
					    .dns_count = 2,
					    .dns_lifetime_s = 9 },
				     back;
	wh_wire_neighbour_emit(b, WH_WIRE_ICMP6_NEIGHBOUR_SOLICIT, &in);
	PREFIXES(b, wh_wire_neighbour_parse(p, size, &out))
	CHECK_EQ(wh_wire_neighbour_parse(b, sizeof b, &out), (int)sizeof b);
	CHECK(out.has_mac && out.mac[0] == 2);
	b[25] = 0; /* option of length 0 */
	CHECK_EQ(wh_wire_neighbour_parse(b, sizeof b, &out), -WH_EBADMSG);
	size_t n = wh_wire_router_advert_emit(r, &ra);
	for (size_t size = 0; size <= n; size++) {
		uint8_t *p = test_guarded(size);
		memcpy(p, r, size);
		(void)wh_wire_router_advert_parse(p, size, &back);
		test_guarded_free(p, size);
	}
	CHECK_EQ(wh_wire_router_advert_parse(r, n, &back), (int)n);
	CHECK_MEM(&ra, &back, sizeof ra);
}

static void dhcp(void)
{
	uint8_t b[WH_WIRE_DHCP_SIZE_MAX];
	struct wh_wire_dhcp in = { .op = 2,
				   .type = WH_WIRE_DHCP_ACK,
				   .transaction = 99,
				   .your_ip = { 10, 0, 2, 15 },
				   .server_id = { 10, 0, 2, 2 },
				   .netmask = { 255, 255, 255 },
				   .lease_s = 3600,
				   .mtu = 1500,
				   .router_count = 1,
				   .router = { { 10, 0, 2, 2 } },
				   .dns_count = 2,
				   .dns = { { 10, 0, 2, 3 }, { 9, 9, 9, 9 } },
				   .hostname = "guest",
				   .domain = "example.org" },
			    out;
	size_t n = wh_wire_dhcp_emit(b, &in);
	for (size_t size = 0; size <= n; size++) {
		uint8_t *p = test_guarded(size);
		memcpy(p, b, size);
		(void)wh_wire_dhcp_parse(p, size, &out);
		test_guarded_free(p, size);
	}
	CHECK_EQ(wh_wire_dhcp_parse(b, n, &out), (int)n);
	CHECK_MEM(&in, &out, sizeof in);
}

static void dns(void)
{
	uint8_t b[512];
	struct wh_wire_dns in = { .id = 7,
				  .recursion_desired = true,
				  .questions = 1,
				  .name = "WWW.Example.org",
				  .type = WH_WIRE_DNS_A,
				  .class_ = WH_WIRE_DNS_IN },
			   out;
	struct wh_wire_dns_record record;
	int n = wh_wire_dns_emit(b, sizeof b, &in);
	CHECK(n > 0);
	for (int size = 0; size < n; size++)
		CHECK_EQ(wh_wire_dns_emit(b, (size_t)size, &in), -WH_ENOSPC);
	CHECK_EQ(wh_wire_dns_emit(b, sizeof b, &in), n);
	CHECK_EQ(wh_wire_dns_parse(b, (size_t)n, &out), n);
	CHECK_STR(out.name, "www.example.org");
	int m = wh_wire_dns_append(b, (size_t)n, sizeof b, WH_WIRE_DNS_A, 60, "\x7f\0\0\1", 4);
	CHECK_EQ(m, n + 16);
	size_t offset = out.question_end;
	CHECK_EQ(wh_wire_dns_next(b, (size_t)m, &offset, &record), 1);
	CHECK_STR(record.name, "www.example.org");
	CHECK_EQ(record.data_size, 4);
	CHECK_EQ(wh_wire_dns_next(b, (size_t)m, &offset, &record), 0);
	for (int size = 0; size <= m; size++) {
		uint8_t *p = test_guarded((size_t)size);
		memcpy(p, b, (size_t)size);
		(void)wh_wire_dns_parse(p, (size_t)size, &out);
		test_guarded_free(p, (size_t)size);
	}
	static const char *const wrong[] = { "a..b", ".a", "a.." };
	for (size_t i = 0; i < WH_ARRAY_COUNT(wrong); i++)
		CHECK_EQ(wh_wire_dns_name_emit(b, sizeof b, wrong[i]), -WH_EINVAL);
	/* A name that points to itself. */
	static const uint8_t loop[] = { 0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1 };
	CHECK_EQ(wh_wire_dns_parse(loop, sizeof loop, &out), -WH_EBADMSG);
}

int main(void)
{
	RUN(checksums);
	RUN(link_layer);
	RUN(ip4);
	RUN(ip6);
	RUN(tcp_options);
	RUN(udp);
	RUN(ndp);
	RUN(dhcp);
	RUN(dns);
	return test_end();
}
