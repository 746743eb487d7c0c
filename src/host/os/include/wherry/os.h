/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_OS_H
#define WHERRY_OS_H

/*
 * Small Linux helpers that the host libraries and the command share. No state, except
 * signal handling, which is one per process by nature. Errors are -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/mem.h>
#include <wherry/loop.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* malloc and free as an allocator object. */
extern const struct wh_alloc wh_os_allocator;

/* CLOCK_MONOTONIC and CLOCK_REALTIME in nanoseconds. */
uint64_t wh_os_now(void);
uint64_t wh_os_wall_clock(void);

/* Unpredictable bytes; never fails (asserts: Linux without getrandom is not supported). */
void wh_os_random(void *to, size_t size);

/* Closes *fd when it is >= 0 and sets it to -1. Keeps errno. */
void wh_os_close(int *fd);

/* write and read until all is done, over EINTR; a pipe or socket that would block is waited for.
 * 0, -errno, or -WH_ENODATA when the file ended early. */
int wh_os_write_all(int fd, const void *data, size_t size);
int wh_os_read_all(int fd, void *to, size_t size);

/* Reads a small text file; NUL-terminates; at most size-1 bytes are taken. Returns the
 * length or -errno. For /etc and /proc files that are read on the path. */
int wh_os_read_text(const char *path, char *to, size_t size);

/*
 * Signals as calls from the loop: the handler notes the signal and wakes the loop; `fn` runs
 * after the sleep. One instance per process; attach installs handlers for `count` signals and
 * remembers the former ones, detach restores them. System calls: one per signal.
 */
struct wh_os_signals {
	struct wh_loop_hook hook; /* private */
	struct wh_loop *loop;
	void (*fn)(struct wh_os_signals *signals, int signal);
	void *ctx;
};
/* signals->fn and ->ctx are set by the caller. -WH_EBUSY: another instance is attached. */
int wh_os_signals_attach(struct wh_os_signals *signals, struct wh_loop *loop, const int *list,
			 unsigned count);
void wh_os_signals_detach(struct wh_os_signals *signals);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
