/* SPDX-License-Identifier: ISC */
#include "attack.h"

int main(void)
{
	puts("spinning");
	fflush(stdout);
	for (volatile unsigned long n = 0;; n++)
		;
}
