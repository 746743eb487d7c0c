/* SPDX-License-Identifier: ISC */
/* Names that the DNS server answers for by itself, added and removed at run time. */
#include "gateway_priv.h"

#include <wherry/base/assert.h>

#define LABEL_MAX 63u /* RFC 1035, 2.3.4 */

struct name {
	struct wh_list node;
	struct wh_gateway_name entry;
};

bool name_take(const char *text, bool wild, char to[WH_GATEWAY_NAME_SIZE])
{
	size_t n = 0, label = 0;
	if (wild && text[0] == '*' && text[1] == '.') {
		memcpy(to, text, 2);
		n = 2;
		text += 2;
		if (!*text)
			return false;
	}
	for (; *text; text++) {
		char c = *text;
		if (c == '.') {
			if (!label)
				return false;
			if (!text[1])
				break;
			label = 0;
		} else {
			c = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
			bool fine = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
				    c == '_';
			if (!fine || ++label > LABEL_MAX)
				return false;
		}
		if (n == WH_GATEWAY_NAME_SIZE - 1)
			return false;
		to[n++] = c;
	}
	to[n] = 0;
	return n > 0;
}

static struct name *find(const struct wh_gateway *gateway, const char *text)
{
	WH_LIST_FOR_EACH(node, &gateway->names) {
		struct name *name = WH_LIST_ENTRY(node, struct name, node);
		if (wh_streq(name->entry.name, text))
			return name;
	}
	return NULL;
}

bool name_fits(const char *name, const char *pattern)
{
	if (pattern[0] != '*' || pattern[1] != '.')
		return wh_streq(name, pattern);
	return name_in(name, pattern + 2) && !wh_streq(name, pattern + 2);
}

/* The longest "*.domain" that the name is under. */
static struct name *find_wild(const struct wh_gateway *gateway, const char *text)
{
	struct name *found = NULL;
	size_t longest = 0;
	WH_LIST_FOR_EACH(node, &gateway->names) {
		struct name *name = WH_LIST_ENTRY(node, struct name, node);
		size_t size = wh_strlen(name->entry.name);
		if (name->entry.name[0] == '*' && size > longest &&
		    name_fits(text, name->entry.name)) {
			found = name;
			longest = size;
		}
	}
	return found;
}

const char *names_reverse(const struct wh_gateway *gateway, const struct wh_net_ip *ip)
{
	WH_LIST_FOR_EACH(node, &gateway->names) {
		const struct name *name = WH_LIST_ENTRY(node, struct name, node);
		if (name->entry.name[0] != '*' && (wh_net_ip_equal(&name->entry.ip4, ip) ||
						   wh_net_ip_equal(&name->entry.ip6, ip)))
			return name->entry.name;
	}
	return NULL;
}

int wh_gateway_name_add(struct wh_gateway *gateway, const char *text, const struct wh_net_ip *ip)
{
	char lower[WH_GATEWAY_NAME_SIZE];
	if (!name_take(text, true, lower) || wh_net_ip_is_any(ip))
		return -WH_EINVAL;
	struct name *name = find(gateway, lower);
	if (!name) {
		if (gateway->name_count == WH_GATEWAY_NAMES_MAX)
			return -WH_ENOSPC;
		name = wh_alloc_zero(gateway->alloc, sizeof *name);
		if (!name)
			return -WH_ENOMEM;
		memcpy(name->entry.name, lower, sizeof lower);
		wh_list_push_back(&gateway->names, &name->node);
		gateway->name_count++;
	}
	*(wh_net_ip_is4(ip) ? &name->entry.ip4 : &name->entry.ip6) = *ip;
	return 0;
}

static void name_free(struct wh_gateway *gateway, struct name *name)
{
	wh_assert(gateway->name_count > 0);
	gateway->name_count--;
	wh_list_remove(&name->node);
	wh_free(gateway->alloc, name, sizeof *name);
}

int wh_gateway_name_remove(struct wh_gateway *gateway, const char *text)
{
	char lower[WH_GATEWAY_NAME_SIZE];
	struct name *name = name_take(text, true, lower) ? find(gateway, lower) : NULL;
	if (!name)
		return -WH_ENOENT;
	name_free(gateway, name);
	return 0;
}

int wh_gateway_name_get(const struct wh_gateway *gateway, uint32_t index,
			struct wh_gateway_name *ret_name)
{
	WH_LIST_FOR_EACH(node, &gateway->names)
		if (!index--) {
			*ret_name = WH_LIST_ENTRY(node, struct name, node)->entry;
			return 0;
		}
	return -WH_ENOENT;
}

int names_find(const struct wh_gateway *gateway, const char *text, bool ip6,
	       struct wh_net_ip *ret_ip)
{
	static const struct wh_net_ip none;
	const struct name *name = find(gateway, text);
	if (!name)
		name = find_wild(gateway, text);
	if (!name)
		return -WH_ENOENT;
	const struct wh_net_ip *ip = ip6 ? &name->entry.ip6 : &name->entry.ip4;
	if (wh_net_ip_equal(ip, &none))
		return 0;
	*ret_ip = *ip;
	return 1;
}

void names_fini(struct wh_gateway *gateway)
{
	while (gateway->names.next && !wh_list_empty(&gateway->names))
		name_free(gateway, WH_LIST_ENTRY(gateway->names.next, struct name, node));
}

void wh_gateway_filter_set(struct wh_gateway *gateway, enum wh_gateway_filter filter)
{
	gateway->dns_filter = filter;
}
