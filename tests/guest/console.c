/* SPDX-License-Identifier: ISC */

/* Standard streams: copies its input to its output and says on standard error what came. */

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "check.h"

int main(int argc, char **argv)
{
	static char text[5000];
	long total = 0, n;
	struct pollfd p = { 0, POLLIN, 0 };
	CHECK(!isatty(0) && !isatty(1) && !isatty(2));
	CHECK_EQ(lseek(0, 0, SEEK_CUR), -1);
	CHECK_EQ(write(2, "begin\n", 6), 6);
	do {
		CHECK_EQ(poll(&p, 1, -1), 1);
		n = read(0, text, sizeof text);
		CHECK(n >= 0);
		CHECK_EQ(write(1, text, (size_t)n), n);
		total += n;
	} while (n);
	fprintf(stderr, "%ld bytes\n", total);
	return argc > 1 ? 7 : 0;
}
