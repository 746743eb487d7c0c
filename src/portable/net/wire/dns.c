/* SPDX-License-Identifier: ISC */
/* DNS messages, as much as a forwarder and static names need (RFC 1035, 6891). */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/net_wire.h>

#define POINTERS_MAX 16 /* hops of compression in one name; honest ones have two */
#define LABEL_MAX 63u
#define WIRE_NAME_MAX 255u

static int label_char(uint8_t c)
{
	if (c <= ' ' || c >= 0x7f || c == '.')
		return -WH_EBADMSG;
	return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

int wh_wire_dns_name_parse(const uint8_t *message, size_t size, size_t offset,
			   char ret_name[WH_WIRE_DNS_NAME_SIZE])
{
	char name[WH_WIRE_DNS_NAME_SIZE];
	size_t at = offset, length = 0, end = 0;
	for (int hops = 0;;) {
		if (at >= size)
			return -WH_EBADMSG;
		uint8_t n = message[at];
		if (n >= 0xc0) {
			if (at + 2 > size || ++hops > POINTERS_MAX)
				return -WH_EBADMSG;
			size_t to = wh_load_be16(message + at) & 0x3fff;
			if (!end)
				end = at + 2;
			if (to >= at) /* only backwards, so it ends */
				return -WH_EBADMSG;
			at = to;
			continue;
		}
		if (n > LABEL_MAX || n >= size - at)
			return -WH_EBADMSG;
		if (!n) {
			at++;
			break;
		}
		if (length + n + 2 > WIRE_NAME_MAX)
			return -WH_EBADMSG;
		if (length)
			name[length++] = '.';
		for (uint8_t i = 1; i <= n; i++) {
			int c = label_char(message[at + i]);
			if (c < 0)
				return c;
			name[length++] = (char)c;
		}
		at += 1u + n;
	}
	wh_assert(length < WH_WIRE_DNS_NAME_SIZE);
	name[length] = 0;
	memcpy(ret_name, name, length + 1);
	return (int)(end ? end : at);
}

int wh_wire_dns_name_emit(uint8_t *p, size_t size_max, const char *name)
{
	size_t at = 0, length = wh_strnlen(name, WH_WIRE_DNS_NAME_SIZE);
	if (length && name[length - 1] == '.')
		length--;
	if (length + 2 > WIRE_NAME_MAX)
		return -WH_EINVAL;
	for (size_t i = 0; i < length;) {
		size_t n = 0;
		while (i + n < length && name[i + n] != '.')
			n++;
		if (!n || n > LABEL_MAX)
			return -WH_EINVAL;
		if (at + 1 + n + 1 > size_max)
			return -WH_ENOSPC;
		p[at++] = (uint8_t)n;
		memcpy(p + at, name + i, n);
		at += n;
		i += n + 1;
		if (i == length) /* "a..": an empty label at the end */
			return -WH_EINVAL;
	}
	if (at + 1 > size_max)
		return -WH_ENOSPC;
	p[at++] = 0;
	return (int)at;
}

int wh_wire_dns_next(const uint8_t *message, size_t size, size_t *offset,
		     struct wh_wire_dns_record *ret)
{
	if (*offset >= size)
		return 0;
	int at = wh_wire_dns_name_parse(message, size, *offset, ret->name);
	if (at < 0)
		return at;
	size_t fixed = (size_t)at;
	if (size - fixed < 10)
		return -WH_EBADMSG;
	ret->type = wh_load_be16(message + fixed);
	ret->class_ = wh_load_be16(message + fixed + 2);
	ret->ttl_s = wh_load_be32(message + fixed + 4);
	ret->data_size = wh_load_be16(message + fixed + 8);
	if (fixed + 10 > 65535 || ret->data_size > size - fixed - 10)
		return -WH_EBADMSG;
	ret->data_offset = (uint16_t)(fixed + 10);
	*offset = fixed + 10 + ret->data_size;
	return 1;
}

/* EDNS size: the OPT record sits among the additional ones (RFC 6891, 6.1.1). A
 * message that is damaged there is still a question. */
static uint16_t edns_size(const uint8_t *p, size_t size, size_t offset, uint32_t records)
{
	struct wh_wire_dns_record r;
	for (uint32_t i = 0; i < records && i < 16; i++) {
		if (wh_wire_dns_next(p, size, &offset, &r) != 1)
			return 0;
		if (r.type == WH_WIRE_DNS_OPT)
			return r.class_ < 512 ? 512 : r.class_;
	}
	return 0;
}

int wh_wire_dns_parse(const uint8_t *p, size_t size, struct wh_wire_dns *ret)
{
	if (size < WH_WIRE_DNS_HEADER_SIZE)
		return -WH_EBADMSG;
	uint16_t flags = wh_load_be16(p + 2);
	struct wh_wire_dns d = {
		.id = wh_load_be16(p),
		.response = flags & 0x8000,
		.opcode = flags >> 11 & 15,
		.authoritative = flags & 0x0400,
		.truncated = flags & 0x0200,
		.recursion_desired = flags & 0x0100,
		.recursion_available = flags & 0x0080,
		.rcode = flags & 15,
		.questions = wh_load_be16(p + 4),
		.answers = wh_load_be16(p + 6),
		.authorities = wh_load_be16(p + 8),
		.additionals = wh_load_be16(p + 10),
		.question_end = WH_WIRE_DNS_HEADER_SIZE,
	};
	if (d.questions > 1 || (!d.response && d.questions != 1))
		return -WH_EBADMSG;
	if (d.questions) {
		int at = wh_wire_dns_name_parse(p, size, WH_WIRE_DNS_HEADER_SIZE, d.name);
		if (at < 0 || size - (size_t)at < 4)
			return -WH_EBADMSG;
		d.type = wh_load_be16(p + at);
		d.class_ = wh_load_be16(p + at + 2);
		d.question_end = (uint16_t)(at + 4);
	}
	if (d.additionals)
		d.udp_size = edns_size(p, size, d.question_end,
				       (uint32_t)d.answers + d.authorities + d.additionals);
	*ret = d;
	return d.question_end;
}

int wh_wire_dns_emit(uint8_t *p, size_t size_max, const struct wh_wire_dns *d)
{
	wh_assert(d->questions <= 1 && d->opcode < 16 && d->rcode < 16);
	if (size_max < WH_WIRE_DNS_HEADER_SIZE)
		return -WH_ENOSPC;
	wh_store_be16(p, d->id);
	wh_store_be16(p + 2,
		      (uint16_t)((d->response ? 0x8000 : 0) | d->opcode << 11 |
				 (d->authoritative ? 0x0400 : 0) | (d->truncated ? 0x0200 : 0) |
				 (d->recursion_desired ? 0x0100 : 0) |
				 (d->recursion_available ? 0x0080 : 0) | d->rcode));
	wh_store_be16(p + 4, d->questions);
	wh_store_be16(p + 6, d->answers);
	wh_store_be16(p + 8, d->authorities);
	wh_store_be16(p + 10, d->additionals);
	size_t at = WH_WIRE_DNS_HEADER_SIZE;
	if (d->questions) {
		int n = wh_wire_dns_name_emit(p + at, size_max - at, d->name);
		if (n < 0)
			return n;
		at += (size_t)n;
		if (size_max - at < 4)
			return -WH_ENOSPC;
		wh_store_be16(p + at, d->type);
		wh_store_be16(p + at + 2, d->class_);
		at += 4;
	}
	return (int)at;
}

int wh_wire_dns_append(uint8_t *message, size_t size, size_t size_max, uint16_t type,
		       uint32_t ttl_s, const void *data, uint16_t data_size)
{
	wh_assert(size >= WH_WIRE_DNS_HEADER_SIZE && size <= size_max);
	if (size_max - size < 12u + data_size)
		return -WH_ENOSPC;
	uint8_t *p = message + size;
	wh_store_be16(p, 0xc000 | WH_WIRE_DNS_HEADER_SIZE);
	wh_store_be16(p + 2, type);
	wh_store_be16(p + 4, WH_WIRE_DNS_IN);
	wh_store_be32(p + 6, ttl_s);
	wh_store_be16(p + 10, data_size);
	memcpy(p + 12, data, data_size);
	wh_store_be16(message + 6, (uint16_t)(wh_load_be16(message + 6) + 1));
	return (int)(size + 12u + data_size);
}
