/* SPDX-License-Identifier: ISC */
#ifndef AUTOCONF_PRIV_H
#define AUTOCONF_PRIV_H

/* Between the DHCPv4 client (autoconf.c) and stateless configuration (slaac.c). */

#include "net_priv.h"

#define NET_PREFIXES_MAX 4u /* addresses from advertisements; further prefixes are passed over */

enum { NET_PREFIX_FREE, NET_PREFIX_USED, NET_PREFIX_REFUSED /* somebody else has it */ };

struct net_prefix {
	struct wh_net_ip ip; /* the address formed */
	uint8_t state;
	uint64_t expires, tentative_until;
};

struct net_slaac {
	struct net_timer solicit_timer, expiry_timer;
	uint32_t solicits;
	uint64_t router_expires;
	struct net_prefix prefix[NET_PREFIXES_MAX];
};

struct net_autoconf {
	struct wh_net *net;
	struct wh_net_udp *udp;
	struct net_timer dhcp_timer;
	uint8_t state;
	uint32_t transaction, tries;
	uint64_t began, bound, renew, rebind, expire; /* times */
	struct wh_net_ip address;                     /* offered or bound */
	bool has_address;
	uint8_t server[4];
	char hostname[WH_WIRE_DHCP_NAME_SIZE];
	struct net_slaac slaac;
};

void net_dns_add(struct wh_net *net, const struct wh_net_ip *ip);
void net_configured(struct wh_net *net);
void net_slaac_start(struct wh_net *net);
void net_slaac_stop(struct wh_net *net);

#endif
