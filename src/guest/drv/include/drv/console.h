/* SPDX-License-Identifier: ISC */
#ifndef DRV_CONSOLE_H
#define DRV_CONSOLE_H

/*
 * The console driver (docs/spec/console.md). Output is copied into a ring of
 * buffers and waits only when that is full; input buffers are given to the device
 * when somebody first asks for input. Without a device, output goes to
 * kern_console_write and input is at its end.
 */

#include <stdbool.h>
#include <stdint.h>
#include <wherry/abi/console.h>
#include <wherry/base/iov.h>

int drv_console_init(void); /* called by the kernel's start-up when linked */

/* All of it, unless nonblock or a signal: then what fitted, -WH_EAGAIN or -WH_EINTR. */
int64_t drv_console_write(enum wh_console_stream stream, const struct wh_iov *iov, int count,
			  bool nonblock);

/* For panics and early messages: takes what fits, never waits, to standard error. */
void drv_console_write_raw(const char *text, uint32_t size);

/* At least one byte, 0 at the end of input, -WH_EAGAIN or -WH_EINTR. */
int64_t drv_console_read(void *to, size_t size, bool nonblock);

uint32_t drv_console_poll(void);    /* POLLIN, POLLOUT */
uint32_t drv_console_pending(void); /* bytes of input at hand */

/* Size of the host's terminal; leaves the arguments alone when it is unknown. */
void drv_console_window(uint16_t *cols, uint16_t *rows);

/* `fn` runs in the driver's poll when POLLIN or POLLOUT may have become true. */
void drv_console_on_ready(void (*fn)(uint32_t events));

#endif
