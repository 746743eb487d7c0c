/* SPDX-License-Identifier: ISC */
#include <kern/fault.h>
#include <kern/plat.h>
#include <kern/signal.h>
#include <kern/thread.h>

/* CHLD, CONT, the four that stop (nobody could continue us), URG; WINCH */
enum { SIG_CHLD = 17, SIG_URG = 23, SIG_WINCH = 28 };
enum { SIG_CANCEL = 33 }; /* the C library's own */

uint32_t wh_signal_work;
const struct kern_signal_ops *kern_signal_ops;

int wh_signal_return(long result)
{
	return kern_signal_ops ? kern_signal_ops->deliver(result) : 0;
}

bool kern_signal_again_slow(long result)
{
	struct kern_thread *t = kern_self();
	bool cancelled = t->signal_pending & 1ull << (SIG_CANCEL - 1);
	bool again = wh_signal_return(result);
	if (again && !cancelled)
		return true;
	t->restartable = again;
	wh_signal_work = 1; /* a cancellation point takes a second look */
	return false;
}

void kern_signal_default(int signo)
{
	if ((signo >= SIG_CHLD && signo <= SIG_URG) || signo == SIG_WINCH)
		return;
	struct wh_boot_control *control = kern_control();
	kern_fault_here(control, __builtin_frame_address(0));
	control->backtrace_count = kern_backtrace((uint64_t)(uintptr_t)__builtin_frame_address(0),
						  control->backtrace, 16);
	kern_exit(WH_BOOT_EXIT_SIGNAL, signo);
}

static void raise(struct kern_thread *thread, int signo)
{
	if (kern_signal_ops)
		kern_signal_ops->raise(thread, signo);
	else
		kern_signal_default(signo);
}

void kern_signal_raise(int signo)
{
	raise(kern_self(), signo);
}

void kern_signal_host(void)
{
	uint32_t asked = __atomic_exchange_n(&kern_control()->signals, 0, __ATOMIC_ACQ_REL);
	for (; asked; asked &= asked - 1)
		raise(0, __builtin_ctz(asked) + 1);
}
