/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include "attack.h"

static void win(void)
{
	exit(attack_succeeded("the return address was overwritten"));
}

/* Writes over the frame's end, as an unchecked copy would. */
__attribute__((noinline)) static void smash(volatile unsigned long count)
{
	volatile unsigned long buffer[2] = { 0 };
	volatile unsigned long *volatile p = buffer;
	for (unsigned long i = 0; i < count; i++)
		p[i] = (unsigned long)win;
}

int main(void)
{
	smash(12); /* ends in the function's epilogue */
	return 0;
}
