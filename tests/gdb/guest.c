/* SPDX-License-Identifier: ISC */
/* Something to debug: a loop with a breakpoint's place, a variable to watch, and on demand a fault or no end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int count;
volatile int watched;
volatile int *nowhere;

__attribute__((noinline)) int twice(int n)
{
	watched = n;
	return n * 2;
}

int main(int argc, char **argv)
{
	int sum = 0;
	if (argc > 1 && !strcmp(argv[1], "wait"))
		for (;;)
			usleep(10000);
	for (int i = 0; i < 5; i++) {
		sum += twice(i);
		count++;
	}
	printf("sum %d count %d\n", sum, count);
	fflush(stdout);
	if (argc > 1 && !strcmp(argv[1], "fault"))
		*nowhere = 1;
	if (argc > 1 && !strcmp(argv[1], "abort"))
		abort();
	return 7;
}
