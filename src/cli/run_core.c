/* SPDX-License-Identifier: ISC */
/* wherry run --core: a core file of a guest that broke. Opened before the monitor confines itself, removed when it was not needed. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway_options.h"
#include "run.h"

static int core_fd = -1;

int run_core_take(struct run_options *o, const char *value)
{
	o->core = value;
	return 0;
}

int run_core_open(struct run *r)
{
	core_fd = open(r->options.core, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (core_fd >= 0)
		return CLI_OK;
	cli_error("--core %s: %s", r->options.core, strerror(errno));
	return CLI_ERROR;
}

void run_core_write(struct run *r)
{
	struct wh_diag diag = { "" };
	const struct wh_vmm_exit *how = &r->how;
	bool broke =
		r->ended && (how->kind == WH_BOOT_EXIT_FAULT || how->kind == WH_BOOT_EXIT_PANIC ||
			     (how->kind == WH_BOOT_EXIT_SIGNAL && !r->asked_to_stop) ||
			     (how->kind == WH_BOOT_EXIT_NONE && !r->asked_to_stop));
	if (core_fd < 0)
		return;
	if (broke && wh_vmm_machine_core(r->machine, how, core_fd, &diag) < 0)
		cli_error("--core %s: %s", r->options.core, diag.text);
	else if (broke)
		cli_error("core file: %s", r->options.core);
	if (!broke)
		(void)unlink(r->options.core);
	close(core_fd);
	core_fd = -1;
}
