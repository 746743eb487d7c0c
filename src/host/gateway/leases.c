/* SPDX-License-Identifier: ISC */
/*
 * Leases: which addresses a MAC has, for DHCPv4 and DHCPv6 alike. One MAC has one address of each version: published
 * ports and the switch's spoofing check want to know where a guest is, and a guest that asks by both
 * protocols is one guest.
 *
 * A lease that has run out stays with its MAC until another one needs the place, so that a guest that comes back
 * after a pause has its old address. One that runs is never taken away: when there is no other, the
 * pool is exhausted, which is counted. An offer that nobody takes up holds its address for a minute, a declined
 * address rests for ten.
 */
#include "gateway_priv.h"

#define OFFER_NS (60 * GATEWAY_S)
#define DECLINE_NS (600 * GATEWAY_S)

static bool ip4_is_zero(const uint8_t ip[4])
{
	return wh_load_be32(ip) == 0;
}

static bool address_taken(const struct wh_gateway *gateway, const uint8_t ip[4])
{
	if (!memcmp(ip, gateway->addresses.gateway_ip4, 4) ||
	    !memcmp(ip, gateway->addresses.dns_ip4, 4))
		return true;
	for (uint32_t i = 0; i < WH_GATEWAY_LEASES_MAX; i++)
		if (!memcmp(ip, gateway->leases[i].ip4, 4))
			return true;
	return false;
}

/* One that a machine of this network may have? */
static bool address_usable(const struct wh_gateway *gateway, const uint8_t ip[4])
{
	const struct wh_gateway_addresses *a = &gateway->addresses;
	uint32_t hosts = (1u << (32 - a->prefix4)) - 1, host = wh_load_be32(ip) & hosts;
	return !((wh_load_be32(ip) ^ wh_load_be32(a->guest_ip4)) & ~hosts) && host &&
	       host != hosts && memcmp(ip, a->gateway_ip4, 4) && memcmp(ip, a->dns_ip4, 4);
}

/* The configured guest address first, then the ones after it. */
static bool address_choose(const struct wh_gateway *gateway, uint8_t ret_ip[4])
{
	uint32_t first = wh_load_be32(gateway->addresses.guest_ip4);
	uint32_t hosts = (1u << (32 - gateway->addresses.prefix4)) - 1;
	for (uint32_t i = 0; i <= hosts && i < 4 * WH_GATEWAY_LEASES_MAX; i++) {
		uint8_t ip[4];
		wh_store_be32(ip, (first & ~hosts) | (((first & hosts) + i) & hosts));
		if (address_usable(gateway, ip) && !address_taken(gateway, ip)) {
			memcpy(ret_ip, ip, 4);
			return true;
		}
	}
	return false;
}

/* The IPv6 address shows the same digits as the IPv4 one: 10.0.2.16 goes with ::16. */
static void ip6_derive(const struct wh_gateway *gateway, struct lease *lease)
{
	const struct wh_gateway_addresses *a = &gateway->addresses;
	uint32_t host = wh_load_be32(lease->ip4) & ((1u << (32 - a->prefix4)) - 1), digits = 0;
	memset(lease->ip6, 0, 16);
	if (!gateway->ip6)
		return;
	if (!memcmp(lease->ip4, a->guest_ip4, 4)) {
		memcpy(lease->ip6, a->guest_ip6, 16);
		return;
	}
	if (a->prefix6 > 96 || host > 99999999)
		return;
	for (unsigned shift = 0; host; host /= 10, shift += 4)
		digits |= host % 10 << shift;
	uint8_t ip[16];
	memcpy(ip, a->gateway_ip6, 16);
	memset(ip + a->prefix6 / 8 + !!(a->prefix6 % 8), 0,
	       16u - a->prefix6 / 8 - !!(a->prefix6 % 8));
	wh_store_be32(ip + 12, digits);
	if (memcmp(ip, a->gateway_ip6, 16) && memcmp(ip, a->dns_ip6, 16) &&
	    memcmp(ip, a->guest_ip6, 16))
		memcpy(lease->ip6, ip, 16);
}

static void lease_fill(struct wh_gateway *gateway, struct lease *lease, const uint8_t mac[6],
		       const uint8_t ip4[4])
{
	*lease = (struct lease){ .expires_ns = wh_loop_now(gateway->loop) + OFFER_NS };
	memcpy(lease->mac, mac, 6);
	memcpy(lease->ip4, ip4, 4);
	ip6_derive(gateway, lease);
}

static bool lease_expired(const struct wh_gateway *gateway, const struct lease *lease)
{
	return !lease->fixed && lease->expires_ns <= wh_loop_now(gateway->loop);
}

struct lease *lease_find(struct wh_gateway *gateway, const uint8_t mac[6])
{
	for (uint32_t i = 0; i < WH_GATEWAY_LEASES_MAX; i++) {
		struct lease *lease = &gateway->leases[i];
		if (!ip4_is_zero(lease->ip4) && !lease->declined && !memcmp(lease->mac, mac, 6))
			return lease;
	}
	return NULL;
}

/* A place that nobody has, or the lease that ran out first; NULL = none. */
static struct lease *lease_vacant(struct wh_gateway *gateway, bool expired)
{
	struct lease *found = NULL;
	for (uint32_t i = 0; i < WH_GATEWAY_LEASES_MAX; i++) {
		struct lease *lease = &gateway->leases[i];
		if (ip4_is_zero(lease->ip4) && !expired)
			return lease;
		if (expired && !ip4_is_zero(lease->ip4) && lease_expired(gateway, lease) &&
		    (!found || lease->expires_ns < found->expires_ns))
			found = lease;
	}
	return found;
}

struct lease *lease_offer(struct wh_gateway *gateway, const uint8_t mac[6], const uint8_t *wanted)
{
	struct lease *lease = lease_find(gateway, mac);
	uint64_t hold = wh_loop_now(gateway->loop) + OFFER_NS;
	uint8_t ip[4];
	if (lease) {
		if (lease->expires_ns < hold)
			lease->expires_ns = hold;
		return lease;
	}
	lease = lease_vacant(gateway, false);
	bool found = false;
	if (lease && wanted && address_usable(gateway, wanted) && !address_taken(gateway, wanted)) {
		memcpy(ip, wanted, 4);
		found = true;
	} else if (lease) {
		found = address_choose(gateway, ip);
	}
	if (!found) {
		lease = lease_vacant(gateway, true);
		if (!lease) {
			gateway->stats.dhcp_exhausted++;
			return NULL;
		}
		memcpy(ip, lease->ip4, 4);
	}
	lease_fill(gateway, lease, mac, ip);
	return lease;
}

void lease_bind(struct wh_gateway *gateway, struct lease *lease)
{
	bool news = !lease->bound;
	lease->bound = true;
	lease->expires_ns = wh_loop_now(gateway->loop) + LEASE_S * GATEWAY_S;
	if (news)
		event_lease(gateway, "lease", lease);
}

void lease_release(struct wh_gateway *gateway, struct lease *lease)
{
	if (lease->bound)
		event_lease(gateway, "release", lease);
	lease->bound = false;
	lease->expires_ns = 0;
}

/* Somebody else uses it, says the guest: nobody gets it for a while. */
void lease_decline(struct wh_gateway *gateway, struct lease *lease)
{
	event_lease(gateway, "decline", lease);
	gateway->stats.dhcp_declined++;
	if (lease->fixed)
		return; /* it was asked for by name; whoever is wrong, it is not for us to change */
	memset(lease->mac, 0, 6);
	lease->declined = true;
	lease->bound = false;
	lease->expires_ns = wh_loop_now(gateway->loop) + DECLINE_NS;
}

static int lease_assign(struct wh_gateway *gateway, const uint8_t mac[6], const uint8_t ip4[4],
			bool fixed)
{
	struct lease *own = lease_find(gateway, mac);
	if (!address_usable(gateway, ip4))
		return -WH_EADDRNOTAVAIL;
	for (uint32_t i = 0; i < WH_GATEWAY_LEASES_MAX; i++) {
		struct lease *lease = &gateway->leases[i];
		if (lease == own || memcmp(lease->ip4, ip4, 4))
			continue;
		if (lease->fixed || (lease->bound && !lease_expired(gateway, lease)) || !fixed)
			return -WH_EADDRINUSE;
		memset(lease, 0, sizeof *lease); /* an offer, or one that ran out */
	}
	if (!own)
		own = lease_vacant(gateway, false);
	if (!own)
		own = lease_vacant(gateway, true);
	if (!own)
		return -WH_ENOSPC;
	lease_fill(gateway, own, mac, ip4);
	own->fixed = fixed;
	if (!fixed)
		own->expires_ns = wh_loop_now(gateway->loop) + LEASE_S * GATEWAY_S;
	return 0;
}

int wh_gateway_lease_set(struct wh_gateway *gateway, const uint8_t mac[6], const uint8_t ip4[4])
{
	return lease_assign(gateway, mac, ip4, false);
}

int wh_gateway_lease_fix(struct wh_gateway *gateway, const uint8_t mac[6], const uint8_t ip4[4])
{
	return mac[0] & 1 ? -WH_EINVAL : lease_assign(gateway, mac, ip4, true);
}

int wh_gateway_lease_remove(struct wh_gateway *gateway, const uint8_t mac[6])
{
	struct lease *lease = lease_find(gateway, mac);
	if (!lease)
		return -WH_ENOENT;
	lease_release(gateway, lease);
	memset(lease, 0, sizeof *lease);
	return 0;
}

uint32_t wh_gateway_lease_list(const struct wh_gateway *gateway, struct wh_gateway_lease *list,
			       uint32_t max)
{
	uint32_t count = 0;
	uint64_t now = wh_loop_now(gateway->loop);
	for (uint32_t i = 0; i < WH_GATEWAY_LEASES_MAX && count < max; i++) {
		const struct lease *lease = &gateway->leases[i];
		if (ip4_is_zero(lease->ip4))
			continue;
		struct wh_gateway_lease *to = &list[count++];
		*to = (struct wh_gateway_lease){ .fixed = lease->fixed,
						 .bound = lease->bound,
						 .declined = lease->declined };
		memcpy(to->mac, lease->mac, 6);
		memcpy(to->ip4, lease->ip4, 4);
		memcpy(to->ip6, lease->ip6, 16);
		if (lease->expires_ns > now)
			to->left_ns = lease->expires_ns - now;
	}
	return count;
}
