/* SPDX-License-Identifier: ISC */
/* ICMP, ICMPv6 and neighbour discovery. */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/net_wire.h>

int wh_wire_icmp_parse(const uint8_t *p, size_t size, struct wh_wire_icmp *ret)
{
	if (size < WH_WIRE_ICMP_SIZE)
		return -WH_EBADMSG;
	ret->type = p[0];
	ret->code = p[1];
	ret->id = wh_load_be16(p + 4);
	ret->sequence = wh_load_be16(p + 6);
	return WH_WIRE_ICMP_SIZE;
}

size_t wh_wire_icmp_emit(uint8_t *p, const struct wh_wire_icmp *icmp)
{
	p[0] = icmp->type;
	p[1] = icmp->code;
	wh_store_be16(p + 2, 0);
	wh_store_be16(p + 4, icmp->id);
	wh_store_be16(p + 6, icmp->sequence);
	return WH_WIRE_ICMP_SIZE;
}

enum { OPTION_SOURCE = 1, OPTION_TARGET = 2, OPTION_PREFIX = 3, OPTION_MTU = 5, OPTION_DNS = 25 };

/* Next option of a neighbour discovery message: its bytes, or NULL at the end.
 * -WH_EBADMSG through *error (RFC 4861, 4.6: length 0 discards the packet). */
static const uint8_t *option_next(const uint8_t *p, size_t size, size_t *at, size_t *ret_size,
				  int *error)
{
	if (*at >= size)
		return 0;
	if (size - *at < 8 || !p[*at + 1] || p[*at + 1] * 8u > size - *at) {
		*error = -WH_EBADMSG;
		return 0;
	}
	const uint8_t *option = p + *at;
	*ret_size = option[1] * 8u;
	*at += *ret_size;
	return option;
}

int wh_wire_neighbour_parse(const uint8_t *p, size_t size, struct wh_wire_neighbour *ret)
{
	if (size < 24 ||
	    (p[0] != WH_WIRE_ICMP6_NEIGHBOUR_SOLICIT && p[0] != WH_WIRE_ICMP6_NEIGHBOUR_ADVERT))
		return -WH_EBADMSG;
	if (p[1] || p[8] == 0xff) /* code 0, target not multicast */
		return -WH_EBADMSG;
	uint8_t wanted = p[0] == WH_WIRE_ICMP6_NEIGHBOUR_SOLICIT ? OPTION_SOURCE : OPTION_TARGET;
	struct wh_wire_neighbour n = { .flags = p[4] & 0xe0 };
	memcpy(n.target, p + 8, 16);
	size_t at = 24, option_size;
	int error = 0;
	for (const uint8_t *o; (o = option_next(p, size, &at, &option_size, &error));) {
		if (o[0] == wanted && option_size == 8) {
			n.has_mac = true;
			memcpy(n.mac, o + 2, 6);
		}
	}
	if (error)
		return error;
	*ret = n;
	return (int)size;
}

size_t wh_wire_neighbour_emit(uint8_t *p, uint8_t type, const struct wh_wire_neighbour *n)
{
	wh_assert(type == WH_WIRE_ICMP6_NEIGHBOUR_SOLICIT ||
		  type == WH_WIRE_ICMP6_NEIGHBOUR_ADVERT);
	memset(p, 0, 8);
	p[0] = type;
	p[4] = n->flags;
	memcpy(p + 8, n->target, 16);
	if (!n->has_mac)
		return 24;
	p[24] = type == WH_WIRE_ICMP6_NEIGHBOUR_SOLICIT ? OPTION_SOURCE : OPTION_TARGET;
	p[25] = 1;
	memcpy(p + 26, n->mac, 6);
	return 32;
}

static void prefix_parse(const uint8_t *o, struct wh_wire_prefix *prefix)
{
	prefix->length = o[2];
	prefix->on_link = o[3] & 0x80;
	prefix->autonomous = o[3] & 0x40;
	prefix->valid_s = wh_load_be32(o + 4);
	prefix->preferred_s = wh_load_be32(o + 8);
	memcpy(prefix->prefix, o + 16, 16);
}

static void dns_parse(const uint8_t *o, size_t size, struct wh_wire_router_advert *ra)
{
	ra->dns_lifetime_s = wh_load_be32(o + 4);
	for (size_t i = 8; i + 16 <= size && ra->dns_count < WH_WIRE_NDP_DNS_MAX; i += 16)
		memcpy(ra->dns[ra->dns_count++], o + i, 16);
}

int wh_wire_router_advert_parse(const uint8_t *p, size_t size, struct wh_wire_router_advert *ret)
{
	if (size < 16 || p[0] != WH_WIRE_ICMP6_ROUTER_ADVERT || p[1])
		return -WH_EBADMSG;
	struct wh_wire_router_advert ra = { .hop_limit = p[4],
					    .managed = p[5] & 0x80,
					    .other = p[5] & 0x40,
					    .lifetime_s = wh_load_be16(p + 6) };
	size_t at = 16, option_size;
	int error = 0;
	for (const uint8_t *o; (o = option_next(p, size, &at, &option_size, &error));) {
		if (o[0] == OPTION_SOURCE && option_size == 8) {
			ra.has_mac = true;
			memcpy(ra.mac, o + 2, 6);
		} else if (o[0] == OPTION_MTU && option_size == 8) {
			ra.mtu = wh_load_be32(o + 4);
		} else if (o[0] == OPTION_PREFIX && option_size == 32 && o[2] <= 128) {
			if (ra.prefix_count < WH_WIRE_NDP_PREFIXES_MAX)
				prefix_parse(o, &ra.prefix[ra.prefix_count++]);
		} else if (o[0] == OPTION_DNS && option_size >= 24) {
			dns_parse(o, option_size, &ra);
		}
	}
	if (error)
		return error;
	*ret = ra;
	return (int)size;
}

size_t wh_wire_router_advert_emit(uint8_t *p, const struct wh_wire_router_advert *ra)
{
	wh_assert(ra->prefix_count <= WH_WIRE_NDP_PREFIXES_MAX);
	wh_assert(ra->dns_count <= WH_WIRE_NDP_DNS_MAX);
	memset(p, 0, WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX);
	p[0] = WH_WIRE_ICMP6_ROUTER_ADVERT;
	p[4] = ra->hop_limit;
	p[5] = (uint8_t)((ra->managed ? 0x80 : 0) | (ra->other ? 0x40 : 0));
	wh_store_be16(p + 6, ra->lifetime_s);
	size_t at = 16;
	if (ra->has_mac) {
		p[at] = OPTION_SOURCE;
		p[at + 1] = 1;
		memcpy(p + at + 2, ra->mac, 6);
		at += 8;
	}
	if (ra->mtu) {
		p[at] = OPTION_MTU;
		p[at + 1] = 1;
		wh_store_be32(p + at + 4, ra->mtu);
		at += 8;
	}
	for (uint32_t i = 0; i < ra->prefix_count; i++, at += 32) {
		const struct wh_wire_prefix *prefix = &ra->prefix[i];
		p[at] = OPTION_PREFIX;
		p[at + 1] = 4;
		p[at + 2] = prefix->length;
		p[at + 3] =
			(uint8_t)((prefix->on_link ? 0x80 : 0) | (prefix->autonomous ? 0x40 : 0));
		wh_store_be32(p + at + 4, prefix->valid_s);
		wh_store_be32(p + at + 8, prefix->preferred_s);
		memcpy(p + at + 16, prefix->prefix, 16);
	}
	if (ra->dns_count) {
		p[at] = OPTION_DNS;
		p[at + 1] = (uint8_t)(1 + 2 * ra->dns_count);
		wh_store_be32(p + at + 4, ra->dns_lifetime_s);
		memcpy(p + at + 8, ra->dns, 16u * ra->dns_count);
		at += 8 + 16u * ra->dns_count;
	}
	wh_assert(at <= WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX);
	return at;
}

size_t wh_wire_router_solicit_emit(uint8_t *p, const uint8_t mac[6])
{
	memset(p, 0, WH_WIRE_NDP_ROUTER_SOLICIT_SIZE);
	p[0] = WH_WIRE_ICMP6_ROUTER_SOLICIT;
	p[8] = OPTION_SOURCE;
	p[9] = 1;
	memcpy(p + 10, mac, 6);
	return WH_WIRE_NDP_ROUTER_SOLICIT_SIZE;
}
