/* SPDX-License-Identifier: ISC */
/*
 * DHCPv6 (RFC 8415): addresses and, for those who have one by SLAAC, the other settings.
 *
 * Stateful, because published ports lead to one known address: the guest that asks has it. A client is known by
 * the MAC that its frames come from and not by its DUID: systemd's and others' DUIDs say nothing about the
 * interface, images that are copied share them, and the switch holds guests to their MAC anyhow. One address
 * per MAC (IA_NA); further associations, temporary addresses and prefixes are refused in the protocol's way.
 *
 * A file of its own that wh_gateway_dhcp6_enable brings in: who does not call it does not link it.
 */
#include "gateway_priv.h"

#include <wherry/base/assert.h>

enum { SOLICIT = 1, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE };
enum { INFORMATION = 11 };
enum {
	OPTION_CLIENT = 1,
	OPTION_SERVER = 2,
	OPTION_IA_NA = 3,
	OPTION_IA_TA = 4,
	OPTION_ADDRESS = 5,
	OPTION_WANTED = 6,
	OPTION_PREFERENCE = 7,
	OPTION_STATUS = 13,
	OPTION_RAPID = 14,
	OPTION_DNS = 23,
	OPTION_SEARCH = 24,
	OPTION_IA_PD = 25,
	OPTION_SNTP = 31,
	OPTION_REFRESH = 32,
	OPTION_NTP = 56,
};
enum { STATUS_OK = 0, STATUS_NO_ADDRESS = 2, STATUS_NOT_ON_LINK = 4, STATUS_NO_PREFIX = 6 };

#define DUID_SIZE_MAX 130u
#define MESSAGE_SIZE_MAX 1232u /* fits the smallest IPv6 MTU */
#define IAS_MAX 4u
#define ADDRESSES_MAX 4u
#define SERVER_DUID_SIZE 10u

struct association {
	uint16_t kind; /* OPTION_IA_NA, _TA, _PD */
	uint32_t iaid;
	uint32_t count;
	uint8_t address[ADDRESSES_MAX][16];
};

struct request6 {
	uint8_t type;
	uint8_t transaction[3];
	const uint8_t *client, *server, *wanted;
	uint16_t client_size, server_size, wanted_size;
	bool rapid;
	uint32_t ia_count;
	struct association ia[IAS_MAX];
};

/* ---- in ---- */

/* One option at *at; false = the end. A length that is too long is the end, and *bad. */
static bool option_next(const uint8_t *p, size_t size, size_t *at, uint16_t *ret_kind,
			const uint8_t **ret_data, uint16_t *ret_size, bool *bad)
{
	if (*at == size)
		return false;
	if (size - *at < 4 || wh_load_be16(p + *at + 2) > size - *at - 4) {
		*bad = true;
		return false;
	}
	*ret_kind = wh_load_be16(p + *at);
	*ret_size = wh_load_be16(p + *at + 2);
	*ret_data = p + *at + 4;
	*at += 4u + *ret_size;
	return true;
}

static bool association_parse(uint16_t kind, const uint8_t *p, uint16_t size,
			      struct association *ia)
{
	uint16_t head = kind == OPTION_IA_TA ? 4 : 12, option, option_size;
	size_t at = head;
	const uint8_t *data;
	bool bad = false;
	if (size < head)
		return false;
	*ia = (struct association){ .kind = kind, .iaid = wh_load_be32(p) };
	while (option_next(p, size, &at, &option, &data, &option_size, &bad)) {
		if (option != OPTION_ADDRESS)
			continue;
		if (option_size < 24)
			return false;
		if (ia->count < ADDRESSES_MAX)
			memcpy(ia->address[ia->count++], data, 16);
	}
	return !bad;
}

static bool request_parse(const uint8_t *p, size_t size, struct request6 *r)
{
	uint16_t kind, option_size;
	const uint8_t *data;
	size_t at = 4;
	bool bad = false;
	if (size < 4)
		return false;
	*r = (struct request6){ .type = p[0] };
	memcpy(r->transaction, p + 1, 3);
	while (option_next(p, size, &at, &kind, &data, &option_size, &bad)) {
		switch (kind) {
		case OPTION_CLIENT:
			r->client = data;
			r->client_size = option_size;
			break;
		case OPTION_SERVER:
			r->server = data;
			r->server_size = option_size;
			break;
		case OPTION_WANTED:
			r->wanted = data;
			r->wanted_size = option_size;
			break;
		case OPTION_RAPID:
			r->rapid = true;
			break;
		case OPTION_IA_NA:
		case OPTION_IA_TA:
		case OPTION_IA_PD:
			if (r->ia_count == IAS_MAX)
				break;
			if (!association_parse(kind, data, option_size, &r->ia[r->ia_count++]))
				return false;
			break;
		default:
			break;
		}
	}
	return !bad && (!r->client || (r->client_size && r->client_size <= DUID_SIZE_MAX));
}

static void server_duid(const struct wh_gateway *gateway, uint8_t to[SERVER_DUID_SIZE])
{
	wh_store_be16(to, 3);     /* DUID-LL */
	wh_store_be16(to + 2, 1); /* Ethernet */
	memcpy(to + 4, gateway->addresses.gateway_mac, 6);
}

/* RFC 8415, 16: who must say who they are, and whom they mean. */
static bool request_valid(const struct wh_gateway *gateway, const struct request6 *r)
{
	uint8_t own[SERVER_DUID_SIZE];
	server_duid(gateway, own);
	bool ours =
		r->server && r->server_size == sizeof own && !memcmp(r->server, own, sizeof own);
	switch (r->type) {
	case SOLICIT:
	case CONFIRM:
	case REBIND:
		return r->client && !r->server;
	case REQUEST:
	case RENEW:
	case RELEASE:
	case DECLINE:
		return r->client && ours;
	case INFORMATION:
		return !r->ia_count && (!r->server || ours);
	default:
		return false;
	}
}

/* ---- out ---- */

struct writer {
	uint8_t bytes[MESSAGE_SIZE_MAX];
	size_t at;
};

/* Where the option's data goes; NULL: no room, it is left out. */
static uint8_t *put(struct writer *w, uint16_t kind, size_t size)
{
	if (w->at + 4 + size > sizeof w->bytes)
		return NULL;
	uint8_t *p = w->bytes + w->at;
	wh_store_be16(p, kind);
	wh_store_be16(p + 2, (uint16_t)size);
	w->at += 4 + size;
	return p + 4;
}

static void put_status(struct writer *w, uint16_t status)
{
	uint8_t *p = put(w, OPTION_STATUS, 2);
	if (p)
		wh_store_be16(p, status);
}

static void put_address(struct writer *w, const uint8_t ip[16], uint32_t valid_s)
{
	uint8_t *p = put(w, OPTION_ADDRESS, 24);
	if (!p)
		return;
	memcpy(p, ip, 16);
	wh_store_be32(p + 16, valid_s);
	wh_store_be32(p + 20, valid_s);
}

/* An association's head now, its length when its options are there. */
static size_t association_begin(struct writer *w, const struct association *ia, bool times)
{
	size_t start = w->at;
	uint8_t *p = put(w, ia->kind, ia->kind == OPTION_IA_TA ? 4 : 12);
	if (!p)
		return 0;
	wh_store_be32(p, ia->iaid);
	if (ia->kind != OPTION_IA_TA) {
		wh_store_be32(p + 4, times ? LEASE_S / 2 : 0);
		wh_store_be32(p + 8, times ? LEASE_S / 5 * 4 : 0);
	}
	return start + 1;
}

static void association_end(struct writer *w, size_t begun)
{
	if (begun)
		wh_store_be16(w->bytes + begun - 1 + 2, (uint16_t)(w->at - (begun - 1) - 4));
}

static bool wanted(const struct request6 *r, uint16_t kind)
{
	if (!r->wanted)
		return true;
	for (uint16_t i = 0; i + 2 <= r->wanted_size; i = (uint16_t)(i + 2))
		if (wh_load_be16(r->wanted + i) == kind)
			return true;
	return false;
}

static void put_ntp(struct wh_gateway *gateway, const struct request6 *r, struct writer *w)
{
	for (uint32_t i = 0; i < gateway->ntp_count; i++) {
		const struct wh_net_ip *ip = &gateway->ntp[i];
		if (wh_net_ip_is4(ip))
			continue;
		uint8_t *p = wanted(r, OPTION_NTP) ? put(w, OPTION_NTP, 20) : NULL; /* RFC 5908 */
		if (p) {
			wh_store_be16(p, 1);
			wh_store_be16(p + 2, 16);
			memcpy(p + 4, ip->bytes, 16);
		}
		p = r->wanted && wanted(r, OPTION_SNTP) ? put(w, OPTION_SNTP, 16) : NULL;
		if (p)
			memcpy(p, ip->bytes, 16);
	}
}

static void put_settings(struct wh_gateway *gateway, const struct request6 *r, struct writer *w)
{
	uint8_t names[WH_WIRE_DNS_NAME_SIZE];
	uint8_t *p = wanted(r, OPTION_DNS) ? put(w, OPTION_DNS, 16) : NULL;
	if (p)
		memcpy(p, gateway->addresses.dns_ip6, 16);
	size_t n = search_emit(search_text(gateway), names, sizeof names, NULL, 0);
	p = n && wanted(r, OPTION_SEARCH) ? put(w, OPTION_SEARCH, n) : NULL;
	if (p)
		memcpy(p, names, n);
	put_ntp(gateway, r, w);
	p = r->type == INFORMATION ? put(w, OPTION_REFRESH, 4) : NULL;
	if (p)
		wh_store_be32(p, LEASE_S);
}

static bool ip6_is_zero(const uint8_t ip[16])
{
	static const uint8_t zero[16];
	return !memcmp(ip, zero, 16);
}

/* The first IA_NA gets the lease's address; whatever else the guest holds ends. true: it has one. */
static bool association_answer(struct writer *w, const struct association *ia,
			       const struct lease *lease)
{
	bool has = ia->kind == OPTION_IA_NA && lease && !ip6_is_zero(lease->ip6);
	size_t begun = association_begin(w, ia, has);
	if (has)
		put_address(w, lease->ip6, LEASE_S);
	else
		put_status(w, ia->kind == OPTION_IA_PD ? STATUS_NO_PREFIX : STATUS_NO_ADDRESS);
	for (uint32_t i = 0; i < ia->count; i++)
		if (!has || memcmp(ia->address[i], lease->ip6, 16))
			put_address(w, ia->address[i], 0);
	association_end(w, begun);
	return has;
}

static void addresses_answer(struct wh_gateway *gateway, const struct request6 *r,
			     const uint8_t mac[6], struct writer *w)
{
	bool binding = r->type != SOLICIT || r->rapid, given = false;
	struct lease *lease = r->ia_count ? lease_offer(gateway, mac, NULL) : NULL;
	for (uint32_t i = 0; i < r->ia_count; i++)
		given |= association_answer(w, &r->ia[i], given ? NULL : lease);
	if (given && binding)
		lease_bind(gateway, lease);
	if (r->ia_count && !given)
		put_status(w, STATUS_NO_ADDRESS);
}

/* Do the guest's addresses fit this link? false: it asked about none. */
static bool confirm_answer(struct wh_gateway *gateway, const struct request6 *r, struct writer *w)
{
	uint32_t count = 0;
	bool fits = true;
	for (uint32_t i = 0; i < r->ia_count; i++)
		for (uint32_t k = 0; k < r->ia[i].count; k++, count++) {
			struct wh_net_ip ip = wh_net_ip6(r->ia[i].address[k]);
			fits &= !wh_net_ip_is4(&ip) && gateway_in_subnet(gateway, &ip);
		}
	put_status(w, fits ? STATUS_OK : STATUS_NOT_ON_LINK);
	return count > 0;
}

static void release_answer(struct wh_gateway *gateway, const struct request6 *r,
			   const uint8_t mac[6], struct writer *w)
{
	struct lease *lease = lease_find(gateway, mac);
	for (uint32_t i = 0; lease && i < r->ia_count; i++)
		for (uint32_t k = 0; lease && k < r->ia[i].count; k++) {
			if (memcmp(r->ia[i].address[k], lease->ip6, 16))
				continue;
			if (r->type == RELEASE)
				lease_release(gateway, lease);
			else
				lease_decline(gateway, lease);
			lease = NULL;
		}
	put_status(w, STATUS_OK);
}

/* false: it is not answered. */
static bool answer(struct wh_gateway *gateway, const struct request6 *r, const uint8_t mac[6],
		   struct writer *w)
{
	uint8_t own[SERVER_DUID_SIZE];
	bool advertise = r->type == SOLICIT && !r->rapid;
	w->bytes[0] = advertise ? ADVERTISE : REPLY;
	memcpy(w->bytes + 1, r->transaction, 3);
	w->at = 4;
	server_duid(gateway, own);
	uint8_t *p = put(w, OPTION_SERVER, sizeof own);
	wh_assert(p);
	memcpy(p, own, sizeof own);
	p = r->client ? put(w, OPTION_CLIENT, r->client_size) : NULL;
	if (p)
		memcpy(p, r->client, r->client_size);
	switch (r->type) {
	case SOLICIT:
		if (r->rapid)
			(void)put(w, OPTION_RAPID, 0);
		p = put(w, OPTION_PREFERENCE, 1);
		if (p)
			*p = 255; /* there is no other server to wait for */
				  /* fallthrough */
	case REQUEST:
	case RENEW:
	case REBIND:
		addresses_answer(gateway, r, mac, w);
		put_settings(gateway, r, w);
		return true;
	case CONFIRM:
		return confirm_answer(gateway, r, w);
	case INFORMATION:
		put_settings(gateway, r, w);
		return true;
	default:
		release_answer(gateway, r, mac, w);
		return true;
	}
}

static void datagram(struct wh_gateway *gateway, const struct wh_net_tuple *tuple,
		     const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	uint8_t bytes[1500], mac[6];
	struct request6 request;
	struct writer reply;
	gateway->stats.dhcp_in++;
	size_t n = wh_iov_read(iov, count, 0, bytes, size < sizeof bytes ? size : sizeof bytes);
	/* Relays are not of this link; to a unicast address nobody was told to send. */
	if (!gateway_is_multicast(&tuple->local.ip) || !gateway_source_mac(gateway, mac) ||
	    !request_parse(bytes, n, &request) || !request_valid(gateway, &request) ||
	    !answer(gateway, &request, mac, &reply))
		return;
	struct wh_net_tuple back = { .local = { .port = tuple->local.port },
				     .remote = tuple->remote };
	struct wh_iov out = { reply.bytes, reply.at };
	if (wh_net_udp_send(gateway->net, NULL, &back, &out, 1, NULL) >= 0)
		gateway->stats.dhcp_out++;
}

void wh_gateway_dhcp6_enable(struct wh_gateway *gateway)
{
	if (!gateway->ip6)
		return;
	gateway->dhcp6 = datagram;
	(void)advert_update(gateway); /* no memory: guests hear it with the next one */
}
