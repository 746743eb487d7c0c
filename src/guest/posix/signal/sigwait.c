/* SPDX-License-Identifier: ISC */
/* Calls that wait for signals. */
#include <kern/mem.h>
#include <kern/signal.h>
#include <kern/thread.h>
#include <posix/signal.h>
#include <posix/time.h>

static long suspend(uint64_t mask)
{
	struct kern_thread *t = kern_self();
	uint64_t before = t->signal_mask;
	t->signal_mask = mask & ~(LX_SIG_BIT(LX_SIGKILL) | LX_SIG_BIT(LX_SIGSTOP));
	posix_signal_adopt(~t->signal_mask);
	while (!kern_signal_pending())
		(void)kern_sleep(KERN_FOREVER);
	posix_signal_mask_set(t->signal_mask); /* runs the handlers under the given mask */
	posix_signal_mask_set(before);
	t->restartable = false;
	wh_signal_work = 1; /* the caller looks once more: the handler may have asked to cancel */
	return -WH_EINTR;
}

long wh_sys_rt_sigsuspend(const uint64_t *mask, size_t set_size)
{
	if (set_size != sizeof *mask)
		return -WH_EINVAL;
	if (!kern_user_readable(mask, sizeof *mask))
		return -WH_EFAULT;
	return suspend(*mask);
}

long wh_sys_pause(void)
{
	return suspend(kern_self()->signal_mask);
}

long wh_sys_rt_sigpending(uint64_t *ret_set, size_t set_size)
{
	struct kern_thread *t = kern_self();
	if (set_size > sizeof *ret_set)
		return -WH_EINVAL;
	if (!kern_user_writable(ret_set, set_size))
		return -WH_EFAULT;
	posix_signal_adopt(t->signal_mask); /* all of it is blocked, so nothing runs */
	uint64_t pending = t->signal_pending & t->signal_mask;
	memcpy(ret_set, &pending, set_size);
	return 0;
}

long wh_sys_rt_sigtimedwait(const uint64_t *set, struct lx_siginfo *ret_info,
			    const struct lx_timespec *timeout, size_t set_size)
{
	struct kern_thread *t = kern_self();
	uint64_t deadline, ready;
	if (set_size != sizeof *set)
		return -WH_EINVAL;
	if (!kern_user_readable(set, sizeof *set) ||
	    (timeout && !kern_user_readable(timeout, sizeof *timeout)) ||
	    (ret_info && !kern_user_writable(ret_info, sizeof *ret_info)))
		return -WH_EFAULT;
	int r = posix_deadline(timeout, &deadline);
	if (r < 0)
		return r;
	uint64_t wanted = *set;
	posix_signal_adopt(wanted);
	while (!(ready = t->signal_pending & wanted)) {
		t->signal_wait = wanted;
		r = kern_sleep(deadline);
		t->signal_wait = 0;
		if (!(t->signal_pending & wanted) && r < 0)
			return r == -WH_ETIMEDOUT ? -WH_EAGAIN : r;
	}
	int signo = __builtin_ctzll(ready) + 1;
	t->signal_pending &= ~LX_SIG_BIT(signo);
	if (ret_info)
		posix_siginfo_get(signo, ret_info);
	return signo;
}
