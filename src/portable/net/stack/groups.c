/* SPDX-License-Identifier: ISC */
/*
 * Groups that applications listen to: their table, and IGMP (RFC 3376, and 2236 for routers that speak that). IPv6's
 * groups are told by mld.c. Reports go out at once, as there is one of us on a virtual link; what is lost is asked for by
 * the next query. Versions of IGMP before 2 are not answered.
 */
#include "net_priv.h"

#define IGMP_QUERY 0x11u
#define IGMP2_REPORT 0x16u
#define IGMP2_LEAVE 0x17u
#define IGMP3_REPORT 0x22u
#define IGMP2_SIZE 8u
#define IGMP3_QUERY_SIZE 12u
#define HEAD_SIZE (WH_WIRE_IP4_SIZE + 4u) /* with the router alert option (RFC 2113) */
#define MODE_IS_EXCLUDE 2u
#define CHANGE_TO_INCLUDE 3u
#define CHANGE_TO_EXCLUDE 4u
#define OLDER_PRESENT_NS (400 * NET_S) /* RFC 3376, 8.12 with the values by default */

static bool reported(const struct wh_net_ip *ip)
{
	static const uint8_t all_hosts[4] = { 224, 0, 0, 1 };
	/* RFC 3376, 6: all hosts' group is never reported; RFC 3810, 6: nor are those of scope 0 and 1 and all nodes'. */
	static const struct wh_net_ip all_nodes = { { 0xff, 2, [15] = 1 } };
	if (wh_net_ip_is4(ip))
		return memcmp(ip->bytes + 12, all_hosts, 4) != 0;
	return (ip->bytes[1] & 15) > 1 && !wh_net_ip_equal(ip, &all_nodes);
}

/* size bytes behind HEAD_SIZE + NET_HEADROOM of the buffer, checksum zero. */
static void igmp_send(struct wh_net *net, uint8_t *buffer, uint32_t size, const uint8_t to[4])
{
	uint8_t *head = buffer + NET_HEADROOM, *p = head + HEAD_SIZE, mac[6];
	struct wh_wire_ip4 ip = { .ttl = 1,
				  .protocol = WH_WIRE_PROTO_IGMP,
				  .tos = 0xc0,
				  .total_size = (uint16_t)(HEAD_SIZE + size),
				  .id = net->ip4_id++ };
	struct wh_net_ip group = wh_net_ip4(to), from;
	memcpy(ip.to, to, 4);
	if (!wh_net_source(net, &group, &from) && wh_net_ip_is4(&from))
		memcpy(ip.from, from.bytes + 12, 4);
	wh_store_be16(p + 2, wh_wire_sum_finish(wh_wire_sum(0, p, size)));
	(void)wh_wire_ip4_emit(head, &ip);
	head[0] = 0x40 | HEAD_SIZE / 4;
	wh_store_be32(head + WH_WIRE_IP4_SIZE, 0x94040000);
	wh_store_be16(head + 10, 0);
	wh_store_be16(head + 10, wh_wire_sum_finish(wh_wire_sum(0, head, HEAD_SIZE)));
	net_multicast_mac(&group, mac);
	net->stats.igmp_out++;
	(void)net_eth_output(net, mac, WH_WIRE_ETH_IP4, head, HEAD_SIZE + size, 0, 0, 0);
}

static void igmp3_report(struct wh_net *net, const struct net_group *list, uint32_t count,
			 uint8_t kind)
{
	static const uint8_t routers[4] = { 224, 0, 0, 22 };
	uint8_t buffer[NET_HEADROOM + HEAD_SIZE + 8 + 8 * WH_NET_GROUPS_MAX] = { 0 };
	uint8_t *p = buffer + NET_HEADROOM + HEAD_SIZE;
	uint32_t records = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (!list[i].users && kind != CHANGE_TO_INCLUDE)
			continue;
		if (!wh_net_ip_is4(&list[i].ip) || !reported(&list[i].ip))
			continue;
		uint8_t *record = p + 8 + 8 * records++;
		record[0] = kind;
		memcpy(record + 4, list[i].ip.bytes + 12, 4);
	}
	p[0] = IGMP3_REPORT;
	wh_store_be16(p + 6, (uint16_t)records);
	if (records)
		igmp_send(net, buffer, 8 + 8 * records, routers);
}

static void igmp2_message(struct wh_net *net, uint8_t type, const struct wh_net_ip *group)
{
	static const uint8_t routers[4] = { 224, 0, 0, 2 };
	uint8_t buffer[NET_HEADROOM + HEAD_SIZE + IGMP2_SIZE] = { 0 };
	uint8_t *p = buffer + NET_HEADROOM + HEAD_SIZE;
	p[0] = type;
	memcpy(p + 4, group->bytes + 12, 4);
	igmp_send(net, buffer, IGMP2_SIZE, type == IGMP2_LEAVE ? routers : group->bytes + 12);
}

/* The group begins or ends. */
static void changed(struct wh_net *net, const struct net_group *group, bool joined)
{
	if (!net->port)
		return; /* the first query asks */
	if (!wh_net_ip_is4(&group->ip)) {
		net_mld_changed(net, &group->ip, joined);
	} else if (net->now < net->igmp2_until) {
		igmp2_message(net, joined ? IGMP2_REPORT : IGMP2_LEAVE, &group->ip);
	} else {
		igmp3_report(net, group, 1, joined ? CHANGE_TO_EXCLUDE : CHANGE_TO_INCLUDE);
	}
}

/* RFC 3376, 4.1.12: without the router alert option, or from afar, it is passed over; 7.1 tells versions. */
static void igmp_input(struct wh_net *net, const struct net_packet *p)
{
	uint32_t size = p->size;
	const uint8_t *q = p->head;
	static const uint8_t any[4];
	net->stats.igmp_in++;
	if (size < IGMP2_SIZE || p->head_size < size || p->hop_limit != 1 ||
	    wh_wire_sum_fold(wh_wire_sum(0, q, size)) != 0xffff) {
		net->stats.in_malformed++;
		return;
	}
	if (q[0] != IGMP_QUERY || (size < IGMP3_QUERY_SIZE && !q[1]))
		return;
	bool older = size < IGMP3_QUERY_SIZE, all = !memcmp(q + 4, any, 4);
	if (older)
		net->igmp2_until = net->now + OLDER_PRESENT_NS;
	older = net->now < net->igmp2_until;
	for (uint32_t i = 0; i < net->group_count; i++) {
		const struct net_group *g = &net->group[i];
		if (!g->users || !wh_net_ip_is4(&g->ip) || !reported(&g->ip) ||
		    (!all && memcmp(q + 4, g->ip.bytes + 12, 4) != 0))
			continue;
		if (older)
			igmp2_message(net, IGMP2_REPORT, &g->ip);
		else if (!all)
			igmp3_report(net, g, 1, MODE_IS_EXCLUDE);
	}
	if (all && !older)
		igmp3_report(net, net->group, net->group_count, MODE_IS_EXCLUDE);
}

int wh_net_group_join(struct wh_net *net, const struct wh_net_ip *ip)
{
	struct net_group *unused = 0;
	if (!net_ip_multicast(ip))
		return -WH_EINVAL;
	for (uint32_t i = 0; i < net->group_count; i++) {
		struct net_group *g = &net->group[i];
		if (g->users && wh_net_ip_equal(&g->ip, ip)) {
			g->users++;
			return 0;
		}
		if (!g->users)
			unused = g;
	}
	if (!unused && net->group_count == WH_NET_GROUPS_MAX)
		return -WH_ENOBUFS;
	if (!unused)
		unused = &net->group[net->group_count++];
	*unused = (struct net_group){ .ip = *ip, .users = 1 };
	net->igmp_input = igmp_input;
	if (reported(ip))
		changed(net, unused, true);
	return 0;
}

int wh_net_group_leave(struct wh_net *net, const struct wh_net_ip *ip)
{
	for (uint32_t i = 0; i < net->group_count; i++) {
		struct net_group *g = &net->group[i];
		if (!g->users || !wh_net_ip_equal(&g->ip, ip))
			continue;
		if (!--g->users && reported(ip))
			changed(net, g, false);
		return 0;
	}
	return -WH_EADDRNOTAVAIL;
}
