/* SPDX-License-Identifier: ISC */
#include <cpu/cpu.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <kern/preempt.h>
#include <kern/resume.h>
#include <kern/signal.h>
#include <kern/thread.h>
#include "kern_priv.h"

/* For kern_resume, and for laying a signal's frame on the thread's own stack. */
#define RESUME_STACK_SIZE 1024u

#define FLAG_TRAP (1u << 8)
#define FLAG_DIRECTION (1u << 10)

struct kern_preempted {
	uint8_t fp[KERN_FP_SIZE_MAX] __attribute__((aligned(64)));
	struct kern_context context;
	uint32_t deliveries; /* of the thread when it was interrupted with work left */
	bool working;        /* it was just about to look at its signals itself */
	uint8_t stack[RESUME_STACK_SIZE] __attribute__((aligned(16)));
};

/* Bounds of the kernel part, of the image's linker script. */
extern const char text_start[] __asm__("wh_kernel_text_start")
	__attribute__((visibility("hidden")));
extern const char text_end[] __asm__("wh_kernel_text_end") __attribute__((visibility("hidden")));

/* Is there anything that cannot wait until the thread calls? */
static bool due(const struct kern_cpu *c)
{
	const struct kern_thread *t = c->current;
	const struct wh_boot_control *control = kern_control();
	if (!wh_list_empty(&c->run_queue) || t->signal_pending & ~t->signal_mask ||
	    __atomic_load_n(&control->signals, __ATOMIC_RELAXED))
		return true;
	if (c->pollers &&
	    __atomic_load_n(&control->host_events, __ATOMIC_RELAXED) != c->polled_events)
		return true;
	uint64_t now = kern_time_monotonic();
	if (now >= c->pollers_deadline)
		return true;
	return !wh_list_empty(&c->timers) &&
	       WH_LIST_ENTRY(c->timers.next, struct kern_timer, node)->deadline_ns <= now;
}

/* On the block's stack, as the thread. */
static void go_on(void *arg)
{
	struct kern_preempted *p = arg;
	struct kern_thread *t = kern_self();
	if (t->signal_pending & ~t->signal_mask && !p->working && kern_signal_ops)
		kern_signal_ops->interrupt(&p->context); /* returns when there is no room */
	kern_resume(&p->context);
}

/* Between a call's end and its own look at wh_signal_work a handler must not run, or the caller would not know that
 * it is to make the call again. Whoever still has not looked a tick later computes. */
static bool about_to_look(struct kern_preempted *p, const struct kern_thread *t)
{
	bool again = p->working && p->deliveries == t->signal_deliveries;
	p->deliveries = t->signal_deliveries;
	return wh_signal_work && !again;
}

void kern_preempt_tick(struct kern_context *context)
{
	struct kern_cpu *c = &kern_cpu;
	struct kern_thread *t = c->current;
	uint64_t rip = context->greg[KERN_GREG_RIP];
	if (rip - (uint64_t)(uintptr_t)text_start < (uint64_t)(text_end - text_start) || !due(c))
		return;
	if (!t->preempted && !(t->preempted = kern_alloc_zero(sizeof *t->preempted)))
		return; /* it keeps the processor */
	struct kern_preempted *p = t->preempted;
	p->working = about_to_look(p, t);
	kern_context_save(&p->context, p->fp, context);
	t->rsp = cpu_context_make(p->stack + sizeof p->stack, go_on, p);
	context->greg[KERN_GREG_RIP] = (uint64_t)(uintptr_t)kern_sched_preempted;
	context->greg[KERN_GREG_RSP] = kern_sched_work_stack() - 8; /* as after a call */
	context->greg[KERN_GREG_RBP] = 0;
	context->greg[KERN_GREG_FLAGS] &= ~(uint64_t)(FLAG_TRAP | FLAG_DIRECTION);
}

const struct kern_context *kern_preempted_context(const struct kern_preempted *p)
{
	return &p->context;
}

void kern_preempted_free(struct kern_preempted *p)
{
	kern_free(p, sizeof *p);
}

int kern_preempt_init(void)
{
	if (kern_plat->tick_start)
		kern_plat->tick_start();
	return 0;
}
