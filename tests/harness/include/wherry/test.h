/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_TEST_H
#define WHERRY_TEST_H

/*
 * Test harness: named cases, checks that say what they compared, exit status 0, 1,
 * or 77 for "cannot run here" with the reason.
 *
 *	static void adds(void) { CHECK_EQ(1 + 1, 2); }
 *	int main(void) { RUN(adds); return test_end(); }
 *
 * A failed check ends its case, not the program.
 */

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <wherry/base/mem.h>

extern jmp_buf test_jump;
void test_begin(const char *name);
void test_passed(void);
int test_end(void);
__attribute__((noreturn, format(printf, 3, 4))) void test_fail(const char *file, int line,
							       const char *format, ...);
/* This case (outside of a case: the program) cannot run here. A program whose cases were all
 * skipped ends with 77. */
__attribute__((noreturn)) void test_skip(const char *why);

#define RUN(case_)                        \
	do {                              \
		test_begin(#case_);       \
		if (!setjmp(test_jump)) { \
			case_();          \
			test_passed();    \
		}                         \
	} while (0)

#define CHECK(condition) ((condition) ? (void)0 : test_fail(__FILE__, __LINE__, "%s", #condition))

#define CHECK_EQ(got, wanted)                                                                      \
	do {                                                                                       \
		long long got_ = (long long)(got), wanted_ = (long long)(wanted);                  \
		if (got_ != wanted_)                                                               \
			test_fail(__FILE__, __LINE__, "%s is %lld (0x%llx), wanted %lld (0x%llx)", \
				  #got, got_, (unsigned long long)got_, wanted_,                   \
				  (unsigned long long)wanted_);                                    \
	} while (0)

#define CHECK_STR(got, wanted)                                                             \
	do {                                                                               \
		const char *got_ = (got), *wanted_ = (wanted);                             \
		if (!got_ || !wh_streq(got_, wanted_))                                     \
			test_fail(__FILE__, __LINE__, "%s is \"%s\", wanted \"%s\"", #got, \
				  got_ ? got_ : "(null)", wanted_);                        \
	} while (0)

#define CHECK_MEM(got, wanted, size)                                                  \
	(memcmp((got), (wanted), (size))                                              \
		 ? test_fail(__FILE__, __LINE__, "%s differs from %s", #got, #wanted) \
		 : (void)0)

/* Seed of random tests: WHERRY_TEST_SEED or a fixed one; printed on failure. */
uint64_t test_seed(void);

/* malloc-backed allocator; fails the n-th allocation when test_alloc_fail_at(n) was
 * called (1 = next; 0 = never); test_alloc_live() = blocks not freed. */
extern const struct wh_alloc test_allocator;
void test_alloc_fail_at(unsigned long n);
unsigned long test_alloc_count(void);
long test_alloc_live(void);

/* `size` bytes that end (begin) at an unmapped page: an overrun faults. The
 * memory is freed with test_guarded_free. */
void *test_guarded(size_t size);
void test_guarded_free(void *memory, size_t size);

#endif
