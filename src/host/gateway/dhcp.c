/* SPDX-License-Identifier: ISC */
/*
 * DHCPv4 (RFC 2131) for guests that are not ours. The server is the only one of its link, so a client that asks
 * for an address that cannot be its own gets NAK at once, and one that comes back with an address that is
 * free has it again, even from a gateway that was started anew.
 */
#include "gateway_priv.h"

static bool ip4_is_zero(const uint8_t ip[4])
{
	return wh_load_be32(ip) == 0;
}

static void copy_text(char *to, size_t size, const char *from)
{
	size_t n = from ? wh_strnlen(from, size - 1) : 0;
	memcpy(to, from ? from : "", n);
	to[n] = 0;
}

const char *search_text(struct wh_gateway *gateway)
{
	return gateway->search ? gateway->search : dns_search(gateway);
}

size_t search_emit(const char *search, uint8_t *to, size_t size, char *ret_first, size_t first_size)
{
	char name[WH_WIRE_DNS_NAME_SIZE];
	size_t done = 0;
	while (*search) {
		size_t n = 0;
		while (search[n] && search[n] != ' ')
			n++;
		if (n && n < sizeof name) {
			memcpy(name, search, n);
			name[n] = 0;
			int bytes = wh_wire_dns_name_emit(to + done, size - done, name);
			if (bytes < 0)
				return done;
			if (!done && ret_first)
				copy_text(ret_first, first_size, name);
			done += (size_t)bytes;
		}
		search += n + (search[n] == ' ');
	}
	return done;
}

static void reply_options(struct wh_gateway *gateway, struct wh_wire_dhcp *reply)
{
	const struct wh_gateway_addresses *a = &gateway->addresses;
	wh_store_be32(reply->netmask, ~((1u << (32 - a->prefix4)) - 1));
	reply->router_count = reply->dns_count = 1;
	memcpy(reply->router[0], a->gateway_ip4, 4);
	memcpy(reply->dns[0], a->dns_ip4, 4);
	for (uint32_t i = 0; i < gateway->ntp_count; i++)
		if (wh_net_ip_is4(&gateway->ntp[i]))
			memcpy(reply->ntp[reply->ntp_count++], gateway->ntp[i].bytes + 12, 4);
	reply->mtu = (uint16_t)(gateway->inner.mtu > 65535 ? 65535 : gateway->inner.mtu);
	/* The name is that of the guest, not of all guests. */
	if (!memcmp(reply->your_ip, a->guest_ip4, 4) || !memcmp(reply->client_ip, a->guest_ip4, 4))
		copy_text(reply->hostname, sizeof reply->hostname, gateway->hostname);
	reply->search_size =
		(uint8_t)search_emit(search_text(gateway), reply->search, sizeof reply->search,
				     reply->domain, sizeof reply->domain);
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
	/* RFC 6842: the client's identifier comes back. */
	reply->client_id_size = request->client_id_size;
	memcpy(reply->client_id, request->client_id, request->client_id_size);
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

static void discover_answer(struct wh_gateway *gateway, const struct wh_wire_dhcp *request)
{
	struct wh_wire_dhcp reply = { 0 };
	struct lease *lease = lease_offer(gateway, request->mac, request->requested_ip);
	if (!lease)
		return;
	reply.type = request->type ? WH_WIRE_DHCP_OFFER : 0;
	memcpy(reply.your_ip, lease->ip4, 4);
	reply.lease_s = request->type ? LEASE_S : 0;
	if (!request->type)
		lease_bind(gateway, lease); /* BOOTP asks once */
	reply_options(gateway, &reply);
	reply_send(gateway, &reply, request);
}

/* RFC 2131, 4.3.2: SELECTING has a server's id; INIT-REBOOT names the address as an option, RENEWING and
 * REBINDING have it in ciaddr. */
static void request_answer(struct wh_gateway *gateway, const struct wh_wire_dhcp *request)
{
	struct wh_wire_dhcp reply = { 0 };
	const uint8_t *wanted =
		ip4_is_zero(request->requested_ip) ? request->client_ip : request->requested_ip;
	bool selecting = !ip4_is_zero(request->server_id);
	if (selecting && memcmp(request->server_id, gateway->addresses.gateway_ip4, 4)) {
		/* It chose another server. */
		struct lease *offered = lease_find(gateway, request->mac);
		if (offered && !offered->bound)
			lease_release(gateway, offered);
		return;
	}
	struct lease *lease = lease_offer(gateway, request->mac, wanted);
	if (!lease || memcmp(wanted, lease->ip4, 4)) {
		gateway->stats.dhcp_refused++;
		reply.type = WH_WIRE_DHCP_NAK;
	} else {
		lease_bind(gateway, lease);
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
		discover_answer(gateway, &request);
		break;
	case WH_WIRE_DHCP_REQUEST:
		request_answer(gateway, &request);
		break;
	case WH_WIRE_DHCP_INFORM: /* it has an address: no lease, no yiaddr (4.3.5) */
		if (ip4_is_zero(request.client_ip))
			return;
		reply.type = WH_WIRE_DHCP_ACK;
		memcpy(reply.client_ip, request.client_ip, 4);
		reply_options(gateway, &reply);
		reply_send(gateway, &reply, &request);
		break;
	case WH_WIRE_DHCP_RELEASE:
		lease = lease_find(gateway, request.mac);
		if (lease && !memcmp(lease->ip4, request.client_ip, 4))
			lease_release(gateway, lease);
		break;
	case WH_WIRE_DHCP_DECLINE:
		lease = lease_find(gateway, request.mac);
		if (lease && !memcmp(lease->ip4, request.requested_ip, 4))
			lease_decline(gateway, lease);
		break;
	default:
		break;
	}
}
