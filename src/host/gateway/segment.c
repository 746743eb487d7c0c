/* SPDX-License-Identifier: ISC */
/*
 * Checksums and the segmentation of TCP and UDP that one guest has left undone and another cannot take (virtio 1.2, 5.1.6.2). The
 * gateway itself never sends such frames to a link without these features.
 */
#include "segment.h"

#include <string.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/net.h>
#include <wherry/net_wire.h>

#define ETHERNET 14u
#define HEADERS_MAX (ETHERNET + 60u + 60u)

enum { FLAGS = 13, FIN_PSH = 0x09, CWR = 0x80 };

struct segments {
	uint8_t headers[HEADERS_MAX];
	uint32_t ip, transport, size; /* where they begin; size of all headers */
	bool is4, udp;
};

static int checksum_put(const struct wh_net_frame *f, uint8_t *bytes)
{
	if (f->csum_start + (uint32_t)f->csum_offset + 2u > f->size)
		return -WH_EINVAL;
	/* The field holds the pseudo header's sum. */
	uint16_t sum =
		wh_wire_sum_finish(wh_wire_sum(0, bytes + f->csum_start, f->size - f->csum_start));
	wh_store_be16(bytes + f->csum_start + f->csum_offset, sum ? sum : 0xffff);
	return 0;
}

/* Finds the headers of a large TCP segment, or of several datagrams in one. */
static int headers_find(const struct wh_net_frame *f, const uint8_t *p, struct segments *s)
{
	if (f->size < ETHERNET + 40)
		return -WH_EINVAL;
	s->ip = ETHERNET;
	const uint8_t *ip = p + s->ip;
	s->udp = f->gso_type == WH_NET_GSO_UDP_L4;
	s->is4 = s->udp ? ip[0] >> 4 == 4 : f->gso_type == WH_NET_GSO_TCPV4;
	uint8_t protocol = s->udp ? WH_WIRE_PROTO_UDP : WH_WIRE_PROTO_TCP;
	if (s->is4 && (ip[0] >> 4 != 4 || (ip[0] & 15) < 5 || ip[9] != protocol))
		return -WH_EINVAL;
	if (!s->is4 && (ip[0] >> 4 != 6 || ip[6] != protocol))
		return -WH_EINVAL;
	s->transport = s->ip + (s->is4 ? (ip[0] & 15) * 4u : 40u);
	s->size = s->transport + WH_WIRE_UDP_SIZE;
	if (s->udp)
		return f->size < s->size ||
				       (f->size - s->size) / f->gso_size > WH_NET_UDP_SEGMENTS_MAX
			       ? -WH_EINVAL
			       : 0;
	if (f->size < s->transport + 20)
		return -WH_EINVAL;
	uint32_t tcp_size = (p[s->transport + 12] >> 4) * 4u;
	s->size = s->transport + tcp_size;
	return tcp_size < 20 || f->size < s->size ? -WH_EINVAL : 0;
}

/* Headers of the segment with these payload bytes. */
static void headers_make(struct segments *s, const uint8_t *from, uint32_t index, uint32_t offset,
			 const uint8_t *payload, uint32_t size, bool last)
{
	uint8_t *h = s->headers, *ip = h + s->ip, *transport = h + s->transport;
	uint32_t whole = s->size - s->transport + size; /* of the transport */
	uint8_t protocol = s->udp ? WH_WIRE_PROTO_UDP : WH_WIRE_PROTO_TCP;
	uint32_t checksum = s->udp ? WH_WIRE_UDP_CHECKSUM_AT : WH_WIRE_TCP_CHECKSUM_AT;
	memcpy(h, from, s->size);
	if (s->is4) {
		wh_store_be16(ip + 2, (uint16_t)(s->size - s->ip + size));
		wh_store_be16(ip + 4, (uint16_t)(wh_load_be16(ip + 4) + index));
		wh_store_be16(ip + 10, 0);
		wh_store_be16(ip + 10,
			      wh_wire_sum_finish(wh_wire_sum(0, ip, s->transport - s->ip)));
	} else {
		wh_store_be16(ip + 4, (uint16_t)whole);
	}
	if (s->udp) {
		wh_store_be16(transport + 4, (uint16_t)whole);
	} else {
		wh_store_be32(transport + 4, wh_load_be32(transport + 4) + offset);
		if (!last)
			transport[FLAGS] &= (uint8_t)~FIN_PSH;
		if (offset)
			transport[FLAGS] &= (uint8_t)~CWR;
	}
	wh_store_be16(transport + checksum, 0);
	uint32_t sum = s->is4 ? wh_wire_sum_pseudo(ip + 12, ip + 16, 4, protocol, whole)
			      : wh_wire_sum_pseudo(ip + 8, ip + 24, 16, protocol, whole);
	sum = wh_wire_sum(sum, transport, s->size - s->transport);
	/* The payload begins at an even place: the headers are multiples of four. */
	uint16_t value = wh_wire_sum_finish(wh_wire_sum(sum, payload, size));
	wh_store_be16(transport + checksum, !value && s->udp ? 0xffff : value);
}

int segment_finish(const struct wh_net_frame *frame, uint8_t *scratch,
		   void (*emit)(void *ctx, const struct wh_net_frame *frame), void *ctx)
{
	struct segments s;
	struct wh_iov iov[2] = { { scratch, frame->size } };
	struct wh_net_frame out = { .iov = iov, .iov_count = 1, .size = frame->size };
	if (frame->size > WH_NET_FRAME_SIZE_MAX)
		return -WH_EINVAL;
	wh_iov_read(frame->iov, frame->iov_count, 0, scratch, frame->size);
	if (frame->gso_type == WH_NET_GSO_NONE) {
		int error = frame->flags & WH_NET_NEEDS_CSUM ? checksum_put(frame, scratch) : 0;
		if (!error)
			emit(ctx, &out);
		return error;
	}
	if ((frame->gso_type != WH_NET_GSO_TCPV4 && frame->gso_type != WH_NET_GSO_TCPV6 &&
	     frame->gso_type != WH_NET_GSO_UDP_L4) ||
	    !frame->gso_size || headers_find(frame, scratch, &s))
		return -WH_EINVAL;
	uint32_t left = frame->size - s.size, offset = 0, index = 0;
	do {
		uint32_t n = left < frame->gso_size ? left : frame->gso_size;
		uint8_t *payload = scratch + s.size + offset;
		headers_make(&s, scratch, index++, offset, payload, n, n == left);
		iov[0] = (struct wh_iov){ s.headers, s.size };
		iov[1] = (struct wh_iov){ payload, n };
		out.iov_count = n ? 2 : 1;
		out.size = s.size + n;
		emit(ctx, &out);
		offset += n;
		left -= n;
	} while (left);
	return 0;
}
