/* SPDX-License-Identifier: ISC */
/* ICMP errors that the owner of a transparent instance has heard elsewhere, told to the peer as they are. */
#include "net_priv.h"

uint8_t wh_net_hop_limit(const struct wh_net *net)
{
	return net->hop_limit_in;
}

/* The beginning of the peer's packet; ports or echo id behind it. Returns its size. */
static size_t quote_write(uint8_t *quote, const struct wh_net_icmp_report *r)
{
	bool is4 = wh_net_ip_is4(&r->tuple.remote.ip);
	uint8_t protocol =
		r->echo ? (is4 ? WH_WIRE_PROTO_ICMP : WH_WIRE_PROTO_ICMP6) : WH_WIRE_PROTO_UDP;
	uint32_t body = r->payload_size < WH_NET_REPORT_PAYLOAD_MAX ? r->payload_size
								    : WH_NET_REPORT_PAYLOAD_MAX;
	size_t size;
	if (is4) {
		struct wh_wire_ip4 ip = { .ttl = 1,
					  .protocol = protocol,
					  .total_size = (uint16_t)(WH_WIRE_IP4_SIZE + 8 + body) };
		memcpy(ip.from, r->tuple.remote.ip.bytes + 12, 4);
		memcpy(ip.to, r->tuple.local.ip.bytes + 12, 4);
		size = wh_wire_ip4_emit(quote, &ip);
	} else {
		struct wh_wire_ip6 ip = { .hop_limit = 1,
					  .next_header = protocol,
					  .payload_size = (uint16_t)(8 + body) };
		memcpy(ip.from, r->tuple.remote.ip.bytes, 16);
		memcpy(ip.to, r->tuple.local.ip.bytes, 16);
		size = wh_wire_ip6_emit(quote, &ip);
	}
	uint8_t *p = quote + size;
	if (r->echo) {
		struct wh_wire_icmp echo = { .type = is4 ? WH_WIRE_ICMP_ECHO : WH_WIRE_ICMP6_ECHO,
					     .id = r->id,
					     .sequence = r->sequence };
		(void)wh_wire_icmp_emit(p, &echo);
	} else {
		wh_store_be16(p, r->tuple.remote.port);
		wh_store_be16(p + 2, r->tuple.local.port);
		wh_store_be32(p + 4, (8 + body) << 16); /* size, no checksum */
	}
	if (body)
		memcpy(p + 8, r->payload, body);
	return size + 8 + body;
}

int wh_net_icmp_report(struct wh_net *net, const struct wh_net_icmp_report *r)
{
	uint8_t buffer[NET_HEADROOM + WH_WIRE_ICMP_SIZE], *head = buffer + NET_HEADROOM;
	uint8_t quote[WH_WIRE_IP6_SIZE + 8 + WH_NET_REPORT_PAYLOAD_MAX];
	bool is4 = wh_net_ip_is4(&r->tuple.remote.ip);
	if (wh_net_ip_is4(&r->from) != is4 || wh_net_ip_is4(&r->tuple.local.ip) != is4)
		return -WH_EINVAL;
	struct wh_wire_icmp icmp = { .type = r->type,
				     .code = r->code,
				     .id = (uint16_t)(r->info >> 16),
				     .sequence = (uint16_t)r->info };
	struct wh_iov payload = { quote, quote_write(quote, r) };
	struct net_out o = { .head = head,
			     .head_size = (uint32_t)wh_wire_icmp_emit(head, &icmp),
			     .payload = &payload,
			     .payload_count = 1,
			     .payload_size = (uint32_t)payload.size,
			     .from = r->from,
			     .to = r->tuple.remote.ip,
			     .protocol = is4 ? WH_WIRE_PROTO_ICMP : WH_WIRE_PROTO_ICMP6,
			     .checksum_at = 2 };
	net->stats.icmp_out++;
	return net_ip_output(net, &o);
}
