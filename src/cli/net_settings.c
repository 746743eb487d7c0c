/* SPDX-License-Identifier: ISC */
/* What the command line says about the gateway of `wherry run` and `wherry net`: policy, requests of the control, and
 * the socket that takes more of them. */
#include <stdlib.h>
#include <string.h>

#include <wherry/base/diag.h>

#include "net_control.h"

static struct wh_gateway_control *the_control; /* one per process */
static struct wh_gateway *the_gateway;
static struct wh_gateway_settings *the_settings;
static void (*the_settings_free)(struct wh_gateway_settings *settings);

int net_policy_take(struct net_control_options *o, bool deny, const char *text)
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
	o->policy[o->policy_count++] = (struct net_policy){ deny, text };
	return 0;
}

int net_command_take(struct net_control_options *o, const char *command, const char *value,
		     char separator)
{
	size_t head = command ? strlen(command) + 1 : 0, size = head + strlen(value) + 1;
	char *line = o->command_count < NET_COMMANDS_MAX ? malloc(size) : NULL;
	if (!line) {
		cli_error("%s: too many options", value);
		return CLI_BAD;
	}
	wh_format(line, size, "%s%s%s", command ? command : "", command ? " " : "", value);
	char *at = separator ? strchr(line + head, separator) : NULL;
	if (at)
		*at = ' ';
	o->commands[o->command_count++] = line;
	return 0;
}

static int commands_run(const struct net_control_options *o)
{
	struct wh_diag diag;
	for (unsigned i = 0; i < o->command_count; i++) {
		if (!wh_gateway_control_run(the_control, o->commands[i], &diag))
			continue;
		cli_error("%s: %s", o->commands[i], diag.text);
		return CLI_ERROR;
	}
	return CLI_OK;
}

int net_control_start(const struct net_control_options *o, struct wh_gateway *gateway,
		      struct wh_loop *loop)
{
	struct wh_diag diag = { "" };
	the_gateway = gateway;
	the_settings_free = o->settings_free;
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
	if (!o->path && !o->command_count && !o->settings)
		return CLI_OK;
	if (wh_gateway_control_new(gateway, loop, o->path, &the_control, &diag) < 0) {
		cli_error("--control %s", diag.text);
		return CLI_ERROR;
	}
	int status = commands_run(o);
	if (status || !o->settings)
		return status;
	if (o->settings_new(the_control, o->settings, &the_settings, &diag) >= 0)
		return CLI_OK;
	cli_error("--settings %s", diag.text);
	return CLI_ERROR;
}

void net_control_end(void)
{
	static struct wh_gateway_published list[WH_GATEWAY_RULES_MAX];
	uint32_t count = 0;
	if (the_settings)
		the_settings_free(the_settings);
	the_settings = NULL;
	wh_gateway_control_free(the_control);
	the_control = NULL;
	if (the_gateway)
		count = wh_gateway_published_list(the_gateway, list, WH_GATEWAY_RULES_MAX);
	for (uint32_t i = 0; i < count; i++)
		if (list[i].path[0]) /* the process's end closes the others as well */
			(void)wh_gateway_unpublish(the_gateway, list[i].id);
	the_gateway = NULL;
}
