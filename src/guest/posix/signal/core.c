/* SPDX-License-Identifier: ISC */
#include <cpu/cpu.h>
#include <kern/preempt.h>
#include <kern/resume.h>
#include <kern/signal.h>
#include <kern/thread.h>
#include <posix/process.h>
#include <posix/signal.h>
#include <wherry/base/errors.h>

enum { SIG_CANCEL = 33 }; /* the C library's own */
#define UCONTEXT_SIZE 936u
#define UCONTEXT_STACK 16u
#define UCONTEXT_SIGMASK 296u
#define NEVER_BLOCKED (LX_SIG_BIT(LX_SIGKILL) | LX_SIG_BIT(LX_SIGSTOP))

struct lx_sigaction posix_sigaction[LX_SIG_COUNT + 1];
static struct {
	int32_t code;
	uint64_t value;
} sent[LX_SIG_COUNT + 1];
static uint64_t process_pending;
void (*posix_signal_notify)(uint64_t bit);

typedef void handler_fn(int signo, struct lx_siginfo *info, void *context);

struct invocation {
	handler_fn *fn;
	int signo;
	struct lx_siginfo *info;
	void *context;
};

static bool ignored_by_default(int signo)
{
	/* CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG; WINCH */
	return (signo >= 17 && signo <= 23) || signo == 28;
}

static bool ignored(int signo)
{
	uint64_t h = posix_sigaction[signo].handler;
	return h == LX_SIG_IGN || (h == LX_SIG_DFL && ignored_by_default(signo));
}

static struct kern_thread *receiver(uint64_t bit)
{
	struct kern_thread *found = 0;
	WH_LIST_FOR_EACH(it, &kern_cpu.threads) {
		struct kern_thread *t = WH_LIST_ENTRY(it, struct kern_thread, all_node);
		if (t->signal_wait & bit)
			return t;
		if (!found && !(t->signal_mask & bit))
			found = t;
	}
	return found;
}

void posix_signal_send(struct kern_thread *thread, int signo, int code, uint64_t value)
{
	uint64_t bit = LX_SIG_BIT(signo);
	struct kern_thread *t = thread ? thread : receiver(bit);
	if (ignored(signo) && (!t || !((t->signal_mask | t->signal_wait) & bit)))
		return;
	sent[signo].code = code;
	sent[signo].value = value;
	if (!t) {
		process_pending |= bit;
		if (posix_signal_notify)
			posix_signal_notify(bit);
		return;
	}
	if (!((t->signal_mask | t->signal_wait) & bit) &&
	    posix_sigaction[signo].handler == LX_SIG_DFL) {
		kern_signal_default(signo); /* at once: the thread may never look */
		return;
	}
	t->signal_pending |= bit;
	if (kern_self() == t && !(t->signal_mask & bit))
		wh_signal_work = 1;
	if (!(t->signal_mask & bit) || t->signal_wait & bit)
		kern_thread_wake(t);
	if (posix_signal_notify)
		posix_signal_notify(bit);
}

void posix_siginfo_get(int signo, struct lx_siginfo *ret_info)
{
	memset(ret_info, 0, sizeof *ret_info);
	ret_info->signo = signo;
	ret_info->code = sent[signo].code;
	ret_info->u.from.value = sent[signo].value;
	if (sent[signo].code != LX_SI_TIMER && sent[signo].code != LX_SI_KERNEL)
		ret_info->u.from.pid = POSIX_PID;
}

uint64_t posix_signal_pending_process(void)
{
	return process_pending;
}

void posix_signal_adopt(uint64_t set)
{
	kern_self()->signal_pending |= process_pending & set;
	process_pending &= ~set;
}

uint64_t posix_altstack_top(const struct kern_thread *t, uint64_t sp, uint64_t flags)
{
	if (!(flags & LX_SA_ONSTACK) || !t->altstack_size ||
	    sp - t->altstack_base < t->altstack_size)
		return 0;
	return (t->altstack_base + t->altstack_size) & ~15ull;
}

static void call_handler(void *arg)
{
	struct invocation *i = arg;
	i->fn(i->signo, i->info, i->context);
}

/* context: what the handler interrupts; NULL = it is called by the kernel, and there is nothing to see. */
static void run_handler(struct kern_thread *t, int signo, struct kern_context *interrupted)
{
	struct lx_sigaction action = posix_sigaction[signo];
	struct lx_siginfo info;
	uint64_t none[UCONTEXT_SIZE / 8], *context = interrupted ? (uint64_t *)interrupted : none;
	uint64_t before = t->signal_mask;
	posix_siginfo_get(signo, &info);
	if (!interrupted)
		memset(none, 0, sizeof none);
	context[UCONTEXT_SIGMASK / 8] = before;
	if (action.flags & LX_SA_RESETHAND)
		posix_sigaction[signo].handler = LX_SIG_DFL;
	t->signal_mask |= action.mask | (action.flags & LX_SA_NODEFER ? 0 : LX_SIG_BIT(signo));
	struct invocation call = { (handler_fn *)(uintptr_t)action.handler, signo, &info, context };
	uint64_t top = posix_altstack_top(t, (uint64_t)(uintptr_t)&call, action.flags);
	if (top)
		cpu_call_on((void *)(uintptr_t)top, call_handler, &call);
	else
		call_handler(&call);
	/* the handler may have changed what its return restores */
	t->signal_mask = context[UCONTEXT_SIGMASK / 8] & ~NEVER_BLOCKED;
}

static bool deliver_on(struct kern_context *context, bool restart)
{
	struct kern_thread *t = kern_self();
	uint64_t ready;
	t->signal_deliveries++;
	posix_signal_adopt(~t->signal_mask);
	while ((ready = t->signal_pending & ~t->signal_mask)) {
		int signo = __builtin_ctzll(ready) + 1;
		t->signal_pending &= ~LX_SIG_BIT(signo);
		if (ignored(signo))
			continue;
		if (posix_sigaction[signo].handler == LX_SIG_DFL) {
			kern_signal_default(signo);
			continue;
		}
		restart = restart && posix_sigaction[signo].flags & LX_SA_RESTART;
		run_handler(t, signo, context);
	}
	wh_signal_work = 0;
	return restart;
}

static int deliver(long result)
{
	return deliver_on(0, result == -WH_EINTR && kern_self()->restartable);
}

/* A cancellation stays pending when its handler returns: the thread may be about to enter a call, which then
 * must not wait. */
void posix_signal_deliver_on(struct kern_context *context)
{
	struct kern_thread *t = kern_self();
	uint64_t cancel = t->signal_pending & ~t->signal_mask & LX_SIG_BIT(SIG_CANCEL);
	(void)deliver_on(context, false);
	if (cancel) {
		t->signal_pending |= cancel;
		wh_signal_work = 1;
	}
}

void posix_signal_mask_set(uint64_t mask)
{
	struct kern_thread *t = kern_self();
	t->signal_mask = mask & ~NEVER_BLOCKED;
	posix_signal_adopt(~t->signal_mask);
	wh_signal_work = (t->signal_pending & ~t->signal_mask) != 0;
	if (wh_signal_work)
		(void)deliver(0);
}

static void raise_signal(struct kern_thread *thread, int signo)
{
	posix_signal_send(thread, signo, LX_SI_KERNEL, 0);
}

int posix_signal_init(void)
{
	KERN_PREEMPT_NEEDED(); /* a signal must reach a thread that computes */
	static const struct kern_signal_ops ops = { raise_signal, deliver, posix_signal_interrupt };
	kern_signal_ops = &ops;
	return 0;
}
