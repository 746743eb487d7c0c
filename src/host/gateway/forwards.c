/* SPDX-License-Identifier: ISC */
/*
 * Forwards: an address and port that the guest sees leads to an address or a Unix socket of the host. Asked before
 * the usual meaning of an address, and said explicitly, so they reach the host's loopback, too. Policy
 * is asked with what the guest means, as ever.
 */
#include "gateway_priv.h"

#include <wherry/base/assert.h>

struct forward {
	struct wh_list node; /* gateway->forwards */
	struct wh_gateway_forward entry;
};

static int bad(struct wh_diag *diag, const char *text, const char *why)
{
	return wh_diag_set(diag, -WH_EINVAL,
			   "%s: %s; a forward is [ADDR:]PORT=HOST:PORT[/udp] or "
			   "[ADDR:]PORT=unix:PATH, an IPv6 address in brackets",
			   text, why);
}

bool end_parse(const char *text, const char *end, struct wh_net_end *ret_end)
{
	const char *colon = find_last(text, end, ':');
	struct wh_net_end e;
	if (!colon || !port_parse(colon + 1, end, &e.port) || !e.port)
		return false;
	bool ip6 = colon - text > 2 && *text == '[' && colon[-1] == ']';
	if (!(ip6 ? ip6_parse(text + 1, colon - 1, &e.ip) : ip4_parse(text, colon, &e.ip)))
		return false;
	*ret_end = e;
	return true;
}

int wh_gateway_forward_parse(const char *text, struct wh_gateway_forward *ret_forward,
			     struct wh_diag *diag)
{
	struct wh_gateway_forward f = { .protocol = WH_GATEWAY_TCP };
	const char *end = text + wh_strlen(text), *equals = text;
	while (*equals && *equals != '=')
		equals++;
	if (!*equals)
		return bad(diag, text, "there is no =");
	if (!end_parse(text, equals, &f.meant)) {
		memset(&f.meant, 0, sizeof f.meant);
		if (!port_parse(text, equals, &f.meant.port) || !f.meant.port)
			return bad(diag, text, "what the guest connects to is no address and port");
	}
	const char *to = equals + 1;
	if (end - to > 5 && !memcmp(to, "unix:", 5)) {
		size_t size = (size_t)(end - to) - 5;
		if (size >= sizeof f.path)
			return bad(diag, text, "the path is longer than a socket's may be (107)");
		memcpy(f.path, to + 5, size + 1);
		*ret_forward = f;
		return 0;
	}
	const char *slash = find_last(to, end, '/');
	if (slash) {
		if (wh_streq(slash, "/udp"))
			f.protocol = WH_GATEWAY_UDP;
		else if (!wh_streq(slash, "/tcp"))
			return bad(diag, text, "protocol is /tcp or /udp");
		end = slash;
	}
	if (!end_parse(to, end, &f.to))
		return bad(diag, text, "where it leads is no address and port");
	*ret_forward = f;
	return 0;
}

static bool means(const struct wh_gateway *gateway, const struct wh_gateway_forward *f,
		  uint8_t protocol, const struct wh_net_end *meant)
{
	return f->protocol == protocol && f->meant.port == meant->port &&
	       (wh_net_ip_is_any(&f->meant.ip) ? gateway_is_own(gateway, &meant->ip)
					       : wh_net_ip_equal(&f->meant.ip, &meant->ip));
}

int wh_gateway_forward_add(struct wh_gateway *gateway, const struct wh_gateway_forward *f,
			   uint32_t *ret_id, struct wh_diag *diag)
{
	if ((f->protocol != WH_GATEWAY_TCP && f->protocol != WH_GATEWAY_UDP) || !f->meant.port ||
	    (f->path[0] ? f->protocol != WH_GATEWAY_TCP
			: !f->to.port || wh_net_ip_is_any(&f->to.ip)))
		return wh_diag_set(diag, -WH_EINVAL, "a forward needs a port and where it leads");
	if (!wh_net_ip_is_any(&f->meant.ip) && gateway_in_subnet(gateway, &f->meant.ip) &&
	    !gateway_is_own(gateway, &f->meant.ip))
		return wh_diag_set(
			diag, -WH_EADDRNOTAVAIL,
			"nobody on the guest's network has this address; forwards are for "
			"the gateway's and for addresses elsewhere");
	WH_LIST_FOR_EACH(node, &gateway->forwards) {
		const struct wh_gateway_forward *other =
			&WH_LIST_ENTRY(node, struct forward, node)->entry;
		if (other->protocol == f->protocol && other->meant.port == f->meant.port &&
		    wh_net_ip_equal(&other->meant.ip, &f->meant.ip))
			return wh_diag_set(diag, -WH_EADDRINUSE, "this port is forwarded already");
	}
	if (gateway->forward_count == WH_GATEWAY_FORWARDS_MAX)
		return wh_diag_set(diag, -WH_ENOSPC, "at most %u forwards",
				   WH_GATEWAY_FORWARDS_MAX);
	struct forward *forward = wh_alloc_zero(gateway->alloc, sizeof *forward);
	if (!forward)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a forward");
	forward->entry = *f;
	forward->entry.id = ++gateway->rule_next;
	wh_list_push_back(&gateway->forwards, &forward->node);
	gateway->forward_count++;
	if (ret_id)
		*ret_id = forward->entry.id;
	return 0;
}

static void forward_free(struct wh_gateway *gateway, struct forward *forward)
{
	wh_assert(gateway->forward_count > 0);
	gateway->forward_count--;
	wh_list_remove(&forward->node);
	wh_free(gateway->alloc, forward, sizeof *forward);
}

int wh_gateway_forward_remove(struct wh_gateway *gateway, uint32_t id)
{
	WH_LIST_FOR_EACH(node, &gateway->forwards) {
		struct forward *forward = WH_LIST_ENTRY(node, struct forward, node);
		if (forward->entry.id == id) {
			forward_free(gateway, forward);
			return 0;
		}
	}
	return -WH_ENOENT;
}

int wh_gateway_forward_get(const struct wh_gateway *gateway, uint32_t index,
			   struct wh_gateway_forward *ret_forward)
{
	WH_LIST_FOR_EACH(node, &gateway->forwards)
		if (!index--) {
			*ret_forward = WH_LIST_ENTRY(node, struct forward, node)->entry;
			return 0;
		}
	return -WH_ENOENT;
}

void forwards_fini(struct wh_gateway *gateway)
{
	while (gateway->forwards.next && !wh_list_empty(&gateway->forwards))
		forward_free(gateway, WH_LIST_ENTRY(gateway->forwards.next, struct forward, node));
}

const struct wh_gateway_forward *forward_find(struct wh_gateway *gateway, uint8_t protocol,
					      const struct wh_net_end *meant)
{
	WH_LIST_FOR_EACH(node, &gateway->forwards) {
		struct wh_gateway_forward *f = &WH_LIST_ENTRY(node, struct forward, node)->entry;
		if (!means(gateway, f, protocol, meant))
			continue;
		f->hits++;
		return f;
	}
	return NULL;
}

bool forward_shown(const struct wh_gateway *gateway, const struct wh_net_end *peer, bool is4,
		   struct wh_net_end *ret_shown)
{
	WH_LIST_FOR_EACH(node, &gateway->forwards) {
		const struct wh_gateway_forward *f =
			&WH_LIST_ENTRY(node, struct forward, node)->entry;
		if (f->protocol != WH_GATEWAY_UDP || f->to.port != peer->port ||
		    !wh_net_ip_equal(&f->to.ip, &peer->ip))
			continue;
		*ret_shown = f->meant;
		if (wh_net_ip_is_any(&f->meant.ip))
			ret_shown->ip = gateway->self[is4 ? 0 : 1];
		return true;
	}
	return false;
}
