/* SPDX-License-Identifier: ISC */
#include <posix/process.h>
#include <wherry/base/errors.h>

long wh_sys_getpid(void)
{
	return POSIX_PID;
}

long wh_sys_getppid(void)
{
	return 0;
}

long wh_sys_getpgrp(void)
{
	return POSIX_PID;
}

long wh_sys_getpgid(int pid)
{
	return pid == 0 || pid == POSIX_PID ? POSIX_PID : -WH_ESRCH;
}

long wh_sys_getsid(int pid)
{
	return wh_sys_getpgid(pid);
}

long wh_sys_setpgid(int pid, int group)
{
	if (group < 0)
		return -WH_EINVAL;
	if (pid != 0 && pid != POSIX_PID)
		return -WH_ESRCH;
	return group == 0 || group == POSIX_PID ? 0 : -WH_EPERM;
}

/* A process that leads its group may not: the answer a daemon gets that has not forked. */
long wh_sys_setsid(void)
{
	return -WH_EPERM;
}
