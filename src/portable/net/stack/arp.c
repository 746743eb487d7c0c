/* SPDX-License-Identifier: ISC */
/* ARP (RFC 826, 5227). */
#include "net_priv.h"

#define DEFEND_NS (10 * NET_S) /* RFC 5227's DEFEND_INTERVAL */

static void send(struct wh_net *net, const uint8_t to[6], const struct wh_wire_arp *arp)
{
	uint8_t head[16 + WH_WIRE_ARP_SIZE];
	size_t size = wh_wire_arp_emit(head + 16, arp);
	/* A full link loses it; whoever needs the answer asks again. */
	(void)net_eth_output(net, to, WH_WIRE_ETH_ARP, head + 16, (uint32_t)size, 0, 0, 0);
}

void net_arp_ask(struct wh_net *net, const struct wh_net_ip *ip, const uint8_t *mac)
{
	static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	struct wh_wire_arp arp = { .op = WH_WIRE_ARP_REQUEST };
	struct wh_net_ip source;
	memcpy(arp.sender_mac, net->config.mac, 6);
	memcpy(arp.target_ip, ip->bytes + 12, 4);
	if (!wh_net_source(net, ip, &source))
		memcpy(arp.sender_ip, source.bytes + 12, 4);
	send(net, mac ? mac : all, &arp);
}

/* RFC 5227, 2.3: so that switches and old neighbours learn it. */
void net_arp_announce(struct wh_net *net, const struct wh_net_ip *ip)
{
	static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	struct wh_wire_arp arp = { .op = WH_WIRE_ARP_REQUEST };
	memcpy(arp.sender_mac, net->config.mac, 6);
	memcpy(arp.sender_ip, ip->bytes + 12, 4);
	memcpy(arp.target_ip, ip->bytes + 12, 4);
	send(net, all, &arp);
}

/* Somebody claims an own address: not believed; contradicted, but not more often than RFC 5227, 2.4 (b)
 * allows, or two of us would do nothing else. */
static void defend(struct wh_net *net, const struct wh_net_ip *ip)
{
	net->stats.address_conflicts++;
	if (net_ip_loopback(ip) || (net->defended && net->now - net->defended < DEFEND_NS))
		return;
	net->defended = net->now;
	net_arp_announce(net, ip);
}

void net_arp_input(struct wh_net *net, const uint8_t *p, uint32_t size)
{
	struct wh_wire_arp arp;
	net->stats.arp_in++;
	if (wh_wire_arp_parse(p, size, &arp) < 0) {
		net->stats.in_malformed++;
		return;
	}
	struct wh_net_ip sender = wh_net_ip4(arp.sender_ip), target = wh_net_ip4(arp.target_ip);
	if (wh_net_address_own(net, &sender)) {
		if (memcmp(arp.sender_mac, net->config.mac, 6) != 0)
			defend(net, &sender);
		return;
	}
	bool for_us = wh_net_address_own(net, &target) && !net_ip_loopback(&target);
	if (!wh_net_ip_is_any(&sender) && !net_ip_multicast(&sender) &&
	    !net_ip_broadcast(net, &sender) && net_ip_on_link(net, &sender))
		net_neighbour_learn(net, &sender, arp.sender_mac, for_us);
	if (arp.op != WH_WIRE_ARP_REQUEST || !for_us)
		return;
	struct wh_wire_arp reply = { .op = WH_WIRE_ARP_REPLY };
	memcpy(reply.sender_mac, net->config.mac, 6);
	memcpy(reply.sender_ip, arp.target_ip, 4);
	memcpy(reply.target_mac, arp.sender_mac, 6);
	memcpy(reply.target_ip, arp.sender_ip, 4);
	send(net, arp.sender_mac, &reply);
}
