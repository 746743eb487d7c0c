/* SPDX-License-Identifier: ISC */
#ifndef KERN_THREAD_H
#define KERN_THREAD_H

/*
 * The thread object, for the posix handlers of threads and signals; everybody
 * else uses kern/sched.h.
 *
 * What the C library's assembly calls instead of raw system calls (signatures
 * are those of musl's own functions, so a jump suffices):
 *
 *	__clone(fn, stack, flags, arg, ptid, tls, ctid)  ->  wh_thread_clone
 *	__unmapself(base, size)                          ->  wh_thread_unmapself
 *	__set_thread_area(p)                             ->  wh_sys_arch_prctl(ARCH_SET_FS, p)
 *	__restore_rt                                     ->  not needed: handlers are called
 */

#include <kern/sched.h>
#include <stddef.h>

enum kern_thread_state { KERN_THREAD_RUNNABLE, KERN_THREAD_SLEEPING, KERN_THREAD_DEAD };

struct kern_thread {
	struct wh_list run_node; /* run queue */
	struct wh_list all_node; /* all threads */
	uint64_t rsp;            /* while not running */
	uint64_t fs_base;
	int (*start)(void *arg); /* its first function */
	int32_t tid;
	uint8_t state;
	bool woken;       /* a wake-up came while it ran: the next sleep returns at once */
	bool timed_out;   /* why it runs again */
	bool restartable; /* last -WH_EINTR came from kern_wait: SA_RESTART applies */
	bool saved_mask;  /* signal_mask_saved is to be restored behind the handlers */
	uint64_t signal_mask, signal_pending, signal_mask_saved;
	uint64_t signal_wait;             /* rt_sigtimedwait: these end the sleep though blocked */
	uint32_t signal_deliveries;       /* how often it looked at its signals */
	struct kern_preempted *preempted; /* where a tick saves its registers; NULL = never yet */
	uint64_t altstack_base, altstack_size;
	int32_t altstack_flags;
	uint32_t *clear_child_tid; /* zeroed and woken when the thread ends */
	void *unmap_base;          /* stack freed when the thread ends */
	size_t unmap_size;
	uint64_t robust_list;
	char name[16];           /* PR_SET_NAME */
	struct kern_timer timer; /* kern_sleep's deadline */
};

/* The running thread's CPU. One today; everything per CPU is in here. */
struct kern_cpu {
	struct kern_thread *current;
	struct wh_list run_queue;
	struct wh_list threads;
	struct wh_list timers; /* by deadline */
	struct kern_poller *pollers, **pollers_end;
	uint32_t thread_count;
	uint32_t switches; /* since the last kern_poll */
	int32_t next_tid;
	uint64_t slept_ns;         /* time with nothing to do */
	uint32_t polled_events;    /* control.host_events when devices were last looked at */
	uint64_t pollers_deadline; /* when the pollers want to be called again */
	bool polling;
};
extern struct kern_cpu kern_cpu;

/* New runnable thread that calls fn(arg) on `stack_top` with FS base `fs_base`.
 * Returns NULL without memory. It ends by kern_thread_exit. */
struct kern_thread *kern_thread_new(int (*fn)(void *), void *arg, void *stack_top,
				    uint64_t fs_base);
__attribute__((noreturn)) void kern_thread_exit(int status);
struct kern_thread *kern_thread_find(int tid);

int wh_thread_clone(int (*fn)(void *), void *stack, int flags, void *arg, int *ptid, void *tls,
		    int *ctid);
__attribute__((noreturn)) void wh_thread_unmapself(void *base, size_t size);

#endif
