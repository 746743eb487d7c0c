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

#endif
