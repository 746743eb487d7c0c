/* SPDX-License-Identifier: ISC */
/* Every page is in memory, locked, and has nothing behind it. */
#include <kern/mem.h>
#include <posix/memory.h>
#include <wherry/base/errors.h>

long wh_sys_mincore(uint64_t address, size_t size, uint8_t *ret_resident)
{
	size_t count = (size + KERN_PAGE - 1) / KERN_PAGE;
	if (address % KERN_PAGE)
		return -WH_EINVAL;
	if (!kern_user_readable((const void *)(uintptr_t)address, size))
		return -WH_ENOMEM;
	if (!kern_user_writable(ret_resident, count))
		return -WH_EFAULT;
	memset(ret_resident, 1, count);
	return 0;
}

long wh_sys_msync(uint64_t address, size_t size, int flags)
{
	return address % KERN_PAGE ? -WH_EINVAL : 0;
}

long wh_sys_mlock(uint64_t address, size_t size)
{
	return 0;
}

long wh_sys_munlock(uint64_t address, size_t size)
{
	return 0;
}

long wh_sys_mlockall(int flags)
{
	return 0;
}

long wh_sys_munlockall(void)
{
	return 0;
}

long wh_sys_mlock2(uint64_t address, size_t size, unsigned flags)
{
	return 0;
}
