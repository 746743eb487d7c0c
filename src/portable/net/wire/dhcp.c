/* SPDX-License-Identifier: ISC */
/* DHCPv4 messages (RFC 2131, 2132, 3397). */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/net_wire.h>

#define FIXED_SIZE 240u /* BOOTP header and magic cookie */
#define MAGIC 0x63825363u

enum {
	OPTION_PAD = 0,
	OPTION_NETMASK = 1,
	OPTION_ROUTER = 3,
	OPTION_DNS = 6,
	OPTION_HOSTNAME = 12,
	OPTION_DOMAIN = 15,
	OPTION_MTU = 26,
	OPTION_NTP = 42,
	OPTION_REQUESTED = 50,
	OPTION_LEASE = 51,
	OPTION_TYPE = 53,
	OPTION_SERVER = 54,
	OPTION_PARAMETERS = 55,
	OPTION_CLIENT_ID = 61,
	OPTION_SEARCH = 119,
	OPTION_END = 255
};

static void addresses_parse(const uint8_t *p, uint8_t size, uint8_t (*to)[4], uint8_t *count)
{
	for (uint8_t at = 0; at + 4 <= size && *count < WH_WIRE_DHCP_ADDRESSES_MAX; at += 4)
		memcpy(to[(*count)++], p + at, 4);
}

/* Names go into messages and files later: letters, digits, dash, dot and
 * underscore only, or nothing. */
static void name_parse(const uint8_t *p, uint8_t size, char to[WH_WIRE_DHCP_NAME_SIZE])
{
	while (size && !p[size - 1]) /* some senders count a NUL */
		size--;
	if (size >= WH_WIRE_DHCP_NAME_SIZE)
		return;
	for (uint8_t i = 0; i < size; i++) {
		uint8_t c = p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '.' || c == '_'))
			return;
	}
	memcpy(to, p, size);
	to[size] = 0;
}

static void option_parse(uint8_t kind, const uint8_t *p, uint8_t size, struct wh_wire_dhcp *d)
{
	switch (kind) {
	case OPTION_NETMASK:
		if (size == 4)
			memcpy(d->netmask, p, 4);
		break;
	case OPTION_ROUTER:
		addresses_parse(p, size, d->router, &d->router_count);
		break;
	case OPTION_DNS:
		addresses_parse(p, size, d->dns, &d->dns_count);
		break;
	case OPTION_NTP:
		addresses_parse(p, size, d->ntp, &d->ntp_count);
		break;
	case OPTION_HOSTNAME:
		name_parse(p, size, d->hostname);
		break;
	case OPTION_DOMAIN:
		name_parse(p, size, d->domain);
		break;
	case OPTION_MTU:
		if (size == 2)
			d->mtu = wh_load_be16(p);
		break;
	case OPTION_REQUESTED:
		if (size == 4)
			memcpy(d->requested_ip, p, 4);
		break;
	case OPTION_LEASE:
		if (size == 4)
			d->lease_s = wh_load_be32(p);
		break;
	case OPTION_TYPE:
		if (size == 1)
			d->type = p[0];
		break;
	case OPTION_SERVER:
		if (size == 4)
			memcpy(d->server_id, p, 4);
		break;
	case OPTION_CLIENT_ID:
		if (size <= WH_WIRE_DHCP_CLIENT_ID_SIZE) {
			memcpy(d->client_id, p, size);
			d->client_id_size = size;
		}
		break;
	case OPTION_SEARCH:
		if (size <= WH_WIRE_DHCP_SEARCH_SIZE) {
			memcpy(d->search, p, size);
			d->search_size = size;
		}
		break;
	}
}

int wh_wire_dhcp_parse(const uint8_t *p, size_t size, struct wh_wire_dhcp *ret)
{
	if (size < FIXED_SIZE || wh_load_be32(p + 236) != MAGIC)
		return -WH_EBADMSG;
	if ((p[0] != 1 && p[0] != 2) || p[1] != 1 || p[2] != 6)
		return -WH_EBADMSG;
	struct wh_wire_dhcp d = { .op = p[0],
				  .transaction = wh_load_be32(p + 4),
				  .seconds = wh_load_be16(p + 8),
				  .broadcast = wh_load_be16(p + 10) & 0x8000 };
	memcpy(d.client_ip, p + 12, 4);
	memcpy(d.your_ip, p + 16, 4);
	memcpy(d.server_ip, p + 20, 4);
	memcpy(d.relay_ip, p + 24, 4);
	memcpy(d.mac, p + 28, 6);
	for (size_t at = FIXED_SIZE; at < size && p[at] != OPTION_END;) {
		if (p[at] == OPTION_PAD) {
			at++;
			continue;
		}
		if (at + 2 > size || p[at + 1] > size - at - 2)
			return -WH_EBADMSG;
		option_parse(p[at], p + at + 2, p[at + 1], &d);
		at += 2u + p[at + 1];
	}
	*ret = d;
	return (int)size;
}

struct writer {
	uint8_t *p;
	size_t at;
};

/* Options that would not fit are left out: a name less is better than no lease. */
static void put(struct writer *w, uint8_t kind, const void *data, size_t size)
{
	if (!size || size > 255 || w->at + 2 + size + 1 > WH_WIRE_DHCP_SIZE_MAX)
		return;
	w->p[w->at++] = kind;
	w->p[w->at++] = (uint8_t)size;
	memcpy(w->p + w->at, data, size);
	w->at += size;
}

static void put_ip(struct writer *w, uint8_t kind, const uint8_t ip[4])
{
	if (ip[0] | ip[1] | ip[2] | ip[3])
		put(w, kind, ip, 4);
}

static void put_u32(struct writer *w, uint8_t kind, uint32_t v)
{
	uint8_t bytes[4];
	wh_store_be32(bytes, v);
	if (v)
		put(w, kind, bytes, 4);
}

size_t wh_wire_dhcp_emit(uint8_t *p, const struct wh_wire_dhcp *d)
{
	static const uint8_t wanted[] = { OPTION_NETMASK, OPTION_ROUTER, OPTION_DNS,
					  OPTION_DOMAIN,  OPTION_MTU,    OPTION_SEARCH };
	wh_assert(d->op == 1 || d->op == 2);
	memset(p, 0, FIXED_SIZE);
	p[0] = d->op;
	p[1] = 1;
	p[2] = 6;
	wh_store_be32(p + 4, d->transaction);
	wh_store_be16(p + 8, d->seconds);
	wh_store_be16(p + 10, d->broadcast ? 0x8000 : 0);
	memcpy(p + 12, d->client_ip, 4);
	memcpy(p + 16, d->your_ip, 4);
	memcpy(p + 20, d->server_ip, 4);
	memcpy(p + 24, d->relay_ip, 4);
	memcpy(p + 28, d->mac, 6);
	wh_store_be32(p + 236, MAGIC);
	struct writer w = { p, FIXED_SIZE };
	put(&w, OPTION_TYPE, &d->type, d->type ? 1 : 0);
	put_ip(&w, OPTION_SERVER, d->server_id);
	put_ip(&w, OPTION_REQUESTED, d->requested_ip);
	put_u32(&w, OPTION_LEASE, d->lease_s);
	put_ip(&w, OPTION_NETMASK, d->netmask);
	put(&w, OPTION_ROUTER, d->router, 4u * d->router_count);
	put(&w, OPTION_DNS, d->dns, 4u * d->dns_count);
	put(&w, OPTION_NTP, d->ntp, 4u * d->ntp_count);
	if (d->mtu) {
		uint8_t mtu[2];
		wh_store_be16(mtu, d->mtu);
		put(&w, OPTION_MTU, mtu, 2);
	}
	put(&w, OPTION_CLIENT_ID, d->client_id, d->client_id_size);
	put(&w, OPTION_HOSTNAME, d->hostname, wh_strnlen(d->hostname, sizeof d->hostname));
	put(&w, OPTION_DOMAIN, d->domain, wh_strnlen(d->domain, sizeof d->domain));
	put(&w, OPTION_SEARCH, d->search, d->search_size);
	if (d->op == 1)
		put(&w, OPTION_PARAMETERS, wanted, sizeof wanted);
	p[w.at++] = OPTION_END;
	while (w.at < 300) /* BOOTP's smallest message: old relays want it */
		p[w.at++] = 0;
	return w.at;
}
