/* SPDX-License-Identifier: ISC */
#ifndef KERN_SCHED_H
#define KERN_SCHED_H

/*
 * Threads and waiting. One vCPU, and the kernel is never preempted: a thread in it runs until
 * it waits, yields or leaves, so kernel code needs no locks; what must survive a wait is
 * re-checked after it. In the program's own code a tick may take the processor (kern/preempt.h).
 * Devices are polled from the idle loop, at the head of blocking calls and at ticks.
 *
 * Kernel code runs on the calling thread's stack (a handler is a function
 * call): keep frames small (4 KiB in all below a handler). Work that is not a
 * thread's own (timers, device polling, the network stack's input) runs from
 * kern_poll() on whichever stack idles.
 */

#include <stdbool.h>
#include <stdint.h>
#include <wherry/base/list.h>

struct kern_thread;

/* A place to wait at. Zero-initialised is not valid: kern_waitq_init. */
struct kern_waitq {
	struct wh_list waiters;
};

/* One entry in a wait queue. `fn` is called by kern_waitq_wake with the events
 * that happened and returns true when this waiter has taken the event (for
 * wake-one). It runs in the waker's context and must not wait. */
struct kern_waiter {
	struct wh_list node;
	bool (*fn)(struct kern_waiter *waiter, uint32_t events);
	struct kern_thread *thread; /* for the default fn */
};

void kern_waitq_init(struct kern_waitq *q);
void kern_waitq_add(struct kern_waitq *q, struct kern_waiter *w);
void kern_waiter_remove(struct kern_waiter *w); /* harmless when in no queue */

/* Wakes up to `count` takers (UINT32_MAX = all); `events` is a poll mask (POLLIN...). */
void kern_waitq_wake(struct kern_waitq *q, uint32_t events, uint32_t count);

#define KERN_FOREVER UINT64_MAX

/* Sleeps until woken through `q` or until monotonic time `deadline_ns`. Returns 0, -WH_ETIMEDOUT,
 * or -WH_EINTR when a signal for this thread is pending; with SA_RESTART and without a deadline the call is
 * then made again (not so behind kern_sleep). May wake for nothing: loop on the condition. */
int kern_wait(struct kern_waitq *q, uint64_t deadline_ns);

/* The same where a signal must not end the wait (a disk's answer): never -WH_EINTR. */
int kern_wait_uninterruptible(struct kern_waitq *q, uint64_t deadline_ns);

/* The same for a thread that has put its own waiters into queues (poll): sleeps
 * until kern_thread_wake(self). */
int kern_sleep(uint64_t deadline_ns);
void kern_thread_wake(struct kern_thread *t);

void kern_yield(void);
struct kern_thread *kern_self(void);
int kern_tid(void);

/* Pending, unblocked signal for the calling thread? Blocking handlers return -WH_EINTR then. */
bool kern_signal_pending(void);

/* Kernel timers: one-shot callbacks from kern_poll(); must not wait. */
struct kern_timer {
	struct wh_list node;
	uint64_t deadline_ns;
	void (*fn)(struct kern_timer *timer);
};
void kern_timer_init(struct kern_timer *t, void (*fn)(struct kern_timer *));
void kern_timer_start(struct kern_timer *t, uint64_t deadline_ns); /* re-arms */
void kern_timer_stop(struct kern_timer *t);

/* Pollers: drivers and stacks register one at start-up. `poll` does what work
 * there is (completions, input, protocol timers) and returns the monotonic time
 * by which it wants to be called again, or KERN_FOREVER. A visible list, in
 * registration order; never removed. */
struct kern_poller {
	struct kern_poller *next;
	uint64_t (*poll)(struct kern_poller *poller, uint64_t now_ns);
};
void kern_poller_add(struct kern_poller *p);

/* Runs all pollers and due timers once; returns the next deadline. Blocking
 * handlers may call it before they sleep; it never re-enters itself. */
uint64_t kern_poll(void);

#endif
