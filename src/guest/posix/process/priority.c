/* SPDX-License-Identifier: ISC */
#include <posix/process.h>
#include <wherry/base/errors.h>

/* The raw call answers 20 - nice. */
long wh_sys_getpriority(int which, int who)
{
	return which < 0 || which > 2 ? -WH_EINVAL : 20;
}

long wh_sys_setpriority(int which, int who, int value)
{
	return which < 0 || which > 2 ? -WH_EINVAL : 0;
}
