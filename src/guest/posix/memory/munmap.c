/* SPDX-License-Identifier: ISC */
#include <kern/pages.h>
#include <posix/memory.h>
#include <wherry/base/errors.h>

long wh_sys_munmap(uint64_t address, size_t size)
{
	if (!size || address % KERN_PAGE || size > SIZE_MAX - KERN_PAGE)
		return -WH_EINVAL;
	kern_pages_release_user(address, (size + KERN_PAGE - 1) / KERN_PAGE);
	return 0;
}
