/* SPDX-License-Identifier: ISC */
#include "attack.h"

static const char constant[64] = "constant data lies in a read-only segment";

int main(void)
{
	volatile char *p = (volatile char *)(unsigned long)constant;
	*p = 'C'; /* ends here */
	return attack_succeeded("constant data was written");
}
