/* SPDX-License-Identifier: ISC */
#ifndef KERN_SIGNAL_H
#define KERN_SIGNAL_H

/*
 * Signals as the rest of the kernel sees them. The implementation is
 * posix/signal_*.c and only linked when the program handles or sends signals;
 * without it every signal has its default action.
 *
 * There is no common exit path of system calls, so delivery happens
 *  - inside the calls that make a signal deliverable (kill, rt_sigprocmask,
 *    rt_sigsuspend, ...), and
 *  - behind each cancellation point: the C library's wrapper is
 *	do r = wh_sys_x(...); while (wh_signal_work && wh_signal_return(r));
 *    kern_wait/kern_sleep return -WH_EINTR so that the handler unwinds first:
 *    a signal handler may longjmp; and
 *  - on top of the program's own code, when a tick finds it computing (kern/preempt.h).
 */

#include <stdbool.h>
#include <stdint.h>

struct kern_context;
struct kern_thread;

/* Not zero: the calling thread has a signal (or a cancellation) to take. */
extern uint32_t wh_signal_work;

/* Runs the handlers of pending signals. Returns 1 when the call that
 * returned `result` is to be made again (-EINTR and SA_RESTART). */
int wh_signal_return(long result);

/* For handlers that the C library also calls outside cancellation points (standard I/O,
 * its own locks): `do r = ...; while (kern_signal_again(r));` as their last step.
 * Runs handlers, true = make the call again. A cancellation is left to the
 * cancellation point around the call, if there is one. */
bool kern_signal_again_slow(long result);
static inline bool kern_signal_again(long result)
{
	return __builtin_expect(wh_signal_work != 0, 0) && kern_signal_again_slow(result);
}

/* Raises `signo` for the calling thread (SIGPIPE): pending if it has a
 * handler, nothing if ignored, else the end of the guest. */
void kern_signal_raise(int signo);

/* What posix/ plugs in. */
struct kern_signal_ops {
	void (*raise)(struct kern_thread *thread, int signo); /* NULL: the process */
	int (*deliver)(long result);                          /* wh_signal_return */
	/* Runs the calling thread's handlers on its stack on top of what a tick interrupted, then
	 * resumes that. Returns when nothing is deliverable, or has no room. */
	void (*interrupt)(const struct kern_context *context);
};
extern const struct kern_signal_ops *kern_signal_ops;

/* Default action of `signo`: end the guest, or nothing. */
void kern_signal_default(int signo);

/* Takes what the host asked for in control.signals; called by kern_poll. */
void kern_signal_host(void);

#endif
