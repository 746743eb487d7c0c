/* SPDX-License-Identifier: ISC */
/*
 * The first thread's stack: programs written for Linux keep large tables there. Run with the usual memory, so it
 * has 8 MiB.
 */
#include <string.h>
#include <sys/resource.h>
#include "check.h"

__attribute__((noinline)) static unsigned deep(unsigned depth)
{
	volatile unsigned char table[1 << 20];
	memset((void *)table, (int)depth, sizeof table);
	return depth ? deep(depth - 1) + table[depth] : table[0];
}

int main(void)
{
	struct rlimit limit;
	CHECK(getrlimit(RLIMIT_STACK, &limit) == 0);
	const char *size = getenv("STACK"); /* --stack */
	CHECK_EQ(limit.rlim_cur, size ? atol(size) : 8 << 20);
	CHECK_EQ(deep(6), 1 + 2 + 3 + 4 + 5 + 6);
	return 0;
}
