/* SPDX-License-Identifier: ISC */
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <wherry/base/assert.h>
#include <wherry/test.h>

jmp_buf test_jump;
static const char *current;
static unsigned passed, failed, skipped;

void test_begin(const char *name)
{
	current = name;
}

void test_passed(void)
{
	passed++;
	printf("ok %s\n", current);
}

int test_end(void)
{
	printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	if (failed)
		return 1;
	return passed ? 0 : 77;
}

void test_fail(const char *file, int line, const char *format, ...)
{
	failed++;
	printf("not ok %s: %s:%d: ", current ? current : "?", file, line);
	va_list args;
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(" (seed %llu)\n", (unsigned long long)test_seed());
	fflush(stdout);
	longjmp(test_jump, 1);
}

void test_skip(const char *why)
{
	if (!current) {
		printf("skipped: %s\n", why);
		exit(77);
	}
	skipped++;
	printf("skipped: %s: %s\n", current, why);
	longjmp(test_jump, 1);
}

uint64_t test_seed(void)
{
	const char *s = getenv("WHERRY_TEST_SEED");
	return s ? strtoull(s, 0, 0) : 20260901;
}

void wh_assert_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s:%d: assertion failed: %s (in %s)\n", file, line, what,
		current ? current : "?");
	abort();
}

static unsigned long allocations, fail_at;
static long live;

static void *allocate(void *ctx, size_t size, size_t align)
{
	void *p = 0;
	allocations++;
	if (fail_at && !--fail_at)
		return 0;
	if (posix_memalign(&p, align < sizeof p ? sizeof p : align, size ? size : 1))
		return 0;
	memset(p, 0xa5, size);
	live++;
	return p;
}

static void release(void *ctx, void *memory, size_t size)
{
	if (!memory)
		return;
	live--;
	memset(memory, 0x5a, size); /* a wrong size shows under ASan */
	free(memory);
}

const struct wh_alloc test_allocator = { allocate, release, 0 };

void test_alloc_fail_at(unsigned long n)
{
	fail_at = n;
}

unsigned long test_alloc_count(void)
{
	return allocations;
}

long test_alloc_live(void)
{
	return live;
}

static size_t guarded_pages(size_t size)
{
	return (size + 4095) / 4096 * 4096;
}

void *test_guarded(size_t size)
{
	size_t pages = guarded_pages(size);
	char *p = mmap(0, pages + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || mprotect(p + pages, 4096, PROT_NONE))
		abort();
	return p + pages - size;
}

void test_guarded_free(void *memory, size_t size)
{
	size_t pages = guarded_pages(size);
	munmap((char *)memory + size - pages, pages + 4096);
}
