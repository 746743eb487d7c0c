/* SPDX-License-Identifier: ISC */
/*
 * A processor fault for which the program has a handler.
 *
 * The handler must not run inside the trap (proc: the host's signal frame): it may longjmp,
 * and then the host would keep the signal blocked. So the trap's frame is rewritten: returning
 * from it enters fault_call on the thread's own (or alternate) stack with a copy
 * of the interrupted context. When the handler returns, kern_resume continues the program with every register.
 */
#include <kern/fault.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <kern/resume.h>
#include <kern/thread.h>
#include <posix/signal.h>

#define UNPROTECTED __attribute__((no_stack_protector))
#define RED_ZONE 128u

struct frame {
	struct lx_siginfo info;
	struct kern_context context;
	uint64_t pad[128]; /* the rest of the C library's ucontext_t */
	uint64_t mask_before;
	int32_t signo;
	uint8_t fp[KERN_FP_SIZE_MAX] __attribute__((aligned(64)));
};

typedef void handler_fn(int signo, struct lx_siginfo *info, void *context);

__attribute__((noreturn)) static void fault_call(struct frame *f)
{
	struct kern_thread *t = kern_self();
	struct lx_sigaction action = posix_sigaction[f->signo];
	uint64_t before = t->signal_mask;
	if (action.flags & LX_SA_RESETHAND)
		posix_sigaction[f->signo].handler = LX_SIG_DFL;
	f->context.mask = before;
	t->signal_mask |= action.mask | (action.flags & LX_SA_NODEFER ? 0 : LX_SIG_BIT(f->signo));
	((handler_fn *)(uintptr_t)action.handler)(f->signo, &f->info, &f->context);
	t->signal_mask = f->context.mask;
	kern_resume(&f->context);
}

UNPROTECTED int posix_fault_deliver(const struct kern_fault *fault)
{
	struct kern_context *host = fault->context;
	const struct lx_sigaction *action = &posix_sigaction[fault->signo];
	struct kern_thread *t = kern_self();
	if (!host)
		return 0;
	if (action->handler == LX_SIG_DFL || action->handler == LX_SIG_IGN ||
	    t->signal_mask & LX_SIG_BIT(fault->signo))
		return 0;
	uint64_t altstack = posix_altstack_top(t, fault->rsp, action->flags);
	uint64_t top = altstack ? altstack : fault->rsp - RED_ZONE;
	struct frame *f = (struct frame *)(uintptr_t)((top - sizeof *f) & ~63ull);
	const struct wh_boot_info *boot = kern_boot();
	bool first_stack =
		fault->rsp >= boot->stack_low - KERN_PAGE && fault->rsp <= boot->stack_top;
	if (!kern_user_writable(f, sizeof *f) ||
	    (first_stack && !altstack && (uint64_t)(uintptr_t)f < boot->stack_low))
		return 0;
	memset(f, 0, offsetof(struct frame, fp));
	f->signo = f->info.signo = fault->signo;
	f->info.code = fault->code;
	f->info.u.address = fault->address;
	kern_context_save(&f->context, f->fp, host);
	host->greg[KERN_GREG_RDI] = (uint64_t)(uintptr_t)f;
	host->greg[KERN_GREG_RSP] = (uint64_t)(uintptr_t)f - 8; /* as after a call */
	host->greg[KERN_GREG_RIP] = (uint64_t)(uintptr_t)fault_call;
	return 1;
}
