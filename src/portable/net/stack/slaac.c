/* SPDX-License-Identifier: ISC */
/*
 * Stateless address configuration (RFC 4861, 4862, 8106): router solicitations, and what
 * advertisements say about routers, prefixes, name servers and the MTU, for as long as they say.
 *
 * Duplicate address detection is optimistic (RFC 4429): an address is used at once, so that a guest
 * does not wait a second for its first packet, while a probe asks whether somebody has it.
 * Until DAD_NS has passed any claim to it takes it away again; it is not tried a second time, as
 * the interface identifier comes from the MAC (RFC 4862, 5.4.5). Addresses that were configured by hand are
 * not probed.
 */
#include "autoconf_priv.h"

#define SOLICITS 3u /* RFC 4861, 10 */
#define SOLICIT_NS (4 * NET_S)
#define DAD_NS (1 * NET_S) /* RetransTimer, RFC 4861, 10 */
#define TWO_HOURS_S 7200u  /* RFC 4862, 5.5.3 (e) */
#define LIFETIME_INFINITE UINT32_MAX

static uint64_t ends(const struct wh_net *net, uint32_t lifetime_s)
{
	return lifetime_s == LIFETIME_INFINITE ? WH_NET_NEVER : net->now + lifetime_s * NET_S;
}

static void timer_restart(struct wh_net *net)
{
	struct net_slaac *c = &net->autoconf->slaac;
	uint64_t next = c->router_expires;
	for (uint32_t i = 0; i < NET_PREFIXES_MAX; i++)
		if (c->prefix[i].state == NET_PREFIX_USED && c->prefix[i].expires < next)
			next = c->prefix[i].expires;
	for (uint32_t i = 0; i < net->dns_count; i++)
		if (net->dns_expires[i] < next)
			next = net->dns_expires[i];
	net_timer_start(net, &c->expiry_timer, next);
}

static void router_lost(struct wh_net *net)
{
	struct wh_net_ip none = { { 0 } };
	net->autoconf->slaac.router_expires = WH_NET_NEVER;
	wh_net_gateway_set(net, &none);
}

static void dns_expire(struct wh_net *net)
{
	for (uint32_t i = 0; i < net->dns_count;) {
		if (net->dns_expires[i] > net->now) {
			i++;
			continue;
		}
		net->dns_count--;
		for (uint32_t k = i; k < net->dns_count; k++) {
			net->dns[k] = net->dns[k + 1];
			net->dns_expires[k] = net->dns_expires[k + 1];
		}
	}
}

static void on_expiry(struct wh_net *net, struct net_timer *timer)
{
	struct net_slaac *c = &net->autoconf->slaac;
	if (c->router_expires <= net->now)
		router_lost(net);
	for (uint32_t i = 0; i < NET_PREFIXES_MAX; i++) {
		struct net_prefix *p = &c->prefix[i];
		if (p->state != NET_PREFIX_USED || p->expires > net->now)
			continue;
		p->state = NET_PREFIX_FREE;
		(void)wh_net_address_remove(net, &p->ip); /* perhaps by hand already */
	}
	dns_expire(net);
	timer_restart(net);
	net_configured(net);
}

/* ---- Prefixes ---- */

static bool address_claimed(struct wh_net *net, const struct wh_net_ip *ip)
{
	struct net_slaac *c = &net->autoconf->slaac;
	for (uint32_t i = 0; i < NET_PREFIXES_MAX; i++) {
		struct net_prefix *p = &c->prefix[i];
		if (p->state != NET_PREFIX_USED || !wh_net_ip_equal(&p->ip, ip) ||
		    net->now >= p->tentative_until)
			continue;
		net->stats.address_duplicates++;
		p->state = NET_PREFIX_REFUSED;
		(void)wh_net_address_remove(net, ip);
		net_configured(net);
		return true;
	}
	return false;
}

static struct net_prefix *prefix_find(struct net_slaac *c, const struct wh_net_ip *ip)
{
	struct net_prefix *free = 0;
	for (uint32_t i = 0; i < NET_PREFIXES_MAX; i++) {
		struct net_prefix *p = &c->prefix[i];
		if (p->state != NET_PREFIX_FREE && wh_net_ip_equal(&p->ip, ip))
			return p;
		if (p->state == NET_PREFIX_FREE)
			free = p;
	}
	return free;
}

static void prefix_take(struct wh_net *net, const struct wh_wire_prefix *prefix)
{
	struct net_slaac *c = &net->autoconf->slaac;
	struct wh_net_ip ip = net_link_local(net);
	/* RFC 4862, 5.5.3: interface identifiers have 64 bits. */
	if (!prefix->autonomous || prefix->length != 64 || prefix->preferred_s > prefix->valid_s ||
	    prefix->prefix[0] == 0xfe || prefix->prefix[0] == 0xff)
		return;
	memcpy(ip.bytes, prefix->prefix, 8);
	if (wh_net_ip_is4(&ip) || net_ip_loopback(&ip))
		return;
	struct net_prefix *p = prefix_find(c, &ip);
	if (!p || p->state == NET_PREFIX_REFUSED)
		return;
	if (p->state == NET_PREFIX_USED) {
		/* (e): nobody can take an address away by an advertisement within two hours. */
		uint64_t wanted = ends(net, prefix->valid_s);
		uint64_t least = net->now + TWO_HOURS_S * NET_S;
		if (wanted > least || wanted > p->expires)
			p->expires = wanted;
		else if (p->expires > least)
			p->expires = least;
		return;
	}
	if (!prefix->valid_s || wh_net_address_add(net, &ip, 64) < 0)
		return; /* one that was set by hand stays as it is */
	*p = (struct net_prefix){ .ip = ip,
				  .state = NET_PREFIX_USED,
				  .expires = ends(net, prefix->valid_s),
				  .tentative_until = net->now + DAD_NS };
	net_mld_report(net);
	net_ndp_probe(net, &ip);
}

/* ---- Advertisements ---- */

static void dns_take(struct wh_net *net, const struct wh_net_ip *ip, uint32_t lifetime_s)
{
	net_dns_add(net, ip);
	for (uint32_t i = 0; i < net->dns_count; i++)
		if (wh_net_ip_equal(&net->dns[i], ip))
			net->dns_expires[i] = lifetime_s ? ends(net, lifetime_s) : net->now;
}

static void router_advert_input(struct wh_net *net, const struct wh_net_ip *from, const uint8_t *p,
				uint32_t size)
{
	struct net_slaac *c = &net->autoconf->slaac;
	struct wh_wire_router_advert ra;
	/* RFC 4861, 6.1.2: only from link-local addresses. */
	if (wh_wire_router_advert_parse(p, size, &ra) < 0 || from->bytes[0] != 0xfe ||
	    (from->bytes[1] & 0xc0) != 0x80) {
		net->stats.in_malformed++;
		return;
	}
	bool current = net->has_gateway6 && wh_net_ip_equal(&net->gateway6, from);
	if (ra.has_mac)
		net_neighbour_learn(net, from, ra.mac, true);
	if (ra.lifetime_s && (current || !net->has_gateway6)) {
		wh_net_gateway_set(net, from);
		c->router_expires = ends(net, ra.lifetime_s);
	} else if (!ra.lifetime_s && current) { /* it resigns: 6.3.4 */
		router_lost(net);
	}
	if (ra.hop_limit)
		net->config.hop_limit = ra.hop_limit;
	if (ra.mtu >= 1280 && net->port && ra.mtu <= net->port->mtu)
		net->link_mtu = ra.mtu;
	for (uint32_t i = 0; i < ra.prefix_count; i++)
		prefix_take(net, &ra.prefix[i]);
	for (uint32_t i = 0; i < ra.dns_count; i++) {
		struct wh_net_ip dns = wh_net_ip6(ra.dns[i]);
		dns_take(net, &dns, ra.dns_lifetime_s);
	}
	dns_expire(net);
	timer_restart(net);
	net_configured(net);
}

static void solicit(struct wh_net *net, struct net_timer *timer)
{
	struct net_slaac *c = &net->autoconf->slaac;
	uint8_t buffer[NET_HEADROOM + WH_WIRE_NDP_ROUTER_SOLICIT_SIZE];
	uint8_t *head = buffer + NET_HEADROOM, mac[6];
	struct wh_net_ip from = net_link_local(net), to = { { 0xff, 2, [15] = 2 } };
	if (net->has_gateway6 || c->solicits++ >= SOLICITS)
		return;
	net_multicast_mac(&to, mac);
	size_t size = wh_wire_router_solicit_emit(head, net->config.mac);
	(void)net_icmp6_send(net, head, (uint32_t)size, &from, &to, mac); /* repeated */
	net_timer_start(net, timer, net->now + SOLICIT_NS);
}

void net_slaac_start(struct wh_net *net)
{
	struct net_slaac *c = &net->autoconf->slaac;
	net_timer_init(&c->solicit_timer, solicit);
	net_timer_init(&c->expiry_timer, on_expiry);
	c->router_expires = WH_NET_NEVER;
	net->router_advert_input = router_advert_input;
	net->address_claimed = address_claimed;
	net_mld_report(net); /* the link-local address's group */
	solicit(net, &c->solicit_timer);
}

void net_slaac_stop(struct wh_net *net)
{
	net_timer_stop(net, &net->autoconf->slaac.solicit_timer);
	net_timer_stop(net, &net->autoconf->slaac.expiry_timer);
	net->router_advert_input = 0;
	net->address_claimed = 0;
}
