/* SPDX-License-Identifier: ISC */
#include <posix/process.h>
#include <wherry/base/errors.h>

/* There are no children and never will be. */
long wh_sys_wait4(int pid, int *ret_status, int options, struct lx_rusage *ret_usage)
{
	return -WH_ECHILD;
}

long wh_sys_waitid(int which, int pid, void *ret_info, int options, struct lx_rusage *ret_usage)
{
	return -WH_ECHILD;
}
