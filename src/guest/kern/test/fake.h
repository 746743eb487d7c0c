/* SPDX-License-Identifier: ISC */
#ifndef KERN_TEST_FAKE_H
#define KERN_TEST_FAKE_H

/* A platform without a machine: a clock that only moves when everybody sleeps. */

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#define FAKE_PAGES 1024u

void fake_start(void);              /* fresh memory and scheduler; time 1 s */
extern uint64_t fake_now;           /* monotonic ns */
extern unsigned fake_sleeps;        /* calls of kern_plat_wait */
extern void (*fake_on_sleep)(void); /* what the host does meanwhile; NULL: nothing */

#endif
