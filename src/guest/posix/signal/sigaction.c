/* SPDX-License-Identifier: ISC */
#include <kern/fault.h>
#include <kern/mem.h>
#include <posix/signal.h>
#include <wherry/base/errors.h>

long wh_sys_rt_sigaction(int signo, const struct lx_sigaction *action, struct lx_sigaction *ret_old,
			 size_t set_size)
{
	if (signo < 1 || signo > LX_SIG_COUNT || set_size != sizeof(uint64_t))
		return -WH_EINVAL;
	if (action && (signo == LX_SIGKILL || signo == LX_SIGSTOP))
		return -WH_EINVAL;
	if ((action && !kern_user_readable(action, sizeof *action)) ||
	    (ret_old && !kern_user_writable(ret_old, sizeof *ret_old)))
		return -WH_EFAULT;
	struct lx_sigaction old = posix_sigaction[signo];
	if (action) {
		posix_sigaction[signo] = *action;
		kern_fault_hook = posix_fault_deliver;
	}
	if (ret_old)
		*ret_old = old;
	return 0;
}

/* Handlers return like functions. */
long wh_sys_rt_sigreturn(void)
{
	return -WH_ENOSYS;
}
