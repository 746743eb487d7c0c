/* SPDX-License-Identifier: ISC */
#ifndef KERN_PREEMPT_H
#define KERN_PREEMPT_H

/*
 * Taking the processor from a thread that computes and makes no calls.
 *
 * While the guest uses the processor the platform ticks (proc: WH_BOOT_TICK_SIGNAL, which the host's kernel
 * sends by the process's own use of the processor; virtual machine: the local APIC's timer). A tick
 * that finds the processor in the kernel part of the image - a range of the image's text - does
 * nothing: what runs there comes to the scheduler by itself, and needs no locks because of
 * this. A tick that finds the program's code, when somebody else could run, a timer is due, a
 * device has something to say or a signal waits for this thread, saves every register in a block of the thread's and
 * returns from the trap into the scheduler instead. The thread goes on through kern_resume.
 *
 * In the image only with threads or signals; without the unit nothing ticks.
 */

#include <kern/fault.h>

#define KERN_TICK_NS 10000000ull

/* Called by the trap code with what it interrupted; may change it. */
void kern_preempt_tick(struct kern_context *context) __attribute__((weak));

/* Start-up: the platform may tick from now on. */
int kern_preempt_init(void);

/* In a function that needs ticks: links this unit, costs nothing else. */
#define KERN_PREEMPT_NEEDED() __asm__ volatile(".reloc ., R_X86_64_NONE, kern_preempt_init")

struct kern_preempted;
/* What the tick interrupted. */
const struct kern_context *kern_preempted_context(const struct kern_preempted *p)
	__attribute__((weak));
/* A thread ends. */
void kern_preempted_free(struct kern_preempted *p) __attribute__((weak));

#endif
