/* SPDX-License-Identifier: ISC */
#include "attack.h"

/* Why a network namespace may be left out: no call that makes a socket is let through. */
int main(void)
{
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(41L), "D"(2L), "S"(1L), "d"(0L)
			 : "rcx", "r11", "memory"); /* ends here */
	return attack_succeeded("socket() came back");
}
