/* SPDX-License-Identifier: ISC */
/*
 * Multicast listener discovery, version 2 (RFC 3810): switches that snoop would keep neighbour solicitations from us if nobody
 * said that we listen to the solicited-node groups of our addresses. Reports go out when addresses
 * are added and when a router asks, at once: there is one of us on a virtual link, so there is no
 * implosion to spread. Groups of applications, and IGMP, are in groups.c.
 */
#include "net_priv.h"

#define HOP_BY_HOP_SIZE 8u
#define REPORT_SIZE 8u
#define RECORD_SIZE 20u
#define GROUPS_MAX (WH_NET_ADDRESSES_MAX + 1u + WH_NET_GROUPS_MAX)
#define IS_EXCLUDE 2u /* of no sources: everybody's */
#define CHANGE_TO_INCLUDE 3u
#define CHANGE_TO_EXCLUDE 4u

struct wh_net_ip net_solicited_node(const struct wh_net_ip *ip)
{
	struct wh_net_ip group = { { 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff } };
	memcpy(group.bytes + 13, ip->bytes + 13, 3);
	return group;
}

static uint32_t groups(const struct wh_net *net, struct wh_net_ip ret[GROUPS_MAX])
{
	struct wh_net_ip local = net_link_local(net);
	uint32_t count = 1;
	ret[0] = net_solicited_node(&local);
	for (uint32_t i = 0; i < net->address_count; i++) {
		struct wh_net_ip group = net_solicited_node(&net->address[i].ip);
		bool known = wh_net_ip_is4(&net->address[i].ip);
		for (uint32_t k = 0; k < count; k++)
			known |= wh_net_ip_equal(&ret[k], &group);
		if (!known)
			ret[count++] = group;
	}
	for (uint32_t i = 0; i < net->group_count; i++)
		if (net->group[i].users && !wh_net_ip_is4(&net->group[i].ip))
			ret[count++] = net->group[i].ip;
	return count;
}

bool net_mld_member(const struct wh_net *net, const struct wh_net_ip *group)
{
	static const uint8_t all[16] = { 0xff, 2, [15] = 1 }, here[16] = { 0xff, 1, [15] = 1 };
	struct wh_net_ip own[GROUPS_MAX];
	if (!memcmp(group->bytes, all, 16) || !memcmp(group->bytes, here, 16))
		return true;
	for (uint32_t i = groups(net, own); i-- > 0;)
		if (wh_net_ip_equal(&own[i], group))
			return true;
	return false;
}

/* RFC 3810, 5.2: behind a hop-by-hop header with the router alert option. */
static void report_send(struct wh_net *net, const struct wh_net_ip *own, uint32_t count,
			uint8_t kind)
{
	static const uint8_t hop_by_hop[HOP_BY_HOP_SIZE] = { 58, 0, 5, 2, 0, 0, 1, 0 };
	uint8_t buffer[NET_HEADROOM + HOP_BY_HOP_SIZE + REPORT_SIZE + GROUPS_MAX * RECORD_SIZE];
	uint8_t *head = buffer + NET_HEADROOM, *p = head + HOP_BY_HOP_SIZE, mac[6];
	struct wh_net_ip from = net_link_local(net);
	struct wh_net_ip to = { { 0xff, 2, [15] = 0x16 } };
	uint32_t size = REPORT_SIZE + count * RECORD_SIZE;
	memcpy(head, hop_by_hop, sizeof hop_by_hop);
	memset(p, 0, size);
	p[0] = WH_WIRE_ICMP6_MLD2_REPORT;
	wh_store_be16(p + 6, (uint16_t)count);
	for (uint32_t i = 0; i < count; i++) {
		p[REPORT_SIZE + i * RECORD_SIZE] = kind;
		memcpy(p + REPORT_SIZE + i * RECORD_SIZE + 4, own[i].bytes, 16);
	}
	uint32_t sum = wh_wire_sum_pseudo(from.bytes, to.bytes, 16, WH_WIRE_PROTO_ICMP6, size);
	wh_store_be16(p + 2, wh_wire_sum_finish(wh_wire_sum(sum, p, size)));
	net_multicast_mac(&to, mac);
	struct net_out o = { .head = head,
			     .head_size = HOP_BY_HOP_SIZE + size,
			     .from = from,
			     .to = to,
			     .hop_limit = 1,
			     .checksum_at = 0xff,
			     .mac = mac };
	net->stats.icmp_out++;
	(void)net_ip_output(net, &o); /* asked for again by the next query */
}

void net_mld_report(struct wh_net *net)
{
	struct wh_net_ip own[GROUPS_MAX];
	uint32_t count = groups(net, own);
	report_send(net, own, count, CHANGE_TO_EXCLUDE);
}

void net_mld_changed(struct wh_net *net, const struct wh_net_ip *group, bool joined)
{
	report_send(net, group, 1, joined ? CHANGE_TO_EXCLUDE : CHANGE_TO_INCLUDE);
}

/* RFC 3810, 6.2: from a link-local address, not through a router. */
void net_mld_input(struct wh_net *net, const struct net_packet *p, const uint8_t *data,
		   uint32_t size)
{
	if (size < 24 || p->hop_limit != 1 || p->from.bytes[0] != 0xfe ||
	    (p->from.bytes[1] & 0xc0) != 0x80) {
		net->stats.in_malformed++;
		return;
	}
	struct wh_net_ip group = wh_net_ip6(data + 8);
	if (!wh_net_ip_is_any(&group) && !net_mld_member(net, &group))
		return;
	struct wh_net_ip own[GROUPS_MAX];
	uint32_t count = groups(net, own);
	report_send(net, own, count, IS_EXCLUDE);
}
