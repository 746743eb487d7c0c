/* SPDX-License-Identifier: ISC */
#include <kern/thread.h>
#include <posix/process.h>

void wh_sys_exit(int status)
{
	kern_thread_exit(status);
}
