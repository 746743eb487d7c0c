/* SPDX-License-Identifier: ISC */
/*
 * Signals for a thread that a tick found computing: its handlers run on its stack, or on its alternate one, on top of a
 * frame with the interrupted context, and see it as their third argument; what they change there is
 * what goes on behind them.
 */
#include <cpu/cpu.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <kern/resume.h>
#include <kern/thread.h>
#include <posix/signal.h>

#define RED_ZONE 128u
#define ROOM 8192u /* for the frame of the handler, below ours */

struct frame {
	struct kern_context context;
	uint64_t pad[128]; /* the rest of the C library's ucontext_t */
	uint8_t fp[KERN_FP_SIZE_MAX] __attribute__((aligned(64)));
};

static void run(void *arg)
{
	struct frame *f = arg;
	posix_signal_deliver_on(&f->context);
	kern_resume(&f->context);
}

void posix_signal_interrupt(const struct kern_context *context)
{
	struct kern_thread *t = kern_self();
	const struct wh_boot_info *boot = kern_boot();
	uint64_t ready = t->signal_pending & ~t->signal_mask, sp = context->greg[KERN_GREG_RSP];
	if (!ready)
		return;
	uint64_t flags = posix_sigaction[__builtin_ctzll(ready) + 1].flags;
	uint64_t altstack = posix_altstack_top(t, sp, flags);
	uint64_t top = altstack ? altstack : sp - RED_ZONE;
	struct frame *f = (struct frame *)(uintptr_t)((top - sizeof *f) & ~63ull);
	bool first_stack = sp >= boot->stack_low && sp <= boot->stack_top;
	if (!kern_user_writable(f, sizeof *f) ||
	    (first_stack && !altstack && (uint64_t)(uintptr_t)f < boot->stack_low + ROOM))
		return;
	kern_context_save(&f->context, f->fp, context);
	memset(f->pad, 0, sizeof f->pad);
	cpu_jump_on(f, run, f);
}
