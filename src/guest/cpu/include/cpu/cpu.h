/* SPDX-License-Identifier: ISC */
#ifndef CPU_CPU_H
#define CPU_CPU_H

/* x86_64 primitives. The assembly behind the functions is context.S. */

#include <stdint.h>

static inline uint64_t cpu_tsc(void)
{
	uint32_t low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" ::: "memory");
}

static inline void cpu_wrfsbase(uint64_t base)
{
	__asm__ volatile("wrfsbase %0" ::"r"(base) : "memory");
}

static inline uint64_t cpu_rdfsbase(void)
{
	uint64_t base;
	__asm__ volatile("rdfsbase %0" : "=r"(base));
	return base;
}

/* Saves the caller's callee-saved state on its stack, its stack pointer in
 * *save_rsp, and continues where `rsp` was saved. */
void cpu_switch(uint64_t *save_rsp, uint64_t rsp);

/* Saves like cpu_switch, then calls fn(NULL), which never returns, on the empty stack `top`. */
void cpu_switch_fresh(uint64_t *save_rsp, void *top, void (*fn)(void *));

/* Continues where `rsp` was saved, forgetting the caller. */
__attribute__((noreturn)) void cpu_resume(uint64_t rsp);

/* Calls fn(arg) on the empty stack `top` (16-byte aligned) and comes back. */
void cpu_call_on(void *top, void (*fn)(void *), void *arg);

/* The same, never to return. */
__attribute__((noreturn)) void cpu_jump_on(void *top, void (*fn)(void *), void *arg);

/* Stack image for cpu_switch/cpu_resume that calls fn(arg) on `top`; returns its rsp. */
uint64_t cpu_context_make(void *top, void (*fn)(void *), void *arg);

#endif
