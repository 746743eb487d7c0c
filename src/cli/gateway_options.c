/* SPDX-License-Identifier: ISC */
/* The gateway's options of `wherry run` and `wherry net`. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <wherry/base/errors.h>

#include "gateway_options.h"

#define ACTIVATION_MS 60000u /* what clients wait for --activate's doing */

/* ---- reading ---- */

static int address_take(const char *option, const char *text, struct wh_net_ip *ret_ip)
{
	uint8_t ip[16];
	if (inet_pton(AF_INET, text, ip) == 1) {
		*ret_ip = wh_net_ip4(ip);
	} else if (inet_pton(AF_INET6, text, ip) == 1) {
		*ret_ip = wh_net_ip6(ip);
	} else {
		cli_error("--%s %s is no address", option, text);
		return CLI_BAD;
	}
	return 0;
}

static int too_many(const char *option, unsigned max)
{
	cli_error("--%s: at most %u times", option, max);
	return CLI_BAD;
}

static int policy_take(struct gateway_options *o, bool deny, const char *text)
{
	struct wh_gateway_policy policy;
	struct wh_diag diag;
	if (o->policy_count == WH_GATEWAY_POLICIES_MAX) {
		cli_error("at most %u times --allow and --deny", WH_GATEWAY_POLICIES_MAX);
		return CLI_BAD;
	}
	if (wh_gateway_policy_parse(text, deny, &policy, &diag) < 0) {
		cli_error("--%s %s", deny ? "deny" : "allow", diag.text);
		return CLI_BAD;
	}
	o->policy[o->policy_count++] = (struct gateway_policy){ deny, text };
	return 0;
}

/* Options that are kept as they are, and those that are just said. false: it is none of them. */
static bool plain_take(struct gateway_options *o, int id, const char *value)
{
	const char **text = id == GATEWAY_PCAP     ? &o->pcap
			    : id == GATEWAY_SEARCH ? &o->search
						   : NULL;
	bool *said = id == GATEWAY_HOST_LOOPBACK ? &o->host_loopback
		     : id == GATEWAY_NO_OUTBOUND ? &o->no_outbound
		     : id == GATEWAY_NO_IPV6     ? &o->no_ip6
						 : NULL;
	if (text)
		*text = value;
	if (said)
		*said = true;
	return text || said;
}

int gateway_option_take(struct gateway_options *o, int id, const char *value)
{
	o->given++;
	if (plain_take(o, id, value))
		return 0;
	switch (id) {
	case GATEWAY_PUBLISH:
		if (o->publish_count == GATEWAY_PUBLISH_MAX)
			return too_many("publish", GATEWAY_PUBLISH_MAX);
		o->publish[o->publish_count++] = value;
		return 0;
	case GATEWAY_DNS:
		if (o->dns_count == WH_GATEWAY_RESOLVERS_MAX)
			return too_many("dns", WH_GATEWAY_RESOLVERS_MAX);
		o->dns[o->dns_count].port = 53;
		return address_take("dns", value, &o->dns[o->dns_count++].ip);
	case GATEWAY_NTP:
		if (o->ntp_count == WH_GATEWAY_NTP_MAX)
			return too_many("ntp", WH_GATEWAY_NTP_MAX);
		return address_take("ntp", value, &o->ntp[o->ntp_count++]);
	case GATEWAY_ALLOW:
	case GATEWAY_DENY:
		return policy_take(o, id == GATEWAY_DENY, value);
	default:
		return gateway_extra_take(o, id, value);
	}
}

/* ---- doing ---- */

void gateway_options_config(const struct gateway_options *o, struct wh_gateway_config *c)
{
	c->host_loopback = o->host_loopback;
	c->no_outbound = o->no_outbound;
	c->no_ip6 = o->no_ip6;
	c->search = o->search;
	memcpy(c->ntp, o->ntp, sizeof c->ntp);
	c->ntp_count = o->ntp_count;
	memcpy(c->resolvers, o->dns, sizeof c->resolvers);
	c->resolver_count = o->dns_count;
}

/* "127.0.0.1:8080" */
static void show_bound(const struct wh_net_end *end, const char *rule)
{
	const uint8_t *b = end->ip.bytes;
	if (wh_net_ip_is4(&end->ip))
		cli_error("published %s on %u.%u.%u.%u:%u", rule, b[12], b[13], b[14], b[15],
			  end->port);
	else
		cli_error("published %s on port %u", rule, end->port);
}

static int publish(const struct gateway_options *o, struct wh_gateway *gateway, bool show)
{
	struct wh_diag diag = { "" };
	for (unsigned i = 0; i < o->publish_count; i++) {
		struct wh_gateway_rule rule;
		struct wh_net_end bound;
		uint32_t id;
		int error = wh_gateway_rule_parse(o->publish[i], &rule, &diag);
		if (o->activated) {
			rule.activated = o->activated;
			rule.ctx = (void *)(uintptr_t)o;
			rule.activation_ms = ACTIVATION_MS;
		}
		if (error >= 0)
			error = wh_gateway_publish(gateway, &rule, &id, &bound, &diag);
		if (error < 0) {
			cli_error("-p %s: %s", o->publish[i], diag.text);
			return CLI_ERROR;
		}
		if (show)
			show_bound(&bound, o->publish[i]);
	}
	return CLI_OK;
}

static int capture(const struct gateway_options *o, struct wh_gateway *gateway)
{
	int fd = open(o->pcap, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int error = fd < 0 ? -errno : wh_gateway_pcap(gateway, fd);
	if (!error)
		return CLI_OK;
	cli_error("--pcap %s: %s", o->pcap, strerror(-error));
	return CLI_ERROR;
}

static int policy_add(const struct gateway_options *o, struct wh_gateway *gateway)
{
	struct wh_diag diag = { "" };
	for (unsigned i = 0; i < o->policy_count; i++) {
		struct wh_gateway_policy policy;
		int error = wh_gateway_policy_parse(o->policy[i].text, o->policy[i].deny, &policy,
						    &diag);
		if (error >= 0)
			error = wh_gateway_policy_add(gateway, &policy, 0, NULL);
		if (error < 0) {
			cli_error("%s: %s", o->policy[i].text, strerror(-error));
			return CLI_ERROR;
		}
	}
	return CLI_OK;
}

int gateway_options_start(const struct gateway_options *o, struct wh_gateway *gateway,
			  struct wh_loop *loop, bool show)
{
	int status = publish(o, gateway, show);
	if (!status)
		status = policy_add(o, gateway);
	if (!status)
		status = gateway_extra_start(o, gateway, loop);
	return status || !o->pcap ? status : capture(o, gateway);
}

void gateway_options_end(struct wh_gateway *gateway)
{
	static struct wh_gateway_published list[WH_GATEWAY_RULES_MAX];
	gateway_extra_end();
	uint32_t count =
		gateway ? wh_gateway_published_list(gateway, list, WH_GATEWAY_RULES_MAX) : 0;
	for (uint32_t i = 0; i < count; i++)
		if (list[i].path[0]) /* the process's end closes the others as well */
			(void)wh_gateway_unpublish(gateway, list[i].id);
}
