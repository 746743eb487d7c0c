/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <posix/time.h>

long wh_sys_gettimeofday(struct lx_timeval *ret_time, void *zone)
{
	if (ret_time) {
		if (!kern_user_writable(ret_time, sizeof *ret_time))
			return -WH_EFAULT;
		*ret_time = posix_timeval_of(kern_time_realtime());
	}
	return 0;
}

long wh_sys_time(int64_t *ret_time)
{
	int64_t seconds = (int64_t)(kern_time_realtime() / POSIX_NS_PER_S);
	if (ret_time) {
		if (!kern_user_writable(ret_time, sizeof *ret_time))
			return -WH_EFAULT;
		*ret_time = seconds;
	}
	return seconds;
}

/* The clock is the host's. */
long wh_sys_settimeofday(const struct lx_timeval *time, const void *zone)
{
	return -WH_EPERM;
}
