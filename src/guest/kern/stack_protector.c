/* SPDX-License-Identifier: ISC */
#include <kern/plat.h>

/* Called by compiled code whose canary was overwritten. Alone in its file: a C
 * library that brings its own may win. */
__attribute__((noreturn)) void __stack_chk_fail(void);

void __stack_chk_fail(void)
{
	kern_panic("stack smashing detected");
}
