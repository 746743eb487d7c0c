/* SPDX-License-Identifier: ISC */
/* Answers each line of its input with what tells copies of one guest apart: its count, random bytes, both clocks. Between
 * two lines "spin" and anything it counts in floating-point registers, so that a snapshot catches it at work. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static double spin(void)
{
	volatile double sum = 0;
	double a = 1.5, b = 2.5, c = 3.5, d = 4.5;
	struct pollfd p = { 0, POLLIN, 0 };
	for (long i = 0; i % 1000 || poll(&p, 1, 0) == 0; i++) {
		a = a * 1.0000001 + b / 3, b = b * 0.9999999 + c / 7;
		c = c * 1.0000002 - d / 9, d = d * 0.9999998 + a / 11;
		if (a > 1e9 || b > 1e9 || c > 1e9 || d > 1e9 || c < -1e9)
			a = 1.5, b = 2.5, c = 3.5, d = 4.5;
		if (a != a || b != b || c != c || d != d)
			return -1;
	}
	sum = a + b + c + d;
	return sum;
}

int main(void)
{
	char line[64];
	int count = 0;
	while (fgets(line, sizeof line, stdin)) {
		struct timespec real, mono;
		unsigned long long random = 0;
		getrandom(&random, sizeof random, 0);
		clock_gettime(CLOCK_REALTIME, &real);
		clock_gettime(CLOCK_MONOTONIC, &mono);
		printf("%d %016llx %lld %lld\n", ++count, random, (long long)real.tv_sec,
		       (long long)mono.tv_sec * 1000 + mono.tv_nsec / 1000000);
		fflush(stdout);
		if (!strcmp(line, "spin\n") && spin() == -1)
			return 99;
	}
	return count;
}
