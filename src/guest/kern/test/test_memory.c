/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/pages.h>
#include <wherry/base/hash.h>
#include <wherry/test.h>
#include "fake.h"

static uint64_t addr(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static bool zero(const void *p, size_t size)
{
	const char *c = p;
	for (size_t i = 0; i < size; i++)
		if (c[i])
			return false;
	return true;
}

static void gives_every_page_once(void)
{
	fake_start();
	size_t free_count = kern_pages_free_count();
	char *all[FAKE_PAGES];
	for (size_t i = 0; i < free_count; i++) {
		all[i] = kern_pages_alloc(1);
		CHECK(all[i] && zero(all[i], KERN_PAGE));
		memset(all[i], 1, KERN_PAGE);
	}
	CHECK(!kern_pages_alloc(1));
	CHECK_EQ(kern_pages_free_count(), 0);
	for (size_t i = 0; i < free_count; i++)
		kern_pages_free(all[i], 1);
	CHECK_EQ(kern_pages_free_count(), free_count);
}

static void zeroes_used_pages(void)
{
	fake_start();
	char *p = kern_pages_alloc(5);
	memset(p, 0xaa, 5 * KERN_PAGE);
	kern_pages_free(p, 5);
	char *q = kern_pages_alloc(5);
	CHECK(q == p && zero(q, 5 * KERN_PAGE));
}

static void takes_at_an_address(void)
{
	fake_start();
	uint64_t low = kern_pages_low();
	CHECK(kern_pages_take_at(low, 3, KERN_PAGES_USER));
	CHECK(!kern_pages_take_at(low + 2 * KERN_PAGE, 2, KERN_PAGES_USER));
	CHECK(kern_pages_take_at(low + 3 * KERN_PAGE, 1, KERN_PAGES_USER));
	CHECK(kern_pages_all_user(low, 4));
	CHECK(!kern_pages_all_user(low, 5));
	CHECK(!kern_pages_take_at(low + 1, 1, KERN_PAGES_USER));
	CHECK(!kern_pages_take_at(low + (uint64_t)FAKE_PAGES * KERN_PAGE, 1, KERN_PAGES_USER));
	CHECK(!kern_pages_take_at(low, SIZE_MAX / KERN_PAGE, KERN_PAGES_USER));
}

static void releases_only_the_programs_pages(void)
{
	fake_start();
	size_t before = kern_pages_free_count();
	char *user = kern_pages_take(4, KERN_PAGES_USER);
	char *kernel = kern_pages_alloc(1);
	CHECK(kernel == user + 4 * KERN_PAGE);
	kern_pages_release_user(addr(user) + KERN_PAGE, 1); /* a hole */
	CHECK_EQ(kern_pages_free_count(), before - 4);
	kern_pages_release_user(0, SIZE_MAX / KERN_PAGE); /* sticks out on both sides */
	CHECK_EQ(kern_pages_free_count(), before - 1);
	kern_pages_free(kernel, 1);
	CHECK_EQ(kern_pages_free_count(), before);
}

static void large_requests_cross_into_the_brk_quarter(void)
{
	fake_start();
	size_t free_count = kern_pages_free_count();
	void *most = kern_pages_alloc(free_count - 2);
	CHECK(most);
	kern_pages_free(most, free_count - 2);
	CHECK(!kern_pages_alloc(free_count + 1));
}

/* Against a byte per page. */
static void random_operations_agree_with_a_model(void)
{
	fake_start();
	uint64_t seed = test_seed();
	static struct {
		char *at;
		size_t count;
	} live[64];
	memset(live, 0, sizeof live);
	size_t free_count = kern_pages_free_count();
	for (int i = 0; i < 20000; i++) {
		uint64_t r = wh_random_next(&seed);
		size_t slot = r % 64, count = 1 + (r >> 8) % ((r >> 20) % 8 ? 8 : 150);
		if (live[slot].at) {
			for (size_t p = 0; p < live[slot].count; p++)
				CHECK_EQ(live[slot].at[p * KERN_PAGE], (char)slot + 1);
			kern_pages_free(live[slot].at, live[slot].count);
			free_count += live[slot].count;
			live[slot].at = 0;
		} else {
			char *at = kern_pages_alloc(count);
			if (!at)
				continue;
			free_count -= count;
			live[slot].at = at;
			live[slot].count = count;
			for (size_t p = 0; p < count; p++) {
				CHECK(zero(at + p * KERN_PAGE, 64));
				memset(at + p * KERN_PAGE, (int)slot + 1, 64);
			}
		}
		CHECK_EQ(kern_pages_free_count(), free_count);
	}
}

static void small_blocks_do_not_overlap(void)
{
	fake_start();
	static const size_t sizes[] = { 1, 16, 17, 100, 256, 700, 1008, 2016, 2017, 4096, 9000 };
	char *blocks[WH_ARRAY_COUNT(sizes)][20];
	size_t before = kern_pages_free_count();
	for (size_t s = 0; s < WH_ARRAY_COUNT(sizes); s++)
		for (int i = 0; i < 20; i++) {
			blocks[s][i] = kern_alloc(sizes[s]);
			CHECK(blocks[s][i] && addr(blocks[s][i]) % 16 == 0);
			memset(blocks[s][i], (int)s * 20 + i, sizes[s]);
		}
	for (size_t s = 0; s < WH_ARRAY_COUNT(sizes); s++)
		for (int i = 0; i < 20; i++) {
			CHECK_EQ(blocks[s][i][0], (char)((int)s * 20 + i));
			CHECK_EQ(blocks[s][i][sizes[s] - 1], (char)((int)s * 20 + i));
			kern_free(blocks[s][i], sizes[s]);
		}
	/* each size keeps at most one page back */
	CHECK(before - kern_pages_free_count() <= WH_ARRAY_COUNT(sizes));
}

static void allocator_object_aligns(void)
{
	fake_start();
	for (size_t align = 8; align <= 256; align *= 2) {
		void *p = kern_allocator.alloc(0, 40, align);
		CHECK(p && addr(p) % align == 0);
		kern_allocator.free(0, p, 40);
	}
	CHECK(kern_alloc(SIZE_MAX) == 0);
	CHECK(kern_alloc(SIZE_MAX - 2 * KERN_PAGE) == 0);
	char *z = kern_alloc(64);
	memset(z, 1, 64);
	kern_free(z, 64);
	z = kern_alloc_zero(64);
	CHECK(zero(z, 64));
}

int main(void)
{
	RUN(gives_every_page_once);
	RUN(zeroes_used_pages);
	RUN(takes_at_an_address);
	RUN(releases_only_the_programs_pages);
	RUN(large_requests_cross_into_the_brk_quarter);
	RUN(random_operations_agree_with_a_model);
	RUN(small_blocks_do_not_overlap);
	RUN(allocator_object_aligns);
	return test_end();
}
