/* SPDX-License-Identifier: ISC */
/* UDP, and TCP with its options. */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/net_wire.h>

int wh_wire_udp_parse(const uint8_t *p, size_t size, size_t packet_size, struct wh_wire_udp *ret)
{
	if (size < WH_WIRE_UDP_SIZE)
		return -WH_EBADMSG;
	uint16_t length = wh_load_be16(p + 4);
	if (length < WH_WIRE_UDP_SIZE || length > packet_size)
		return -WH_EBADMSG;
	ret->from = wh_load_be16(p);
	ret->to = wh_load_be16(p + 2);
	ret->size = length;
	ret->has_checksum = wh_load_be16(p + 6) != 0;
	return WH_WIRE_UDP_SIZE;
}

size_t wh_wire_udp_emit(uint8_t *p, const struct wh_wire_udp *udp)
{
	wh_store_be16(p, udp->from);
	wh_store_be16(p + 2, udp->to);
	wh_store_be16(p + 4, udp->size);
	wh_store_be16(p + 6, 0);
	return WH_WIRE_UDP_SIZE;
}

enum {
	OPTION_END = 0,
	OPTION_NOP = 1,
	OPTION_MSS = 2,
	OPTION_SCALE = 3,
	OPTION_SACK_PERMITTED = 4,
	OPTION_SACK = 5,
	OPTION_TIMESTAMP = 8
};

static void sack_parse(const uint8_t *p, size_t size, struct wh_wire_tcp *t)
{
	t->sack_count = 0;
	for (size_t at = 2; at + 8 <= size && t->sack_count < WH_WIRE_TCP_SACKS_MAX; at += 8) {
		t->sack[t->sack_count].start = wh_load_be32(p + at);
		t->sack[t->sack_count].end = wh_load_be32(p + at + 4);
		t->sack_count++;
	}
}

/* An option whose length is wrong is passed over; one that runs out of the
 * header ends the list (RFC 9293, 3.1: options must be parsed defensively). */
static void options_parse(const uint8_t *p, size_t size, struct wh_wire_tcp *t)
{
	for (size_t at = 0; at < size;) {
		uint8_t kind = p[at];
		if (kind == OPTION_END)
			return;
		if (kind == OPTION_NOP) {
			at++;
			continue;
		}
		if (at + 2 > size || p[at + 1] < 2 || p[at + 1] > size - at)
			return;
		size_t length = p[at + 1];
		if (kind == OPTION_MSS && length == 4) {
			t->has_mss = true;
			t->mss = wh_load_be16(p + at + 2);
		} else if (kind == OPTION_SCALE && length == 3) {
			t->has_scale = true;
			t->scale = p[at + 2] > 14 ? 14 : p[at + 2]; /* RFC 7323, 2.3 */
		} else if (kind == OPTION_SACK_PERMITTED && length == 2) {
			t->sack_permitted = true;
		} else if (kind == OPTION_TIMESTAMP && length == 10) {
			t->has_timestamp = true;
			t->timestamp = wh_load_be32(p + at + 2);
			t->timestamp_echo = wh_load_be32(p + at + 6);
		} else if (kind == OPTION_SACK) {
			sack_parse(p + at, length, t);
		}
		at += length;
	}
}

int wh_wire_tcp_parse(const uint8_t *p, size_t size, size_t packet_size, struct wh_wire_tcp *ret)
{
	if (size < WH_WIRE_TCP_SIZE)
		return -WH_EBADMSG;
	size_t header_size = (p[12] >> 4) * 4u;
	if (header_size < WH_WIRE_TCP_SIZE || header_size > size || header_size > packet_size)
		return -WH_EBADMSG;
	struct wh_wire_tcp t = {
		.from = wh_load_be16(p),
		.to = wh_load_be16(p + 2),
		.sequence = wh_load_be32(p + 4),
		.acknowledgement = wh_load_be32(p + 8),
		.header_size = (uint8_t)header_size,
		.flags = p[13],
		.window = wh_load_be16(p + 14),
		.urgent = wh_load_be16(p + 18),
	};
	/* Almost every segment of a flow has just this: NOP NOP timestamp. */
	if (header_size == 32 && wh_load_be32(p + 20) == 0x0101080a) {
		t.has_timestamp = true;
		t.timestamp = wh_load_be32(p + 24);
		t.timestamp_echo = wh_load_be32(p + 28);
	} else if (header_size > WH_WIRE_TCP_SIZE) {
		options_parse(p + WH_WIRE_TCP_SIZE, header_size - WH_WIRE_TCP_SIZE, &t);
	}
	*ret = t;
	return (int)header_size;
}

static size_t options_emit(uint8_t *p, const struct wh_wire_tcp *t)
{
	size_t at = 0;
	if (t->has_mss) {
		p[at++] = OPTION_MSS;
		p[at++] = 4;
		wh_store_be16(p + at, t->mss);
		at += 2;
	}
	if (t->has_timestamp) {
		p[at++] = t->sack_permitted ? OPTION_SACK_PERMITTED : OPTION_NOP;
		p[at++] = t->sack_permitted ? 2 : OPTION_NOP;
		p[at++] = OPTION_TIMESTAMP;
		p[at++] = 10;
		wh_store_be32(p + at, t->timestamp);
		wh_store_be32(p + at + 4, t->timestamp_echo);
		at += 8;
	} else if (t->sack_permitted) {
		p[at++] = OPTION_NOP;
		p[at++] = OPTION_NOP;
		p[at++] = OPTION_SACK_PERMITTED;
		p[at++] = 2;
	}
	if (t->has_scale) {
		p[at++] = OPTION_NOP;
		p[at++] = OPTION_SCALE;
		p[at++] = 3;
		p[at++] = t->scale;
	}
	size_t blocks = t->sack_count, room = at + 4 <= 40 ? (40 - at - 4) / 8 : 0;
	if (blocks > room)
		blocks = room;
	if (blocks) {
		p[at++] = OPTION_NOP;
		p[at++] = OPTION_NOP;
		p[at++] = OPTION_SACK;
		p[at++] = (uint8_t)(2 + 8 * blocks);
		for (size_t i = 0; i < blocks; i++, at += 8) {
			wh_store_be32(p + at, t->sack[i].start);
			wh_store_be32(p + at + 4, t->sack[i].end);
		}
	}
	return at;
}

size_t wh_wire_tcp_emit(uint8_t *p, const struct wh_wire_tcp *tcp)
{
	wh_assert(tcp->sack_count <= WH_WIRE_TCP_SACKS_MAX);
	size_t header_size = WH_WIRE_TCP_SIZE + options_emit(p + WH_WIRE_TCP_SIZE, tcp);
	wh_assert(header_size % 4 == 0 && header_size <= WH_WIRE_TCP_SIZE_MAX);
	wh_store_be16(p, tcp->from);
	wh_store_be16(p + 2, tcp->to);
	wh_store_be32(p + 4, tcp->sequence);
	wh_store_be32(p + 8, tcp->acknowledgement);
	p[12] = (uint8_t)(header_size / 4 << 4);
	p[13] = tcp->flags;
	wh_store_be16(p + 14, tcp->window);
	wh_store_be16(p + 16, 0);
	wh_store_be16(p + 18, tcp->urgent);
	return header_size;
}
