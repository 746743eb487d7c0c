/* SPDX-License-Identifier: ISC */
/*
 * Records beside addresses that the DNS server answers for by itself: CNAME, TXT, SRV, MX and PTR (RFC 1035, 2782). They are
 * kept as text, checked when they come and encoded when somebody asks.
 *
 * An alias is followed here, because a stub resolver takes what it gets as all there is: to a name that is known here,
 * or by asking the servers for the target (dns_alias_answer makes one answer of both).
 */
#include "dns_priv.h"

#include <wherry/base/assert.h>

#define DATA_MAX (6 + WH_WIRE_DNS_NAME_SIZE + 2)
#define TEXT_MAX 255u /* a character-string, RFC 1035 3.3 */

struct record {
	struct wh_list node; /* gateway->records */
	struct wh_gateway_record entry;
};

static const struct {
	const char *word;
	uint16_t type;
	uint8_t numbers; /* before the name */
} types[] = {
	{ "cname", WH_WIRE_DNS_CNAME, 0 }, { "ptr", WH_WIRE_DNS_PTR, 0 },
	{ "mx", WH_WIRE_DNS_MX, 1 },       { "srv", WH_WIRE_DNS_SRV, 3 },
	{ "txt", WH_WIRE_DNS_TXT, 0 },
};

/* The record's data as it is sent, or -WH_EINVAL. */
static int encode(uint16_t type, uint8_t numbers, const char *text, uint8_t to[DATA_MAX])
{
	char name[WH_GATEWAY_NAME_SIZE];
	size_t size = wh_strlen(text);
	if (type == WH_WIRE_DNS_TXT) {
		if (size > TEXT_MAX)
			return -WH_EINVAL;
		to[0] = (uint8_t)size;
		memcpy(to + 1, text, size);
		return (int)size + 1;
	}
	for (uint8_t i = 0; i < numbers; i++) {
		const char *end = text;
		uint16_t number;
		while (*end && *end != ' ')
			end++;
		if (!*end || !port_parse(text, end, &number))
			return -WH_EINVAL;
		wh_store_be16(to + 2 * i, number);
		text = end + 1;
	}
	if (!name_take(text, false, name))
		return -WH_EINVAL;
	int n = wh_wire_dns_name_emit(to + 2 * numbers, WH_WIRE_DNS_NAME_SIZE + 2, name);
	return n < 0 ? n : n + 2 * numbers;
}

static int type_find(const char *word)
{
	for (unsigned i = 0; i < WH_ARRAY_COUNT(types); i++)
		if (wh_streq(types[i].word, word))
			return (int)i;
	return -WH_EINVAL;
}

/* The name under which an address is asked for (RFC 1035 3.5, 3596 2.5), or the name itself. */
static bool owner_take(const char *text, char to[WH_GATEWAY_NAME_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	const char *end = text + wh_strlen(text);
	struct wh_net_ip ip;
	if (ip4_parse(text, end, &ip)) {
		const uint8_t *b = ip.bytes + 12;
		wh_format(to, WH_GATEWAY_NAME_SIZE, "%u.%u.%u.%u.in-addr.arpa", b[3], b[2], b[1],
			  b[0]);
		return true;
	}
	if (!ip6_parse(text, end, &ip))
		return name_take(text, false, to);
	for (int i = 0; i < 32; i++) {
		uint8_t byte = ip.bytes[15 - i / 2];
		to[2 * i] = digits[i % 2 ? byte >> 4 : byte & 15];
		to[2 * i + 1] = '.';
	}
	memcpy(to + 64, "ip6.arpa", 9);
	return true;
}

/* An alias is alone with its name (RFC 1034, 3.6.2), but for addresses of `dns add`, which come after it. */
static bool fits_beside(const struct wh_gateway *gateway, const struct wh_gateway_record *new)
{
	WH_LIST_FOR_EACH(node, &gateway->records) {
		const struct wh_gateway_record *r =
			&WH_LIST_ENTRY(node, struct record, node)->entry;
		if (wh_streq(r->name, new->name) &&
		    (wh_streq(r->type, "cname") || wh_streq(new->type, "cname")))
			return false;
	}
	return true;
}

int wh_gateway_record_add(struct wh_gateway *gateway, const char *name, const char *type,
			  const char *data, uint32_t *ret_id)
{
	uint8_t bytes[DATA_MAX];
	struct wh_gateway_record entry = { .id = gateway->record_next + 1 };
	int index = type_find(type);
	size_t size = wh_strlen(data);
	if (index < 0 || size >= sizeof entry.data || !owner_take(name, entry.name) ||
	    encode(types[index].type, types[index].numbers, data, bytes) < 0)
		return -WH_EINVAL;
	wh_format(entry.type, sizeof entry.type, "%s", types[index].word);
	memcpy(entry.data, data, size);
	if (!fits_beside(gateway, &entry))
		return -WH_EEXIST;
	if (gateway->record_count == WH_GATEWAY_RECORDS_MAX)
		return -WH_ENOSPC;
	struct record *r = wh_alloc_zero(gateway->alloc, sizeof *r);
	if (!r)
		return -WH_ENOMEM;
	r->entry = entry;
	wh_list_push_back(&gateway->records, &r->node);
	gateway->record_count++;
	gateway->record_next++;
	if (ret_id)
		*ret_id = entry.id;
	return 0;
}

static void record_free(struct wh_gateway *gateway, struct record *r)
{
	wh_assert(gateway->record_count > 0);
	gateway->record_count--;
	wh_list_remove(&r->node);
	wh_free(gateway->alloc, r, sizeof *r);
}

int wh_gateway_record_remove(struct wh_gateway *gateway, uint32_t id)
{
	WH_LIST_FOR_EACH(node, &gateway->records) {
		struct record *r = WH_LIST_ENTRY(node, struct record, node);
		if (r->entry.id == id) {
			record_free(gateway, r);
			return 0;
		}
	}
	return -WH_ENOENT;
}

int wh_gateway_record_get(const struct wh_gateway *gateway, uint32_t index,
			  struct wh_gateway_record *ret_record)
{
	WH_LIST_FOR_EACH(node, &gateway->records)
		if (!index--) {
			*ret_record = WH_LIST_ENTRY(node, struct record, node)->entry;
			return 0;
		}
	return -WH_ENOENT;
}

void records_fini(struct wh_gateway *gateway)
{
	while (gateway->records.next && !wh_list_empty(&gateway->records))
		record_free(gateway, WH_LIST_ENTRY(gateway->records.next, struct record, node));
}

bool dns_alias(const struct wh_gateway *gateway, const char *name,
	       char ret_target[WH_WIRE_DNS_NAME_SIZE])
{
	char lower[WH_GATEWAY_NAME_SIZE];
	WH_LIST_FOR_EACH(node, &gateway->records) {
		const struct wh_gateway_record *r =
			&WH_LIST_ENTRY(node, struct record, node)->entry;
		if (!wh_streq(r->type, "cname") || !wh_streq(r->name, name) ||
		    !name_take(r->data, false, lower))
			continue;
		memcpy(ret_target, lower, sizeof lower);
		return true;
	}
	return false;
}

int dns_records_append(const struct wh_gateway *gateway, const struct wh_wire_dns *question,
		       uint8_t *message, int size, size_t size_max)
{
	uint8_t data[DATA_MAX];
	int at = size;
	WH_LIST_FOR_EACH(node, &gateway->records) {
		const struct wh_gateway_record *r =
			&WH_LIST_ENTRY(node, struct record, node)->entry;
		int index = type_find(r->type);
		wh_assert(index >= 0); /* it was looked at when it came */
		if (!wh_streq(r->name, question->name) ||
		    (types[index].type != question->type && types[index].type != WH_WIRE_DNS_CNAME))
			continue;
		int n = encode(types[index].type, types[index].numbers, r->data, data);
		wh_assert(n > 0);
		n = wh_wire_dns_append(message, (size_t)at, size_max, types[index].type,
				       DNS_TTL_LOCAL_S, data, (uint16_t)n);
		if (n < 0) { /* RFC 2181, 9: what is there may be used, all of it by TCP */
			message[2] |= 2;
			break;
		}
		at = n;
	}
	return at;
}

bool dns_records_has(const struct wh_gateway *gateway, const char *name)
{
	WH_LIST_FOR_EACH(node, &gateway->records)
		if (wh_streq(WH_LIST_ENTRY(node, struct record, node)->entry.name, name))
			return true;
	return false;
}

int dns_alias_answer(const struct wh_gateway *gateway, const char *name, const uint8_t *message,
		     uint32_t size, uint8_t *to, size_t to_size)
{
	struct wh_wire_dns answer;
	struct wh_wire_dns_record record;
	uint8_t target[WH_WIRE_DNS_NAME_SIZE + 2];
	int parsed = wh_wire_dns_parse(message, size, &answer);
	wh_assert(parsed >= 0); /* its question was compared */
	int target_size = wh_wire_dns_name_emit(target, sizeof target, answer.name);
	size_t at = answer.question_end;
	uint32_t count = answer.answers;
	memcpy(answer.name, name, wh_strlen(name) + 1);
	answer.answers = answer.authorities = answer.additionals = answer.udp_size = 0;
	int n = wh_wire_dns_emit(to, to_size, &answer);
	if (n > 0 && target_size > 0)
		n = wh_wire_dns_append(to, (size_t)n, to_size, WH_WIRE_DNS_CNAME, DNS_TTL_LOCAL_S,
				       target, (uint16_t)target_size);
	if (n < 0)
		return n;
	/* The target is written out in the record before: addresses have it as their owner. */
	uint16_t owner = (uint16_t)(n - target_size);
	for (; count && wh_wire_dns_next(message, size, &at, &record) == 1; count--) {
		if (record.type != answer.type || record.class_ != WH_WIRE_DNS_IN)
			continue; /* aliases on the way: their end is what counts */
		int more = wh_wire_dns_append(to, (size_t)n, to_size, record.type, record.ttl_s,
					      message + record.data_offset, record.data_size);
		if (more < 0) {
			to[2] |= 2;
			break;
		}
		wh_store_be16(to + n, (uint16_t)(0xc000 | owner));
		n = more;
	}
	return n;
}
