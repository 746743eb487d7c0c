/* SPDX-License-Identifier: ISC */
/*
 * Which connections go through the host's HTTP proxy, and under which name. The guest does not know of it: what it
 * opens to port 443 and 80 outside is carried; proxy_flow.c talks to the proxy.
 *
 * A proxy wants names, the guest's packets have addresses: the names that the DNS server told for an address are
 * remembered here, as many as NAMES_MAX. For others the proxy gets the address.
 */
#include "proxy_priv.h"

#include <wherry/base/assert.h>

static bool text_equal_n(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char c = a[i] >= 'A' && a[i] <= 'Z' ? (char)(a[i] + 32) : a[i];
		if (c != b[i])
			return false;
	}
	return true;
}

/* ---- the proxy's URL ---- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t base64(const uint8_t *from, size_t size, char *to)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = 0;
	for (size_t i = 0; i < size; i += 3) {
		uint32_t v = (uint32_t)from[i] << 16;
		v |= i + 1 < size ? (uint32_t)from[i + 1] << 8 : 0;
		v |= i + 2 < size ? from[i + 2] : 0;
		to[n++] = digits[v >> 18];
		to[n++] = digits[v >> 12 & 63];
		to[n++] = i + 1 < size ? digits[v >> 6 & 63] : '=';
		to[n++] = i + 2 < size ? digits[v & 63] : '=';
	}
	to[n] = 0;
	return n;
}

/* user:password, with %XX, as Basic credentials. */
static bool auth_take(const char *text, const char *end, char to[PROXY_AUTH_SIZE])
{
	uint8_t plain[PROXY_AUTH_SIZE / 2];
	size_t n = 0;
	bool colon = false;
	for (; text < end; text++) {
		int c = (uint8_t)*text;
		if (c == '%') {
			int high = end - text > 2 ? hex(text[1]) : -1;
			int low = high < 0 ? -1 : hex(text[2]);
			if (low < 0)
				return false;
			c = high << 4 | low;
			text += 2;
		} else if (c == ':') {
			colon = true;
		}
		if (n + 2 >= sizeof plain)
			return false;
		plain[n++] = (uint8_t)c;
	}
	if (!colon)
		plain[n++] = ':';
	base64(plain, n, to);
	return true;
}

static int url_take(const char *url, struct proxy_server *ret_server, struct wh_diag *diag)
{
	static const char scheme[] = "http://", secure[] = "https://";
	struct proxy_server s = { .end = { .port = 80 } };
	const char *at = url, *end = url + wh_strlen(url);
	if (end - at > 8 && text_equal_n(at, secure, 8))
		return wh_diag_set(diag, -WH_EPROTONOSUPPORT,
				   "a proxy is spoken to without TLS: its URL is http://...");
	if (end - at > 7 && text_equal_n(at, scheme, 7))
		at += 7;
	for (const char *p = at; p < end; p++)
		if (*p == '/') {
			end = p;
			break;
		}
	const char *sign = find_last(at, end, '@');
	if (sign && !auth_take(at, sign, s.auth))
		return wh_diag_set(diag, -WH_EINVAL,
				   "the proxy's user and password are too long, "
				   "or have a broken %%");
	at = sign ? sign + 1 : at;
	if (!end_parse(at, end, &s.end)) {
		bool ip6 = end - at > 2 && *at == '[' && end[-1] == ']';
		s.end.port = 80;
		if (!(ip6 ? ip6_parse(at + 1, end - 1, &s.end.ip) : ip4_parse(at, end, &s.end.ip)))
			return wh_diag_set(diag, -WH_EINVAL,
					   "a proxy is http://[USER:PASSWORD@]ADDRESS[:PORT], "
					   "ADDRESS no name");
	}
	s.used = true;
	*ret_server = s;
	return 0;
}

static int proxy_make(struct wh_gateway *gateway)
{
	if (gateway->proxy)
		return 0;
	gateway->proxy = wh_alloc_zero(gateway->alloc, sizeof *gateway->proxy);
	if (!gateway->proxy)
		return -WH_ENOMEM;
	wh_list_init(&gateway->proxy->pages);
	return 0;
}

int wh_gateway_proxy_set(struct wh_gateway *gateway, enum wh_gateway_proxy_kind kind,
			 const char *url, struct wh_diag *diag)
{
	struct proxy_server server = { .used = false };
	int error = url ? url_take(url, &server, diag) : 0;
	if (error)
		return error;
	if (!url && !gateway->proxy)
		return 0;
	if (proxy_make(gateway))
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the proxy");
	if (kind != WH_GATEWAY_PROXY_HTTPS)
		gateway->proxy->http = server;
	if (kind != WH_GATEWAY_PROXY_HTTP)
		gateway->proxy->https = server;
	return 0;
}

int wh_gateway_proxy_exclude(struct wh_gateway *gateway, const char *list, struct wh_diag *diag)
{
	size_t size = wh_strlen(list) + 1;
	if (size > sizeof gateway->proxy->exclude)
		return wh_diag_set(diag, -WH_E2BIG, "the list is longer than %u",
				   WH_GATEWAY_PROXY_EXCLUDE_SIZE - 1);
	if (proxy_make(gateway))
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the proxy");
	for (size_t i = 0; i < size; i++) {
		char c = list[i];
		gateway->proxy->exclude[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
	}
	return 0;
}

void wh_gateway_proxy_get(const struct wh_gateway *gateway, struct wh_gateway_proxy *ret_proxy)
{
	memset(ret_proxy, 0, sizeof *ret_proxy);
	if (!gateway->proxy)
		return;
	ret_proxy->http = gateway->proxy->http.end;
	ret_proxy->https = gateway->proxy->https.end;
	memcpy(ret_proxy->exclude, gateway->proxy->exclude, sizeof ret_proxy->exclude);
}

void proxy_fini(struct wh_gateway *gateway)
{
	if (!gateway->proxy)
		return;
	pages_fini(gateway);
	wh_free(gateway->alloc, gateway->proxy, sizeof *gateway->proxy);
	gateway->proxy = NULL;
}

/* ---- names of addresses ---- */

void proxy_note(struct wh_gateway *gateway, const char *name, const struct wh_net_ip *ip)
{
	struct gateway_proxy *proxy = gateway->proxy;
	if (!proxy)
		return;
	struct proxy_name *place = &proxy->names[proxy->name_next];
	for (uint32_t i = 0; i < PROXY_NAMES_MAX; i++)
		if (wh_net_ip_equal(&proxy->names[i].ip, ip)) {
			place = &proxy->names[i];
			break;
		}
	if (place == &proxy->names[proxy->name_next])
		proxy->name_next = (proxy->name_next + 1) % PROXY_NAMES_MAX;
	place->ip = *ip;
	size_t n = wh_strnlen(name, sizeof place->name - 1);
	memcpy(place->name, name, n);
	place->name[n] = 0;
}

const char *proxy_name(const struct wh_gateway *gateway, const struct wh_net_ip *ip)
{
	for (uint32_t i = 0; i < PROXY_NAMES_MAX; i++)
		if (gateway->proxy->names[i].name[0] &&
		    wh_net_ip_equal(&gateway->proxy->names[i].ip, ip))
			return gateway->proxy->names[i].name;
	return NULL;
}

/* ---- who goes past it ---- */

/* `*` is any run of characters. */
static bool glob(const char *text, const char *pattern, const char *end)
{
	const char *star = NULL, *resume = NULL;
	while (*text) {
		if (pattern < end && *pattern == '*') {
			star = pattern++;
			resume = text;
		} else if (pattern < end && *pattern == *text) {
			pattern++, text++;
		} else if (star) {
			pattern = star + 1;
			text = ++resume;
		} else {
			return false;
		}
	}
	while (pattern < end && *pattern == '*')
		pattern++;
	return pattern == end;
}

static bool net_fits(const char *text, const char *end, const struct wh_net_ip *ip)
{
	struct wh_gateway_policy policy;
	char rule[64];
	size_t size = (size_t)(end - text);
	bool ip6 = memchr(text, ':', size) && *text != '[';
	if (size + 3 > sizeof rule)
		return false;
	wh_format(rule, sizeof rule, "%s", ip6 ? "[" : "");
	memcpy(rule + ip6, text, size);
	memcpy(rule + ip6 + size, ip6 ? "]" : "", ip6 ? 2 : 1);
	return !wh_gateway_policy_parse(rule, false, &policy, NULL) && !policy.name[0] &&
	       !policy.any_address && policy_net_fits(&policy, ip);
}

/* example.com: it and what is under it; .example.com: under it; `*` parts; addresses and networks. */
static bool entry_fits(const char *text, const char *end, const char *name,
		       const struct wh_net_ip *ip)
{
	char domain[WH_GATEWAY_NAME_SIZE];
	size_t size = (size_t)(end - text);
	if (net_fits(text, end, ip))
		return true;
	if (size == 1 && *text == '*')
		return true;
	if (!name || size >= sizeof domain)
		return false;
	if (memchr(text, '*', size))
		return glob(name, text, end);
	memcpy(domain, text, size);
	domain[size] = 0;
	if (*domain == '.')
		return name_in(name, domain + 1) && !wh_streq(name, domain + 1);
	return name_in(name, domain);
}

static bool excluded(const struct wh_gateway *gateway, const struct wh_net_ip *ip)
{
	const char *p = gateway->proxy->exclude, *name = proxy_name(gateway, ip);
	while (*p) {
		while (*p == ',' || *p == ' ')
			p++;
		const char *end = p;
		while (*end && *end != ',' && *end != ' ')
			end++;
		if (end > p && entry_fits(p, end, name, ip))
			return true;
		p = end;
	}
	return false;
}

bool proxy_carries(const struct wh_gateway *gateway, const struct wh_net_end *meant)
{
	const struct gateway_proxy *proxy = gateway->proxy;
	return proxy &&
	       ((meant->port == 443 && proxy->https.used) ||
		(meant->port == 80 && proxy->http.used)) &&
	       !gateway_is_own(gateway, &meant->ip) && !excluded(gateway, &meant->ip);
}

bool proxy_explicit(const struct wh_gateway *gateway, const struct wh_net_end *meant,
		    struct wh_net_end *ret_to)
{
	const struct gateway_proxy *proxy = gateway->proxy;
	if (!proxy || meant->port != WH_GATEWAY_PROXY_PORT ||
	    !gateway_is_own(gateway, &meant->ip) || gateway->host_loopback ||
	    gateway->no_outbound) /* the host's own port; nobody's */
		return false;
	const struct proxy_server *server = proxy->http.used ? &proxy->http : &proxy->https;
	if (server->used)
		*ret_to = server->end;
	return server->used;
}

struct proxy_flow *proxy_begin(struct wh_gateway *gateway, const struct wh_net_end *meant,
			       struct wh_net_end *ret_to)
{
	struct gateway_proxy *proxy = gateway->proxy;
	struct proxy_flow *flow = wh_alloc_zero(gateway->alloc, sizeof *flow);
	if (!flow)
		return NULL;
	flow->gateway = gateway;
	flow->plain = meant->port == 80;
	flow->server = flow->plain ? proxy->http : proxy->https;
	flow->meant = *meant;
	const char *name = proxy_name(gateway, &meant->ip);
	const struct wh_net_end ip = { meant->ip, 0 };
	char text[END_TEXT_SIZE];
	wh_format(flow->name, sizeof flow->name, "%s", name ? name : end_text(&ip, text));
	*ret_to = flow->server.end;
	gateway->stats.proxied++;
	return flow;
}
