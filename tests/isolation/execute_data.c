/* SPDX-License-Identifier: ISC */
#include "attack.h"

static unsigned char code[16] = { 0xc3 }; /* ret */

int main(void)
{
	void (*volatile function)(void) = (void (*)(void))(unsigned long)code;
	function(); /* ends here */
	return attack_succeeded("data was executed");
}
