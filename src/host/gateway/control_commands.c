/* SPDX-License-Identifier: ISC */
/* The control's commands: a line of words in, lines of JSON out; docs/spec/gateway-control.md. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/assert.h>

#include "control_priv.h"

#define FLOWS_PER_PART 16u
#define NAMES_PER_PART 16u

struct words {
	uint32_t count;
	const char *at[CONTROL_WORDS_MAX];
};

static void done(struct control_client *c)
{
	control_print(c, "{\"ok\":true}\n");
}

static void failed(struct control_client *c, int error, const char *message)
{
	c->error = wh_diag_set(&c->result, error, "%s", message);
	control_print(c, "{\"ok\":false,\"error\":%d,\"message\":", -error);
	control_string(c, message);
	control_print(c, "}\n");
}

static void key_end(struct control_client *c, const char *key, const struct wh_net_end *end)
{
	char text[END_TEXT_SIZE];
	control_print(c, ",\"%s\":\"%s\"", key, end_text(end, text));
}

static bool id_parse(const char *text, uint32_t *ret_id)
{
	uint64_t id = 0;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9' || p - text > 9)
			return false;
		id = id * 10 + (uint64_t)(*p - '0');
	}
	*ret_id = (uint32_t)id;
	return *text && id && id <= UINT32_MAX;
}

static const char *protocol_text(enum wh_gateway_protocol protocol)
{
	return protocol == WH_GATEWAY_TCP ? "tcp" : "udp";
}

/* ---- published ports ---- */

static void published_print(struct control_client *c, const struct wh_gateway_published *p)
{
	control_print(c, "{\"id\":%u,\"protocol\":\"%s\"", p->id, protocol_text(p->protocol));
	key_end(c, "host", &p->host);
	control_print(c, ",\"guest_port\":%u,\"waiting\":%u,\"activated\":%s}\n", p->guest_port,
		      p->waiting, p->activated ? "true" : "false");
}

static void rules(struct control_client *c, const struct words *w)
{
	struct wh_gateway_published list[WH_GATEWAY_RULES_MAX];
	uint32_t count = wh_gateway_published_list(c->control->gateway, list, WH_GATEWAY_RULES_MAX);
	_Static_assert(WH_GATEWAY_RULES_MAX * 120 + 100 < WH_CONTROL_REPLY_SIZE, "one part");
	for (uint32_t i = 0; i < count; i++)
		published_print(c, &list[i]);
	done(c);
}

static void expose(struct control_client *c, const struct words *w)
{
	struct wh_gateway_rule rule;
	struct wh_gateway_published p = { 0 };
	struct wh_diag diag = { "" };
	int error = wh_gateway_rule_parse(w->at[1], &rule, &diag);
	if (error >= 0)
		error = wh_gateway_publish(c->control->gateway, &rule, &p.id, &p.host, &diag);
	if (error < 0) {
		failed(c, error, diag.text);
		return;
	}
	p.protocol = rule.protocol;
	p.guest_port = rule.guest_port;
	published_print(c, &p);
	done(c);
}

static void unexpose(struct control_client *c, const struct words *w)
{
	uint32_t id;
	if (!id_parse(w->at[1], &id))
		failed(c, -WH_EINVAL, "that is no id; rules lists them");
	else if (wh_gateway_unpublish(c->control->gateway, id))
		failed(c, -WH_ENOENT, "no published port has this id");
	else
		done(c);
}

/* ---- flows ---- */

static void flow_print(struct control_client *c, const struct wh_gateway_flow *f)
{
	control_print(c, "{\"id\":%u,\"protocol\":\"%s\",\"direction\":\"%s\"", f->id,
		      protocol_text(f->protocol), f->inbound ? "in" : "out");
	key_end(c, "guest", &f->guest);
	key_end(c, "peer", &f->peer);
	key_end(c, "host", &f->host);
	key_end(c, "host_peer", &f->host_peer);
	control_print(c,
		      ",\"state\":\"%s\",\"rtt_us\":%llu,\"bytes_out\":%llu,\"bytes_in\":%llu,"
		      "\"age_ms\":%llu,\"idle_ms\":%llu}\n",
		      f->state, (unsigned long long)(f->rtt_ns / 1000),
		      (unsigned long long)f->bytes_out, (unsigned long long)f->bytes_in,
		      (unsigned long long)(f->age_ns / GATEWAY_MS),
		      (unsigned long long)(f->idle_ns / GATEWAY_MS));
}

static void flows_more(struct control_client *c)
{
	struct wh_gateway_flow list[FLOWS_PER_PART];
	uint32_t count =
		wh_gateway_flow_list(c->control->gateway, c->position, list, FLOWS_PER_PART);
	for (uint32_t i = 0; i < count; i++)
		flow_print(c, &list[i]);
	if (count == FLOWS_PER_PART) {
		c->position = list[count - 1].id;
		return;
	}
	c->more = NULL;
	done(c);
}

static void flows(struct control_client *c, const struct words *w)
{
	c->position = 0;
	c->more = flows_more;
}

/* ---- counters ---- */

struct counter {
	const char *name;
	uint16_t offset;
	bool small; /* 32 bits */
};

#define BIG(name)                                                         \
	{                                                                 \
#name, offsetof(struct wh_gateway_stats, name),           \
			sizeof(((struct wh_gateway_stats *)0)->name) == 4 \
	}
#define STACK(name)                                                             \
	{                                                                       \
		"stack_" #name, offsetof(struct wh_gateway_stats, stack.name),  \
			sizeof(((struct wh_gateway_stats *)0)->stack.name) == 4 \
	}

static const struct counter counters[] = {
	BIG(tcp_out_opened),
	BIG(tcp_out_failed),
	BIG(tcp_out_refused),
	BIG(tcp_in_accepted),
	BIG(tcp_in_failed),
	BIG(tcp_in_retries),
	BIG(tcp_bytes_out),
	BIG(tcp_bytes_in),
	BIG(udp_flows_opened),
	BIG(udp_out),
	BIG(udp_in),
	BIG(udp_dropped),
	BIG(udp_evicted),
	BIG(echo_out),
	BIG(echo_in),
	BIG(echo_dropped),
	BIG(dns_queries),
	BIG(dns_local),
	BIG(dns_answers),
	BIG(dns_failed),
	BIG(dns_retries),
	BIG(dns_bad_answers),
	BIG(dns_filtered),
	BIG(dhcp_in),
	BIG(dhcp_out),
	BIG(dhcp_exhausted),
	BIG(dhcp_refused),
	BIG(dhcp_declined),
	BIG(descriptors_refused),
	BIG(policy_denied),
	BIG(limit_refused),
	BIG(rate_waits),
	BIG(rate_dropped),
	BIG(tcp_flows),
	BIG(tcp_pending),
	BIG(udp_flows),
	BIG(echo_flows),
	BIG(rules),
	BIG(descriptors),
	STACK(frames_in),
	STACK(frames_out),
	STACK(bytes_in),
	STACK(bytes_out),
	STACK(in_malformed),
	STACK(in_checksum),
	STACK(in_not_ours),
	STACK(in_no_protocol),
	STACK(in_martian),
	STACK(out_blocked),
	STACK(fragments_in),
	STACK(reassembled),
	STACK(reassembly_failed),
	STACK(icmp_in),
	STACK(icmp_out),
	STACK(icmp_limited),
	STACK(arp_in),
	STACK(ndp_in),
	STACK(udp_in),
	STACK(udp_out),
	STACK(tcp_in),
	STACK(tcp_out),
	STACK(tcp_retransmits),
	STACK(tcp_timeouts),
	STACK(tcp_resets_in),
	STACK(tcp_resets_out),
	STACK(tcp_limit_refused),
	STACK(tcp_out_of_order),
	STACK(tcp_window_dropped),
	STACK(tcp_sockets),
	STACK(tcp_time_wait),
	STACK(tcp_half_open),
	STACK(tcp_buffer_bytes),
};

static void stats(struct control_client *c, const struct words *w)
{
	struct wh_gateway_stats s;
	wh_gateway_stats(c->control->gateway, &s);
	control_print(c, "{\"capturing\":%s",
		      wh_gateway_capturing(c->control->gateway) ? "true" : "false");
	for (unsigned i = 0; i < WH_ARRAY_COUNT(counters); i++) {
		const uint8_t *at = (const uint8_t *)&s + counters[i].offset;
		uint64_t value = 0;
		uint32_t value32 = 0;
		if (counters[i].small) {
			memcpy(&value32, at, sizeof value32);
			value = value32;
		} else {
			memcpy(&value, at, sizeof value);
		}
		control_print(c, ",\"%s\":%llu", counters[i].name, (unsigned long long)value);
	}
	control_print(c, "}\n");
	done(c);
}

/* ---- capture ---- */

/* What may block would stop the network. */
static bool never_blocks(int fd)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);
	return !fstat(fd, &st) && (S_ISREG(st.st_mode) || (flags >= 0 && flags & O_NONBLOCK));
}

static void pcap_end(struct wh_gateway_control *control)
{
	(void)wh_gateway_pcap(control->gateway, -1);
	if (control->pcap_fd >= 0)
		close(control->pcap_fd);
	control->pcap_fd = -1;
}

static void pcap(struct control_client *c, const struct words *w)
{
	struct wh_gateway_control *control = c->control;
	if (wh_streq(w->at[1], "stop")) {
		pcap_end(control);
		done(c);
		return;
	}
	if (!wh_streq(w->at[1], "start")) {
		failed(c, -WH_EINVAL, "pcap start or pcap stop");
		return;
	}
	if (wh_gateway_capturing(control->gateway)) {
		failed(c, -WH_EBUSY, "a capture runs already; pcap stop ends it");
		return;
	}
	if (c->fd < 0 || !never_blocks(c->fd)) {
		failed(c, -WH_EINVAL,
		       "the request must bring a descriptor: a regular file, or one that does not "
		       "block");
		return;
	}
	pcap_end(control); /* one that had failed */
	control->pcap_fd = c->fd;
	c->fd = -1;
	(void)ftruncate(control->pcap_fd,
			0); /* a client cannot know whether it may; pipes have no size */
	int error = wh_gateway_pcap(control->gateway, control->pcap_fd);
	if (!error) {
		done(c);
		return;
	}
	pcap_end(control);
	failed(c, error, "the file cannot be written");
}

/* ---- names ---- */

static void names_more(struct control_client *c)
{
	struct wh_gateway_name name;
	for (uint32_t i = 0; i < NAMES_PER_PART; i++) {
		if (wh_gateway_name_get(c->control->gateway, c->position, &name)) {
			c->more = NULL;
			done(c);
			return;
		}
		c->position++;
		for (int v = 0; v < 2; v++) {
			struct wh_net_end end = { v ? name.ip6 : name.ip4, 0 };
			if (wh_net_ip_is_any(&end.ip))
				continue;
			control_print(c, "{\"name\":\"%s\"", name.name);
			key_end(c, "address", &end);
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

static void dns_add(struct control_client *c, const struct words *w)
{
	const char *text = w->at[3], *end = text + wh_strlen(text);
	struct wh_net_ip ip;
	if (!ip4_parse(text, end, &ip) && !ip6_parse(text, end, &ip)) {
		failed(c, -WH_EINVAL, "that is no address");
		return;
	}
	int error = wh_gateway_name_add(c->control->gateway, w->at[2], &ip);
	if (!error)
		done(c);
	else
		failed(c, error,
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

static void dns_servers(struct control_client *c, const struct words *w)
{
	struct wh_net_end list[WH_GATEWAY_RESOLVERS_MAX];
	uint32_t count = w->count - 2;
	if (count == 1 && wh_streq(w->at[2], "host"))
		count = 0;
	if (w->count < 3 || count > WH_GATEWAY_RESOLVERS_MAX) {
		failed(c, -WH_EINVAL,
		       "dns servers ADDRESS[#PORT]..., four at most, or dns servers host");
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		if (!server_parse(w->at[2 + i], &list[i])) {
			failed(c, -WH_EINVAL,
			       "a server is an address, and #PORT when it is not 53");
			return;
		}
	wh_gateway_resolvers_set(c->control->gateway, list, count);
	done(c);
}

static void dns_forward(struct control_client *c, const struct words *w)
{
	struct wh_net_end server;
	int error = -WH_EINVAL;
	for (uint32_t i = 3; i < w->count; i++)
		if (!server_parse(w->at[i], &server)) {
			failed(c, -WH_EINVAL,
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
		done(c);
	else
		failed(c, error,
		       error == -WH_ENOSPC   ? "there are too many domains, or servers of this one"
		       : error == -WH_EINVAL ? "dns forward DOMAIN ADDRESS[#PORT]..."
					     : "no memory");
}

static void dns_filter(struct control_client *c, const struct words *w)
{
	static const char *const names[] = { "none", "aaaa", "a" };
	for (unsigned i = 0; w->count == 3 && i < WH_ARRAY_COUNT(names); i++)
		if (wh_streq(w->at[2], names[i])) {
			wh_gateway_filter_set(c->control->gateway, (enum wh_gateway_filter)i);
			done(c);
			return;
		}
	failed(c, -WH_EINVAL, "dns filter none, aaaa or a");
}

static void dns(struct control_client *c, const struct words *w)
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
	if (w->count == 3 && wh_streq(w->at[1], "unforward")) {
		if (wh_gateway_zone_remove(c->control->gateway, w->at[2]))
			failed(c, -WH_ENOENT, "this domain has no servers of its own");
		else
			done(c);
		return;
	}
	if (w->count == 1)
		dns_list(c);
	else if (w->count == 4 && wh_streq(w->at[1], "add"))
		dns_add(c, w);
	else if (w->count != 3 || !wh_streq(w->at[1], "remove"))
		failed(c, -WH_EINVAL,
		       "dns, dns add NAME ADDRESS, dns remove NAME, dns servers, dns forward, dns "
		       "unforward or dns filter");
	else if (wh_gateway_name_remove(c->control->gateway, w->at[2]))
		failed(c, -WH_ENOENT, "no such name");
	else
		done(c);
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
	done(c);
}

static void policy_add(struct control_client *c, const struct words *w)
{
	struct wh_gateway_policy policy;
	struct wh_diag diag = { "" };
	uint32_t before = 0, id;
	int error = 0;
	if (w->count == 4 && !id_parse(w->at[3], &before))
		error = wh_diag_set(&diag, -WH_EINVAL, "that is no id");
	if (!error)
		error = wh_gateway_policy_parse(w->at[2], wh_streq(w->at[1], "deny"), &policy,
						&diag);
	if (!error)
		error = wh_gateway_policy_add(c->control->gateway, &policy, before, &id);
	if (error) {
		failed(c, error,
		       *diag.text            ? diag.text
		       : error == -WH_ENOENT ? "no rule has the id that it should come before"
					     : "the list of rules is full");
		return;
	}
	control_print(c, "{\"id\":%u}\n", id);
	done(c);
}

static void policy(struct control_client *c, const struct words *w)
{
	uint32_t id;
	if (w->count == 1)
		policy_list(c);
	else if (w->count >= 3 && (wh_streq(w->at[1], "allow") || wh_streq(w->at[1], "deny")))
		policy_add(c, w);
	else if (w->count != 3 || !wh_streq(w->at[1], "remove") || !id_parse(w->at[2], &id))
		failed(c, -WH_EINVAL,
		       "policy, policy allow|deny RULE [BEFORE-ID] or policy remove ID");
	else if (wh_gateway_policy_remove(c->control->gateway, id))
		failed(c, -WH_ENOENT, "no rule has this id");
	else
		done(c);
}

/* ---- limits ---- */

/* 64, 100K, 20M, 1G; bytes or things. */
static bool number_parse(const char *text, uint64_t max, uint64_t *ret_number)
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

static void limits(struct control_client *c, const struct words *w)
{
	struct wh_gateway_limits l;
	wh_gateway_limits_get(c->control->gateway, &l);
	bool good = w->count % 2;
	for (uint32_t i = 1; good && i < w->count; i += 2) {
		uint64_t n = 0;
		bool rate = wh_streq(w->at[i], "out") || wh_streq(w->at[i], "in");
		good = number_parse(w->at[i + 1], rate ? 1ull << 50 : UINT32_MAX, &n);
		if (wh_streq(w->at[i], "out"))
			l.rate_out = n;
		else if (rate)
			l.rate_in = n;
		else if (wh_streq(w->at[i], "connects"))
			l.connects = (uint32_t)n;
		else if (wh_streq(w->at[i], "flows"))
			l.flows = (uint32_t)n;
		else
			good = false;
	}
	if (!good) {
		failed(c, -WH_EINVAL,
		       "limits, or limits [out BYTES] [in BYTES] [connects N] [flows N], a second "
		       "and "
		       "guest; 0 = none");
		return;
	}
	wh_gateway_limits_set(c->control->gateway, &l);
	if (w->count == 1)
		control_print(c, "{\"out\":%llu,\"in\":%llu,\"connects\":%u,\"flows\":%u}\n",
			      (unsigned long long)l.rate_out, (unsigned long long)l.rate_in,
			      l.connects, l.flows);
	done(c);
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
		key_end(c, "ip4", &ip4);
		if (!wh_net_ip_is_any(&ip6.ip))
			key_end(c, "ip6", &ip6);
		control_print(c, ",\"state\":\"%s\",\"left_s\":%llu}\n",
			      l->declined ? "declined"
			      : l->fixed  ? "fixed"
			      : l->bound  ? "leased"
					  : "offered",
			      (unsigned long long)(l->left_ns / GATEWAY_S));
	}
	done(c);
}

static void lease_fix(struct control_client *c, const struct words *w)
{
	const char *end = w->at[3] + wh_strlen(w->at[3]);
	struct wh_net_ip ip;
	uint8_t mac[6];
	if (!mac_parse(w->at[2], mac) || !ip4_parse(w->at[3], end, &ip)) {
		failed(c, -WH_EINVAL, "leases fix 52:54:00:12:34:56 10.0.2.20");
		return;
	}
	int error = wh_gateway_lease_fix(c->control->gateway, mac, ip.bytes + 12);
	if (!error)
		done(c);
	else
		failed(c, error,
		       error == -WH_EADDRINUSE ? "another machine has this address"
		       : error == -WH_ENOSPC   ? "the table of leases is full"
		       : error == -WH_EINVAL
			       ? "that is a group's MAC address"
			       : "the address is not one for machines of this network");
}

static void leases(struct control_client *c, const struct words *w)
{
	uint8_t mac[6];
	if (w->count == 1)
		leases_list(c);
	else if (w->count == 4 && wh_streq(w->at[1], "fix"))
		lease_fix(c, w);
	else if (w->count != 3 || !wh_streq(w->at[1], "remove") || !mac_parse(w->at[2], mac))
		failed(c, -WH_EINVAL, "leases, leases fix MAC ADDRESS or leases remove MAC");
	else if (wh_gateway_lease_remove(c->control->gateway, mac))
		failed(c, -WH_ENOENT, "this MAC has no lease");
	else
		done(c);
}

/* ---- requests ---- */

static const struct command {
	const char *name;
	uint32_t min, max; /* words */
	void (*run)(struct control_client *client, const struct words *words);
} commands[] = {
	{ "rules", 1, 1, rules },   { "expose", 2, 2, expose }, { "unexpose", 2, 2, unexpose },
	{ "flows", 1, 1, flows },   { "stats", 1, 1, stats },   { "pcap", 2, 2, pcap },
	{ "dns", 1, 7, dns },       { "policy", 1, 4, policy }, { "leases", 1, 4, leases },
	{ "limits", 1, 7, limits },
};

/* false: too many words, or bytes that are not ASCII text. */
static bool split(char *line, size_t size, struct words *words)
{
	for (size_t i = 0; i < size; i++)
		if (line[i] < ' ' || line[i] > '~')
			return false;
	line[size] = 0;
	words->count = 0;
	for (char *p = line;;) {
		while (*p == ' ')
			*p++ = 0;
		if (!*p)
			return true;
		if (words->count == CONTROL_WORDS_MAX)
			return false;
		words->at[words->count++] = p;
		while (*p && *p != ' ')
			p++;
	}
}

void control_command(struct control_client *client, char *line, size_t size)
{
	struct words words;
	wh_assert(!client->out_size && !client->more);
	if (!split(line, size, &words)) {
		failed(client, -WH_EINVAL, "a request is a line of a few words of ASCII text");
		return;
	}
	for (unsigned i = 0; words.count && i < WH_ARRAY_COUNT(commands); i++) {
		const struct command *c = &commands[i];
		if (!wh_streq(words.at[0], c->name))
			continue;
		if (words.count < c->min || words.count > c->max)
			failed(client, -WH_EINVAL, "the number of words is wrong");
		else
			c->run(client, &words);
		return;
	}
	failed(client, -WH_ENOSYS, "no such command");
}
