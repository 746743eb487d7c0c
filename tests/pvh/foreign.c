/* SPDX-License-Identifier: ISC */
/* An ordinary program for another monitor: arguments, environment, time, memory, a fault. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	const char *color = getenv("COLOR");
	printf("hello, %d, %s, %s\n", argc, argc > 1 ? argv[1] : "", color ? color : "");
	fflush(stdout);
	double begin = now();
	nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
	double passed = now() - begin;
	char *memory = malloc(16 << 20);
	memset(memory, 1, 16 << 20);
	if (argc > 1 && !strcmp(argv[1], "null"))
		printf("%d\n", *(volatile int *)(memory - memory));
	return passed >= 0.05 && passed < 5 && memory[12345] == 1 ? 42 : 1;
}
