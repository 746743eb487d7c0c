/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <posix/process.h>
#include <posix/time.h>

#define NS_PER_TICK (POSIX_NS_PER_S / 100)

long wh_sys_times(struct lx_tms *ret_times)
{
	if (ret_times) {
		if (!kern_user_writable(ret_times, sizeof *ret_times))
			return -WH_EFAULT;
		memset(ret_times, 0, sizeof *ret_times);
		ret_times->user = (int64_t)(posix_cpu_ns() / NS_PER_TICK);
	}
	return (long)(kern_time_monotonic() / NS_PER_TICK);
}
