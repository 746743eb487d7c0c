/* SPDX-License-Identifier: ISC */
/* IPv4, IPv6 and its extension headers. */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/net_wire.h>

int wh_wire_ip4_parse(const uint8_t *p, size_t size, size_t packet_size, struct wh_wire_ip4 *ret)
{
	if (size < WH_WIRE_IP4_SIZE || p[0] >> 4 != 4)
		return -WH_EBADMSG;
	size_t header_size = (p[0] & 15u) * 4u;
	uint16_t total_size = wh_load_be16(p + 2);
	if (header_size < WH_WIRE_IP4_SIZE || header_size > size || total_size < header_size ||
	    total_size > packet_size)
		return -WH_EBADMSG;
	uint16_t fragment = wh_load_be16(p + 6);
	uint32_t offset = (fragment & 0x1fffu) * 8u;
	if (offset + total_size - header_size > 65535)
		return -WH_EBADMSG; /* reassembles to more than a packet: "ping of death" */
	if (wh_wire_sum_fold(wh_wire_sum(0, p, header_size)) != 0xffff)
		return -WH_EBADMSG;
	ret->header_size = (uint8_t)header_size;
	ret->tos = p[1];
	ret->total_size = total_size;
	ret->id = wh_load_be16(p + 4);
	ret->fragment_offset = (uint16_t)offset;
	ret->dont_fragment = fragment & 0x4000;
	ret->more_fragments = fragment & 0x2000;
	ret->ttl = p[8];
	ret->protocol = p[9];
	memcpy(ret->from, p + 12, 4);
	memcpy(ret->to, p + 16, 4);
	return (int)header_size;
}

size_t wh_wire_ip4_emit(uint8_t *p, const struct wh_wire_ip4 *ip)
{
	wh_assert(ip->fragment_offset % 8 == 0);
	p[0] = 0x45;
	p[1] = ip->tos;
	wh_store_be16(p + 2, ip->total_size);
	wh_store_be16(p + 4, ip->id);
	wh_store_be16(p + 6,
		      (uint16_t)((ip->dont_fragment ? 0x4000 : 0) |
				 (ip->more_fragments ? 0x2000 : 0) | ip->fragment_offset / 8));
	p[8] = ip->ttl;
	p[9] = ip->protocol;
	wh_store_be16(p + 10, 0);
	memcpy(p + 12, ip->from, 4);
	memcpy(p + 16, ip->to, 4);
	wh_store_be16(p + 10, wh_wire_sum_finish(wh_wire_sum(0, p, WH_WIRE_IP4_SIZE)));
	return WH_WIRE_IP4_SIZE;
}

int wh_wire_ip6_parse(const uint8_t *p, size_t size, size_t packet_size, struct wh_wire_ip6 *ret)
{
	if (size < WH_WIRE_IP6_SIZE || p[0] >> 4 != 6)
		return -WH_EBADMSG;
	uint16_t payload_size = wh_load_be16(p + 4);
	if (WH_WIRE_IP6_SIZE + (size_t)payload_size > packet_size)
		return -WH_EBADMSG;
	uint32_t first = wh_load_be32(p);
	ret->traffic_class = (uint8_t)(first >> 20);
	ret->flow = first & 0xfffff;
	ret->payload_size = payload_size;
	ret->next_header = p[6];
	ret->hop_limit = p[7];
	memcpy(ret->from, p + 8, 16);
	memcpy(ret->to, p + 24, 16);
	return WH_WIRE_IP6_SIZE;
}

size_t wh_wire_ip6_emit(uint8_t *p, const struct wh_wire_ip6 *ip)
{
	wh_store_be32(p, 6u << 28 | (uint32_t)ip->traffic_class << 20 | (ip->flow & 0xfffff));
	wh_store_be16(p + 4, ip->payload_size);
	p[6] = ip->next_header;
	p[7] = ip->hop_limit;
	memcpy(p + 8, ip->from, 16);
	memcpy(p + 24, ip->to, 16);
	return WH_WIRE_IP6_SIZE;
}

/* Options of a hop-by-hop or destination header (RFC 8200, 4.2): only whether one
 * asks for the packet to be dropped. */
static int options_parse(const uint8_t *p, size_t size, uint8_t *ret_unknown, size_t *ret_at)
{
	for (size_t at = 2; at < size;) {
		if (p[at] == 0) { /* Pad1 */
			at++;
			continue;
		}
		if (at + 2 > size || at + 2 + p[at + 1] > size)
			return -WH_EBADMSG;
		/* Known and harmless: PadN 1, router alert 5, jumbo would be 0xc2. */
		if (p[at] >> 6 && !*ret_unknown) {
			*ret_unknown = (uint8_t)(p[at] >> 6);
			*ret_at = at;
		}
		at += 2u + p[at + 1];
	}
	return 0;
}

#define EXTENSIONS_MAX 8 /* real packets have at most three; bounds the work per packet */

int wh_wire_ip6_extensions_parse(const uint8_t *p, size_t size, uint8_t next_header,
				 struct wh_wire_ip6_extensions *ret)
{
	struct wh_wire_ip6_extensions e = { .protocol = next_header, .previous_next = 0xffff };
	size_t at = 0, next_at = 0xffff;
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		if (e.protocol != 0 && e.protocol != 43 && e.protocol != 44 && e.protocol != 60) {
			*ret = e;
			return (int)at;
		}
		if (size - at < 8)
			return -WH_EBADMSG;
		if (e.protocol == 0 && at) /* hop-by-hop only at the front */
			return -WH_EBADMSG;
		if (e.protocol == 44) {
			if (e.fragment)
				return -WH_EBADMSG;
			e.fragment = true;
			e.fragment_header = (uint16_t)at;
			e.previous_next = (uint16_t)next_at;
			e.protocol = p[at];
			e.fragment_offset = wh_load_be16(p + at + 2) & 0xfff8;
			e.more_fragments = p[at + 3] & 1;
			e.fragment_id = wh_load_be32(p + at + 4);
			next_at = at;
			at += 8;
			if (e.fragment_offset) {
				*ret = e;
				return (int)at;
			}
			continue;
		}
		size_t length = (p[at + 1] + 1u) * 8u;
		if (length > size - at)
			return -WH_EBADMSG;
		size_t problem = 2;
		if (e.protocol == 43)
			e.routed |= p[at + 3] != 0;
		else if (options_parse(p + at, length, &e.unknown_option, &problem))
			return -WH_EBADMSG;
		if (!e.problem_at && (e.routed || e.unknown_option))
			e.problem_at = (uint16_t)(at + problem);
		e.protocol = p[at];
		next_at = at;
		at += length;
	}
	return -WH_EBADMSG;
}

size_t wh_wire_ip6_fragment_emit(uint8_t *p, uint8_t next_header, uint16_t offset, bool more,
				 uint32_t id)
{
	wh_assert(offset % 8 == 0);
	p[0] = next_header;
	p[1] = 0;
	wh_store_be16(p + 2, (uint16_t)(offset | (more ? 1 : 0)));
	wh_store_be32(p + 4, id);
	return WH_WIRE_IP6_FRAGMENT_SIZE;
}
