/* SPDX-License-Identifier: ISC */
/*
 * /proc/self/maps tells the truth: what it calls writable takes a write (a crash handler of redis, for
 * one, writes there), code is executable and not writable, constants and sealed data are neither.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include "check.h"

static const int constant = 1;
int (*const sealed[])(const char *, ...) = { printf, scanf }; /* relocated, then sealed */
static int data = 1;
static sigjmp_buf back;

static void on_fault(int signal)
{
	siglongjmp(back, signal);
}

static int takes_write(volatile char *at)
{
	if (sigsetjmp(back, 1))
		return 0;
	*at = *at;
	return 1;
}

struct range {
	uint64_t start, end;
	char access[5];
};
static struct range ranges[64];
static unsigned count;

static const char *access_of(const void *p)
{
	for (unsigned i = 0; i < count; i++)
		if ((uintptr_t)p >= ranges[i].start && (uintptr_t)p < ranges[i].end)
			return ranges[i].access;
	return "";
}

int main(void)
{
	char line[256];
	char local = 0;
	FILE *f = fopen("/proc/self/maps", "r");
	CHECK(f);
	while (fgets(line, sizeof line, f) && count < 64) {
		unsigned long long start, end;
		CHECK_EQ(sscanf(line, "%llx-%llx %4s", &start, &end, ranges[count].access), 3);
		CHECK(start < end);
		ranges[count].start = start;
		ranges[count++].end = end;
	}
	CHECK(count >= 5);
	CHECK(!strcmp(access_of((const void *)(uintptr_t)main), "r-xp"));
	CHECK(!strcmp(access_of(&constant), "r--p"));
	CHECK(!strcmp(access_of((const void *)&sealed), "r--p"));
	CHECK(!strcmp(access_of(&data), "rw-p"));
	CHECK(!strcmp(access_of(&local), "rw-p"));
	char *heap = malloc(300000);
	CHECK(heap && !strcmp(access_of(heap), "rw-p"));
	signal(SIGSEGV, on_fault);
	for (unsigned i = 0; i < count; i++) {
		int writable = ranges[i].access[1] == 'w';
		CHECK_EQ(takes_write((char *)(uintptr_t)ranges[i].start), writable);
		CHECK_EQ(takes_write((char *)(uintptr_t)ranges[i].end - 1), writable);
	}
	return 0;
}
