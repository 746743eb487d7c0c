/* SPDX-License-Identifier: ISC */
#ifndef KERN_PRIV_H
#define KERN_PRIV_H

/* Between the files of kern/ only. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cpu/plat.h>

extern const struct plat_ops *kern_plat;
void kern_plat_init(struct wh_boot_info *boot);

void kern_time_init(void);
void kern_pages_init(uint64_t start, uint64_t end);
void kern_random_seed(const uint8_t key[32]);
void kern_sched_init(void);

/* Writes what the host asked for, if it has (kern/observe.h). */
void kern_observe_poll(void);

/* The tick returns here instead of into the running thread, whose context is saved: on the empty work
 * stack, whose top the other function tells. */
__attribute__((noreturn)) void kern_sched_preempted(void);
uint64_t kern_sched_work_stack(void);

#endif
