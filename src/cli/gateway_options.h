/* SPDX-License-Identifier: ISC */
#ifndef CLI_GATEWAY_OPTIONS_H
#define CLI_GATEWAY_OPTIONS_H

/*
 * The options of a gateway, which `wherry run` and `wherry net` share: their rows of the tables, what takes them, and
 * what is done with them when there is a gateway.
 */

#include <wherry/gateway.h>

#include "cli.h"
#include "net_control.h"

#define GATEWAY_PUBLISH_MAX 64u

/* Ids begin where those of the commands end. */
enum gateway_option {
	GATEWAY_PUBLISH = 1000,
	GATEWAY_FORWARD,
	GATEWAY_ACTIVATE,
	GATEWAY_DNS,
	GATEWAY_SEARCH,
	GATEWAY_NAME,
	GATEWAY_NTP,
	GATEWAY_HOST_LOOPBACK,
	GATEWAY_NO_OUTBOUND,
	GATEWAY_NO_IPV6,
	GATEWAY_ALLOW,
	GATEWAY_DENY,
	GATEWAY_PROXY,
	GATEWAY_NO_PROXY,
	GATEWAY_LIMIT,
	GATEWAY_SETTINGS,
	GATEWAY_SET,
	GATEWAY_CONTROL,
	GATEWAY_PCAP,
};

/* Rows for a table. --name differs: with `run` it is the machine's, and --set 'dns add NAME ADDRESS' does this one's work. */
#define GATEWAY_OPTIONS                                                                           \
	{ GATEWAY_PUBLISH, "publish", 'p', "HOST:GUEST[/udp]",                                    \
	  "lead a port of the host to the guest" },                                               \
		{ GATEWAY_FORWARD, "forward", 0, "PORT=HOST:PORT[/udp]",                          \
		  "lead a port of 10.0.2.2 to the host; unix:PATH, too" },                        \
		{ GATEWAY_ACTIVATE, "activate", 0, "COMMAND",                                     \
		  "run this when a published port gets its first client, who waits" },            \
		{ GATEWAY_DNS, "dns", 0, "ADDRESS", "server to ask, instead of the host's" },     \
		{ GATEWAY_SEARCH, "search", 0, "DOMAINS",                                         \
		  "search list for guests, instead of the host's" },                              \
		{ GATEWAY_NTP, "ntp", 0, "ADDRESS", "time server that guests are told of" },      \
		{ GATEWAY_HOST_LOOPBACK, "host-loopback", 0, NULL,                                \
		  "10.0.2.2 is the host's 127.0.0.1" },                                           \
		{ GATEWAY_NO_OUTBOUND, "no-outbound", 0, NULL,                                    \
		  "nothing but published ports and DNS" },                                        \
		{ GATEWAY_NO_IPV6, "no-ipv6", 0, NULL, "IPv4 only" },                             \
		{ GATEWAY_ALLOW, "allow", 0, "RULE",                                              \
		  "network: [in:]ADDR[/PREFIX]|NAME[:PORT][/tcp], * = all" },                     \
		{ GATEWAY_DENY, "deny", 0, "RULE", "network: the first rule that fits decides" }, \
		{ GATEWAY_PROXY, "proxy", 0, "URL|env",                                           \
		  "HTTP proxy for ports 80 and 443; env: http_proxy and others" },                \
		{ GATEWAY_NO_PROXY, "no-proxy", 0, "LIST",                                        \
		  "domains, addresses, networks that go past it" },                               \
		{ GATEWAY_LIMIT, "limit", 0, "LIMITS",                                            \
		  "of each guest: out|in BYTES a second, connects|flows N" },                     \
		{ GATEWAY_SETTINGS, "settings", 0, "FOLDER|REPO@BRANCH",                          \
		  "files of requests like --set's, followed as they change" },                    \
		{ GATEWAY_SET, "set", 0, "REQUEST",                                               \
		  "do this at the start, e.g. 'dns forward corp.test 10.1.1.1'" },                \
		{ GATEWAY_CONTROL, "control", 0, "PATH",                                          \
		  "socket for wherry net rules, flows, expose... (or WHERRY_CONTROL)" },          \
	{                                                                                         \
		GATEWAY_PCAP, "pcap", 0, "FILE", "write every frame to FILE"                      \
	}

struct gateway_policy {
	bool deny;
	const char *text;
};

struct gateway_options {
	unsigned given; /* how many were */
	unsigned publish_count, dns_count, ntp_count;
	const char *search, *activate, *pcap;
	void (*activated)(void *ctx, uint32_t rule); /* does what --activate says */
	bool host_loopback, no_outbound, no_ip6;
	const char *publish[GATEWAY_PUBLISH_MAX];
	struct wh_net_end dns[WH_GATEWAY_RESOLVERS_MAX];
	struct wh_net_ip ntp[WH_GATEWAY_NTP_MAX];
	unsigned policy_count;
	struct gateway_policy
		policy[WH_GATEWAY_POLICIES_MAX]; /* in the order of the command line */
	struct net_control_options control;
};

/* 0, CLI_BAD with a message, or GATEWAY_ELSEWHERE. */
int gateway_option_take(struct gateway_options *o, int id, const char *value);
/* Of the options; the rest is the caller's. */
void gateway_options_config(const struct gateway_options *o, struct wh_gateway_config *config);
/* Publishes, captures and carries the requests out. show: says which ports were bound. Messages are printed; an exit
 * status. */
int gateway_options_start(const struct gateway_options *o, struct wh_gateway *gateway,
			  struct wh_loop *loop, bool show);
/* Removes sockets that have names; before the gateway is freed. NULL = there is none. */
void gateway_options_end(struct wh_gateway *gateway);

/* What needs much code (the control, names of hosts, folders, processes): the static command does not have it.
 * GATEWAY_ELSEWHERE: another program of the same verb has it. */
#define GATEWAY_ELSEWHERE (-10)
int gateway_extra_take(struct gateway_options *o, int id, const char *value);
int gateway_extra_start(const struct gateway_options *o, struct wh_gateway *gateway,
			struct wh_loop *loop);
void gateway_extra_end(void);

#endif
