/* SPDX-License-Identifier: ISC */
/* Four levels (Intel SDM 3A, 4.5), pages of 4 KiB and 2 MiB. */
#include <cpu/paging.h>
#include <wherry/base/mem.h>

#define PRESENT (1ull << 0)
#define WRITABLE (1ull << 1)
#define UNCACHED (1ull << 3 | 1ull << 4)
#define LARGE (1ull << 7)
#define NO_EXECUTE (1ull << 63)
#define ADDRESS 0x000ffffffffff000ull
#define LARGE_SIZE (2ull << 20)
#define ENTRIES 512u

const uint64_t cpu_paging_rights[] = {
	[CPU_PAGING_RX] = PRESENT,
	[CPU_PAGING_R] = PRESENT | NO_EXECUTE,
	[CPU_PAGING_RW] = PRESENT | WRITABLE | NO_EXECUTE,
	[CPU_PAGING_IO] = PRESENT | WRITABLE | NO_EXECUTE | UNCACHED,
};

static uint64_t *new_table(struct cpu_paging *p)
{
	if (p->end - p->next < CPU_PAGE) {
		p->failed = true;
		return 0;
	}
	uint64_t *table = (uint64_t *)(uintptr_t)p->next;
	p->next += CPU_PAGE;
	if (p->clear)
		memset(table, 0, CPU_PAGE);
	return table;
}

void cpu_paging_init(struct cpu_paging *p, uint64_t memory, uint64_t size, bool clear)
{
	*p = (struct cpu_paging){ .next = memory, .end = memory + size, .clear = clear };
	p->root = new_table(p);
}

/* The table below `table` for `address`, made when there is none. */
static uint64_t *descend(struct cpu_paging *p, uint64_t *table, uint64_t address, unsigned shift)
{
	uint64_t *entry = table + (address >> shift) % ENTRIES;
	if (*entry & LARGE) {
		p->failed = true;
		return 0;
	}
	if (!*entry) {
		uint64_t *below = new_table(p);
		if (!below)
			return 0;
		/* Rights are decided in the last level. */
		*entry = (uint64_t)(uintptr_t)below | PRESENT | WRITABLE;
	}
	return (uint64_t *)(uintptr_t)(*entry & ADDRESS);
}

void cpu_paging_map(struct cpu_paging *p, uint64_t start, uint64_t end,
		    enum cpu_paging_access access, bool small)
{
	uint64_t bits = cpu_paging_rights[access];
	if ((start | end) % CPU_PAGE || start > end || end > 1ull << 47)
		p->failed = true;
	while (!p->failed && start < end) {
		uint64_t *directory = descend(p, p->root, start, 39);
		if (directory)
			directory = descend(p, directory, start, 30);
		if (!directory)
			return;
		uint64_t *entry = directory + (start >> 21) % ENTRIES;
		bool large = false;
		while (!small && !(start % LARGE_SIZE) && end - start >= LARGE_SIZE && !*entry) {
			*entry++ = start | bits | LARGE;
			start += LARGE_SIZE;
			large = true;
			if (!(start % (1ull << 30))) /* the directory ends here */
				break;
		}
		if (large)
			continue;
		uint64_t *table = descend(p, directory, start, 21);
		if (!table)
			return;
		do {
			table[(start >> 12) % ENTRIES] = start | bits;
			start += CPU_PAGE;
		} while (start < end && start % LARGE_SIZE);
	}
}
