/* SPDX-License-Identifier: ISC */
#ifndef CLI_NET_CONTROL_H
#define CLI_NET_CONTROL_H

/*
 * The control socket on both sides: what `wherry run` and `wherry net run|attach|serve` do to have one,
 * and `wherry net rules` and its like, which talk to it. Policy at the start is here, too, as the
 * commands share it.
 */

#include <wherry/gateway_control.h>

#include "cli.h"

struct net_policy {
	bool deny;
	const char *text;
};

struct net_control_options {
	const char *path; /* NULL = none */
	unsigned policy_count;
	struct net_policy policy[WH_GATEWAY_POLICIES_MAX]; /* in the order of the command line */
};

/* --allow, --deny. 0 or CLI_BAD, with a message. */
int net_policy_take(struct net_control_options *o, bool deny, const char *text);
/* Adds the policy and listens. An exit status; messages are printed. */
int net_control_start(const struct net_control_options *o, struct wh_gateway *gateway,
		      struct wh_loop *loop);
/* Removes the socket; harmless without one. Before the gateway is freed. */
void net_control_end(void);

#define NET_CONTROL_OPERANDS_MAX 4u

struct net_control_request {
	const char *verb;
	const char *operands[NET_CONTROL_OPERANDS_MAX];
	unsigned operand_count;
	const char *path; /* NULL = WHERRY_CONTROL of the environment */
	bool json;
};

bool net_control_verb(const char *verb); /* one of those that talk to a running gateway? */
int net_control_ask(const struct net_control_request *request); /* returns an exit status */

#endif
