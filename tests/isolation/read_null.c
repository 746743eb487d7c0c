/* SPDX-License-Identifier: ISC */
#include "attack.h"

int main(void)
{
	volatile int *volatile null = 0;
	int value = null[2]; /* ends here */
	(void)value;
	return attack_succeeded("the null page was read");
}
