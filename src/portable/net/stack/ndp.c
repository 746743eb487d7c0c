/* SPDX-License-Identifier: ISC */
/* Neighbour discovery (RFC 4861), a host's part and a small router's. */
#include "net_priv.h"

struct wh_net_ip net_link_local(const struct wh_net *net)
{
	const uint8_t *m = net->config.mac; /* RFC 4291, appendix A */
	struct wh_net_ip ip = { { 0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe,
				  m[3], m[4], m[5] } };
	return ip;
}

void net_multicast_mac(const struct wh_net_ip *ip, uint8_t mac[6])
{
	static const uint8_t four[3] = { 0x01, 0x00, 0x5e };
	if (wh_net_ip_is4(ip)) {
		memcpy(mac, four, 3);
		memcpy(mac + 3, ip->bytes + 13, 3);
		mac[3] &= 0x7f;
	} else {
		mac[0] = mac[1] = 0x33;
		memcpy(mac + 2, ip->bytes + 12, 4);
	}
}

/* head has NET_HEADROOM bytes before it. */
int net_icmp6_send(struct wh_net *net, uint8_t *head, uint32_t size, const struct wh_net_ip *from,
		   const struct wh_net_ip *to, const uint8_t *mac)
{
	struct net_out o = { .head = head,
			     .head_size = size,
			     .from = *from,
			     .to = *to,
			     .protocol = WH_WIRE_PROTO_ICMP6,
			     .hop_limit = 255,
			     .checksum_at = 2,
			     .mac = mac };
	wh_store_be16(head + 2, 0);
	net->stats.icmp_out++;
	return net_ip_output(net, &o);
}

void net_ndp_ask(struct wh_net *net, const struct wh_net_ip *ip, const uint8_t *known)
{
	uint8_t buffer[NET_HEADROOM + WH_WIRE_NDP_SOLICIT_SIZE], *head = buffer + NET_HEADROOM;
	uint8_t mac[6];
	struct wh_net_ip source, to = known ? *ip : net_solicited_node(ip);
	if (known)
		memcpy(mac, known, 6);
	else
		net_multicast_mac(&to, mac);
	if (wh_net_source(net, ip, &source))
		return;
	struct wh_wire_neighbour n = { .has_mac = true };
	memcpy(n.target, ip->bytes, 16);
	memcpy(n.mac, net->config.mac, 6);
	size_t size = wh_wire_neighbour_emit(head, WH_WIRE_ICMP6_NEIGHBOUR_SOLICIT, &n);
	(void)net_icmp6_send(net, head, (uint32_t)size, &source, &to, mac); /* asked again */
}

/* From the unspecified address: does anybody have this one? */
void net_ndp_probe(struct wh_net *net, const struct wh_net_ip *ip)
{
	uint8_t buffer[NET_HEADROOM + WH_WIRE_NDP_SOLICIT_SIZE], *head = buffer + NET_HEADROOM;
	uint8_t mac[6];
	struct wh_net_ip none = { { 0 } }, group = net_solicited_node(ip);
	struct wh_wire_neighbour n = { 0 };
	memcpy(n.target, ip->bytes, 16);
	net_multicast_mac(&group, mac);
	size_t size = wh_wire_neighbour_emit(head, WH_WIRE_ICMP6_NEIGHBOUR_SOLICIT, &n);
	(void)net_icmp6_send(net, head, (uint32_t)size, &none, &group, mac); /* best effort */
}

/* Who says that an address of ours is theirs; true = it is not ours any more. */
static bool claimed(struct wh_net *net, const struct wh_net_ip *ip)
{
	return net->address_claimed && net->address_claimed(net, ip);
}

static void advert_input(struct wh_net *net, const struct net_packet *p, const uint8_t *data,
			 uint32_t size)
{
	struct wh_wire_neighbour n;
	uint8_t mac[6];
	/* RFC 4861, 7.1.2 */
	if (wh_wire_neighbour_parse(data, size, &n) < 0 ||
	    (p->group && (n.flags & WH_WIRE_NDP_SOLICITED))) {
		net->stats.in_malformed++;
		return;
	}
	struct wh_net_ip target = wh_net_ip6(n.target);
	if (wh_net_address_own(net, &target)) {
		net->stats.address_conflicts++;
		(void)claimed(net,
			      &target); /* else it stays ours, and is defended when asked for */
		return;
	}
	if (!n.has_mac)
		return;
	/* 7.2.5: without "override" it does not displace what is known. */
	if (!(n.flags & WH_WIRE_NDP_OVERRIDE) && !wh_net_neighbour_get(net, &target, mac) &&
	    memcmp(mac, n.mac, 6) != 0)
		return;
	net_neighbour_learn(net, &target, n.mac, false);
}

static void solicit_input(struct wh_net *net, const struct net_packet *p, const uint8_t *data,
			  uint32_t size)
{
	struct wh_wire_neighbour n;
	if (wh_wire_neighbour_parse(data, size, &n) < 0) {
		net->stats.in_malformed++;
		return;
	}
	struct wh_net_ip target = wh_net_ip6(n.target);
	if (!wh_net_address_own(net, &target) || net_ip_loopback(&target))
		return;
	bool probe = wh_net_ip_is_any(&p->from); /* duplicate address detection */
	/* RFC 4861, 7.1.1 */
	if (probe && (n.has_mac || !p->group)) {
		net->stats.in_malformed++;
		return;
	}
	if (probe && p->has_mac && memcmp(p->from_mac, net->config.mac, 6) != 0 &&
	    claimed(net, &target))
		return;
	if (!probe && n.has_mac)
		net_neighbour_learn(net, &p->from, n.mac, true);
	uint8_t buffer[NET_HEADROOM + WH_WIRE_NDP_ADVERT_SIZE], *head = buffer + NET_HEADROOM;
	struct wh_wire_neighbour reply = { .has_mac = true, .flags = WH_WIRE_NDP_OVERRIDE };
	struct wh_net_ip to = p->from;
	uint8_t mac[6];
	memcpy(mac, p->from_mac, 6);
	if (probe) {
		to = (struct wh_net_ip){ { 0xff, 2, [15] = 1 } };
		net_multicast_mac(&to, mac);
	} else {
		reply.flags |= WH_WIRE_NDP_SOLICITED;
	}
	if (net->router_advert)
		reply.flags |= WH_WIRE_NDP_ROUTER;
	memcpy(reply.target, n.target, 16);
	memcpy(reply.mac, net->config.mac, 6);
	size_t bytes = wh_wire_neighbour_emit(head, WH_WIRE_ICMP6_NEIGHBOUR_ADVERT, &reply);
	(void)net_icmp6_send(net, head, (uint32_t)bytes, &target, &to, mac); /* asked again */
}

void net_ndp_input(struct wh_net *net, const struct net_packet *p, const uint8_t *data,
		   uint32_t size)
{
	net->stats.ndp_in++;
	/* RFC 4861, 7.1: hop limit 255 proves that it comes from this link. */
	if (p->hop_limit != 255) {
		net->stats.in_malformed++;
		return;
	}
	switch (data[0]) {
	case WH_WIRE_ICMP6_NEIGHBOUR_SOLICIT:
		solicit_input(net, p, data, size);
		break;
	case WH_WIRE_ICMP6_NEIGHBOUR_ADVERT:
		advert_input(net, p, data, size);
		break;
	case WH_WIRE_ICMP6_ROUTER_SOLICIT:
		if (net->router_advert)
			(void)wh_net_router_advert_send(net); /* asked again */
		break;
	case WH_WIRE_ICMP6_ROUTER_ADVERT:
		if (net->router_advert_input)
			net->router_advert_input(net, &p->from, data, size);
		break;
	}
}

int wh_net_router_advert_set(struct wh_net *net, const void *advert, uint32_t size)
{
	uint8_t *copy = 0;
	if (size > WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX)
		return -WH_EINVAL;
	if (size) {
		copy = wh_alloc(net->config.alloc, size);
		if (!copy)
			return -WH_ENOMEM;
		memcpy(copy, advert, size);
	}
	wh_free(net->config.alloc, net->router_advert, net->router_advert_size);
	net->router_advert = copy;
	net->router_advert_size = size;
	return 0;
}

int wh_net_router_advert_send(struct wh_net *net)
{
	uint8_t buffer[NET_HEADROOM + WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX];
	uint8_t *head = buffer + NET_HEADROOM, mac[6];
	struct wh_net_ip from = net_link_local(net), all = { { 0xff, 2, [15] = 1 } };
	if (!net->router_advert)
		return -WH_ENOENT;
	memcpy(head, net->router_advert, net->router_advert_size);
	net_multicast_mac(&all, mac);
	return net_icmp6_send(net, head, net->router_advert_size, &from, &all, mac);
}
