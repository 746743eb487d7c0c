/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/signal.h>
#include <kern/thread.h>
#include <posix/process.h>
#include <posix/signal.h>
#include <wherry/base/errors.h>

static long send(struct kern_thread *t, int signo, int code, uint64_t value)
{
	if (signo < 0 || signo > LX_SIG_COUNT)
		return -WH_EINVAL;
	if (signo)
		posix_signal_send(t, signo, code, value);
	if (wh_signal_work)
		(void)wh_signal_return(0);
	return 0;
}

long wh_sys_kill(int pid, int signo)
{
	if (pid != POSIX_PID && pid != 0 && pid != -1 && pid != -POSIX_PID)
		return -WH_ESRCH;
	return send(0, signo, LX_SI_USER, 0);
}

long wh_sys_tkill(int tid, int signo)
{
	struct kern_thread *t = kern_thread_find(tid);
	return t ? send(t, signo, LX_SI_TKILL, 0) : -WH_ESRCH;
}

long wh_sys_tgkill(int pid, int tid, int signo)
{
	return pid == POSIX_PID ? wh_sys_tkill(tid, signo) : -WH_ESRCH;
}

long wh_sys_rt_sigqueueinfo(int pid, int signo, const struct lx_siginfo *info)
{
	if (pid != POSIX_PID)
		return -WH_ESRCH;
	if (!kern_user_readable(info, sizeof *info))
		return -WH_EFAULT;
	return send(0, signo, info->code, info->u.from.value);
}

long wh_sys_rt_tgsigqueueinfo(int pid, int tid, int signo, const struct lx_siginfo *info)
{
	struct kern_thread *t = pid == POSIX_PID ? kern_thread_find(tid) : 0;
	if (!t)
		return -WH_ESRCH;
	if (!kern_user_readable(info, sizeof *info))
		return -WH_EFAULT;
	return send(t, signo, info->code, info->u.from.value);
}
