/* SPDX-License-Identifier: ISC */
#include "attack.h"

/* A system call instruction in the program itself: openat(AT_FDCWD, "/etc/passwd", O_RDONLY),
 * which a proc guest's filter does not know. (In a virtual machine the instruction
 * has no kernel to reach and faults.) */
int main(void)
{
	long result;
	__asm__ volatile("xor %%r10d, %%r10d\n\tsyscall"
			 : "=a"(result)
			 : "a"(257L), "D"(-100L), "S"("/etc/passwd"), "d"(0L)
			 : "rcx", "r10", "r11", "memory"); /* ends here */
	return attack_succeeded("a forbidden system call came back");
}
