/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <posix/process.h>
#include <posix/time.h>

enum { RUSAGE_CHILDREN = -1, RUSAGE_SELF = 0, RUSAGE_THREAD = 1 };
enum { COUNT_MAXRSS = 0 }; /* KiB */

long wh_sys_getrusage(int who, struct lx_rusage *ret_usage)
{
	if (who < RUSAGE_CHILDREN || who > RUSAGE_THREAD)
		return -WH_EINVAL;
	if (!kern_user_writable(ret_usage, sizeof *ret_usage))
		return -WH_EFAULT;
	memset(ret_usage, 0, sizeof *ret_usage);
	if (who == RUSAGE_CHILDREN)
		return 0;
	size_t used = kern_pages_total_count() - kern_pages_free_count();
	ret_usage->user = posix_timeval_of(posix_cpu_ns());
	ret_usage->counts[COUNT_MAXRSS] = (int64_t)used * (KERN_PAGE / 1024);
	return 0;
}
