/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/plat.h>
#include <kern/thread.h>
#include <posix/process.h>
#include <posix/time.h>

long wh_sys_sysinfo(struct lx_sysinfo *ret_info)
{
	if (!kern_user_writable(ret_info, sizeof *ret_info))
		return -WH_EFAULT;
	memset(ret_info, 0, sizeof *ret_info);
	ret_info->uptime = (int64_t)(kern_time_uptime() / POSIX_NS_PER_S);
	ret_info->ram_total = kern_boot()->ram_size;
	ret_info->ram_free = (uint64_t)kern_pages_free_count() * KERN_PAGE;
	ret_info->processes = (uint16_t)kern_cpu.thread_count;
	ret_info->unit = 1;
	return 0;
}
