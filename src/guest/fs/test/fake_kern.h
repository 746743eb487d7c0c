/* SPDX-License-Identifier: ISC */
#ifndef FAKE_KERN_H
#define FAKE_KERN_H

/* The kernel below fs/ for hosted tests: one thread, memory from malloc, and waits that
 * run a function of the test instead of another thread. */

#include <stdbool.h>
#include <stdint.h>
#include <wherry/abi/boot.h>

extern struct wh_boot_info fake_boot;
extern uint64_t fake_now;           /* monotonic ns */
extern uint32_t fake_signals;       /* bit n-1: kern_signal_raise(n) was called */
extern uint32_t fake_alloc_fail_in; /* this many allocations from now one fails; 0 = none */
extern uint32_t fake_page_limit;    /* pages that may be allocated */
extern char fake_output[4096];      /* what went to the console */
extern uint32_t fake_output_size;

/* Runs once at the next wait, in place of other threads; NULL: the wait ends with -WH_EINTR,
 * or at its deadline. */
extern void (*fake_on_wait)(void);

/* The machine's devices: run at each wait, before the drivers' pollers. true = did something. */
extern bool (*fake_devices)(void);

#endif
