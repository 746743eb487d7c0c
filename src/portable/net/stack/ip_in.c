/* SPDX-License-Identifier: ISC */
/* Ethernet and IP in: checks, then hands the payload to a protocol. */
#include "net_priv.h"

bool net_checksum_good(const struct net_packet *p)
{
	if (p->checked)
		return true;
	bool is4 = wh_net_ip_is4(&p->to);
	uint32_t sum =
		wh_wire_sum_pseudo(p->from.bytes + (is4 ? 12 : 0), p->to.bytes + (is4 ? 12 : 0),
				   is4 ? 4 : 16, p->protocol, p->size);
	sum = wh_wire_sum_iov(sum, p->iov, p->iov_count, p->offset, p->size);
	return wh_wire_sum_fold(sum) == 0xffff;
}

void net_transport_input(struct wh_net *net, struct net_packet *p)
{
	bool is4 = wh_net_ip_is4(&p->to);
	net->hop_limit_in = p->hop_limit;
	if (p->protocol == WH_WIRE_PROTO_TCP && net->tcp) {
		net->tcp->input(net, p);
	} else if (p->protocol == WH_WIRE_PROTO_UDP && net->udp) {
		net->udp->input(net, p);
	} else if (p->protocol == WH_WIRE_PROTO_ICMP && is4) {
		net_icmp4_input(net, p);
	} else if (p->protocol == WH_WIRE_PROTO_ICMP6 && !is4) {
		net_icmp6_input(net, p);
	} else if (p->protocol == WH_WIRE_PROTO_IGMP && is4) {
		if (net->igmp_input) /* else nobody listens to a group, and nobody is told */
			net->igmp_input(net, p);
	} else {
		net->stats.in_no_protocol++;
		net_icmp_error(net, p, WH_EPROTONOSUPPORT, 0);
	}
}

/* May a packet with these addresses come in? Sets own and group. */
static bool addresses_accept(struct wh_net *net, struct net_packet *p)
{
	p->own = wh_net_address_own(net, &p->to);
	p->group = net_ip_multicast(&p->to) || net_ip_broadcast(net, &p->to);
	bool bad_source = net_ip_multicast(&p->from) || net_ip_broadcast(net, &p->from);
	if (!p->loop) {
		bad_source |= net_ip_loopback(&p->from) || wh_net_address_own(net, &p->from);
		bad_source |= net_ip_loopback(&p->to);
	}
	if (bad_source) {
		net->stats.in_martian++;
		return false;
	}
	if (p->own || p->group || net->config.transparent)
		return true;
	net->stats.in_not_ours++;
	return false;
}

static void ip4_input(struct wh_net *net, struct net_packet *p)
{
	struct wh_wire_ip4 ip;
	int size = wh_wire_ip4_parse(p->head, p->head_size, p->size, &ip);
	if (size < 0) {
		net->stats.in_malformed++;
		return;
	}
	p->from = wh_net_ip4(ip.from);
	p->to = wh_net_ip4(ip.to);
	p->protocol = ip.protocol;
	p->tos = ip.tos;
	p->hop_limit = ip.ttl;
	p->ip_head = p->head;
	p->ip_head_size = (uint32_t)size;
	if (!addresses_accept(net, p))
		return;
	uint32_t total = ip.total_size, head_size = p->head_size < total ? p->head_size : total;
	p->offset += (uint32_t)size;
	p->size = total - (uint32_t)size;
	p->head += size;
	p->head_size = head_size - (uint32_t)size;
	if (!ip.more_fragments && !ip.fragment_offset) {
		net_transport_input(net, p);
		return;
	}
	struct net_fragment f = { .from = p->from,
				  .to = p->to,
				  .id = ip.id,
				  .protocol = ip.protocol,
				  .offset = ip.fragment_offset,
				  .more = ip.more_fragments };
	net_reassembly_input(net, &f, p);
}

/* RFC 8200, 4.2 and 4.4: what is answered when a header asks for what we do not do. */
static void extension_refuse(struct wh_net *net, struct net_packet *p,
			     const struct wh_wire_ip6_extensions *e)
{
	uint32_t pointer = WH_WIRE_IP6_SIZE + e->problem_at;
	struct net_packet whole = *p;
	whole.head += WH_WIRE_IP6_SIZE;
	whole.head_size -= WH_WIRE_IP6_SIZE;
	if (e->unknown_option >= 2) /* 2: in any case, 3: not about groups */
		net_icmp6_parameter(net, &whole, 2, pointer, e->unknown_option == 2);
	else if (!e->unknown_option)
		net_icmp6_parameter(net, &whole, 0, pointer, false);
}

/* Whoever has the address that we want to have says so from it (RFC 4862, 5.4.4). */
static bool duplicate_told(struct wh_net *net, const struct net_packet *p, uint8_t next_header)
{
	bool advert = next_header == WH_WIRE_PROTO_ICMP6 && p->hop_limit == 255 &&
		      p->head_size >= WH_WIRE_IP6_SIZE + 24 &&
		      p->head[WH_WIRE_IP6_SIZE] == WH_WIRE_ICMP6_NEIGHBOUR_ADVERT &&
		      !memcmp(p->head + WH_WIRE_IP6_SIZE + 8, p->from.bytes, 16);
	return advert && net->address_claimed && p->has_mac &&
	       memcmp(p->from_mac, net->config.mac, 6) != 0 && wh_net_address_own(net, &p->from) &&
	       net->address_claimed(net, &p->from);
}

static void ip6_input(struct wh_net *net, struct net_packet *p)
{
	struct wh_wire_ip6 ip;
	struct wh_wire_ip6_extensions e;
	if (wh_wire_ip6_parse(p->head, p->head_size, p->size, &ip) < 0) {
		net->stats.in_malformed++;
		return;
	}
	p->from = wh_net_ip6(ip.from);
	p->to = wh_net_ip6(ip.to);
	p->tos = ip.traffic_class;
	p->hop_limit = ip.hop_limit;
	p->ip_head = p->head;
	p->ip_head_size = WH_WIRE_IP6_SIZE;
	/* A mapped address on the wire would pass for IPv4 inside. */
	if (wh_net_ip_is4(&p->from) || wh_net_ip_is4(&p->to)) {
		net->stats.in_martian++;
		return;
	}
	if (duplicate_told(net, p, ip.next_header) || !addresses_accept(net, p))
		return;
	uint32_t total = WH_WIRE_IP6_SIZE + ip.payload_size;
	uint32_t head_size = (p->head_size < total ? p->head_size : total) - WH_WIRE_IP6_SIZE;
	int size = wh_wire_ip6_extensions_parse(p->head + WH_WIRE_IP6_SIZE, head_size,
						ip.next_header, &e);
	if (size < 0 || e.routed || e.unknown_option) {
		net->stats.in_malformed++;
		if (size >= 0)
			extension_refuse(net, p, &e);
		return;
	}
	p->protocol = e.protocol;
	p->head += WH_WIRE_IP6_SIZE + size;
	p->head_size = head_size - (uint32_t)size;
	p->offset += WH_WIRE_IP6_SIZE + (uint32_t)size;
	p->size = ip.payload_size - (uint32_t)size;
	if (!e.fragment || (!e.fragment_offset && !e.more_fragments)) { /* RFC 6946: atomic */
		net_transport_input(net, p);
		return;
	}
	/* Unfragmentable extensions of fragments are rare and of no use to an end. */
	if (e.previous_next != 0xffff) {
		net->stats.in_malformed++;
		return;
	}
	p->ip_head_size += WH_WIRE_IP6_FRAGMENT_SIZE; /* quoted together, so it lies behind */
	if (e.more_fragments && p->size % 8) {        /* RFC 8200, 4.5 */
		net->stats.in_malformed++;
		net_icmp6_parameter(net, p, 0, 4, false);
		return;
	}
	struct net_fragment f = { .from = p->from,
				  .to = p->to,
				  .id = e.fragment_id,
				  .protocol = e.protocol,
				  .offset = e.fragment_offset,
				  .more = e.more_fragments };
	net_reassembly_input(net, &f, p);
}

void net_ip_input(struct wh_net *net, const struct wh_net_frame *frame, uint32_t offset,
		  const uint8_t *head, uint32_t head_size, bool loop, const uint8_t *mac)
{
	struct net_packet p = { .iov = frame->iov,
				.iov_count = frame->iov_count,
				.offset = offset,
				.size = frame->size - offset,
				.head = head,
				.head_size = head_size,
				.loop = loop,
				.checked = frame->flags & (WH_NET_NEEDS_CSUM | WH_NET_DATA_VALID),
				.gso_type = frame->gso_type,
				.gso_size = frame->gso_type ? frame->gso_size : 0 };
	p.has_mac = mac;
	if (mac)
		memcpy(p.from_mac, mac, 6);
	if (!head_size)
		net->stats.in_malformed++;
	else if (head[0] >> 4 == 4)
		ip4_input(net, &p);
	else
		ip6_input(net, &p);
}

static bool mac_accept(const struct wh_net *net, const uint8_t mac[6])
{
	return (mac[0] & 1) || !memcmp(mac, net->config.mac, 6);
}

void net_eth_input(struct wh_net *net, const struct wh_net_frame *frame)
{
	uint8_t head[NET_HEAD_SIZE];
	struct wh_wire_eth eth;
	uint32_t head_size =
		(uint32_t)wh_iov_read(frame->iov, frame->iov_count, 0, head, sizeof head);
	if (head_size > frame->size)
		head_size = frame->size;
	if (frame->size > WH_NET_FRAME_SIZE_MAX ||
	    wh_iov_size(frame->iov, frame->iov_count) < frame->size ||
	    wh_wire_eth_parse(head, head_size, &eth) < 0) {
		net->stats.in_malformed++;
		return;
	}
	if (!mac_accept(net, eth.to) || (eth.from[0] & 1)) {
		net->stats.in_not_ours++;
		return;
	}
	const uint8_t *body = head + WH_WIRE_ETH_SIZE;
	uint32_t body_size = head_size - WH_WIRE_ETH_SIZE;
	if (eth.type == WH_WIRE_ETH_ARP)
		net_arp_input(net, body, body_size);
	else if ((eth.type == WH_WIRE_ETH_IP4 && body_size && body[0] >> 4 == 4) ||
		 (eth.type == WH_WIRE_ETH_IP6 && body_size && body[0] >> 4 == 6))
		net_ip_input(net, frame, WH_WIRE_ETH_SIZE, body, body_size, false, eth.from);
	else
		net->stats.in_no_protocol++;
}
