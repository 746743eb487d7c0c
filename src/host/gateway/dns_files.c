/* SPDX-License-Identifier: ISC */
/* resolv.conf(5) and hosts(5) of the host: looked at when a question comes, at most once a
 * second, and read again when they changed. */
#include "dns_priv.h"

#include <wherry/base/assert.h>

#define CHECK_NS (1 * GATEWAY_S)
#define TIMEOUT_MAX_S 10u /* guests have given up by then */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The next word of the line at *at; *at moves behind it. Comments end the line. */
static bool next_word(const char **at, const char **ret_word, const char **ret_end)
{
	const char *p = *at;
	while (is_blank(*p))
		p++;
	*ret_word = p;
	while (*p && *p != '\n' && *p != '#' && *p != ';' && !is_blank(*p))
		p++;
	*ret_end = *at = p;
	return p > *ret_word;
}

static const char *next_line(const char *at)
{
	while (*at && *at != '\n')
		at++;
	return *at ? at + 1 : at;
}

static bool word_is(const char *word, const char *end, const char *text)
{
	size_t size = wh_strlen(text);
	return (size_t)(end - word) == size && !memcmp(word, text, size);
}

static bool parse_ip(const char *word, const char *end, struct wh_net_ip *ret_ip)
{
	return ip4_parse(word, end, ret_ip) || ip6_parse(word, end, ret_ip);
}

/* timeout:N, of resolv.conf(5); the others are the guest's or the server's business. */
static void option_take(struct gateway_dns *dns, const char *word, const char *end)
{
	static const char name[] = "timeout:";
	uint16_t seconds;
	if ((size_t)(end - word) <= sizeof name - 1 || memcmp(word, name, sizeof name - 1) ||
	    !port_parse(word + sizeof name - 1, end, &seconds) || !seconds)
		return;
	dns->timeout_ns = (seconds < TIMEOUT_MAX_S ? seconds : TIMEOUT_MAX_S) * GATEWAY_S;
}

/* Later search and domain lines win, as in libc. Servers with a zone (fe80::1%eth0) are passed over. */
static void resolv_parse(struct gateway_dns *dns, const char *text)
{
	dns->server_count = 0;
	dns->timeout_ns = 0;
	dns->search[0] = 0;
	for (const char *line = text; *line; line = next_line(line)) {
		const char *at = line, *word, *end;
		if (!next_word(&at, &word, &end))
			continue;
		if (word_is(word, end, "nameserver")) {
			struct wh_net_end *server = &dns->servers[dns->server_count];
			if (dns->server_count < WH_GATEWAY_RESOLVERS_MAX &&
			    next_word(&at, &word, &end) && parse_ip(word, end, &server->ip)) {
				server->port = 53;
				dns->server_count++;
			}
		} else if (word_is(word, end, "options")) {
			while (next_word(&at, &word, &end))
				option_take(dns, word, end);
		} else if (word_is(word, end, "search") || word_is(word, end, "domain")) {
			size_t n = 0;
			while (next_word(&at, &word, &end)) {
				size_t size = (size_t)(end - word);
				if (n + size + 2 > sizeof dns->search)
					break;
				if (n)
					dns->search[n++] = ' ';
				memcpy(dns->search + n, word, size);
				n += size;
			}
			dns->search[n] = 0;
		}
	}
}

int dns_init(struct wh_gateway *gateway)
{
	if (gateway->dns)
		return 0;
	struct gateway_dns *dns = wh_alloc(gateway->alloc, sizeof *dns);
	if (!dns)
		return -WH_ENOMEM;
	memset(dns, 0, offsetof(struct gateway_dns, buffer));
	pool_init(&dns->queries_pool, sizeof(struct dns_query), 8);
	wh_list_init(&dns->queries);
	wh_list_init(&dns->clients);
	gateway->dns = dns;
	return 0;
}

void dns_files_refresh(struct wh_gateway *gateway)
{
	struct gateway_dns *dns = gateway->dns;
	const struct wh_gateway_host *host = gateway->host;
	uint64_t now = wh_loop_now(gateway->loop);
	if (dns->checked_ns && now - dns->checked_ns < CHECK_NS)
		return;
	dns->checked_ns = now;
	char *text = (char *)dns->buffer;
	const char *path = gateway->resolv_conf ? gateway->resolv_conf : "/etc/resolv.conf";
	int n = host->read_text(gateway->host_ctx, path, &dns->resolv_stamp, text,
				DNS_RESOLV_SIZE_MAX);
	if (n >= 0)
		resolv_parse(dns, text);
	if (gateway->resolver_count) {
		dns->server_count = gateway->resolver_count;
		memcpy(dns->servers, gateway->resolvers, sizeof dns->servers);
	}
	path = gateway->hosts ? gateway->hosts : "/etc/hosts";
	if (!*path)
		return;
	if (!dns->hosts) {
		dns->hosts = wh_alloc(gateway->alloc, DNS_HOSTS_SIZE_MAX);
		if (!dns->hosts)
			return;
		dns->hosts[0] = 0;
	}
	(void)host->read_text(gateway->host_ctx, path, &dns->hosts_stamp, dns->hosts,
			      DNS_HOSTS_SIZE_MAX); /* without the file there are no names */
}

const char *dns_search(struct wh_gateway *gateway)
{
	if (dns_init(gateway))
		return "";
	dns_files_refresh(gateway);
	return gateway->dns->search;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* name is lower case already. */
static bool name_is(const char *word, const char *end, const char *name)
{
	while (word < end && *name && lower(*word) == *name)
		word++, name++;
	return word == end && !*name;
}

/* A loopback address in the host's file means the host itself: the guest knows it as the gateway,
 * and reaches it only when it may. */
static int hosts_lookup(struct wh_gateway *gateway, const char *name, bool ip6,
			struct wh_net_ip *ret_ip)
{
	int found = -WH_ENOENT;
	if (!gateway->dns->hosts)
		return found;
	for (const char *line = gateway->dns->hosts; *line; line = next_line(line)) {
		const char *at = line, *word, *end;
		struct wh_net_ip ip;
		if (!next_word(&at, &word, &end) || !parse_ip(word, end, &ip))
			continue;
		if (gateway_is_loopback(&ip) && !gateway->host_loopback)
			continue;
		while (next_word(&at, &word, &end)) {
			if (!name_is(word, end, name))
				continue;
			if (gateway_is_loopback(&ip))
				ip = gateway->self[wh_net_ip_is4(&ip) ? 0 : 1];
			if (wh_net_ip_is4(&ip) == ip6) {
				found = 0;
				break;
			}
			*ret_ip = ip;
			return 1;
		}
	}
	return found;
}

bool dns_hosts_reverse(struct wh_gateway *gateway, const struct wh_net_ip *wanted,
		       char ret_name[WH_WIRE_DNS_NAME_SIZE])
{
	if (!gateway->dns->hosts)
		return false;
	for (const char *line = gateway->dns->hosts; *line; line = next_line(line)) {
		const char *at = line, *word, *end;
		struct wh_net_ip ip;
		if (!next_word(&at, &word, &end) || !parse_ip(word, end, &ip) ||
		    !wh_net_ip_equal(&ip, wanted) || !next_word(&at, &word, &end) ||
		    end - word >= WH_WIRE_DNS_NAME_SIZE)
			continue;
		memcpy(ret_name, word, (size_t)(end - word));
		ret_name[end - word] = 0;
		return true;
	}
	return false;
}

int dns_local_name(struct wh_gateway *gateway, const char *name, bool ip6, struct wh_net_ip *ret_ip)
{
	static const uint8_t loopback4[4] = { 127, 0, 0, 1 }, loopback6[16] = { [15] = 1 };
	if (wh_streq(name, "gateway.internal") || wh_streq(name, "host.internal")) {
		*ret_ip = gateway->self[ip6 ? 1 : 0];
		return !ip6 || gateway->ip6;
	}
	if (name_in(name, "localhost")) { /* RFC 6761, 6.3: never leaves the guest */
		*ret_ip = ip6 ? wh_net_ip6(loopback6) : wh_net_ip4(loopback4);
		return 1;
	}
	int found = names_find(gateway, name, ip6, ret_ip);
	return found >= 0 ? found : hosts_lookup(gateway, name, ip6, ret_ip);
}

uint32_t wh_gateway_resolvers(struct wh_gateway *gateway,
			      struct wh_net_end list[WH_GATEWAY_RESOLVERS_MAX])
{
	if (dns_init(gateway))
		return 0;
	dns_files_refresh(gateway);
	memcpy(list, gateway->dns->servers, gateway->dns->server_count * sizeof *list);
	return gateway->dns->server_count;
}
