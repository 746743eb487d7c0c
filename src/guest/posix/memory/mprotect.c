/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <posix/memory.h>
#include <wherry/base/errors.h>

/* Data is readable and writable and stays so; code cannot be made at run time. */
long wh_sys_mprotect(uint64_t address, size_t size, int protection)
{
	if (address % KERN_PAGE)
		return -WH_EINVAL;
	if (protection & LX_PROT_EXEC)
		return -WH_EACCES;
	return kern_user_readable((const void *)(uintptr_t)address, size) ? 0 : -WH_ENOMEM;
}
