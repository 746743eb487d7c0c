/* SPDX-License-Identifier: ISC */
#include "attack.h"

__attribute__((noinline)) static int deeper(volatile char *above)
{
	volatile char frame[1024];
	frame[0] = above[0];
	return deeper(frame) + frame[0];
}

int main(void)
{
	volatile char first[1] = { 0 };
	int depth = deeper(first); /* ends at the guard page */
	(void)depth;
	return attack_succeeded("the stack had no end");
}
