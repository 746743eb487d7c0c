/* SPDX-License-Identifier: ISC */
/* What the command line says about the gateway of `wherry run` and `wherry net`: requests of the control, and the
 * socket that takes more of them. */
#include <stdlib.h>
#include <string.h>

#include <wherry/base/diag.h>

#include "net_control.h"

static struct wh_gateway_control *the_control; /* one per process */
static struct wh_gateway_settings *the_settings;
static void (*the_settings_free)(struct wh_gateway_settings *settings);

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
	the_settings_free = o->settings_free;
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
	if (the_settings)
		the_settings_free(the_settings);
	the_settings = NULL;
	wh_gateway_control_free(the_control);
	the_control = NULL;
}
