/* SPDX-License-Identifier: ISC */
/*
 * Threads, waiting and the idle loop.
 *
 * The running thread is in no list; runnable ones are in the run queue; a
 * sleeping one is only reachable through the waiters it has put somewhere, its
 * timer and the list of all threads. A switch saves the callee-saved registers
 * on the thread's own stack.
 *
 * Idling happens on a stack of its own (the work stack) that holds nothing while
 * a thread runs: so kern_poll can borrow it at any time, and threads with small
 * stacks never carry the network's frames. FS stays the last thread's meanwhile,
 * whose thread block cannot go away before another thread has run; a thread that
 * ends switches to the early block first.
 *
 * A wake-up cannot get lost: everything runs on one CPU without interrupts, a
 * wake-up of the running thread is remembered in `woken`, and the host's are
 * counted in control.host_events, read before polling and compared by
 * kern_plat_wait.
 */
#include <cpu/cpu.h>
#include <kern/futex.h>
#include <kern/pages.h>
#include <kern/plat.h>
#include <kern/preempt.h>
#include <kern/signal.h>
#include <kern/start.h>
#include <kern/thread.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include "kern_priv.h"

/* Enough for the pollers: the network stack's input path needs about 4 KiB. */
#define WORK_STACK_SIZE 16384u

/* Polling before a sleep, where there are devices: what comes within a microsecond (the host's answer
 * to a disk or 9P request that it was awake for) then costs no sleep and wake-up, some 25 us.
 * Measured with bench/http on two CPUs for client, monitor and guest, one kept connection,
 * requests per second: 0 ns 11200, 300 ns 12400, 1 us 14400, 3 us 15000, 10 us 7600; one
 * connection a request: 4500, 5400, 5900, 5200, 4500. Longer spins take the CPU from the peer. */
#define SPIN_NS 1000u

/* Threads that keep each other busy must not starve the devices. */
#define SWITCHES_BEFORE_POLL 32u

struct kern_cpu kern_cpu;
static struct kern_thread main_thread;
static char work_stack[WORK_STACK_SIZE] __attribute__((aligned(16)));
#define WORK_STACK_TOP (work_stack + WORK_STACK_SIZE)

void kern_sched_init(void)
{
	struct kern_cpu *c = &kern_cpu;
	wh_list_init(&c->run_queue);
	wh_list_init(&c->threads);
	wh_list_init(&c->timers);
	c->pollers = 0;
	c->pollers_end = &c->pollers;
	c->current = &main_thread;
	c->thread_count = 1;
	c->next_tid = 2;
	main_thread.tid = 1;
	main_thread.fs_base = (uint64_t)(uintptr_t)&kern_early_tcb;
	wh_list_init(&main_thread.run_node);
	wh_list_push_back(&c->threads, &main_thread.all_node);
	kern_timer_init(&main_thread.timer, 0);
}

struct kern_thread *kern_self(void)
{
	return kern_cpu.current;
}

int kern_tid(void)
{
	return kern_cpu.current->tid;
}

/* --- switching --- */

static void make_current(struct kern_thread *t)
{
	struct kern_cpu *c = &kern_cpu;
	c->current = t;
	c->switches++;
	wh_signal_work = (t->signal_pending & ~t->signal_mask) != 0;
	kern_plat_set_fs_base(t->fs_base);
}

static struct kern_thread *next_runnable(void)
{
	struct wh_list *node = wh_list_pop_front(&kern_cpu.run_queue);
	return node ? WH_LIST_ENTRY(node, struct kern_thread, run_node) : 0;
}

static void run_pollers(void *ret_deadline);

static uint32_t host_events(void)
{
	return __atomic_load_n(&kern_control()->host_events, __ATOMIC_ACQUIRE);
}

/* On the work stack: until a thread is runnable. */
static void idle(void *unused)
{
	(void)unused;
	uint64_t spin_until = 0;
	for (;;) {
		uint32_t seen = host_events();
		uint64_t deadline;
		run_pollers(&deadline);
		wh_assert(!*(volatile uint64_t *)work_stack); /* the pollers' frames fit */
		struct kern_thread *t = next_runnable();
		if (t) {
			make_current(t);
			kern_plat_tick_resume();
			cpu_resume(t->rsp);
		}
		uint64_t now = kern_time_monotonic();
		if (!spin_until)
			spin_until = kern_cpu.pollers ? now + SPIN_NS : now;
		if (now < spin_until) {
			cpu_relax();
		} else {
			kern_plat_wait(seen, deadline);
			kern_cpu.slept_ns += kern_time_monotonic() - now;
			spin_until = 0;
		}
	}
}

/* Leaves the calling thread, which is in no run queue (sleep) or at its end (yield). */
static void leave(struct kern_thread *self)
{
	struct kern_cpu *c = &kern_cpu;
	if (c->switches >= SWITCHES_BEFORE_POLL)
		(void)kern_poll();
	struct kern_thread *t = next_runnable();
	if (t == self)
		return;
	if (t) {
		make_current(t);
		cpu_switch(&self->rsp, t->rsp);
	} else {
		cpu_switch_fresh(&self->rsp, WORK_STACK_TOP, idle);
	}
}

/* --- waiting --- */

void kern_waitq_init(struct kern_waitq *q)
{
	wh_list_init(&q->waiters);
}

void kern_waitq_add(struct kern_waitq *q, struct kern_waiter *w)
{
	wh_list_push_back(&q->waiters, &w->node);
}

void kern_waiter_remove(struct kern_waiter *w)
{
	if (w->node.next)
		wh_list_remove(&w->node);
}

void kern_waitq_wake(struct kern_waitq *q, uint32_t events, uint32_t count)
{
	WH_LIST_FOR_EACH_SAFE(it, &q->waiters) {
		if (!count)
			break;
		struct kern_waiter *w = WH_LIST_ENTRY(it, struct kern_waiter, node);
		if (w->fn) {
			if (w->fn(w, events))
				count--;
		} else {
			wh_list_remove(&w->node); /* woken once is enough */
			kern_thread_wake(w->thread);
			count--;
		}
	}
}

void kern_thread_wake(struct kern_thread *t)
{
	if (t->state == KERN_THREAD_SLEEPING) {
		t->state = KERN_THREAD_RUNNABLE;
		wh_list_push_back(&kern_cpu.run_queue, &t->run_node);
	} else {
		t->woken = true;
	}
}

static void sleep_timeout(struct kern_timer *timer)
{
	struct kern_thread *t = WH_CONTAINER_OF(timer, struct kern_thread, timer);
	t->timed_out = true;
	kern_thread_wake(t);
}

bool kern_signal_pending(void)
{
	const struct kern_thread *t = kern_cpu.current;
	return (t->signal_pending & (~t->signal_mask | t->signal_wait)) != 0;
}

static int sleep_until(uint64_t deadline_ns, bool interruptible)
{
	struct kern_thread *t = kern_cpu.current;
	wh_assert(!kern_cpu.polling);
	t->restartable = false;
	if (deadline_ns != KERN_FOREVER && deadline_ns <= kern_time_monotonic()) {
		(void)kern_poll(); /* a loop with time-out 0 must see progress */
		bool woken = t->woken;
		t->woken = false;
		return woken                                    ? 0
		       : interruptible && kern_signal_pending() ? -WH_EINTR
								: -WH_ETIMEDOUT;
	}
	if (interruptible && kern_signal_pending())
		return -WH_EINTR;
	if (t->woken) {
		t->woken = false;
		return 0;
	}
	t->timed_out = false;
	t->state = KERN_THREAD_SLEEPING;
	if (deadline_ns != KERN_FOREVER) {
		t->timer.fn = sleep_timeout;
		kern_timer_start(&t->timer, deadline_ns);
	}
	leave(t);
	if (deadline_ns != KERN_FOREVER)
		kern_timer_stop(&t->timer);
	t->woken = false;
	if (interruptible && kern_signal_pending())
		return -WH_EINTR;
	return t->timed_out ? -WH_ETIMEDOUT : 0;
}

int kern_sleep(uint64_t deadline_ns)
{
	return sleep_until(deadline_ns, true);
}

static int wait_at(struct kern_waitq *q, uint64_t deadline_ns, bool interruptible)
{
	struct kern_waiter w = { .thread = kern_cpu.current };
	kern_waitq_add(q, &w);
	int r = sleep_until(deadline_ns, interruptible);
	kern_waiter_remove(&w);
	return r;
}

int kern_wait(struct kern_waitq *q, uint64_t deadline_ns)
{
	int r = wait_at(q, deadline_ns, true);
	kern_cpu.current->restartable = r == -WH_EINTR && deadline_ns == KERN_FOREVER;
	return r;
}

int kern_wait_uninterruptible(struct kern_waitq *q, uint64_t deadline_ns)
{
	return wait_at(q, deadline_ns, false);
}

void kern_yield(void)
{
	struct kern_thread *t = kern_cpu.current;
	(void)kern_poll();
	if (wh_list_empty(&kern_cpu.run_queue))
		return;
	wh_list_push_back(&kern_cpu.run_queue, &t->run_node);
	leave(t);
}

/* --- preemption --- */

uint64_t kern_sched_work_stack(void)
{
	return (uint64_t)(uintptr_t)WORK_STACK_TOP;
}

void kern_sched_preempted(void)
{
	struct kern_cpu *c = &kern_cpu;
	uint64_t deadline;
	run_pollers(&deadline);
	wh_list_push_back(&c->run_queue, &c->current->run_node); /* behind those that were woken */
	struct kern_thread *t = next_runnable();
	make_current(t);
	cpu_resume(t->rsp);
}

/* --- life of a thread --- */

static void thread_start(void *arg)
{
	struct kern_thread *t = kern_cpu.current;
	kern_thread_exit(t->start(arg));
}

struct kern_thread *kern_thread_new(int (*fn)(void *), void *arg, void *stack_top, uint64_t fs_base)
{
	struct kern_cpu *c = &kern_cpu;
	struct kern_thread *t = kern_alloc_zero(sizeof *t);
	if (!t)
		return 0;
	t->start = fn;
	t->rsp = cpu_context_make(stack_top, thread_start, arg);
	t->fs_base = fs_base;
	t->tid = c->next_tid++;
	kern_timer_init(&t->timer, sleep_timeout);
	wh_list_push_back(&c->run_queue, &t->run_node);
	wh_list_push_back(&c->threads, &t->all_node);
	c->thread_count++;
	return t;
}

struct kern_thread *kern_thread_find(int tid)
{
	WH_LIST_FOR_EACH(it, &kern_cpu.threads) {
		struct kern_thread *t = WH_LIST_ENTRY(it, struct kern_thread, all_node);
		if (t->tid == tid)
			return t;
	}
	return 0;
}

/* On the work stack: the thread's own stack may go now. */
static void reap(void *arg)
{
	struct kern_cpu *c = &kern_cpu;
	struct kern_thread *t = arg;
	if (t->unmap_size)
		kern_pages_release_user((uint64_t)(uintptr_t)t->unmap_base,
					t->unmap_size / KERN_PAGE);
	if (t->clear_child_tid) {
		__atomic_store_n(t->clear_child_tid, 0, __ATOMIC_RELEASE);
		if (kern_futex_wake)
			(void)kern_futex_wake(t->clear_child_tid, 1);
	}
	wh_list_remove(&t->all_node);
	c->thread_count--;
	if (t->preempted)
		kern_preempted_free(t->preempted);
	if (t != &main_thread)
		kern_free(t, sizeof *t);
	idle(0);
}

void kern_thread_exit(int status)
{
	struct kern_thread *t = kern_cpu.current;
	if (kern_cpu.thread_count == 1)
		kern_exit(WH_BOOT_EXIT_STATUS, status);
	t->state = KERN_THREAD_DEAD;
	kern_timer_stop(&t->timer);
	kern_plat_set_fs_base((uint64_t)(uintptr_t)&kern_early_tcb);
	cpu_jump_on(WORK_STACK_TOP, reap, t);
}

/* --- timers and pollers --- */

void kern_timer_init(struct kern_timer *t, void (*fn)(struct kern_timer *))
{
	wh_list_init(&t->node);
	t->fn = fn;
	t->deadline_ns = KERN_FOREVER;
}

/* Later deadlines are the usual case: search from the end. */
void kern_timer_start(struct kern_timer *t, uint64_t deadline_ns)
{
	wh_list_remove(&t->node);
	t->deadline_ns = deadline_ns;
	struct wh_list *at = kern_cpu.timers.prev;
	while (at != &kern_cpu.timers &&
	       WH_LIST_ENTRY(at, struct kern_timer, node)->deadline_ns > deadline_ns)
		at = at->prev;
	wh_list_insert_after(at, &t->node);
}

void kern_timer_stop(struct kern_timer *t)
{
	wh_list_remove(&t->node);
}

static uint64_t run_timers(uint64_t now)
{
	struct wh_list *timers = &kern_cpu.timers;
	while (!wh_list_empty(timers)) {
		struct kern_timer *t = WH_LIST_ENTRY(timers->next, struct kern_timer, node);
		if (t->deadline_ns > now)
			return t->deadline_ns;
		wh_list_remove(&t->node);
		t->fn(t);
	}
	return KERN_FOREVER;
}

void kern_poller_add(struct kern_poller *p)
{
	p->next = 0;
	*kern_cpu.pollers_end = p;
	kern_cpu.pollers_end = &p->next;
}

static void run_pollers(void *ret_deadline)
{
	struct kern_cpu *c = &kern_cpu;
	uint64_t deadline = KERN_FOREVER, now = 0;
	c->polling = true;
	c->switches = 0;
	c->polled_events = host_events();
	if (__atomic_load_n(&kern_control()->signals, __ATOMIC_RELAXED))
		kern_signal_host();
	kern_observe_poll();
	if (c->pollers || !wh_list_empty(&c->timers))
		now = kern_time_monotonic();
	for (struct kern_poller *p = c->pollers; p; p = p->next) {
		uint64_t next = p->poll(p, now);
		if (next < deadline)
			deadline = next;
	}
	c->pollers_deadline = deadline;
	uint64_t timer = run_timers(now);
	c->polling = false;
	*(uint64_t *)ret_deadline = timer < deadline ? timer : deadline;
}

uint64_t kern_poll(void)
{
	uint64_t deadline = 0;
	if (!kern_cpu.polling)
		cpu_call_on(WORK_STACK_TOP, run_pollers, &deadline);
	return deadline;
}
