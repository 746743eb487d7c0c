/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/thread.h>
#include <posix/signal.h>
#include <wherry/base/errors.h>

enum { HOW_BLOCK = 0, HOW_UNBLOCK = 1, HOW_SET = 2 };

long wh_sys_rt_sigprocmask(int how, const uint64_t *set, uint64_t *ret_old, size_t set_size)
{
	uint64_t mask = kern_self()->signal_mask, old = mask;
	if (set_size != sizeof *set)
		return -WH_EINVAL;
	if ((set && !kern_user_readable(set, sizeof *set)) ||
	    (ret_old && !kern_user_writable(ret_old, sizeof *ret_old)))
		return -WH_EFAULT;
	if (set) {
		if (how < HOW_BLOCK || how > HOW_SET)
			return -WH_EINVAL;
		mask = how == HOW_BLOCK ? mask | *set : how == HOW_UNBLOCK ? mask & ~*set : *set;
	}
	if (ret_old)
		*ret_old = old;
	if (set)
		posix_signal_mask_set(mask);
	return 0;
}
