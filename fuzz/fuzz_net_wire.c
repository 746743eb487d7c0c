/* SPDX-License-Identifier: ISC */
/* Every parser on the same bytes; what was parsed must emit and parse again alike. */
#include <wherry/net_wire.h>
#include <wherry/base/errors.h>
#include <wherry/test.h>

static void tcp(const uint8_t *p, size_t size)
{
	struct wh_wire_tcp a, b;
	uint8_t bytes[WH_WIRE_TCP_SIZE_MAX];
	int n = wh_wire_tcp_parse(p, size, size, &a);
	if (n < 0)
		return;
	CHECK((size_t)n <= size);
	size_t m = wh_wire_tcp_emit(bytes, &a);
	CHECK_EQ(wh_wire_tcp_parse(bytes, m, m, &b), (int)m);
	CHECK_EQ(a.sequence, b.sequence);
	CHECK_EQ(a.has_timestamp, b.has_timestamp);
	CHECK_EQ(a.flags, b.flags);
}

static void ip(const uint8_t *p, size_t size)
{
	struct wh_wire_ip4 a, b;
	struct wh_wire_ip6 six;
	struct wh_wire_ip6_extensions x;
	uint8_t bytes[WH_WIRE_IP4_SIZE];
	if (wh_wire_ip4_parse(p, size, size, &a) >= 0) {
		CHECK(a.total_size >= a.header_size && a.total_size <= size);
		a.total_size = WH_WIRE_IP4_SIZE;
		wh_wire_ip4_emit(bytes, &a);
		CHECK_EQ(wh_wire_ip4_parse(bytes, sizeof bytes, sizeof bytes, &b), 20);
		CHECK_EQ(a.fragment_offset, b.fragment_offset);
	}
	if (wh_wire_ip6_parse(p, size, size, &six) >= 0)
		CHECK(six.payload_size + WH_WIRE_IP6_SIZE <= size);
	int n = size ? wh_wire_ip6_extensions_parse(p + 1, size - 1, p[0], &x) : 0;
	CHECK(n < 0 || (size_t)n < size || !size);
}

static void dhcp(const uint8_t *p, size_t size)
{
	struct wh_wire_dhcp a, b;
	uint8_t bytes[WH_WIRE_DHCP_SIZE_MAX];
	if (wh_wire_dhcp_parse(p, size, &a) < 0)
		return;
	size_t n = wh_wire_dhcp_emit(bytes, &a);
	CHECK(n <= sizeof bytes);
	CHECK_EQ(wh_wire_dhcp_parse(bytes, n, &b), (int)n);
	CHECK_EQ(a.type, b.type);
	CHECK_EQ(a.transaction, b.transaction);
}

static void dns(const uint8_t *p, size_t size)
{
	struct wh_wire_dns a, b;
	struct wh_wire_dns_record r;
	uint8_t bytes[600];
	int n = wh_wire_dns_parse(p, size, &a);
	if (n < 0)
		return;
	CHECK((size_t)n <= size);
	size_t offset = a.question_end;
	for (int i = 0; i < 100 && wh_wire_dns_next(p, size, &offset, &r) == 1; i++)
		CHECK((size_t)r.data_offset + r.data_size <= size);
	a.additionals = a.answers = a.authorities = 0;
	int m = wh_wire_dns_emit(bytes, sizeof bytes, &a);
	CHECK(m > 0);
	CHECK_EQ(wh_wire_dns_parse(bytes, (size_t)m, &b), m);
	CHECK_STR(b.name, a.name);
	m = wh_wire_dns_append(bytes, (size_t)m, sizeof bytes, WH_WIRE_DNS_A, 1, "\1\2\3\4", 4);
	CHECK(m > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
	struct wh_wire_eth eth;
	struct wh_wire_arp arp;
	struct wh_wire_icmp icmp;
	struct wh_wire_neighbour neighbour;
	struct wh_wire_router_advert ra;
	struct wh_wire_udp udp;
	uint8_t bytes[WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX];
	(void)wh_wire_eth_parse(p, size, &eth);
	(void)wh_wire_arp_parse(p, size, &arp);
	(void)wh_wire_icmp_parse(p, size, &icmp);
	(void)wh_wire_neighbour_parse(p, size, &neighbour);
	(void)wh_wire_udp_parse(p, size, size, &udp);
	if (wh_wire_router_advert_parse(p, size, &ra) >= 0) {
		size_t n = wh_wire_router_advert_emit(bytes, &ra);
		CHECK_EQ(wh_wire_router_advert_parse(bytes, n, &ra), (int)n);
	}
	tcp(p, size);
	ip(p, size);
	dhcp(p, size);
	dns(p, size);
	return 0;
}
