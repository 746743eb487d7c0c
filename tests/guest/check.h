/* SPDX-License-Identifier: ISC */
#ifndef GUEST_CHECK_H
#define GUEST_CHECK_H

/* For the guest tests: ordinary C programs that must behave the same in an image and
 * natively. A failed check says where and ends the program with status 1. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                         \
	do {                                                                                     \
		if (!(condition)) {                                                              \
			printf("%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
			exit(1);                                                                 \
		}                                                                                \
	} while (0)

#define CHECK_EQ(got, wanted)                                                                     \
	do {                                                                                      \
		long long got_ = (long long)(got), wanted_ = (long long)(wanted);                 \
		if (got_ != wanted_) {                                                            \
			printf("%s:%d: %s is %lld, wanted %lld (errno %d)\n", __FILE__, __LINE__, \
			       #got, got_, wanted_, errno);                                       \
			exit(1);                                                                  \
		}                                                                                 \
	} while (0)

#define RUN(test)                      \
	do {                           \
		printf("%s\n", #test); \
		test();                \
	} while (0)

#endif
