/* SPDX-License-Identifier: ISC */
/* Configuration of guests that are not ours: DHCPv4 leases by MAC, and router advertisements. */
#include "gateway_priv.h"

#define LEASE_S 86400u
/* Longer than any lease is used; RFC 4861 6.2.1 allows 9000 s, RFC 8319 65535. */
#define ADVERT_LIFETIME_S 65535u
#define ADVERT_PREFIX_S UINT32_MAX

/* ---- leases ---- */

static bool ip4_is_zero(const uint8_t ip[4])
{
	return wh_load_be32(ip) == 0;
}

static bool lease_taken(const struct wh_gateway *gateway, const uint8_t ip[4])
{
	if (!memcmp(ip, gateway->addresses.gateway_ip4, 4) ||
	    !memcmp(ip, gateway->addresses.dns_ip4, 4))
		return true;
	for (uint32_t i = 0; i < WH_GATEWAY_LEASES_MAX; i++)
		if (!memcmp(ip, gateway->leases[i].ip4, 4))
			return true;
	return false;
}

/* The configured guest address first, then the ones after it. */
static bool lease_address(const struct wh_gateway *gateway, uint8_t ret_ip[4])
{
	uint32_t first = wh_load_be32(gateway->addresses.guest_ip4);
	uint32_t hosts = (1u << (32 - gateway->addresses.prefix4)) - 1;
	for (uint32_t i = 0; i < hosts && i < 4 * WH_GATEWAY_LEASES_MAX; i++) {
		uint32_t host = ((first & hosts) + i) & hosts;
		uint8_t ip[4];
		if (host == 0 || host == hosts)
			continue;
		wh_store_be32(ip, (first & ~hosts) | host);
		if (!lease_taken(gateway, ip)) {
			memcpy(ret_ip, ip, 4);
			return true;
		}
	}
	return false;
}

/* The MAC's lease, a new one, or the least recently used one. NULL = the network is full. */
static struct lease *lease_of(struct wh_gateway *gateway, const uint8_t mac[6])
{
	struct lease *oldest = &gateway->leases[0], *unused = NULL;
	for (uint32_t i = 0; i < WH_GATEWAY_LEASES_MAX; i++) {
		struct lease *lease = &gateway->leases[i];
		if (ip4_is_zero(lease->ip4)) {
			unused = unused ? unused : lease;
			continue;
		}
		if (!memcmp(lease->mac, mac, 6)) {
			lease->used_ns = wh_loop_now(gateway->loop);
			return lease;
		}
		if (lease->used_ns < oldest->used_ns)
			oldest = lease;
	}
	struct lease *lease = unused ? unused : oldest;
	uint8_t ip[4];
	if (unused && !lease_address(gateway, ip))
		return NULL;
	if (unused)
		memcpy(lease->ip4, ip, 4);
	memcpy(lease->mac, mac, 6);
	lease->used_ns = wh_loop_now(gateway->loop);
	return lease;
}

int wh_gateway_lease_set(struct wh_gateway *gateway, const uint8_t mac[6], const uint8_t ip4[4])
{
	const struct wh_gateway_addresses *a = &gateway->addresses;
	uint32_t hosts = (1u << (32 - a->prefix4)) - 1, host = wh_load_be32(ip4) & hosts;
	struct lease *found = NULL;
	if ((wh_load_be32(ip4) ^ wh_load_be32(a->guest_ip4)) & ~hosts || !host || host == hosts ||
	    !memcmp(ip4, a->gateway_ip4, 4) || !memcmp(ip4, a->dns_ip4, 4))
		return -WH_EADDRNOTAVAIL;
	for (uint32_t i = 0; i < WH_GATEWAY_LEASES_MAX; i++) {
		struct lease *lease = &gateway->leases[i];
		bool used = !ip4_is_zero(lease->ip4), own = used && !memcmp(lease->mac, mac, 6);
		if (used && !own && !memcmp(lease->ip4, ip4, 4))
			return -WH_EADDRINUSE;
		if (own || (!used && !found))
			found = lease;
	}
	if (!found)
		return -WH_ENOSPC;
	memcpy(found->mac, mac, 6);
	memcpy(found->ip4, ip4, 4);
	found->used_ns = wh_loop_now(gateway->loop);
	return 0;
}

/* ---- replies ---- */

static void copy_text(char *to, size_t size, const char *from)
{
	size_t n = from ? wh_strnlen(from, size - 1) : 0;
	memcpy(to, from ? from : "", n);
	to[n] = 0;
}

/* Option 119: names one after the other, without compression. */
static void search_fill(struct wh_wire_dhcp *dhcp, const char *search)
{
	char name[WH_WIRE_DNS_NAME_SIZE];
	while (*search) {
		size_t n = 0;
		while (search[n] && search[n] != ' ')
			n++;
		if (n && n < sizeof name) {
			memcpy(name, search, n);
			name[n] = 0;
			int size = wh_wire_dns_name_emit(dhcp->search + dhcp->search_size,
							 sizeof dhcp->search - dhcp->search_size,
							 name);
			if (size < 0)
				return;
			if (!dhcp->domain[0])
				copy_text(dhcp->domain, sizeof dhcp->domain, name);
			dhcp->search_size = (uint8_t)(dhcp->search_size + size);
		}
		search += n + (search[n] == ' ');
	}
}

static void reply_options(struct wh_gateway *gateway, struct wh_wire_dhcp *reply)
{
	const struct wh_gateway_addresses *a = &gateway->addresses;
	wh_store_be32(reply->netmask, ~((1u << (32 - a->prefix4)) - 1));
	reply->router_count = reply->dns_count = 1;
	memcpy(reply->router[0], a->gateway_ip4, 4);
	memcpy(reply->dns[0], a->dns_ip4, 4);
	reply->mtu = (uint16_t)(gateway->inner.mtu > 65535 ? 65535 : gateway->inner.mtu);
	copy_text(reply->hostname, sizeof reply->hostname, gateway->hostname);
	search_fill(reply, gateway->search ? gateway->search : dns_search(gateway));
}

static void reply_send(struct wh_gateway *gateway, struct wh_wire_dhcp *reply,
		       const struct wh_wire_dhcp *request)
{
	static const uint8_t broadcast[4] = { 255, 255, 255, 255 };
	uint8_t bytes[WH_WIRE_DHCP_SIZE_MAX];
	reply->op = 2;
	reply->transaction = request->transaction;
	reply->broadcast = request->broadcast;
	memcpy(reply->mac, request->mac, 6);
	memcpy(reply->server_id, gateway->addresses.gateway_ip4, 4);
	memcpy(reply->relay_ip, request->relay_ip, 4);
	struct wh_net_tuple tuple = { .local = { gateway->self[0], WH_WIRE_DHCP_SERVER_PORT },
				      .remote = { wh_net_ip4(broadcast),
						  WH_WIRE_DHCP_CLIENT_PORT } };
	/* A client that has its address is asked there; others hear the broadcast. */
	if (!ip4_is_zero(request->client_ip) && reply->type != WH_WIRE_DHCP_NAK)
		tuple.remote.ip = wh_net_ip4(request->client_ip);
	struct wh_iov iov = { bytes, wh_wire_dhcp_emit(bytes, reply) };
	if (wh_net_udp_send(gateway->net, NULL, &tuple, &iov, 1, NULL) >= 0)
		gateway->stats.dhcp_out++;
}

static void request_answer(struct wh_gateway *gateway, const struct wh_wire_dhcp *request)
{
	struct wh_wire_dhcp reply = { 0 };
	const uint8_t *wanted =
		ip4_is_zero(request->requested_ip) ? request->client_ip : request->requested_ip;
	bool selecting = !ip4_is_zero(request->server_id);
	if (selecting && memcmp(request->server_id, gateway->addresses.gateway_ip4, 4))
		return; /* it chose another server */
	struct lease *lease = lease_of(gateway, request->mac);
	if (!lease)
		return;
	if (memcmp(wanted, lease->ip4, 4)) {
		reply.type = WH_WIRE_DHCP_NAK;
	} else {
		reply.type = WH_WIRE_DHCP_ACK;
		memcpy(reply.your_ip, lease->ip4, 4);
		memcpy(reply.client_ip, request->client_ip, 4);
		reply.lease_s = LEASE_S;
		reply_options(gateway, &reply);
	}
	reply_send(gateway, &reply, request);
}

void dhcp_datagram(struct wh_gateway *gateway, const struct wh_iov *iov, uint32_t count,
		   uint32_t size)
{
	uint8_t bytes[1500];
	struct wh_wire_dhcp request, reply = { 0 };
	gateway->stats.dhcp_in++;
	size_t n = wh_iov_read(iov, count, 0, bytes, size < sizeof bytes ? size : sizeof bytes);
	if (wh_wire_dhcp_parse(bytes, n, &request) < 0 || request.op != 1)
		return;
	struct lease *lease;
	switch (request.type) {
	case 0: /* BOOTP is answered like a discovery */
	case WH_WIRE_DHCP_DISCOVER:
		lease = lease_of(gateway, request.mac);
		if (!lease)
			return;
		reply.type = request.type ? WH_WIRE_DHCP_OFFER : 0;
		memcpy(reply.your_ip, lease->ip4, 4);
		reply.lease_s = request.type ? LEASE_S : 0;
		reply_options(gateway, &reply);
		reply_send(gateway, &reply, &request);
		break;
	case WH_WIRE_DHCP_REQUEST:
		request_answer(gateway, &request);
		break;
	case WH_WIRE_DHCP_INFORM:
		reply.type = WH_WIRE_DHCP_ACK;
		memcpy(reply.client_ip, request.client_ip, 4);
		reply_options(gateway, &reply);
		reply_send(gateway, &reply, &request);
		break;
	case WH_WIRE_DHCP_RELEASE:
	case WH_WIRE_DHCP_DECLINE:
		for (uint32_t i = 0; i < WH_GATEWAY_LEASES_MAX; i++)
			if (!memcmp(gateway->leases[i].mac, request.mac, 6))
				memset(&gateway->leases[i], 0, sizeof gateway->leases[i]);
		break;
	default:
		break;
	}
}

/* ---- IPv6 ---- */

int router_advert_init(struct wh_gateway *gateway)
{
	const struct wh_gateway_addresses *a = &gateway->addresses;
	uint8_t bytes[WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX];
	if (!gateway->ip6)
		return 0;
	struct wh_wire_router_advert advert = { .hop_limit = 64,
						.lifetime_s = ADVERT_LIFETIME_S,
						.has_mac = true,
						.prefix_count = 1,
						.dns_count = 1,
						.dns_lifetime_s = ADVERT_PREFIX_S };
	memcpy(advert.mac, a->gateway_mac, 6);
	memcpy(advert.prefix[0].prefix, a->gateway_ip6, 16);
	advert.prefix[0].length = a->prefix6;
	advert.prefix[0].on_link = true;
	advert.prefix[0].autonomous = a->prefix6 == 64;
	advert.prefix[0].valid_s = advert.prefix[0].preferred_s = ADVERT_PREFIX_S;
	memcpy(advert.dns[0], a->dns_ip6, 16);
	size_t size = wh_wire_router_advert_emit(bytes, &advert);
	return wh_net_router_advert_set(gateway->net, bytes, (uint32_t)size);
}
