/* SPDX-License-Identifier: ISC */
/* The control's commands about what the gateway allows, answers and gives: names, policy, limits, forwards, leases. */
#include "control_priv.h"

#define NAMES_PER_PART 16u
#define FORWARDS_PER_PART 16u

/* ---- names ---- */

static void records_more(struct control_client *c)
{
	struct wh_gateway_record r;
	for (uint32_t i = 0; i < NAMES_PER_PART; i++) {
		if (wh_gateway_record_get(c->control->gateway, c->position, &r)) {
			c->more = NULL;
			control_done(c);
			return;
		}
		c->position++;
		control_print(c, "{\"id\":%u,\"name\":\"%s\",\"type\":\"%s\",\"data\":", r.id,
			      r.name, r.type);
		control_string(c, r.data);
		control_print(c, "}\n");
	}
}

/* dns record NAME TYPE DATA... */
static void dns_record(struct control_client *c, const struct control_words *w)
{
	char data[WH_CONTROL_LINE_SIZE];
	size_t n = 0;
	uint32_t id;
	for (uint32_t i = 4; i < w->count; i++)
		n += wh_format(data + n, sizeof data - n, i > 4 ? " %s" : "%s", w->at[i]);
	int error = wh_gateway_record_add(c->control->gateway, w->at[2], w->at[3], data, &id);
	if (error) {
		control_failed(c, error,
			       error == -WH_EEXIST   ? "an alias is alone with its name"
			       : error == -WH_ENOSPC ? "the table of records is full"
			       : error == -WH_ENOMEM ? "no memory"
						     : "dns record NAME cname|ptr TARGET, mx N "
						       "TARGET, srv N N PORT TARGET or txt TEXT");
		return;
	}
	c->result_id = id;
	control_print(c, "{\"id\":%u}\n", id);
	control_done(c);
}

static void names_more(struct control_client *c)
{
	struct wh_gateway_name name;
	for (uint32_t i = 0; i < NAMES_PER_PART; i++) {
		if (wh_gateway_name_get(c->control->gateway, c->position, &name)) {
			c->position = 0;
			c->more = records_more;
			return;
		}
		c->position++;
		for (int v = 0; v < 2; v++) {
			struct wh_net_end end = { v ? name.ip6 : name.ip4, 0 };
			if (wh_net_ip_is_any(&end.ip))
				continue;
			control_print(c, "{\"name\":\"%s\"", name.name);
			control_end(c, "address", &end);
			control_print(c, "}\n");
		}
	}
}

static void dns_list(struct control_client *c)
{
	struct wh_net_end list[WH_GATEWAY_RESOLVERS_MAX];
	char text[END_TEXT_SIZE];
	uint32_t count = wh_gateway_resolvers(c->control->gateway, list);
	for (uint32_t i = 0; i < count; i++)
		control_print(c, "{\"resolver\":\"%s\"}\n", end_text(&list[i], text));
	struct wh_gateway_zone zone;
	for (uint32_t z = 0; !wh_gateway_zone_get(c->control->gateway, z, &zone); z++)
		for (uint32_t i = 0; i < zone.server_count; i++)
			control_print(c, "{\"domain\":\"%s\",\"resolver\":\"%s\"}\n", zone.domain,
				      end_text(&zone.servers[i], text));
	c->position = 0;
	c->more = names_more;
}

static void dns_add(struct control_client *c, const struct control_words *w)
{
	const char *text = w->at[3], *end = text + wh_strlen(text);
	struct wh_net_ip ip;
	if (!ip4_parse(text, end, &ip) && !ip6_parse(text, end, &ip)) {
		control_failed(c, -WH_EINVAL, "that is no address");
		return;
	}
	int error = wh_gateway_name_add(c->control->gateway, w->at[2], &ip);
	if (!error)
		control_done(c);
	else
		control_failed(c, error,
			       error == -WH_EINVAL   ? "that is no name or no address of a machine"
			       : error == -WH_ENOSPC ? "the table of names is full"
						     : "no memory");
}

/* An address, and a port behind # when it is not 53. */
static bool server_parse(const char *text, struct wh_net_end *ret_server)
{
	const char *end = text + wh_strlen(text), *hash = find_last(text, end, '#');
	struct wh_net_end server = { .port = 53 };
	if (hash && (!port_parse(hash + 1, end, &server.port) || !server.port))
		return false;
	end = hash ? hash : end;
	if (!ip4_parse(text, end, &server.ip) && !ip6_parse(text, end, &server.ip))
		return false;
	*ret_server = server;
	return true;
}

static void dns_servers(struct control_client *c, const struct control_words *w)
{
	struct wh_net_end list[WH_GATEWAY_RESOLVERS_MAX];
	uint32_t count = w->count - 2;
	if (count == 1 && wh_streq(w->at[2], "host"))
		count = 0;
	if (w->count < 3 || count > WH_GATEWAY_RESOLVERS_MAX) {
		control_failed(c, -WH_EINVAL,
			       "dns servers ADDRESS[#PORT]..., four at most, or dns servers host");
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		if (!server_parse(w->at[2 + i], &list[i])) {
			control_failed(c, -WH_EINVAL,
				       "a server is an address, and #PORT when it is not 53");
			return;
		}
	wh_gateway_resolvers_set(c->control->gateway, list, count);
	control_done(c);
}

static void dns_forward(struct control_client *c, const struct control_words *w)
{
	struct wh_net_end server;
	int error = -WH_EINVAL;
	for (uint32_t i = 3; i < w->count; i++)
		if (!server_parse(w->at[i], &server)) {
			control_failed(c, -WH_EINVAL,
				       "a server is an address, and #PORT when it is not 53");
			return;
		}
	for (uint32_t i = 3; i < w->count; i++) {
		(void)server_parse(w->at[i], &server); /* as above */
		error = wh_gateway_zone_add(c->control->gateway, w->at[2], &server);
		if (error)
			break;
	}
	if (!error)
		control_done(c);
	else
		control_failed(c, error,
			       error == -WH_ENOSPC
				       ? "there are too many domains, or servers of this one"
			       : error == -WH_EINVAL ? "dns forward DOMAIN ADDRESS[#PORT]..."
						     : "no memory");
}

static void dns_filter(struct control_client *c, const struct control_words *w)
{
	static const char *const names[] = { "none", "aaaa", "a" };
	for (unsigned i = 0; w->count == 3 && i < WH_ARRAY_COUNT(names); i++)
		if (wh_streq(w->at[2], names[i])) {
			wh_gateway_filter_set(c->control->gateway, (enum wh_gateway_filter)i);
			control_done(c);
			return;
		}
	control_failed(c, -WH_EINVAL, "dns filter none, aaaa or a");
}

void control_dns(struct control_client *c, const struct control_words *w)
{
	if (w->count > 2 && wh_streq(w->at[1], "servers")) {
		dns_servers(c, w);
		return;
	}
	if (w->count > 3 && wh_streq(w->at[1], "forward")) {
		dns_forward(c, w);
		return;
	}
	if (w->count > 2 && wh_streq(w->at[1], "filter")) {
		dns_filter(c, w);
		return;
	}
	if (w->count > 4 && wh_streq(w->at[1], "record")) {
		dns_record(c, w);
		return;
	}
	uint32_t id;
	if (w->count == 3 && wh_streq(w->at[1], "unrecord")) {
		if (!control_id_parse(w->at[2], &id) ||
		    wh_gateway_record_remove(c->control->gateway, id))
			control_failed(c, -WH_ENOENT, "no record has this id");
		else
			control_done(c);
		return;
	}
	if (w->count == 3 && wh_streq(w->at[1], "unforward")) {
		if (wh_gateway_zone_remove(c->control->gateway, w->at[2]))
			control_failed(c, -WH_ENOENT, "this domain has no servers of its own");
		else
			control_done(c);
		return;
	}
	if (w->count == 1)
		dns_list(c);
	else if (w->count == 4 && wh_streq(w->at[1], "add"))
		dns_add(c, w);
	else if (w->count != 3 || !wh_streq(w->at[1], "remove"))
		control_failed(
			c, -WH_EINVAL,
			"dns, dns add NAME ADDRESS, dns remove NAME, dns record, dns unrecord, dns "
			"servers, dns forward, dns unforward or dns filter");
	else if (wh_gateway_name_remove(c->control->gateway, w->at[2]))
		control_failed(c, -WH_ENOENT, "no such name");
	else
		control_done(c);
}

/* ---- policy ---- */

static void policy_list(struct control_client *c)
{
	struct wh_gateway_policy_entry list[WH_GATEWAY_POLICIES_MAX];
	char text[WH_GATEWAY_POLICY_TEXT_SIZE];
	uint32_t count = wh_gateway_policy_list(c->control->gateway, list, WH_GATEWAY_POLICIES_MAX);
	_Static_assert(WH_GATEWAY_POLICIES_MAX * 440 + 100 < WH_CONTROL_REPLY_SIZE, "one part");
	for (uint32_t i = 0; i < count; i++)
		control_print(c, "{\"id\":%u,\"action\":\"%s\",\"rule\":\"%s\",\"hits\":%llu}\n",
			      list[i].id, list[i].policy.deny ? "deny" : "allow",
			      wh_gateway_policy_text(&list[i].policy, text),
			      (unsigned long long)list[i].hits);
	control_done(c);
}

static void policy_add(struct control_client *c, const struct control_words *w)
{
	struct wh_gateway_policy policy;
	struct wh_diag diag = { "" };
	uint32_t before = 0, id;
	int error = 0;
	if (w->count == 4 && !control_id_parse(w->at[3], &before))
		error = wh_diag_set(&diag, -WH_EINVAL, "that is no id");
	if (!error)
		error = wh_gateway_policy_parse(w->at[2], wh_streq(w->at[1], "deny"), &policy,
						&diag);
	if (!error)
		error = wh_gateway_policy_add(c->control->gateway, &policy, before, &id);
	if (error) {
		control_failed(c, error,
			       *diag.text ? diag.text
			       : error == -WH_ENOENT
				       ? "no rule has the id that it should come before"
				       : "the list of rules is full");
		return;
	}
	c->result_id = id;
	control_print(c, "{\"id\":%u}\n", id);
	control_done(c);
}

void control_policy(struct control_client *c, const struct control_words *w)
{
	uint32_t id;
	if (w->count == 1)
		policy_list(c);
	else if (w->count >= 3 && (wh_streq(w->at[1], "allow") || wh_streq(w->at[1], "deny")))
		policy_add(c, w);
	else if (w->count != 3 || !wh_streq(w->at[1], "remove") || !control_id_parse(w->at[2], &id))
		control_failed(c, -WH_EINVAL,
			       "policy, policy allow|deny RULE [BEFORE-ID] or policy remove ID");
	else if (wh_gateway_policy_remove(c->control->gateway, id))
		control_failed(c, -WH_ENOENT, "no rule has this id");
	else
		control_done(c);
}

/* ---- limits ---- */

/* 64, 100K, 20M, 1G; bytes or things. */
bool control_number_parse(const char *text, uint64_t max, uint64_t *ret_number)
{
	static const char units[] = "KMG";
	uint64_t n = 0;
	const char *p = text;
	for (; *p >= '0' && *p <= '9'; p++)
		if ((n = n * 10 + (uint64_t)(*p - '0')) > max)
			return false;
	if (p == text)
		return false;
	for (unsigned i = 0; *p && units[i]; i++)
		if (*p == units[i]) {
			n <<= 10 * (i + 1);
			p++;
			break;
		}
	*ret_number = n;
	return !*p && n <= max;
}

static void limits_print(struct control_client *c, const uint8_t *mac,
			 const struct wh_gateway_limits *l)
{
	char text[MAC_TEXT_SIZE];
	control_print(c, "{");
	if (mac)
		control_print(c, "\"guest\":\"%s\",", mac_text(mac, text));
	control_print(c, "\"out\":%llu,\"in\":%llu,\"connects\":%u,\"flows\":%u,\"clients\":%u}\n",
		      (unsigned long long)l->rate_out, (unsigned long long)l->rate_in, l->connects,
		      l->flows, l->clients);
}

static void limits_list(struct control_client *c)
{
	struct wh_gateway_limits l;
	uint8_t mac[6];
	wh_gateway_limits_get(c->control->gateway, &l);
	limits_print(c, NULL, &l);
	for (uint32_t i = 0; !wh_gateway_guest_limits_get(c->control->gateway, i, mac, &l); i++)
		limits_print(c, mac, &l);
	control_done(c);
}

/* Pairs of words from `first` on. */
static bool limits_parse(const struct control_words *w, uint32_t first, struct wh_gateway_limits *l)
{
	if (first == w->count || (w->count - first) % 2)
		return false;
	for (uint32_t i = first; i < w->count; i += 2) {
		const char *word = w->at[i];
		uint64_t n = 0;
		bool out = wh_streq(word, "out"), rate = out || wh_streq(word, "in");
		uint32_t *number = wh_streq(word, "connects")  ? &l->connects
				   : wh_streq(word, "flows")   ? &l->flows
				   : wh_streq(word, "clients") ? &l->clients
							       : NULL;
		if ((!rate && !number) ||
		    !control_number_parse(w->at[i + 1], rate ? 1ull << 50 : UINT32_MAX, &n))
			return false;
		if (rate)
			*(out ? &l->rate_out : &l->rate_in) = n;
		else
			*number = (uint32_t)n;
	}
	return true;
}

/* limits guest MAC LIMITS | none: those that are not named are as of all. */
static int limits_guest(struct wh_gateway *gateway, const struct control_words *w)
{
	struct wh_gateway_limits l;
	uint8_t mac[6], other[6];
	wh_gateway_limits_get(gateway, &l);
	if (w->count < 4 || !mac_parse(w->at[2], mac))
		return -WH_EINVAL;
	if (w->count == 4 && wh_streq(w->at[3], "none"))
		return wh_gateway_guest_limits_set(gateway, mac, NULL);
	struct wh_gateway_limits has;
	for (uint32_t i = 0; !wh_gateway_guest_limits_get(gateway, i, other, &has); i++)
		if (!memcmp(mac, other, 6))
			l = has;
	return limits_parse(w, 3, &l) ? wh_gateway_guest_limits_set(gateway, mac, &l) : -WH_EINVAL;
}

/* limits rule ID flows N clients N */
static int limits_rule(struct wh_gateway *gateway, const struct control_words *w)
{
	struct wh_gateway_limits l = { 0 };
	uint32_t id;
	if (w->count < 4 || !control_id_parse(w->at[2], &id) || !limits_parse(w, 3, &l) ||
	    l.rate_in || l.rate_out || l.connects)
		return -WH_EINVAL;
	const struct wh_gateway_rule_limits limits = { l.flows, l.clients };
	return wh_gateway_rule_limits_set(gateway, id, &limits);
}

void control_limits(struct control_client *c, const struct control_words *w)
{
	struct wh_gateway *gateway = c->control->gateway;
	struct wh_gateway_limits l;
	int error = 0;
	if (w->count == 1) {
		limits_list(c);
		return;
	}
	wh_gateway_limits_get(gateway, &l);
	if (wh_streq(w->at[1], "guest"))
		error = limits_guest(gateway, w);
	else if (wh_streq(w->at[1], "rule"))
		error = limits_rule(gateway, w);
	else if (limits_parse(w, 1, &l))
		wh_gateway_limits_set(gateway, &l);
	else
		error = -WH_EINVAL;
	if (!error)
		control_done(c);
	else
		control_failed(c, error,
			       error == -WH_ENOENT   ? "no published port has this id"
			       : error == -WH_ENOSPC ? "too many guests have limits of their own"
						     : "limits [guest MAC] [out BYTES] [in BYTES] "
						       "[connects N] [flows N] [clients N], limits "
						       "guest MAC none, limits rule ID [flows N] "
						       "[clients N]; 0 = none");
}

/* ---- forwards ---- */

static void forwards_more(struct control_client *c)
{
	struct wh_gateway_forward f;
	for (uint32_t i = 0; i < FORWARDS_PER_PART; i++) {
		if (wh_gateway_forward_get(c->control->gateway, c->position, &f)) {
			c->more = NULL;
			control_done(c);
			return;
		}
		c->position++;
		control_print(c, "{\"id\":%u,\"protocol\":\"%s\"", f.id,
			      f.protocol == WH_GATEWAY_TCP ? "tcp" : "udp");
		if (wh_net_ip_is_any(&f.meant.ip))
			control_print(c, ",\"meant\":\":%u\"", f.meant.port);
		else
			control_end(c, "meant", &f.meant);
		if (f.path[0]) {
			control_print(c, ",\"path\":");
			control_string(c, f.path);
		} else {
			control_end(c, "to", &f.to);
		}
		control_print(c, ",\"hits\":%llu}\n", (unsigned long long)f.hits);
	}
}

void control_forwards(struct control_client *c, const struct control_words *w)
{
	c->position = 0;
	c->more = forwards_more;
}

void control_forward(struct control_client *c, const struct control_words *w)
{
	struct wh_gateway_forward f;
	struct wh_diag diag = { "" };
	uint32_t id;
	int error = wh_gateway_forward_parse(w->at[1], &f, &diag);
	if (!error)
		error = wh_gateway_forward_add(c->control->gateway, &f, &id, &diag);
	if (error) {
		control_failed(c, error, diag.text);
		return;
	}
	c->result_id = id;
	control_print(c, "{\"id\":%u}\n", id);
	control_done(c);
}

void control_unforward(struct control_client *c, const struct control_words *w)
{
	uint32_t id;
	if (!control_id_parse(w->at[1], &id))
		control_failed(c, -WH_EINVAL, "that is no id; forwards lists them");
	else if (wh_gateway_forward_remove(c->control->gateway, id))
		control_failed(c, -WH_ENOENT, "no forward has this id");
	else
		control_done(c);
}

/* ---- proxy ---- */

static void proxy_list(struct control_client *c)
{
	struct wh_gateway_proxy p;
	wh_gateway_proxy_get(c->control->gateway, &p);
	control_print(c, "{\"except\":");
	control_string(c, p.exclude);
	if (p.http.port)
		control_end(c, "http", &p.http);
	if (p.https.port)
		control_end(c, "https", &p.https);
	control_print(c, "}\n");
	control_done(c);
}

void control_proxy(struct control_client *c, const struct control_words *w)
{
	static const char *const kinds[] = { "all", "http", "https" };
	struct wh_gateway *gateway = c->control->gateway;
	struct wh_diag diag = { "" };
	int error = wh_diag_set(&diag, -WH_EINVAL,
				"proxy, proxy all|http|https URL, proxy none or proxy except LIST");
	if (w->count == 1) {
		proxy_list(c);
		return;
	}
	for (unsigned i = 0; w->count == 3 && i < WH_ARRAY_COUNT(kinds); i++)
		if (wh_streq(w->at[1], kinds[i]))
			error = wh_gateway_proxy_set(gateway, (enum wh_gateway_proxy_kind)i,
						     w->at[2], &diag);
	if (w->count == 3 && wh_streq(w->at[1], "except"))
		error = wh_gateway_proxy_exclude(gateway, w->at[2], &diag);
	if (w->count == 2 && wh_streq(w->at[1], "none"))
		error = wh_gateway_proxy_set(gateway, WH_GATEWAY_PROXY_BOTH, NULL, &diag);
	if (error)
		control_failed(c, error, diag.text);
	else
		control_done(c);
}

/* ---- leases ---- */

static void leases_list(struct control_client *c)
{
	struct wh_gateway_lease list[WH_GATEWAY_LEASES_MAX];
	uint32_t count = wh_gateway_lease_list(c->control->gateway, list, WH_GATEWAY_LEASES_MAX);
	_Static_assert(WH_GATEWAY_LEASES_MAX * 200 + 100 < WH_CONTROL_REPLY_SIZE, "one part");
	for (uint32_t i = 0; i < count; i++) {
		const struct wh_gateway_lease *l = &list[i];
		const struct wh_net_end ip4 = { wh_net_ip4(l->ip4), 0 };
		const struct wh_net_end ip6 = { wh_net_ip6(l->ip6), 0 };
		char mac[MAC_TEXT_SIZE];
		control_print(c, "{\"mac\":\"%s\"", mac_text(l->mac, mac));
		control_end(c, "ip4", &ip4);
		if (!wh_net_ip_is_any(&ip6.ip))
			control_end(c, "ip6", &ip6);
		control_print(c, ",\"state\":\"%s\",\"left_s\":%llu}\n",
			      l->declined ? "declined"
			      : l->fixed  ? "fixed"
			      : l->bound  ? "leased"
					  : "offered",
			      (unsigned long long)(l->left_ns / GATEWAY_S));
	}
	control_done(c);
}

static void lease_fix(struct control_client *c, const struct control_words *w)
{
	const char *end = w->at[3] + wh_strlen(w->at[3]);
	struct wh_net_ip ip;
	uint8_t mac[6];
	if (!mac_parse(w->at[2], mac) || !ip4_parse(w->at[3], end, &ip)) {
		control_failed(c, -WH_EINVAL, "leases fix 52:54:00:12:34:56 10.0.2.20");
		return;
	}
	int error = wh_gateway_lease_fix(c->control->gateway, mac, ip.bytes + 12);
	if (!error)
		control_done(c);
	else
		control_failed(c, error,
			       error == -WH_EADDRINUSE ? "another machine has this address"
			       : error == -WH_ENOSPC   ? "the table of leases is full"
			       : error == -WH_EINVAL
				       ? "that is a group's MAC address"
				       : "the address is not one for machines of this network");
}

void control_leases(struct control_client *c, const struct control_words *w)
{
	uint8_t mac[6];
	if (w->count == 1)
		leases_list(c);
	else if (w->count == 4 && wh_streq(w->at[1], "fix"))
		lease_fix(c, w);
	else if (w->count != 3 || !wh_streq(w->at[1], "remove") || !mac_parse(w->at[2], mac))
		control_failed(c, -WH_EINVAL,
			       "leases, leases fix MAC ADDRESS or leases remove MAC");
	else if (wh_gateway_lease_remove(c->control->gateway, mac))
		control_failed(c, -WH_ENOENT, "this MAC has no lease");
	else
		control_done(c);
}
