/* SPDX-License-Identifier: ISC */
#ifndef POSIX_SIGNAL_H
#define POSIX_SIGNAL_H

/*
 * Signals within the one process. A pending signal is one bit and one record
 * (standard and real-time signals alike do not queue). Handlers are called as
 * functions, on the thread's own stack or its alternate one, at the points
 * that kern/signal.h names. Stop signals do nothing: nobody could continue us.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <fs/linux.h>
#include <kern/trace.h>

struct kern_thread;

#define LX_SIG_COUNT 64
#define LX_SIGKILL 9
#define LX_SIGSEGV 11
#define LX_SIGALRM 14
#define LX_SIGSTOP 19
#define LX_SIG_BIT(signo) (1ull << ((signo)-1))

#define LX_SIG_DFL 0u
#define LX_SIG_IGN 1u
#define LX_SA_NOCLDSTOP 1u
#define LX_SA_SIGINFO 4u
#define LX_SA_ONSTACK 0x08000000u
#define LX_SA_RESTART 0x10000000u
#define LX_SA_NODEFER 0x40000000u
#define LX_SA_RESETHAND 0x80000000u

#define LX_SI_USER 0
#define LX_SI_QUEUE (-1)
#define LX_SI_TIMER (-2)
#define LX_SI_TKILL (-6)
#define LX_SI_KERNEL 128

struct lx_sigaction {
	uint64_t handler;
	uint64_t flags;
	uint64_t restorer;
	uint64_t mask;
};

/* The members of siginfo_t that a signal without a fault has. */
struct lx_siginfo {
	int32_t signo, error, code, pad;
	union {
		struct {
			int32_t pid; /* timers: id */
			int32_t uid; /* timers: overrun */
			uint64_t value;
		} from;
		uint64_t address; /* faults */
		uint8_t size[112];
	} u;
};

struct lx_stack {
	uint64_t base;
	int32_t flags, pad;
	uint64_t size;
};
#define LX_SS_ONSTACK 1
#define LX_SS_DISABLE 2
#define LX_MINSIGSTKSZ 2048u

struct lx_itimerval {
	struct lx_timeval interval, value;
};

struct lx_itimerspec {
	struct lx_timespec interval, value;
};

struct lx_sigevent {
	uint64_t value;
	int32_t signo, notify;
	int32_t tid;
	int32_t pad[11];
};

KERN_CALL long wh_sys_rt_sigaction(int signo, const struct lx_sigaction *action,
				   struct lx_sigaction *ret_old, size_t set_size);
KERN_CALL long wh_sys_rt_sigprocmask(int how, const uint64_t *set, uint64_t *ret_old,
				     size_t set_size);
KERN_CALL long wh_sys_rt_sigpending(uint64_t *ret_set, size_t set_size);
KERN_CALL long wh_sys_rt_sigsuspend(const uint64_t *mask, size_t set_size);
KERN_CALL long wh_sys_rt_sigtimedwait(const uint64_t *set, struct lx_siginfo *ret_info,
				      const struct lx_timespec *timeout, size_t set_size);
KERN_CALL long wh_sys_rt_sigqueueinfo(int pid, int signo, const struct lx_siginfo *info);
KERN_CALL long wh_sys_rt_tgsigqueueinfo(int pid, int tid, int signo, const struct lx_siginfo *info);
KERN_CALL long wh_sys_rt_sigreturn(void);
KERN_CALL long wh_sys_signalfd(int fd, const uint64_t *mask, size_t size);
KERN_CALL long wh_sys_signalfd4(int fd, const uint64_t *mask, size_t size, int flags);
KERN_CALL long wh_sys_sigaltstack(const struct lx_stack *stack, struct lx_stack *ret_old);
KERN_CALL long wh_sys_pause(void);
KERN_CALL long wh_sys_kill(int pid, int signo);
KERN_CALL long wh_sys_tkill(int tid, int signo);
KERN_CALL long wh_sys_tgkill(int pid, int tid, int signo);
KERN_CALL long wh_sys_alarm(unsigned seconds);
KERN_CALL long wh_sys_setitimer(int which, const struct lx_itimerval *value,
				struct lx_itimerval *ret_old);
KERN_CALL long wh_sys_getitimer(int which, struct lx_itimerval *ret_value);
KERN_CALL long wh_sys_timer_create(int clock, const struct lx_sigevent *event, int *ret_id);
KERN_CALL long wh_sys_timer_settime(int id, int flags, const struct lx_itimerspec *value,
				    struct lx_itimerspec *ret_old);
KERN_CALL long wh_sys_timer_gettime(int id, struct lx_itimerspec *ret_value);
KERN_CALL long wh_sys_timer_getoverrun(int id);
KERN_CALL long wh_sys_timer_delete(int id);

/* --- between the files of posix/signal --- */

/* Start-up: plugs signals into the kernel. Called by the kernel when linked. */
int posix_signal_init(void);

extern struct lx_sigaction posix_sigaction[LX_SIG_COUNT + 1];

/* Makes `signo` pending for `thread` (NULL: for the process). */
void posix_signal_send(struct kern_thread *thread, int signo, int code, uint64_t value);

/* Record of the last sending of `signo`. */
void posix_siginfo_get(int signo, struct lx_siginfo *ret_info);

/* After a change of the calling thread's mask: takes what is pending for the process,
 * and runs handlers. */
void posix_signal_mask_set(uint64_t mask);

/* For a thread that a tick found computing: kern_signal_ops.interrupt. signal/interrupt.c */
struct kern_context;
void posix_signal_interrupt(const struct kern_context *context);

/* Runs the handlers of what is deliverable to the calling thread; `context` is what they interrupt. */
void posix_signal_deliver_on(struct kern_context *context);

/* Pending for the process, not taken over by a thread yet. */
uint64_t posix_signal_pending_process(void);

/* Called with the bit of each signal that becomes pending, if set (signalfd). */
extern void (*posix_signal_notify)(uint64_t bit);

/* Takes process-wide pending signals of `set` over to the calling thread. */
void posix_signal_adopt(uint64_t set);

/* Top of the stack a handler with these flags runs on; 0 = the current one. */
uint64_t posix_altstack_top(const struct kern_thread *t, uint64_t sp, uint64_t flags);

/* Processor faults to the program's handler; see kern/fault.h. */
struct kern_fault;
int posix_fault_deliver(const struct kern_fault *fault);

#endif
