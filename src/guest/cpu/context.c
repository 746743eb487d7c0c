/* SPDX-License-Identifier: ISC */
#include <cpu/cpu.h>
#include <wherry/base/assert.h>

/* Reset values: all exceptions masked, round to nearest, 64-bit x87 mantissa. */
#define MXCSR_DEFAULT 0x1f80u
#define X87_CONTROL_DEFAULT 0x037fu

void cpu_context_start(void);

uint64_t cpu_context_make(void *top, void (*fn)(void *), void *arg)
{
	uint64_t *sp = (uint64_t *)((uintptr_t)top & ~(uintptr_t)15);
	wh_assert(fn);
	*--sp = (uint64_t)(uintptr_t)cpu_context_start;
	*--sp = 0;                        /* rbp */
	*--sp = 0;                        /* rbx */
	*--sp = (uint64_t)(uintptr_t)fn;  /* r12 */
	*--sp = (uint64_t)(uintptr_t)arg; /* r13 */
	*--sp = 0;                        /* r14 */
	*--sp = 0;                        /* r15 */
	*--sp = (uint64_t)X87_CONTROL_DEFAULT << 32 | MXCSR_DEFAULT;
	return (uint64_t)(uintptr_t)sp;
}
