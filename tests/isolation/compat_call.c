/* SPDX-License-Identifier: ISC */
#include "attack.h"

/* The 32-bit entry has other numbers: 231 is exit_group for the filter's architecture and
 * fgetxattr here. A filter without an architecture check lets it through. */
int main(void)
{
	long result;
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(231L), "b"(99L), "c"(0L), "d"(0L)
			 : "memory"); /* ends here */
	return attack_succeeded("a 32-bit system call came back");
}
