/* SPDX-License-Identifier: ISC */
/* Ways to end, chosen by the first argument; the test compares the exit status. */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include "check.h"

static void *end_process(void *arg)
{
	exit(23);
}

static int recurse(volatile char *p, int depth)
{
	char frame[4096];
	frame[0] = *p;
	return depth ? recurse(frame, depth - 1) + frame[0] : 0;
}

__attribute__((noinline)) static void read_null(volatile int *p)
{
	printf("%d\n", *p);
}

__attribute__((noinline, optimize("O0", "stack-protector-all"))) static void smash(const char *text)
{
	char small[8];
	strcpy(small, text);
	printf("%s\n", small);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "return";
	pthread_t t;
	if (!strcmp(how, "return"))
		return 0;
	if (!strcmp(how, "status"))
		return 42;
	if (!strcmp(how, "exit"))
		exit(300); /* low byte: 44 */
	if (!strcmp(how, "_exit"))
		_exit(5);
	if (!strcmp(how, "thread")) {
		pthread_create(&t, 0, end_process, 0);
		pthread_join(t, 0);
	}
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "raise"))
		raise(SIGTERM);
	if (!strcmp(how, "null"))
		read_null(0);
	if (!strcmp(how, "overflow"))
		return recurse("x", 1 << 20);
	if (!strcmp(how, "trap"))
		__builtin_trap();
	if (!strcmp(how, "divide"))
		return 100 / *(volatile int *)&(int){ 0 };
	if (!strcmp(how, "smash"))
		smash("a text that is much longer than the array it is copied to");
	if (!strcmp(how, "call"))
		((void (*)(void))argv[1])();
	return 99;
}
