/* SPDX-License-Identifier: ISC */
/* Policy: the rules' text form, their list, and the question. */
#include "gateway_priv.h"

#include <wherry/base/assert.h>

struct policy {
	struct wh_list node; /* gateway->policies, in the order in which they are asked */
	struct wh_gateway_policy_entry entry;
};

/* ---- text ---- */

static const char *const protocols[] = { "tcp", "udp", "icmp" };
static const uint8_t protocol_numbers[] = { WH_WIRE_PROTO_TCP, WH_WIRE_PROTO_UDP,
					    WH_WIRE_PROTO_ICMP };

static int bad(struct wh_diag *diag, const char *text, const char *why)
{
	return wh_diag_set(
		diag, -WH_EINVAL,
		"%s: %s; a rule is [in:|out:]ADDR[/PREFIX][:PORT[-PORT]][/tcp|/udp|/icmp], "
		"ADDR an address, an IPv6 one in brackets, or *",
		text, why);
}

static bool begins(const char **at, const char *word)
{
	const char *p = *at;
	while (*word && *p == *word)
		p++, word++;
	if (!*word)
		*at = p;
	return !*word;
}

/* Takes "/tcp" and its like from the end. false: a word that is no protocol. */
static bool take_protocol(const char *text, const char **end, uint8_t *ret_protocol)
{
	const char *slash = find_last(text, *end, '/');
	if (!slash || slash + 1 == *end || slash[1] < 'a' || slash[1] > 'z')
		return true;
	for (unsigned i = 0; i < WH_ARRAY_COUNT(protocols); i++)
		if (wh_streq(slash + 1, protocols[i])) {
			*ret_protocol = protocol_numbers[i];
			*end = slash;
			return true;
		}
	return false;
}

static bool take_ports(const char *text, const char *end, struct wh_gateway_policy *policy)
{
	const char *dash = find_last(text, end, '-');
	if (!port_parse(text, dash ? dash : end, &policy->first) || !policy->first)
		return false;
	policy->last = policy->first;
	return !dash || (port_parse(dash + 1, end, &policy->last) && policy->last >= policy->first);
}

/* Without brackets around it. */
static bool take_address(const char *text, const char *end, bool ip6,
			 struct wh_gateway_policy *policy)
{
	const char *slash = find_last(text, end, '/');
	uint16_t prefix = ip6 ? 128 : 32, max = prefix;
	if (slash && (!port_parse(slash + 1, end, &prefix) || prefix > max))
		return false;
	policy->prefix = (uint8_t)prefix;
	if (!ip6)
		return ip4_parse(text, slash ? slash : end, &policy->ip);
	/* ::ffff:a.b.c.d would be an IPv4 address with a prefix of another length */
	return ip6_parse(text, slash ? slash : end, &policy->ip) && !wh_net_ip_is4(&policy->ip);
}

static bool policy_valid(const struct wh_gateway_policy *p)
{
	return p->first <= p->last && !p->last == !p->first &&
	       (p->any_address || p->prefix <= (wh_net_ip_is4(&p->ip) ? 32 : 128)) &&
	       (p->protocol != WH_WIRE_PROTO_ICMP || (!p->last && !p->inbound));
}

int wh_gateway_policy_parse(const char *text, bool deny, struct wh_gateway_policy *ret_policy,
			    struct wh_diag *diag)
{
	struct wh_gateway_policy policy = { .deny = deny };
	const char *at = text, *end = text + wh_strlen(text);
	if (begins(&at, "in:"))
		policy.inbound = true;
	else
		(void)begins(&at, "out:");
	if (!take_protocol(at, &end, &policy.protocol))
		return bad(diag, text, "no such protocol");
	bool ip6 = at < end && *at == '[';
	const char *bracket = ip6 ? find_last(at, end, ']') : NULL;
	if (ip6 && !bracket)
		return bad(diag, text, "a bracket is not closed");
	const char *rest = ip6 ? bracket + 1 : at; /* the port is behind it */
	const char *colon = find_last(rest, end, ':');
	if (ip6 && rest != (colon ? colon : end))
		return bad(diag, text, "only a port follows the bracket");
	if (colon && !take_ports(colon + 1, end, &policy))
		return bad(diag, text, "ports are 1 to 65535");
	const char *address_end = colon ? colon : end;
	if (address_end - at == 1 && *at == '*')
		policy.any_address = true;
	else if (!take_address(ip6 ? at + 1 : at, ip6 ? bracket : address_end, ip6, &policy))
		return bad(diag, text, "no address, or no prefix length");
	if (!policy_valid(&policy))
		return bad(diag, text, "pings have no port and only go out");
	*ret_policy = policy;
	return 0;
}

const char *wh_gateway_policy_text(const struct wh_gateway_policy *policy,
				   char to[WH_GATEWAY_POLICY_TEXT_SIZE])
{
	const size_t size = WH_GATEWAY_POLICY_TEXT_SIZE;
	const struct wh_net_end end = { policy->ip, 0 };
	char address[END_TEXT_SIZE];
	bool ip4 = wh_net_ip_is4(&policy->ip);
	size_t n = wh_format(to, size, "%s", policy->inbound ? "in:" : "");
	if (policy->any_address) {
		n += wh_format(to + n, size - n, "*");
	} else {
		n += wh_format(to + n, size - n, "%s", end_text(&end, address));
		if (policy->prefix < (ip4 ? 32 : 128)) {
			n -= !ip4; /* inside the bracket */
			n += wh_format(to + n, size - n, ip4 ? "/%u" : "/%u]", policy->prefix);
		}
	}
	if (policy->first)
		n += wh_format(to + n, size - n, ":%u", policy->first);
	if (policy->last != policy->first)
		n += wh_format(to + n, size - n, "-%u", policy->last);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(protocols); i++)
		if (policy->protocol == protocol_numbers[i])
			n += wh_format(to + n, size - n, "/%s", protocols[i]);
	wh_assert(n < size);
	return to;
}

/* ---- the list ---- */

static struct policy *find(const struct wh_gateway *gateway, uint32_t id)
{
	WH_LIST_FOR_EACH(node, &gateway->policies) {
		struct policy *policy = WH_LIST_ENTRY(node, struct policy, node);
		if (policy->entry.id == id)
			return policy;
	}
	return NULL;
}

int wh_gateway_policy_add(struct wh_gateway *gateway, const struct wh_gateway_policy *config,
			  uint32_t before, uint32_t *ret_id)
{
	struct policy *next = before ? find(gateway, before) : NULL;
	if (!policy_valid(config))
		return -WH_EINVAL;
	if (before && !next)
		return -WH_ENOENT;
	if (gateway->policy_count == WH_GATEWAY_POLICIES_MAX)
		return -WH_ENOSPC;
	struct policy *policy = wh_alloc_zero(gateway->alloc, sizeof *policy);
	if (!policy)
		return -WH_ENOMEM;
	policy->entry.policy = *config;
	policy->entry.id = ++gateway->policy_next;
	/* At the end of a list that begins at `next` is before it. */
	wh_list_push_back(next ? &next->node : &gateway->policies, &policy->node);
	gateway->policy_count++;
	if (ret_id)
		*ret_id = policy->entry.id;
	return 0;
}

static void policy_free(struct wh_gateway *gateway, struct policy *policy)
{
	wh_assert(gateway->policy_count > 0);
	gateway->policy_count--;
	wh_list_remove(&policy->node);
	wh_free(gateway->alloc, policy, sizeof *policy);
}

int wh_gateway_policy_remove(struct wh_gateway *gateway, uint32_t id)
{
	struct policy *policy = find(gateway, id);
	if (!policy)
		return -WH_ENOENT;
	policy_free(gateway, policy);
	return 0;
}

uint32_t wh_gateway_policy_list(const struct wh_gateway *gateway,
				struct wh_gateway_policy_entry *list, uint32_t max)
{
	uint32_t count = 0;
	WH_LIST_FOR_EACH(node, &gateway->policies)
		if (count < max)
			list[count++] = WH_LIST_ENTRY(node, struct policy, node)->entry;
	return count;
}

void policy_fini(struct wh_gateway *gateway)
{
	while (gateway->policies.next && !wh_list_empty(&gateway->policies))
		policy_free(gateway, WH_LIST_ENTRY(gateway->policies.next, struct policy, node));
}

/* ---- the question ---- */

static bool same_net(const struct wh_gateway_policy *p, const struct wh_net_ip *ip)
{
	unsigned bits = p->prefix;
	if (wh_net_ip_is4(&p->ip) != wh_net_ip_is4(ip))
		return false;
	if (wh_net_ip_is4(ip))
		bits += 96;
	unsigned whole = bits / 8, rest = bits % 8;
	return !memcmp(p->ip.bytes, ip->bytes, whole) &&
	       (!rest || !((p->ip.bytes[whole] ^ ip->bytes[whole]) >> (8 - rest)));
}

bool policy_denies(struct wh_gateway *gateway, bool inbound, uint8_t protocol,
		   const struct wh_net_ip *peer, uint16_t port)
{
	WH_LIST_FOR_EACH(node, &gateway->policies) {
		struct wh_gateway_policy_entry *e =
			&WH_LIST_ENTRY(node, struct policy, node)->entry;
		const struct wh_gateway_policy *p = &e->policy;
		if (p->inbound != inbound || (p->protocol && p->protocol != protocol) ||
		    (p->first && (port < p->first || port > p->last)) ||
		    (!p->any_address && !same_net(p, peer)))
			continue;
		e->hits++;
		gateway->stats.policy_denied += p->deny;
		return p->deny;
	}
	return false;
}
