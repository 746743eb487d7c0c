/* SPDX-License-Identifier: ISC */
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "check.h"

#define PAGE 4096

static char *map(size_t size)
{
	char *p = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	for (size_t i = 0; i < size; i += PAGE)
		CHECK_EQ(p[i], 0);
	return p;
}

static void partial_unmaps(void)
{
	char *p = map(8 * PAGE);
	memset(p, 1, 8 * PAGE);
	CHECK_EQ(munmap(p + 2 * PAGE, 3 * PAGE), 0);
	p[0] = p[PAGE] = p[5 * PAGE] = 2;
	char *q = mmap(p + 2 * PAGE, 3 * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(q == p + 2 * PAGE);
	CHECK_EQ(q[0], 0);
	CHECK_EQ(q[3 * PAGE - 1], 0);
	CHECK_EQ(p[5 * PAGE], 2);
	q = mmap(p, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(q == p && q[0] == 0 && p[PAGE] == 2); /* over a mapping: new zeros */
	CHECK_EQ(munmap(p, 8 * PAGE), 0);
	CHECK_EQ(munmap(p, 8 * PAGE), 0); /* holes are fine */
	CHECK(munmap(p + 1, PAGE) < 0 && errno == EINVAL);
}

static void remaps(void)
{
	char *p = map(4 * PAGE);
	p[0] = 1, p[4 * PAGE - 1] = 2;
	p = mremap(p, 4 * PAGE, 300 * PAGE, MREMAP_MAYMOVE);
	CHECK(p != MAP_FAILED);
	CHECK(p[0] == 1 && p[4 * PAGE - 1] == 2 && p[4 * PAGE] == 0 && p[300 * PAGE - 1] == 0);
	p = mremap(p, 300 * PAGE, PAGE, 0);
	CHECK(p != MAP_FAILED && p[0] == 1);
	CHECK_EQ(munmap(p, PAGE), 0);
}

static void advises_and_protects(void)
{
	char *p = map(4 * PAGE);
	memset(p, 1, 4 * PAGE);
	CHECK_EQ(madvise(p + PAGE, PAGE, MADV_DONTNEED), 0);
	CHECK(p[0] == 1 && p[PAGE] == 0 && p[2 * PAGE] == 1);
	CHECK_EQ(mprotect(p, PAGE, PROT_READ | PROT_WRITE), 0);
	CHECK_EQ(mprotect(p, PAGE, PROT_NONE), 0);
	CHECK_EQ(mprotect(p, PAGE, PROT_READ | PROT_WRITE), 0);
	CHECK_EQ(munmap(p, 4 * PAGE), 0);
}

/* musl's sbrk refuses to move; its malloc uses the call itself. */
static void grows_the_data_segment(void)
{
	char *start = (char *)syscall(SYS_brk, 0);
	CHECK((char *)syscall(SYS_brk, start + 10000) == start + 10000);
	CHECK(start[0] == 0 && start[9999] == 0);
	memset(start, 1, 10000);
	CHECK((char *)syscall(SYS_brk, start) == start);
	CHECK((char *)syscall(SYS_brk, start + (1ull << 50)) == start);
}

/* Many sizes, random order, contents checked. */
static void mallocs(void)
{
	static struct {
		unsigned char *p;
		size_t size;
	} live[500];
	uint32_t r = 1;
	for (int i = 0; i < 50000; i++) {
		r = r * 1664525u + 1013904223u;
		unsigned slot = (r >> 8) % 500;
		size_t size = 1 + (r >> 16) % ((r >> 4) % 20 ? 300 : 60000);
		if (live[slot].p) {
			CHECK_EQ(live[slot].p[0], slot & 255);
			CHECK_EQ(live[slot].p[live[slot].size - 1], slot & 255);
		}
		if (live[slot].p && r % 4) {
			free(live[slot].p);
			live[slot].p = 0;
		} else {
			live[slot].p = realloc(live[slot].p, size);
			CHECK(live[slot].p);
			memset(live[slot].p, (int)slot, size);
			live[slot].size = size;
		}
	}
	for (int i = 0; i < 500; i++)
		free(live[i].p);
	for (int i = 0; i < 200; i++) { /* each goes back to the system */
		char *p = malloc(3 << 20);
		CHECK(p);
		p[0] = p[(3 << 20) - 1] = 1;
		free(p);
	}
}

static void refuses_what_it_has_not(void)
{
	CHECK(mmap(0, 1ull << 50, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	      MAP_FAILED);
	CHECK_EQ(errno, ENOMEM);
	CHECK(!malloc(1ull << 50));
	CHECK(mmap(0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	CHECK_EQ(errno, EINVAL);
}

int main(void)
{
	RUN(partial_unmaps);
	RUN(remaps);
	RUN(advises_and_protects);
	RUN(grows_the_data_segment);
	RUN(mallocs);
	RUN(refuses_what_it_has_not);
	printf("ok\n");
	return 0;
}
