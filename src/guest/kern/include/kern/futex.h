/* SPDX-License-Identifier: ISC */
#ifndef KERN_FUTEX_H
#define KERN_FUTEX_H

#include <stdint.h>

/* Wakes up to `count` threads that wait at `word`; returns how many. Weak: only
 * there when the program waits on futexes at all. */
__attribute__((weak)) int kern_futex_wake(uint32_t *word, uint32_t count);

#endif
