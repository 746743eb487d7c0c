/* SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <stdlib.h>
#include <wherry/base/assert.h>

void wh_assert_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "wherry: internal error: %s (%s:%d)\n", what, file, line);
	abort();
}

int main(int argc, char **argv)
{
	fprintf(stderr, "usage: wherry COMMAND\n");
	return 2;
}
