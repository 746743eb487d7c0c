/* SPDX-License-Identifier: ISC */
#include "attack.h"

/* Behind the last byte of RAM. The address comes from the kernel that is linked in. */
#include <wherry/abi/boot.h>
const struct wh_boot_info *kern_boot(void) __asm__("wh_kern_boot");

int main(void)
{
	const struct wh_boot_info *boot = kern_boot();
	volatile char *p = (volatile char *)(boot->ram_base + boot->ram_size);
	char value = p[64]; /* ends here */
	(void)value;
	return attack_succeeded("memory outside of RAM was read");
}
