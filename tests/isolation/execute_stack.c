/* SPDX-License-Identifier: ISC */
#include "attack.h"

int main(void)
{
	volatile unsigned char code[16] = { 0xc3 }; /* ret */
	void (*volatile function)(void) = (void (*)(void))(unsigned long)code;
	function(); /* ends here */
	return attack_succeeded("the stack was executed");
}
