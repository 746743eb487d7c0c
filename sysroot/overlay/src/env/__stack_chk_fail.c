/* SPDX-License-Identifier: ISC */
/* The canary of the first thread; others inherit it. The kernel has
 * __stack_chk_fail, which says what happened. */
#include <stdint.h>
#include <string.h>
#include "pthread_impl.h"

uintptr_t __stack_chk_guard;

void __init_ssp(void *entropy)
{
	memcpy(&__stack_chk_guard, entropy, sizeof __stack_chk_guard);
	/* A zero byte stops string functions from writing a guessed canary. */
	__stack_chk_guard &= ~(uintptr_t)0xff00;
	__pthread_self()->canary = __stack_chk_guard;
}
