/* SPDX-License-Identifier: ISC */
#include "attack.h"

/* A call that the filter knows, with an argument that it must not let through: write()
 * to a descriptor that is not the doorbell. */
int main(void)
{
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(1L), "D"(1L), "S"("leak\n"), "d"(5L)
			 : "rcx", "r11", "memory"); /* ends here */
	return attack_succeeded("write() to a foreign descriptor came back");
}
