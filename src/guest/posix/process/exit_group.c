/* SPDX-License-Identifier: ISC */
#include <kern/plat.h>
#include <posix/process.h>

void wh_sys_exit_group(int status)
{
	kern_exit(WH_BOOT_EXIT_STATUS, status);
}
