/* SPDX-License-Identifier: ISC */
#include "attack.h"

/* Ring 0 may ignore its own page tables' write protection. */
int main(void)
{
	volatile char *p = (volatile char *)(unsigned long)main;
	unsigned long cr0;
	__asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
	__asm__ volatile("mov %0, %%cr0" ::"r"(cr0 & ~(1ul << 16)) : "memory");
	char before = *p;
	*p = (char)~before; /* ends here */
	*p = before;
	return attack_succeeded("text was written past the page tables");
}
