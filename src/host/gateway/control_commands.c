/* SPDX-License-Identifier: ISC */
/* The control's commands: a line of words in, lines of JSON out; docs/spec/gateway-control.md. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/assert.h>

#include "control_priv.h"

#define FLOWS_PER_PART 16u
#define RULES_PER_PART 64u

void control_done(struct control_client *c)
{
	control_print(c, "{\"ok\":true}\n");
}

void control_failed(struct control_client *c, int error, const char *message)
{
	c->error = wh_diag_set(&c->result, error, "%s", message);
	control_print(c, "{\"ok\":false,\"error\":%d,\"message\":", -error);
	control_string(c, message);
	control_print(c, "}\n");
}

void control_end(struct control_client *c, const char *key, const struct wh_net_end *end)
{
	char text[END_TEXT_SIZE];
	control_print(c, ",\"%s\":\"%s\"", key, end_text(end, text));
}

bool control_id_parse(const char *text, uint32_t *ret_id)
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
	if (p->path[0]) {
		control_print(c, ",\"path\":");
		control_string(c, p->path);
	} else {
		control_end(c, "host", &p->host);
	}
	const struct wh_net_end machine = { p->guest, 0 };
	if (!wh_net_ip_is_any(&p->guest))
		control_end(c, "machine", &machine);
	control_print(c, ",\"guest_port\":%u,\"waiting\":%u,\"activated\":%s}\n", p->guest_port,
		      p->waiting, p->activated ? "true" : "false");
}

static void rules_more(struct control_client *c)
{
	struct wh_gateway_published list[WH_GATEWAY_RULES_MAX];
	uint32_t count = wh_gateway_published_list(c->control->gateway, list, WH_GATEWAY_RULES_MAX);
	uint32_t printed = 0;
	for (uint32_t i = 0; i < count && printed < RULES_PER_PART; i++) {
		if (list[i].id <= c->position)
			continue;
		published_print(c, &list[i]);
		c->position = list[i].id;
		printed++;
	}
	if (printed)
		return;
	c->more = NULL;
	control_done(c);
}

static void rules(struct control_client *c, const struct control_words *w)
{
	c->position = 0;
	c->more = rules_more;
}

static void expose(struct control_client *c, const struct control_words *w)
{
	struct wh_gateway_rule rule;
	struct wh_gateway_published p = { 0 };
	struct wh_diag diag = { "" };
	int error = wh_gateway_rule_parse(w->at[1], &rule, &diag);
	if (error >= 0)
		error = wh_gateway_publish(c->control->gateway, &rule, &p.id, &p.host, &diag);
	if (error < 0) {
		control_failed(c, error, diag.text);
		return;
	}
	c->result_id = p.id;
	p.protocol = rule.protocol;
	p.guest_port = rule.guest_port;
	p.guest = rule.guest;
	memcpy(p.path, rule.path, sizeof p.path);
	published_print(c, &p);
	control_done(c);
}

static void unexpose(struct control_client *c, const struct control_words *w)
{
	uint32_t id;
	if (!control_id_parse(w->at[1], &id))
		control_failed(c, -WH_EINVAL, "that is no id; rules lists them");
	else if (wh_gateway_unpublish(c->control->gateway, id))
		control_failed(c, -WH_ENOENT, "no published port has this id");
	else
		control_done(c);
}

/* ---- flows ---- */

static void flow_print(struct control_client *c, const struct wh_gateway_flow *f)
{
	control_print(c, "{\"id\":%u,\"protocol\":\"%s\",\"direction\":\"%s\"", f->id,
		      protocol_text(f->protocol), f->inbound ? "in" : "out");
	control_end(c, "guest", &f->guest);
	control_end(c, "peer", &f->peer);
	control_end(c, "host", &f->host);
	control_end(c, "host_peer", &f->host_peer);
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
	control_done(c);
}

static void flows(struct control_client *c, const struct control_words *w)
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
	BIG(tcp_spliced),
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
	BIG(hops_ended),
	BIG(hops_told),
	BIG(proxied),
	BIG(proxy_failed),
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
	STACK(igmp_in),
	STACK(igmp_out),
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

static void stats(struct control_client *c, const struct control_words *w)
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
	control_done(c);
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

/* Words from `i` on: [snap N] [guest MAC]. */
static bool pcap_select(struct control_client *c, const struct control_words *w, uint32_t i)
{
	uint32_t snaplen = 0;
	uint8_t mac[6];
	bool has_mac = false;
	for (; i + 1 < w->count; i += 2) {
		if (wh_streq(w->at[i], "guest") && mac_parse(w->at[i + 1], mac))
			has_mac = true;
		else if (!wh_streq(w->at[i], "snap") || !control_id_parse(w->at[i + 1], &snaplen))
			return false;
	}
	if (i != w->count)
		return false;
	wh_gateway_pcap_select(c->control->gateway, snaplen, has_mac ? mac : NULL);
	return true;
}

static void pcap_start(struct control_client *c)
{
	struct wh_gateway_control *control = c->control;
	pcap_end(control); /* one that had failed */
	control->pcap_fd = c->fd;
	c->fd = -1;
	(void)ftruncate(control->pcap_fd,
			0); /* a client cannot know whether it may; pipes have no size */
	int error = wh_gateway_pcap(control->gateway, control->pcap_fd);
	if (!error) {
		control_done(c);
		return;
	}
	pcap_end(control);
	control_failed(c, error, "the file cannot be written");
}

static void pcap_ring(struct control_client *c, const struct control_words *w)
{
	uint64_t size = 0;
	int error = -WH_EINVAL;
	if (w->count > 2 && control_number_parse(w->at[2], UINT32_MAX, &size) &&
	    (!size || pcap_select(c, w, 3)))
		error = wh_gateway_pcap_ring(c->control->gateway, (uint32_t)size);
	if (!error)
		control_done(c);
	else
		control_failed(
			c, error,
			error == -WH_ENOMEM
				? "no memory"
				: "pcap ring SIZE [snap N] [guest MAC], SIZE 64K to 64M, or 0");
}

static void pcap(struct control_client *c, const struct control_words *w)
{
	struct wh_gateway *gateway = c->control->gateway;
	bool start = wh_streq(w->at[1], "start"), dump = wh_streq(w->at[1], "dump");
	if (wh_streq(w->at[1], "stop")) {
		pcap_end(c->control);
		control_done(c);
		return;
	}
	if (wh_streq(w->at[1], "ring")) {
		pcap_ring(c, w);
		return;
	}
	if (!start && !dump) {
		control_failed(c, -WH_EINVAL, "pcap start, stop, ring or dump");
		return;
	}
	if (start && gateway->pcap_fd >= 0) {
		control_failed(c, -WH_EBUSY, "a capture runs already; pcap stop ends it");
		return;
	}
	if (c->fd < 0 || !never_blocks(c->fd)) {
		control_failed(
			c, -WH_EINVAL,
			"the request must bring a descriptor: a regular file, or one that does not "
			"block");
		return;
	}
	if (dump) {
		(void)ftruncate(c->fd, 0); /* as in pcap_start */
		int error = wh_gateway_pcap_dump(gateway, c->fd);
		if (!error)
			control_done(c);
		else
			control_failed(c, error,
				       error == -WH_ENOENT ? "there is no ring; pcap ring makes one"
							   : "the file cannot be written");
		return;
	}
	if (!pcap_select(c, w, 2))
		control_failed(c, -WH_EINVAL, "pcap start [snap N] [guest MAC]");
	else
		pcap_start(c);
}

/* ---- requests ---- */

static const struct command {
	const char *name;
	uint32_t min, max; /* words */
	void (*run)(struct control_client *client, const struct control_words *words);
} commands[] = {
	{ "rules", 1, 1, rules },
	{ "expose", 2, 2, expose },
	{ "unexpose", 2, 2, unexpose },
	{ "flows", 1, 1, flows },
	{ "stats", 1, 1, stats },
	{ "pcap", 2, 7, pcap },
	{ "dns", 1, 9, control_dns },
	{ "policy", 1, 4, control_policy },
	{ "leases", 1, 4, control_leases },
	{ "limits", 1, 13, control_limits },
	{ "forward", 2, 2, control_forward },
	{ "unforward", 2, 2, control_unforward },
	{ "forwards", 1, 1, control_forwards },
	{ "proxy", 1, 3, control_proxy },
	{ "events", 1, 1, control_events },
};

/* false: too many words, or bytes that are not ASCII text. */
static bool split(char *line, size_t size, struct control_words *words)
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
	struct control_words words;
	wh_assert(!client->out_size && !client->more);
	if (!split(line, size, &words)) {
		control_failed(client, -WH_EINVAL,
			       "a request is a line of a few words of ASCII text");
		return;
	}
	for (unsigned i = 0; words.count && i < WH_ARRAY_COUNT(commands); i++) {
		const struct command *c = &commands[i];
		if (!wh_streq(words.at[0], c->name))
			continue;
		if (words.count < c->min || words.count > c->max)
			control_failed(client, -WH_EINVAL, "the number of words is wrong");
		else
			c->run(client, &words);
		return;
	}
	control_failed(client, -WH_ENOSYS, "no such command");
}
