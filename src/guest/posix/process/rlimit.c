/* SPDX-License-Identifier: ISC */
/* Limits are facts here: reading tells them, raising the soft one up to the hard one is
 * accepted, anything else refused. */
#include <fs/file.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <posix/process.h>
#include <wherry/base/errors.h>

enum { RESOURCE_STACK = 3, RESOURCE_CORE = 4, RESOURCE_NOFILE = 7, RESOURCE_COUNT = 16 };
#define UNLIMITED UINT64_MAX

static struct lx_rlimit limit_of(int resource)
{
	struct lx_rlimit limit = { UNLIMITED, UNLIMITED };
	if (resource == RESOURCE_STACK)
		limit.soft = kern_boot()->stack_top - kern_boot()->stack_low;
	else if (resource == RESOURCE_CORE)
		limit.soft = limit.hard = 0;
	else if (resource == RESOURCE_NOFILE)
		limit.soft = limit.hard = FS_FDS_MAX;
	return limit;
}

long wh_sys_prlimit64(int pid, int resource, const struct lx_rlimit *limit,
		      struct lx_rlimit *ret_old)
{
	if (pid != 0 && pid != POSIX_PID)
		return -WH_ESRCH;
	if (resource < 0 || resource >= RESOURCE_COUNT)
		return -WH_EINVAL;
	struct lx_rlimit now = limit_of(resource);
	if (limit) {
		if (!kern_user_readable(limit, sizeof *limit))
			return -WH_EFAULT;
		if (limit->soft > limit->hard)
			return -WH_EINVAL;
		if (limit->hard > now.hard)
			return -WH_EPERM;
	}
	if (ret_old) {
		if (!kern_user_writable(ret_old, sizeof *ret_old))
			return -WH_EFAULT;
		*ret_old = now;
	}
	return 0;
}

long wh_sys_getrlimit(int resource, struct lx_rlimit *ret_limit)
{
	return ret_limit ? wh_sys_prlimit64(0, resource, 0, ret_limit) : -WH_EFAULT;
}

long wh_sys_setrlimit(int resource, const struct lx_rlimit *limit)
{
	return limit ? wh_sys_prlimit64(0, resource, limit, 0) : -WH_EFAULT;
}
