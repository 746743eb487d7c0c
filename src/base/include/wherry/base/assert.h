/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BASE_ASSERT_H
#define WHERRY_BASE_ASSERT_H

/*
 * wh_assert: for our own bugs only, never for input. Stays on in release. The
 * final program supplies wh_assert_failed: the command prints and aborts, the
 * guest panics with the place, a test aborts. The installed libraries bring a weak one that does as
 * assert(3) does, for programs that have none.
 */

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

__attribute__((noreturn, cold)) void wh_assert_failed(const char *what, const char *file, int line);

#define wh_assert(condition)                          \
	(__builtin_expect(!!(condition), 1) ? (void)0 \
					    : wh_assert_failed(#condition, __FILE__, __LINE__))

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
