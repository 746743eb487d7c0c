/* SPDX-License-Identifier: ISC */
#include <kern/pages.h>
#include <posix/memory.h>
#include <wherry/base/errors.h>

/* Only MADV_DONTNEED has a meaning that programs rely on: the pages read as zero. */
long wh_sys_madvise(uint64_t address, size_t size, int advice)
{
	size_t count = (size + KERN_PAGE - 1) / KERN_PAGE;
	if (address % KERN_PAGE || size > SIZE_MAX - KERN_PAGE)
		return -WH_EINVAL;
	if (advice != LX_MADV_DONTNEED)
		return 0;
	if (!kern_pages_all_user(address, count))
		return -WH_ENOMEM;
	memset((void *)(uintptr_t)address, 0, count * KERN_PAGE);
	return 0;
}
