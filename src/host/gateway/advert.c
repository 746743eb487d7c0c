/* SPDX-License-Identifier: ISC */
/*
 * Router advertisements (RFC 4861, 8106): prefix, MTU, DNS servers, search list. Sent to whoever
 * solicits, when the link or the list changes, and every ten minutes, as a router's lifetime runs out without.
 *
 * With DHCPv6 both flags are set, so that guests take the one address that published ports lead to; the prefix
 * stays autonomous, for guests that only know SLAAC.
 */
#include "gateway_priv.h"

#define ADVERT_INTERVAL_NS (600 * GATEWAY_S)
/* RFC 4861 6.2.1: three intervals or more, RFC 8319: up to 65535. */
#define ADVERT_LIFETIME_S 9000u
#define ADVERT_PREFIX_S UINT32_MAX /* the prefix lives as long as the link */
#define OPTION_DNSSL 31u
#define DNSSL_SIZE_MAX (WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX - 120u) /* beside the other options */

/* Appends RFC 8106, 5.2. */
static size_t dnssl_append(struct wh_gateway *gateway, uint8_t *bytes, size_t size)
{
	uint8_t names[DNSSL_SIZE_MAX - 8];
	size_t n = search_emit(search_text(gateway), names, sizeof names, NULL, 0);
	size_t padded = (n + 7) & ~(size_t)7;
	if (!n || size + 8 + padded > WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX)
		return size;
	uint8_t *option = bytes + size;
	memset(option, 0, 8 + padded);
	option[0] = OPTION_DNSSL;
	option[1] = (uint8_t)(1 + padded / 8);
	wh_store_be32(option + 4, ADVERT_LIFETIME_S);
	memcpy(option + 8, names, n);
	return size + 8 + padded;
}

int advert_update(struct wh_gateway *gateway)
{
	const struct wh_gateway_addresses *a = &gateway->addresses;
	uint8_t bytes[WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX];
	if (!gateway->ip6)
		return 0;
	struct wh_wire_router_advert advert = { .hop_limit = 64,
						.managed = gateway->dhcp6 != NULL,
						.other = gateway->dhcp6 != NULL,
						.lifetime_s = ADVERT_LIFETIME_S,
						.mtu = gateway->inner.mtu,
						.has_mac = true,
						.prefix_count = 1,
						.dns_count = 1,
						.dns_lifetime_s = ADVERT_LIFETIME_S };
	memcpy(advert.mac, a->gateway_mac, 6);
	memcpy(advert.prefix[0].prefix, a->gateway_ip6, 16);
	advert.prefix[0].length = a->prefix6;
	advert.prefix[0].on_link = true;
	advert.prefix[0].autonomous = a->prefix6 == 64;
	advert.prefix[0].valid_s = advert.prefix[0].preferred_s = ADVERT_PREFIX_S;
	memcpy(advert.dns[0], a->dns_ip6, 16);
	size_t size = dnssl_append(gateway, bytes, wh_wire_router_advert_emit(bytes, &advert));
	return wh_net_router_advert_set(gateway->net, bytes, (uint32_t)size);
}

void advert_send(struct wh_gateway *gateway)
{
	if (!gateway->ip6 || !gateway->port)
		return;
	/* Without memory the former one goes out; a full link hears the next one. */
	(void)advert_update(gateway);
	(void)wh_net_router_advert_send(gateway->net);
	gateway->touched = true;
	wh_loop_timer_start(gateway->loop, &gateway->advert_timer,
			    wh_loop_now(gateway->loop) + ADVERT_INTERVAL_NS);
}

void advert_expired(struct wh_loop_timer *timer)
{
	advert_send(timer->ctx);
}
