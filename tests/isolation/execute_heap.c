/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "attack.h"

int main(void)
{
	unsigned char *code = malloc(64);
	memset(code, 0xc3, 64); /* ret */
	/* Asking for it must fail as well. */
	if (mprotect((void *)((unsigned long)code & ~4095ul), 4096, PROT_READ | PROT_EXEC) == 0)
		puts("note: mprotect(PROT_EXEC) said yes");
	if (mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
	    MAP_FAILED)
		return attack_succeeded("mmap gave writable and executable memory");
	void (*volatile function)(void) = (void (*)(void))(unsigned long)code;
	function(); /* ends here */
	return attack_succeeded("the heap was executed");
}
