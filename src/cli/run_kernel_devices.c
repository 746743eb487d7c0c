/* SPDX-License-Identifier: ISC */
/*
 * Devices of kernels that images have no drivers for: balloon, vsock.
 */
#include <string.h>
#include <wherry/dev_balloon.h>
#include <wherry/dev_vsock.h>

#include "run.h"

/* One per process; run_kernel_devices_end gives back what lies in the file system. */
static struct {
	struct wh_dev_balloon *balloon;
	struct wh_dev_vsock *vsock;
} own;

static int attach_balloon(struct run *r)
{
	struct wh_diag diag = { "" };
	if (wh_dev_balloon_new(r->machine, &r->log, &own.balloon, &diag) < 0) {
		cli_error("balloon: %s", diag.text);
		return CLI_ERROR;
	}
	if (r->options.balloon)
		wh_dev_balloon_target(own.balloon, r->options.balloon);
	return CLI_OK;
}

static int attach_vsock(struct run *r)
{
	static char path[128];
	struct wh_diag diag = { "" };
	struct wh_dev_vsock_config config = { .size = sizeof config, .path = path, .log = r->log };
	const char *text = r->options.vsock, *comma = strstr(text, ",cid=");
	size_t n = comma ? (size_t)(comma - text) : strlen(text);
	if (!n || n >= sizeof path ||
	    (comma &&
	     cli_parse_number(comma + 5, strlen(comma + 5), UINT32_MAX - 1, &config.cid))) {
		cli_error("--vsock %s: say PATH or PATH,cid=N, with a PATH under %u bytes", text,
			  (unsigned)sizeof path);
		return CLI_ERROR;
	}
	memcpy(path, text, n);
	if (wh_dev_vsock_new(&config, r->machine, r->loop, &own.vsock, &diag) >= 0)
		return CLI_OK;
	cli_error("--vsock %s: %s", text, diag.text);
	return CLI_ERROR;
}

int run_kernel_devices_attach(struct run *r)
{
	int status = attach_balloon(r);
	return !status && r->options.vsock ? attach_vsock(r) : status;
}

void run_kernel_devices_end(void)
{
	wh_dev_vsock_free(own.vsock);
	own.vsock = NULL;
}
