/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_DEV_CONSOLE_H
#define WHERRY_DEV_CONSOLE_H

/*
 * virtio-console with our stream extension (docs/spec/console.md): three descriptors of
 * the host. Descriptors are borrowed, stay in the mode they are in (their file
 * descriptions are shared with whoever started us) and are never blocked on while
 * the guest runs: a slow reader leaves the guest's transmit ring full.
 *
 * Standard input is not touched before the guest offers a buffer for it. The caller ignores
 * SIGPIPE. Threads: the loop's.
 */

#include <wherry/base/diag.h>
#include <wherry/base/log.h>
#include <wherry/loop.h>
#include <wherry/vmm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_dev_console;

struct wh_dev_console_config {
	size_t size;   /* sizeof(struct wh_dev_console_config) */
	int stdin_fd;  /* -1 = end of input at once */
	int stdout_fd; /* -1 = thrown away */
	int stderr_fd;
	uint16_t cols, rows; /* terminal; 0 = not one */
	struct wh_log log;
	/* Optional, once a stream (1, 2): nobody reads it any more (EPIPE or another error of
	 * write); what the guest writes there is thrown away from now on. */
	void (*output_closed)(void *ctx, int stream, int error);
	void *ctx;
	/* Optional: sees what the guest writes, before it is written. */
	void (*copy)(void *ctx, const char *text, size_t size);
	/* Optional: wh_dev_console_type takes more. */
	void (*room)(void *ctx);
};

#define WH_DEV_CONSOLE_TYPED_MAX 256u

/* Longest time that drain (after the guest's end) waits for a reader that takes nothing. */
#define WH_DEV_CONSOLE_DRAIN_MS 10000

/* Plugs a console into a machine that has not started. 0, -WH_ENOMEM or as wh_vmm_slot_add. */
int wh_dev_console_new(const struct wh_dev_console_config *config, struct wh_vmm_machine *machine,
		       struct wh_loop *loop, struct wh_dev_console **ret_console,
		       struct wh_diag *diag);
/* The terminal's size changed. */
void wh_dev_console_resize(struct wh_dev_console *console, uint16_t cols, uint16_t rows);
/* Input besides stdin_fd, as if it had come from there; returns how much was taken. Nothing once the
 * guest was told that its input has ended. */
size_t wh_dev_console_type(struct wh_dev_console *console, const char *text, size_t size);
/* After the machine is freed. */
void wh_dev_console_free(struct wh_dev_console *console);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
