/* SPDX-License-Identifier: ISC */
/*
 * IP and Ethernet out. The transport header sits in a small buffer with room in
 * front; the payload is only referred to. Checksums and segments are left to
 * the link where it takes them.
 */
#include "net_priv.h"

#define IOV_MAX_ (WH_NET_FRAME_IOV_MAX - 1u)

int net_eth_output(struct wh_net *net, const uint8_t to[6], uint16_t type, uint8_t *head,
		   uint32_t head_size, const struct wh_iov *payload, uint32_t count,
		   struct wh_net_frame *offload)
{
	struct wh_net_frame plain = { 0 }, *frame = offload ? offload : &plain;
	struct wh_iov iov[WH_NET_FRAME_IOV_MAX];
	wh_assert(count <= IOV_MAX_);
	if (!net->port)
		return -WH_ENETDOWN;
	struct wh_wire_eth eth = { .type = type };
	memcpy(eth.to, to, 6);
	memcpy(eth.from, net->config.mac, 6);
	head -= WH_WIRE_ETH_SIZE;
	head_size += (uint32_t)wh_wire_eth_emit(head, &eth);
	iov[0] = (struct wh_iov){ head, head_size };
	frame->iov = iov;
	frame->iov_count = 1;
	frame->size = head_size;
	for (uint32_t i = 0; i < count; i++) {
		if (!payload[i].size)
			continue;
		iov[frame->iov_count++] = payload[i];
		frame->size += (uint32_t)payload[i].size;
	}
	int error = net->port->send(net->port, frame);
	if (error == -WH_EAGAIN) {
		net->stats.out_blocked++;
		return error;
	}
	if (error) {
		net->stats.out_errors++;
		return 0; /* a lost frame, as on any wire */
	}
	net->sent = true;
	net->stats.frames_out++;
	net->stats.bytes_out += frame->size;
	if (net->config.ops->tap)
		net->config.ops->tap(net->config.ctx, true, frame);
	return 0;
}

/* Writes the IP header in front of `head`, returns its start. */
static uint8_t *ip_emit(struct wh_net *net, const struct net_out *o, uint8_t *head,
			uint32_t payload_size, const struct wh_wire_ip4 *fragment)
{
	uint8_t hop_limit = o->hop_limit ? o->hop_limit : net->config.hop_limit;
	if (wh_net_ip_is4(&o->to)) {
		struct wh_wire_ip4 ip = { .tos = o->tos,
					  .ttl = hop_limit,
					  .protocol = o->protocol,
					  .dont_fragment = o->dont_fragment };
		if (fragment)
			ip.id = fragment->id, ip.fragment_offset = fragment->fragment_offset,
			ip.more_fragments = fragment->more_fragments;
		else if (!o->dont_fragment) /* RFC 6864: an atomic datagram needs none */
			ip.id = ++net->ip4_id;
		if (o->gso_type == WH_NET_GSO_UDP_L4) /* whoever cuts counts on from there */
			net->ip4_id += (uint16_t)(o->payload_size / o->gso_size);
		ip.total_size = (uint16_t)(WH_WIRE_IP4_SIZE + payload_size);
		memcpy(ip.from, o->from.bytes + 12, 4);
		memcpy(ip.to, o->to.bytes + 12, 4);
		head -= WH_WIRE_IP4_SIZE;
		wh_wire_ip4_emit(head, &ip);
		return head;
	}
	struct wh_wire_ip6 ip = { .traffic_class = o->tos,
				  .next_header = fragment ? 44 : o->protocol,
				  .hop_limit = hop_limit,
				  .payload_size = (uint16_t)payload_size };
	memcpy(ip.from, o->from.bytes, 16);
	memcpy(ip.to, o->to.bytes, 16);
	head -= WH_WIRE_IP6_SIZE;
	wh_wire_ip6_emit(head, &ip);
	return head;
}

static uint32_t pseudo(const struct net_out *o, uint32_t size)
{
	if (wh_net_ip_is4(&o->to)) {
		if (o->protocol == WH_WIRE_PROTO_ICMP)
			return 0;
		return wh_wire_sum_pseudo(o->from.bytes + 12, o->to.bytes + 12, 4, o->protocol,
					  size);
	}
	return wh_wire_sum_pseudo(o->from.bytes, o->to.bytes, 16, o->protocol, size);
}

/* Fills in the transport checksum, or prepares it for the link. */
static void checksum(const struct net_out *o, uint32_t features, struct wh_net_frame *frame)
{
	if (o->checksum_at == 0xff)
		return;
	uint32_t sum = pseudo(o, o->head_size + o->payload_size);
	uint8_t *field = o->head + o->checksum_at;
	bool is_icmp = o->protocol == WH_WIRE_PROTO_ICMP || o->protocol == WH_WIRE_PROTO_ICMP6;
	if (!is_icmp && (features & WH_NET_LINK_CSUM)) {
		wh_store_be16(field, wh_wire_sum_fold(sum));
		frame->flags = WH_NET_NEEDS_CSUM;
		frame->csum_offset = o->checksum_at;
		return;
	}
	wh_store_be16(field, 0);
	sum = wh_wire_sum(sum, o->head, o->head_size);
	uint32_t payload = wh_wire_sum_iov(0, o->payload, o->payload_count, 0, o->payload_size);
	sum = wh_wire_sum_fold(sum);
	payload = wh_wire_sum_fold(payload);
	if (o->head_size & 1)
		payload = wh_bswap16((uint16_t)payload);
	uint16_t value = wh_wire_sum_finish(sum + payload);
	if (!value && o->protocol == WH_WIRE_PROTO_UDP)
		value = 0xffff; /* RFC 768: 0 means none */
	wh_store_be16(field, value);
}

static int next_mac(struct wh_net *net, struct net_out *o, const struct net_route *r,
		    uint8_t mac[6])
{
	if (o->mac) {
		memcpy(mac, o->mac, 6);
		return 0;
	}
	if (net_ip_broadcast(net, &o->to)) {
		memset(mac, 0xff, 6);
		return 0;
	}
	if (net_ip_multicast(&o->to)) {
		net_multicast_mac(&o->to, mac);
		return 0;
	}
	int error = net_neighbour_resolve(net, &r->hop, mac);
	if (error == -WH_EAGAIN) {
		o->unresolved = true;
		net->stats.out_unresolved++;
	}
	return error;
}

/* Splits a datagram whose checksum is complete. Fragments after the first begin
 * inside the payload, so each is a slice of head and payload (RFC 791, 8200 4.5). */
static int fragments_send(struct wh_net *net, struct net_out *o, const struct net_route *r,
			  const uint8_t mac[6])
{
	bool is4 = wh_net_ip_is4(&o->to);
	uint32_t ip_size = is4 ? WH_WIRE_IP4_SIZE : WH_WIRE_IP6_SIZE + WH_WIRE_IP6_FRAGMENT_SIZE;
	uint32_t step = (r->mtu - ip_size) & ~7u, size = o->head_size + o->payload_size;
	struct wh_iov whole[IOV_MAX_], part[IOV_MAX_];
	uint8_t buffer[NET_HEADROOM + 8];
	wh_assert(o->payload_count + 1 <= IOV_MAX_);
	whole[0] = (struct wh_iov){ o->head, o->head_size };
	for (uint32_t i = 0; i < o->payload_count; i++)
		whole[1 + i] = o->payload[i];
	struct wh_wire_ip4 f = { .id = ++net->ip4_id };
	uint32_t id6 = ++net->ip6_id;
	for (uint32_t at = 0; at < size; at += step) {
		uint32_t n = size - at < step ? size - at : step;
		int count = wh_iov_slice(whole, o->payload_count + 1, at, n, part, IOV_MAX_);
		wh_assert(count > 0);
		uint8_t *end = buffer + NET_HEADROOM, *head = end;
		f.fragment_offset = (uint16_t)at;
		f.more_fragments = at + n < size;
		if (!is4) {
			head -= WH_WIRE_IP6_FRAGMENT_SIZE;
			wh_wire_ip6_fragment_emit(head, o->protocol, f.fragment_offset,
						  f.more_fragments, id6);
			head = ip_emit(net, o, head, n + WH_WIRE_IP6_FRAGMENT_SIZE, &f);
		} else {
			head = ip_emit(net, o, head, n, &f);
		}
		int error = net_eth_output(net, mac, is4 ? WH_WIRE_ETH_IP4 : WH_WIRE_ETH_IP6, head,
					   (uint32_t)(end - head), part, (uint32_t)count, 0);
		if (error && !at)
			return error;
		net->stats.fragments_out++;
	}
	return 0;
}

static int loop_send(struct wh_net *net, struct net_out *o)
{
	struct wh_iov iov[IOV_MAX_];
	uint8_t *head = ip_emit(net, o, o->head, o->head_size + o->payload_size, 0);
	iov[0] = (struct wh_iov){ head, (size_t)(o->head + o->head_size - head) };
	wh_assert(o->payload_count + 1 <= IOV_MAX_);
	for (uint32_t i = 0; i < o->payload_count; i++)
		iov[1 + i] = o->payload[i];
	return net_loop_output(net, iov, o->payload_count + 1,
			       (uint32_t)iov[0].size + o->payload_size);
}

static int resolve_failed(struct wh_net *net, struct net_out *o, const struct net_route *r,
			  int error)
{
	if (!o->unresolved || o->protocol == WH_WIRE_PROTO_TCP)
		return error;
	struct wh_net_frame none = { 0 };
	struct wh_iov iov[IOV_MAX_];
	uint32_t size = o->head_size + o->payload_size;
	if (size + WH_WIRE_IP6_SIZE > r->mtu) /* only what fits one frame is kept */
		return error;
	checksum(o, 0, &none);
	uint8_t *head = ip_emit(net, o, o->head, size, 0);
	iov[0] = (struct wh_iov){ head, (size_t)(o->head + o->head_size - head) };
	for (uint32_t i = 0; i < o->payload_count; i++)
		iov[1 + i] = o->payload[i];
	net_neighbour_keep(net, &r->hop, iov, o->payload_count + 1,
			   (uint32_t)iov[0].size + o->payload_size);
	return error;
}

int net_ip_output(struct wh_net *net, struct net_out *o)
{
	struct net_route r;
	bool is4 = wh_net_ip_is4(&o->to);
	uint32_t ip_size = is4 ? WH_WIRE_IP4_SIZE : WH_WIRE_IP6_SIZE;
	uint32_t size = ip_size + o->head_size + o->payload_size;
	uint8_t mac[6];
	int error = net_route(net, &o->to, &r);
	if (error && o->mac && net->port) /* an answer goes back where the question came from */
		r = (struct net_route){ .hop = o->to,
					.mtu = net->port->mtu,
					.features = net->port->link_features };
	else if (error) {
		net->stats.out_no_route++;
		return error;
	}
	if (r.loop)
		return loop_send(net, o);
	error = next_mac(net, o, &r, mac);
	if (error)
		return resolve_failed(net, o, &r, error);
	if (o->probe)
		r.mtu = net->port->mtu;
	bool oversize = !o->gso_type && size > r.mtu;
	if (oversize && o->dont_fragment)
		return -WH_EMSGSIZE;
	struct wh_net_frame frame = { 0 };
	checksum(o, oversize ? 0 : r.features, &frame);
	if (oversize)
		return fragments_send(net, o, &r, mac);
	uint8_t *head = ip_emit(net, o, o->head, size - ip_size, 0);
	uint32_t transport_at = WH_WIRE_ETH_SIZE + ip_size;
	if (frame.flags & WH_NET_NEEDS_CSUM)
		frame.csum_start = (uint16_t)transport_at;
	frame.gso_type = o->gso_type;
	frame.gso_size = o->gso_size;
	frame.hdr_len = (uint16_t)(o->gso_type ? transport_at + o->head_size : 0);
	return net_eth_output(net, mac, is4 ? WH_WIRE_ETH_IP4 : WH_WIRE_ETH_IP6, head,
			      ip_size + o->head_size, o->payload, o->payload_count, &frame);
}
