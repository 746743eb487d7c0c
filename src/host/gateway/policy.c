/* SPDX-License-Identifier: ISC */
/*
 * Policy: the rules' text form, their list, and the question.
 *
 * A rule with a name knows the addresses that the DNS server has told guests for it: each until its TTL is over,
 * and a minute more, as a guest may use what it was told to the end. So a guest that asks elsewhere, or
 * makes addresses up, gains nothing from a rule that allows, and passes by one that denies: what must not be
 * reached is denied as *, and the names that may be are allowed before.
 */
#include "proxy_priv.h"

#include <wherry/base/assert.h>

#define NAME_GRACE_NS (60 * GATEWAY_S)
#define NAME_TTL_MAX_S 86400u
#define KNOWN_SIZE (WH_GATEWAY_POLICY_ADDRESSES_MAX * sizeof(struct known))

struct known {
	struct wh_net_ip ip;
	uint64_t end_ns;
};

struct policy {
	struct wh_list node; /* gateway->policies, in the order in which they are asked */
	struct wh_gateway_policy_entry entry;
	uint32_t known_count;
	struct known *known; /* WH_GATEWAY_POLICY_ADDRESSES_MAX of them; NULL = no name */
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
		"ADDR an address, an IPv6 one in brackets, a name, *.DOMAIN or *",
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

/* A name has a letter in its last label; else it is an address with a mistake in it. */
static bool take_name(const char *text, const char *end, struct wh_gateway_policy *policy)
{
	char name[WH_GATEWAY_NAME_SIZE];
	size_t size = (size_t)(end - text);
	if (size >= sizeof name)
		return false;
	memcpy(name, text, size);
	name[size] = 0;
	if (!name_take(name, true, policy->name))
		return false;
	const char *last = policy->name + wh_strlen(policy->name);
	const char *dot = find_last(policy->name, last, '.');
	for (const char *p = dot ? dot + 1 : policy->name; *p; p++)
		if (*p < '0' || *p > '9')
			return true;
	return false;
}

static bool policy_valid(const struct wh_gateway_policy *p)
{
	return p->first <= p->last && !p->last == !p->first &&
	       (p->any_address || p->prefix <= (wh_net_ip_is4(&p->ip) ? 32 : 128)) &&
	       (p->protocol != WH_WIRE_PROTO_ICMP || (!p->last && !p->inbound)) &&
	       !(p->name[0] && (p->inbound || p->any_address)) &&
	       wh_strnlen(p->name, sizeof p->name) < sizeof p->name;
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
	else if (!take_address(ip6 ? at + 1 : at, ip6 ? bracket : address_end, ip6, &policy) &&
		 (ip6 || !take_name(at, address_end, &policy)))
		return bad(diag, text, "no address, or no prefix length");
	if (policy.name[0])
		policy.ip = (struct wh_net_ip){ { 0 } }, policy.prefix = 0;
	if (policy.name[0] && policy.inbound)
		return bad(diag, text, "names are for what goes out");
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
	if (policy->name[0]) {
		n += wh_format(to + n, size - n, "%s", policy->name);
	} else if (policy->any_address) {
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
	if (config->name[0]) {
		policy->known = wh_alloc(gateway->alloc, KNOWN_SIZE);
		if (!policy->known) {
			wh_free(gateway->alloc, policy, sizeof *policy);
			return -WH_ENOMEM;
		}
		gateway->policy_name_count++;
	}
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
	gateway->policy_name_count -= policy->known != NULL;
	wh_free(gateway->alloc, policy->known, KNOWN_SIZE);
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

bool policy_net_fits(const struct wh_gateway_policy *p, const struct wh_net_ip *ip)
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

static bool is_known(struct policy *policy, const struct wh_net_ip *ip, uint64_t now)
{
	for (uint32_t i = 0; i < policy->known_count; i++)
		if (policy->known[i].end_ns > now && wh_net_ip_equal(&policy->known[i].ip, ip))
			return true;
	return false;
}

static void denied(struct wh_gateway *gateway, const struct wh_gateway_policy_entry *e,
		   const char *what)
{
	char text[WH_GATEWAY_POLICY_TEXT_SIZE];
	gateway->stats.policy_denied++;
	if (events_wanted(gateway))
		event(gateway, "denied", ",\"id\":%u,\"rule\":\"%s\",\"peer\":\"%s\"", e->id,
		      wh_gateway_policy_text(&e->policy, text), what);
}

bool policy_denies(struct wh_gateway *gateway, bool inbound, uint8_t protocol,
		   const struct wh_net_ip *peer, uint16_t port)
{
	uint64_t now = wh_loop_now(gateway->loop);
	WH_LIST_FOR_EACH(node, &gateway->policies) {
		struct policy *policy = WH_LIST_ENTRY(node, struct policy, node);
		struct wh_gateway_policy_entry *e = &policy->entry;
		const struct wh_gateway_policy *p = &e->policy;
		if (p->inbound != inbound || (p->protocol && p->protocol != protocol) ||
		    (p->first && (port < p->first || port > p->last)))
			continue;
		if (policy->known ? !is_known(policy, peer, now)
				  : !p->any_address && !policy_net_fits(p, peer))
			continue;
		e->hits++;
		if (p->deny) {
			const struct wh_net_end end = { *peer, port };
			char text[END_TEXT_SIZE];
			denied(gateway, e, end_text(&end, text));
		}
		return p->deny;
	}
	return false;
}

/* ---- names ---- */

bool policy_name_denies(struct wh_gateway *gateway, const char *name)
{
	if (!gateway->policy_name_count)
		return false;
	WH_LIST_FOR_EACH(node, &gateway->policies) {
		struct policy *policy = WH_LIST_ENTRY(node, struct policy, node);
		const struct wh_gateway_policy *p = &policy->entry.policy;
		if (!policy->known || !name_fits(name, p->name))
			continue;
		if (!p->deny || p->protocol || p->first)
			return false;
		policy->entry.hits++;
		denied(gateway, &policy->entry, name);
		return true;
	}
	return false;
}

static void known_add(struct policy *policy, const struct wh_net_ip *ip, uint64_t end_ns)
{
	struct known *place = &policy->known[0];
	for (uint32_t i = 0; i < policy->known_count; i++) {
		struct known *known = &policy->known[i];
		if (wh_net_ip_equal(&known->ip, ip)) {
			if (known->end_ns < end_ns)
				known->end_ns = end_ns;
			return;
		}
		if (known->end_ns < place->end_ns)
			place = known;
	}
	if (policy->known_count < WH_GATEWAY_POLICY_ADDRESSES_MAX)
		place = &policy->known[policy->known_count++];
	*place = (struct known){ *ip, end_ns };
}

void policy_name_answer(struct wh_gateway *gateway, const char *name, const struct wh_net_ip *ip,
			uint32_t ttl_s)
{
	uint64_t end_ns = wh_loop_now(gateway->loop) + NAME_GRACE_NS +
			  (ttl_s < NAME_TTL_MAX_S ? ttl_s : NAME_TTL_MAX_S) * GATEWAY_S;
	if (!gateway->policy_name_count)
		return;
	WH_LIST_FOR_EACH(node, &gateway->policies) {
		struct policy *policy = WH_LIST_ENTRY(node, struct policy, node);
		if (policy->known && name_fits(name, policy->entry.policy.name))
			known_add(policy, ip, end_ns);
	}
}
