/* SPDX-License-Identifier: ISC */
/*
 * Thread cancellation. A thread only loses the processor inside calls, so a
 * cancellation is seen at the next cancellation point; the signal serves to end a
 * wait, and to reach threads that asked for asynchronous cancellation.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include "pthread_impl.h"
#include "syscall.h"

hidden long __cancel(void);

static int wanted(pthread_t self)
{
	return self->cancel && self->canceldisable != PTHREAD_CANCEL_DISABLE;
}

/* Ends the thread; in the C library's own masked sections only reports it. */
hidden long __cancel(void)
{
	pthread_t self = __pthread_self();
	if (self->canceldisable == PTHREAD_CANCEL_ENABLE || self->cancelasync)
		pthread_exit(PTHREAD_CANCELED);
	self->canceldisable = PTHREAD_CANCEL_DISABLE;
	return -ECANCELED;
}

long wh_cp_before(void)
{
	return wanted(__pthread_self()) ? __cancel() : 0;
}

hidden void __testcancel(void)
{
	pthread_t self = __pthread_self();
	if (self->cancel && !self->canceldisable)
		__cancel();
}

static void on_cancel(int signo, siginfo_t *info, void *context)
{
	pthread_t self = __pthread_self();
	if (wanted(self) && self->cancelasync)
		__cancel();
}

int pthread_cancel(pthread_t thread)
{
	static int ready;
	if (!ready) {
		struct sigaction action = { .sa_sigaction = on_cancel,
					    .sa_flags = SA_SIGINFO | SA_RESTART };
		memset(&action.sa_mask, -1, _NSIG / 8);
		__libc_sigaction(SIGCANCEL, &action, 0);
		ready = 1;
	}
	thread->cancel = 1;
	if (thread != pthread_self())
		return pthread_kill(thread, SIGCANCEL);
	if (thread->canceldisable == PTHREAD_CANCEL_ENABLE && thread->cancelasync)
		pthread_exit(PTHREAD_CANCELED);
	return 0;
}
