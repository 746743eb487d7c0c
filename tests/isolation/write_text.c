/* SPDX-License-Identifier: ISC */
#include "attack.h"

static int victim(void)
{
	return 1;
}

int main(void)
{
	int (*volatile function)(void) = victim;
	volatile unsigned char *code = (volatile unsigned char *)(unsigned long)function;
	unsigned char first = *code;
	*code = (unsigned char)~first; /* ends here */
	*code = first;
	return attack_succeeded("text was written");
}
