/* SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	puts("up");
	fflush(stdout);
	pause();
	return 0;
}
