/* SPDX-License-Identifier: ISC */
/* For programs that bring no wh_assert_failed of their own. */
#include <stdio.h>
#include <stdlib.h>
#include <wherry/base/assert.h>

__attribute__((weak)) void wh_assert_failed(const char *what, const char *file, int line)
{
	(void)fprintf(stderr, "wherry: bug: %s is false at %s:%d\n", what, file, line);
	abort();
}
