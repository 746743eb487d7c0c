/* SPDX-License-Identifier: ISC */
#include <stdint.h>

#include "attack.h"

/* No descriptor table, no handler, no report of its own: the monitor still says what happened. */
int main(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = { 0, 0 };
	__asm__ volatile("lidt %0\n\tud2" ::"m"(none)); /* ends here */
	return attack_succeeded("it went on without descriptor tables");
}
