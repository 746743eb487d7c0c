/* SPDX-License-Identifier: ISC */
#include <stdbool.h>
#include <kern/pages.h>
#include <posix/memory.h>
#include <wherry/base/errors.h>

static size_t page_count(size_t size)
{
	return (size + KERN_PAGE - 1) / KERN_PAGE;
}

static long move(uint64_t old, size_t old_count, size_t count, bool fixed, uint64_t to)
{
	if (fixed) {
		kern_pages_release_user(to, count);
		if (!kern_pages_take_at(to, count, KERN_PAGES_USER))
			return -WH_ENOMEM;
	} else {
		to = (uint64_t)(uintptr_t)kern_pages_take(count, KERN_PAGES_USER);
		if (!to)
			return -WH_ENOMEM;
	}
	memcpy((void *)(uintptr_t)to, (const void *)(uintptr_t)old,
	       (old_count < count ? old_count : count) * KERN_PAGE);
	kern_pages_release_user(old, old_count);
	return (long)to;
}

long wh_sys_mremap(uint64_t old, size_t old_size, size_t size, int flags, uint64_t to)
{
	size_t old_count = page_count(old_size), count = page_count(size);
	bool fixed = flags & LX_MREMAP_FIXED;
	if (old % KERN_PAGE || !size || !old_size || size > SIZE_MAX - KERN_PAGE ||
	    old_size > SIZE_MAX - KERN_PAGE || (flags & ~(LX_MREMAP_MAYMOVE | LX_MREMAP_FIXED)) ||
	    (fixed && !(flags & LX_MREMAP_MAYMOVE)))
		return -WH_EINVAL;
	if (!kern_pages_all_user(old, old_count))
		return -WH_EFAULT;
	if (fixed) {
		uint64_t new_end = to + count * KERN_PAGE, old_end = old + old_count * KERN_PAGE;
		if (to % KERN_PAGE || (to < old_end && old < new_end))
			return -WH_EINVAL;
		return move(old, old_count, count, true, to);
	}
	if (count <= old_count) {
		kern_pages_release_user(old + count * KERN_PAGE, old_count - count);
		return (long)old;
	}
	if (kern_pages_take_at(old + old_count * KERN_PAGE, count - old_count, KERN_PAGES_USER))
		return (long)old;
	return flags & LX_MREMAP_MAYMOVE ? move(old, old_count, count, false, 0) : -WH_ENOMEM;
}
