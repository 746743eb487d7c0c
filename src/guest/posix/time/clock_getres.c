/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <posix/time.h>

#define CLOCK_TAI 11

long wh_sys_clock_getres(int clock, struct lx_timespec *ret_time)
{
	if (clock < 0 || clock > CLOCK_TAI)
		return -WH_EINVAL;
	if (ret_time) {
		if (!kern_user_writable(ret_time, sizeof *ret_time))
			return -WH_EFAULT;
		*ret_time = posix_timespec_of(1);
	}
	return 0;
}

/* The clock is the host's. */
long wh_sys_clock_settime(int clock, const struct lx_timespec *time)
{
	return clock < 0 || clock > CLOCK_TAI ? -WH_EINVAL : -WH_EPERM;
}
