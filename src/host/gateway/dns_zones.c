/* SPDX-License-Identifier: ISC */
/*
 * Which servers a question goes to: those of the longest domain that the name is in, else the host's. Names of a
 * domain with servers of its own never go to others, so that private names stay private.
 *
 * Servers that have not answered DNS_MISSES_MAX times in a row are asked last for a while: a dead first
 * server costs its time-out once and not with every question.
 */
#include "dns_priv.h"

#include <wherry/base/assert.h>

#define MISSES_MAX 3u
#define DOWN_NS (30 * GATEWAY_S)

struct zone {
	struct wh_list node; /* gateway->zones */
	struct wh_gateway_zone entry;
};

static struct zone *find(const struct wh_gateway *gateway, const char *domain)
{
	WH_LIST_FOR_EACH(node, &gateway->zones) {
		struct zone *zone = WH_LIST_ENTRY(node, struct zone, node);
		if (wh_streq(zone->entry.domain, domain))
			return zone;
	}
	return NULL;
}

int wh_gateway_zone_add(struct wh_gateway *gateway, const char *domain,
			const struct wh_net_end *server)
{
	char lower[WH_GATEWAY_NAME_SIZE];
	if (!name_take(domain, false, lower) || wh_net_ip_is_any(&server->ip) || !server->port)
		return -WH_EINVAL;
	struct zone *zone = find(gateway, lower);
	if (!zone && gateway->zone_count == WH_GATEWAY_ZONES_MAX)
		return -WH_ENOSPC;
	if (zone && zone->entry.server_count == WH_GATEWAY_RESOLVERS_MAX)
		return -WH_ENOSPC;
	if (!zone) {
		zone = wh_alloc_zero(gateway->alloc, sizeof *zone);
		if (!zone)
			return -WH_ENOMEM;
		memcpy(zone->entry.domain, lower, sizeof lower);
		wh_list_push_back(&gateway->zones, &zone->node);
		gateway->zone_count++;
	}
	zone->entry.servers[zone->entry.server_count++] = *server;
	return 0;
}

static void zone_free(struct wh_gateway *gateway, struct zone *zone)
{
	wh_assert(gateway->zone_count > 0);
	gateway->zone_count--;
	wh_list_remove(&zone->node);
	wh_free(gateway->alloc, zone, sizeof *zone);
}

int wh_gateway_zone_remove(struct wh_gateway *gateway, const char *domain)
{
	char lower[WH_GATEWAY_NAME_SIZE];
	struct zone *zone = name_take(domain, false, lower) ? find(gateway, lower) : NULL;
	if (!zone)
		return -WH_ENOENT;
	zone_free(gateway, zone);
	return 0;
}

int wh_gateway_zone_get(const struct wh_gateway *gateway, uint32_t index,
			struct wh_gateway_zone *ret_zone)
{
	WH_LIST_FOR_EACH(node, &gateway->zones)
		if (!index--) {
			*ret_zone = WH_LIST_ENTRY(node, struct zone, node)->entry;
			return 0;
		}
	return -WH_ENOENT;
}

void zones_fini(struct wh_gateway *gateway)
{
	while (gateway->zones.next && !wh_list_empty(&gateway->zones))
		zone_free(gateway, WH_LIST_ENTRY(gateway->zones.next, struct zone, node));
}

bool name_in(const char *name, const char *domain)
{
	size_t n = wh_strlen(name), d = wh_strlen(domain);
	return n >= d && wh_streq(name + n - d, domain) && (n == d || name[n - d - 1] == '.');
}

void wh_gateway_resolvers_set(struct wh_gateway *gateway, const struct wh_net_end *list,
			      uint32_t count)
{
	wh_assert(count <= WH_GATEWAY_RESOLVERS_MAX);
	memcpy(gateway->resolvers, list, count * sizeof *list);
	gateway->resolver_count = count;
	if (!gateway->dns)
		return;
	gateway->dns->checked_ns = 0;
	gateway->dns->resolv_stamp = 0; /* the host's are read again */
}

/* ---- who answers ---- */

static struct dns_health *health_find(struct gateway_dns *dns, const struct wh_net_end *server,
				      bool make)
{
	struct dns_health *place = &dns->health[0];
	for (uint32_t i = 0; i < DNS_HEALTH_MAX; i++) {
		struct dns_health *h = &dns->health[i];
		if (h->misses && h->server.port == server->port &&
		    wh_net_ip_equal(&h->server.ip, &server->ip))
			return h;
		if (!h->misses || (place->misses && h->missed_ns < place->missed_ns))
			place = h;
	}
	if (!make)
		return NULL;
	*place = (struct dns_health){ .server = *server };
	return place;
}

void dns_server_missed(struct wh_gateway *gateway, const struct wh_net_end *server)
{
	struct dns_health *h = health_find(gateway->dns, server, true);
	if (h->misses < MISSES_MAX)
		h->misses++;
	h->missed_ns = wh_loop_now(gateway->loop);
}

void dns_server_answered(struct wh_gateway *gateway, const struct wh_net_end *server)
{
	struct dns_health *h = health_find(gateway->dns, server, false);
	if (h)
		h->misses = 0;
}

static bool is_down(struct wh_gateway *gateway, const struct wh_net_end *server)
{
	const struct dns_health *h = health_find(gateway->dns, server, false);
	return h && h->misses == MISSES_MAX && wh_loop_now(gateway->loop) - h->missed_ns < DOWN_NS;
}

uint32_t dns_servers_choose(struct wh_gateway *gateway, const char *name,
			    struct wh_net_end list[WH_GATEWAY_RESOLVERS_MAX])
{
	const struct wh_net_end *from = gateway->dns->servers;
	uint32_t count = gateway->dns->server_count, n = 0;
	size_t longest = 0;
	WH_LIST_FOR_EACH(node, &gateway->zones) {
		const struct zone *zone = WH_LIST_ENTRY(node, struct zone, node);
		size_t size = wh_strlen(zone->entry.domain);
		if (size < longest || !name_in(name, zone->entry.domain))
			continue;
		longest = size;
		from = zone->entry.servers;
		count = zone->entry.server_count;
	}
	for (int down = 0; down < 2; down++)
		for (uint32_t i = 0; i < count; i++)
			if (is_down(gateway, &from[i]) == down)
				list[n++] = from[i];
	return n;
}
