/* SPDX-License-Identifier: ISC */
#ifndef CLI_NET_CONTROL_H
#define CLI_NET_CONTROL_H

/*
 * The control socket on both sides: what `wherry run` and `wherry net run|attach|serve` do to have one,
 * and `wherry net rules` and its like, which talk to it. Policy at the start is here, too, as the
 * commands share it.
 */

#include <wherry/gateway_control.h>
#include <wherry/gateway_settings.h>

#include "cli.h"

#define NET_COMMANDS_MAX 256u

struct net_control_options {
	const char *path; /* NULL = none */
	/* A folder that is followed; the functions come from whoever has the option, so that others do not link
	 * them. */
	const char *settings;
	int (*settings_new)(struct wh_gateway_control *control, const char *path,
			    struct wh_gateway_settings **ret_settings, struct wh_diag *diag);
	void (*settings_free)(struct wh_gateway_settings *settings);
	unsigned command_count;
	char *commands[NET_COMMANDS_MAX]; /* requests that are carried out at the start */
};

/* An option that is a command of the control: "COMMAND VALUE", or VALUE alone when command is NULL, where the first `separator` (0 = none) in VALUE
 * becomes a blank. 0 or CLI_BAD, with a message. */
int net_command_take(struct net_control_options *o, const char *command, const char *value,
		     char separator);
/* Carries the commands out and listens. An exit status; messages are printed. */
int net_control_start(const struct net_control_options *o, struct wh_gateway *gateway,
		      struct wh_loop *loop);
/* Removes the socket; harmless without it. Before the gateway is freed. */
void net_control_end(void);

#define NET_CONTROL_OPERANDS_MAX 12u

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
