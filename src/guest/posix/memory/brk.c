/* SPDX-License-Identifier: ISC */
#include <kern/pages.h>
#include <posix/memory.h>

/* Returns the end of the data segment: the new one, or the old when there is no room. */
uint64_t wh_sys_brk(uint64_t end)
{
	static uint64_t start, now; /* byte-exact; pages up to the next boundary are ours */
	if (!start)
		start = now = kern_pages_low();
	if (end < start || end > UINT64_MAX - KERN_PAGE)
		return now;
	uint64_t have = (now + KERN_PAGE - 1) & ~(uint64_t)(KERN_PAGE - 1);
	uint64_t want = (end + KERN_PAGE - 1) & ~(uint64_t)(KERN_PAGE - 1);
	if (want > have && !kern_pages_take_at(have, (want - have) / KERN_PAGE, KERN_PAGES_USER))
		return now;
	if (want < have)
		kern_pages_release_user(want, (have - want) / KERN_PAGE);
	now = end;
	return now;
}
