/* SPDX-License-Identifier: ISC */
/*
 * Page allocator. 64 pages make a group with three bit masks: in use, the
 * program's, and dirty (may hold something other than zeros). The table of
 * groups lies at the start of the heap. RAM is zero at boot, so an empty table is
 * already right: start-up touches one page however large the memory, and
 * a page is zeroed only when somebody has used it before.
 *
 * First fit from the lowest group that may have room. A search reads 32 bytes per
 * 256 KiB of memory in front of the place, which is 4 us per GiB in use.
 */
#include <kern/pages.h>
#include <kern/plat.h>
#include <wherry/base/assert.h>
#include "kern_priv.h"

#define GROUP_PAGES 64u

struct group {
	uint64_t used, user, dirty, reserved;
};

static struct {
	struct group *groups;
	uint64_t start; /* address of page 0 */
	size_t page_count;
	size_t mmap_first; /* first page that mmap tries */
	size_t hint;       /* no free page in [mmap_first, hint) */
	size_t free_count;
} pages;

/* The bits of [first, first+count) inside the group of page `first`. */
static uint64_t mask_of(size_t first, size_t count, size_t *ret_covered)
{
	size_t bit = first % GROUP_PAGES, n = GROUP_PAGES - bit;
	if (n > count)
		n = count;
	*ret_covered = n;
	return (n == 64 ? ~0ull : (1ull << n) - 1) << bit;
}

/* RLIMIT_DATA and RLIMIT_AS; all zero is right. */
static size_t user_count, user_max;
static bool user_limited;

void kern_pages_init(uint64_t start, uint64_t end)
{
	user_count = 0;
	user_limited = false;
	start = (start + KERN_PAGE - 1) & ~(uint64_t)(KERN_PAGE - 1);
	size_t count = end > start ? (end - start) / KERN_PAGE : 0;
	size_t groups = (count + GROUP_PAGES - 1) / GROUP_PAGES;
	size_t table = (groups * sizeof(struct group) + KERN_PAGE - 1) / KERN_PAGE;
	if (count <= table + 2)
		kern_panic("too little memory");
	pages.groups = (struct group *)(uintptr_t)start;
	pages.start = start;
	pages.page_count = count;
	pages.free_count = count - table;
	pages.mmap_first = pages.hint = table + (count - table) / 4;
	for (size_t i = 0, n; i < table; i += n) {
		uint64_t mask = mask_of(i, table - i, &n);
		pages.groups[i / GROUP_PAGES].used |= mask;
		pages.groups[i / GROUP_PAGES].dirty |= mask;
	}
}

static void *page_address(size_t page)
{
	return (void *)(uintptr_t)(pages.start + (uint64_t)page * KERN_PAGE);
}

/* First page of a free run in [from, to); `to` when there is none. */
static size_t find_run(size_t from, size_t to, size_t count)
{
	size_t at = from, run = 0;
	while (at < to) {
		uint64_t used = pages.groups[at / GROUP_PAGES].used >> (at % GROUP_PAGES);
		size_t left = GROUP_PAGES - at % GROUP_PAGES;
		size_t n = used ? (size_t)__builtin_ctzll(used) : left;
		run += n;
		at += n;
		if (run >= count)
			return at - run + count <= to ? at - run : to;
		if (n == left)
			continue;
		run = 0;
		used = ~(used >> n);
		n = used ? (size_t)__builtin_ctzll(used) : left;
		at += n < left ? n : left;
	}
	return to;
}

/* Marks free pages used and zeroes what is dirty. */
static void occupy(size_t first, size_t count, enum kern_pages_owner owner)
{
	pages.free_count -= count;
	for (size_t at = first, end = first + count, n; at < end; at += n) {
		uint64_t mask = mask_of(at, end - at, &n);
		struct group *g = &pages.groups[at / GROUP_PAGES];
		wh_assert(!(g->used & mask));
		for (uint64_t dirty = g->dirty & mask; dirty; dirty &= dirty - 1)
			memset(page_address(at / GROUP_PAGES * GROUP_PAGES +
					    (size_t)__builtin_ctzll(dirty)),
			       0, KERN_PAGE);
		g->used |= mask;
		g->dirty |= mask;
		if (owner == KERN_PAGES_USER)
			g->user |= mask;
	}
	if (owner == KERN_PAGES_USER)
		user_count += count;
}

static bool may_have(size_t count, enum kern_pages_owner owner)
{
	return owner != KERN_PAGES_USER || !user_limited ||
	       (user_count < user_max && count <= user_max - user_count);
}

void kern_pages_limit_user(size_t count)
{
	user_limited = count != SIZE_MAX;
	user_max = count;
}

static void *take(size_t count, enum kern_pages_owner owner)
{
	if (!count || count > pages.free_count)
		return 0;
	size_t at = find_run(pages.hint, pages.page_count, count);
	if (at < pages.page_count) {
		if (count == 1)
			pages.hint = at + 1;
	} else {
		at = find_run(0, pages.mmap_first, count);
		if (at == pages.mmap_first) {
			/* a run may lie across the two */
			at = find_run(0, pages.page_count, count);
			if (at == pages.page_count)
				return 0;
		}
	}
	occupy(at, count, owner);
	return page_address(at);
}

void *kern_pages_take(size_t count, enum kern_pages_owner owner)
{
	return may_have(count, owner) ? take(count, owner) : 0;
}

void *kern_pages_alloc(size_t count)
{
	return take(count, KERN_PAGES_KERNEL);
}

/* Is [address, +count) inside? Then *ret_first is its page. */
static bool locate(uint64_t address, size_t count, size_t *ret_first)
{
	if (address % KERN_PAGE || address < pages.start)
		return false;
	size_t first = (address - pages.start) / KERN_PAGE;
	if (first > pages.page_count || count > pages.page_count - first)
		return false;
	*ret_first = first;
	return true;
}

static void vacate(size_t first, size_t count, bool user_only)
{
	if (first >= pages.mmap_first && first < pages.hint)
		pages.hint = first;
	for (size_t at = first, end = first + count, n; at < end; at += n) {
		uint64_t mask = mask_of(at, end - at, &n);
		struct group *g = &pages.groups[at / GROUP_PAGES];
		if (user_only)
			mask &= g->user;
		wh_assert((g->used & mask) == mask);
		user_count -= (size_t)__builtin_popcountll(g->user & mask);
		g->used &= ~mask;
		g->user &= ~mask;
		pages.free_count += (size_t)__builtin_popcountll(mask);
	}
}

void kern_pages_free(void *memory, size_t count)
{
	size_t first;
	if (!memory)
		return;
	wh_assert(locate((uint64_t)(uintptr_t)memory, count, &first));
	vacate(first, count, false);
}

void kern_pages_release_user(uint64_t address, size_t count)
{
	/* The program's range may stick out on either side. */
	uint64_t end = address + (uint64_t)count * KERN_PAGE;
	uint64_t heap_end = pages.start + (uint64_t)pages.page_count * KERN_PAGE;
	if (end < address || end > heap_end)
		end = heap_end;
	if (address < pages.start)
		address = pages.start;
	if (address < end)
		vacate((address - pages.start) / KERN_PAGE, (end - address) / KERN_PAGE, true);
}

bool kern_pages_take_at(uint64_t address, size_t count, enum kern_pages_owner owner)
{
	size_t first;
	if (!may_have(count, owner) || !kern_pages_all_free(address, count) ||
	    !locate(address, count, &first))
		return false;
	occupy(first, count, owner);
	return true;
}

bool kern_pages_all_free(uint64_t address, size_t count)
{
	size_t first;
	if (!locate(address, count, &first))
		return false;
	for (size_t at = first, end = first + count, n; at < end; at += n)
		if (pages.groups[at / GROUP_PAGES].used & mask_of(at, end - at, &n))
			return false;
	return true;
}

bool kern_pages_all_user(uint64_t address, size_t count)
{
	size_t first;
	if (!locate(address, count, &first))
		return false;
	for (size_t at = first, end = first + count, n; at < end; at += n) {
		uint64_t mask = mask_of(at, end - at, &n);
		if ((pages.groups[at / GROUP_PAGES].user & mask) != mask)
			return false;
	}
	return true;
}

uint64_t kern_pages_low(void)
{
	size_t groups = (pages.page_count + GROUP_PAGES - 1) / GROUP_PAGES;
	uint64_t end = pages.start + groups * sizeof(struct group);
	return (end + KERN_PAGE - 1) & ~(uint64_t)(KERN_PAGE - 1);
}

size_t kern_pages_free_count(void)
{
	return pages.free_count;
}

size_t kern_pages_total_count(void)
{
	return pages.page_count;
}
