/* SPDX-License-Identifier: ISC */
/*
 * The devices of `wherry run`, made only when the options or the image need them.
 */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wherry/dev_console.h>

#include "run.h"

struct run_devices {
	struct wh_dev_console *console;
};

static int attach_console(struct run *r)
{
	struct wh_diag diag = { "" };
	struct wh_dev_console_config config = {
		.size = sizeof config,
		.stdin_fd = STDIN_FILENO,
		.stdout_fd = STDOUT_FILENO,
		.stderr_fd = STDERR_FILENO,
		.log = r->log,
	};
	struct winsize window;
	if (r->console_tty && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &window)) {
		config.cols = window.ws_col;
		config.rows = window.ws_row;
	}
	int error = wh_dev_console_new(&config, r->machine, r->loop, &r->devices->console, &diag);
	if (error >= 0)
		return CLI_OK;
	cli_error("console: %s", diag.text);
	return CLI_ERROR;
}

int run_devices_prepare(struct run *r, struct wh_vmm_config *config)
{
	r->devices = calloc(1, sizeof *r->devices);
	if (!r->devices) {
		cli_error("no memory");
		return CLI_ERROR;
	}
	r->console_tty = isatty(STDOUT_FILENO);
	if (r->console_tty)
		config->boot_flags |= WH_BOOT_CONSOLE_TTY;
	return CLI_OK;
}

int run_devices_attach(struct run *r)
{
	return attach_console(r);
}

void run_devices_free(struct run *r)
{
	free(r->devices);
	r->devices = NULL;
}
