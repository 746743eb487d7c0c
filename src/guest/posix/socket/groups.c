/* SPDX-License-Identifier: ISC */
/* Multicast groups of a datagram socket. There is one interface, so the one that a program names does not matter; sources
 * cannot be chosen. */
#include "sock.h"

/* The group that an option's value names. */
static int group_of(int level, int option, const void *value, uint32_t size, bool *ret_join,
		    struct wh_net_ip *ret_ip)
{
	const uint8_t *p = value;
	bool any = option == LX_MCAST_JOIN_GROUP || option == LX_MCAST_LEAVE_GROUP;
	uint32_t at = any ? 8 : 0; /* behind an interface's number */
	if (any && size < at + 28) /* an address of either version */
		return -WH_EINVAL;
	if (level == LX_IPPROTO_IP &&
	    (any || option == LX_IP_ADD_MEMBERSHIP || option == LX_IP_DROP_MEMBERSHIP)) {
		if (size < at + 8)
			return -WH_EINVAL;
		*ret_ip = wh_net_ip4(p + at + (any ? 4 : 0));
		*ret_join = option == LX_IP_ADD_MEMBERSHIP || option == LX_MCAST_JOIN_GROUP;
		return 0;
	}
	if (level == LX_IPPROTO_IPV6 &&
	    (any || option == LX_IPV6_ADD_MEMBERSHIP || option == LX_IPV6_DROP_MEMBERSHIP)) {
		if (size < 20)
			return -WH_EINVAL;
		*ret_ip = wh_net_ip6(p + at + (any ? 8 : 0));
		*ret_join = option == LX_IPV6_ADD_MEMBERSHIP || option == LX_MCAST_JOIN_GROUP;
		return 0;
	}
	return -WH_ENOPROTOOPT;
}

int sock_group_set(struct sock_groups *g, int level, int option, const void *value, uint32_t size)
{
	struct wh_net_ip ip;
	bool join;
	uint32_t i = 0;
	int r = group_of(level, option, value, size, &join, &ip);
	if (r)
		return r;
	while (i < g->count && !wh_net_ip_equal(&g->ip[i], &ip))
		i++;
	if (join && i < g->count)
		return -WH_EADDRINUSE;
	if (join && g->count == SOCK_GROUPS_MAX)
		return -WH_ENOBUFS;
	if (!join && i == g->count)
		return -WH_EADDRNOTAVAIL;
	r = join ? wh_net_group_join(posix_net, &ip) : wh_net_group_leave(posix_net, &ip);
	if (r)
		return r;
	if (join)
		g->ip[g->count++] = ip;
	else
		g->ip[i] = g->ip[--g->count];
	sock_run();
	return 0;
}

void sock_groups_leave(struct sock_groups *g)
{
	while (g->count)
		(void)wh_net_group_leave(posix_net, &g->ip[--g->count]); /* it was joined */
}
