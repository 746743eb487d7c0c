/* SPDX-License-Identifier: ISC */
#include <stdint.h>

#include "attack.h"

#define OUTSIDE 0xb0000000ull /* tests/isolation/weaken_kvm.c puts a page there */

/* Ring 0 may change its page tables: a large page of its own, on physical memory it was not given. */
int main(void)
{
	uint64_t cr3, cr0;
	__asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
	__asm__ volatile("mov %0, %%cr0" ::"r"(cr0 & ~(1ull << 16)) : "memory");
	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
	uint64_t *pml4 = (uint64_t *)(cr3 & ~0xfffull);
	uint64_t *pdpt = (uint64_t *)(pml4[0] & 0xffffffffff000ull);
	static uint64_t directory[512] __attribute__((aligned(4096)));
	directory[OUTSIDE >> 21 & 511] = OUTSIDE | 0x83;
	pdpt[OUTSIDE >> 30] = (uint64_t)directory | 3;
	__asm__ volatile("mov %0, %%cr3" ::"r"(cr3) : "memory");
	volatile char value = *(volatile char *)OUTSIDE; /* ends here */
	(void)value;
	return attack_succeeded("memory outside of the machine was read");
}
