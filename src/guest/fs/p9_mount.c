/* SPDX-License-Identifier: ISC */
#include "p9_priv.h"
#include <fs/p9.h>
#include <kern/plat.h>
#include <wherry/base/errors.h>

/* Mounts what the boot information lists. The sessions begin with the first use, so
 * that the start does not wait for the host. */
int fs_mount_9p_init(void)
{
	const struct wh_boot_info *b = kern_boot();
	const struct wh_boot_mount *m = (const void *)b->mounts;
	for (uint32_t i = 0; i < b->mount_count && i < WH_BOOT_MOUNTS_MAX; i++) {
		struct drv_p9 *dev = drv_p9_find(m[i].tag);
		if (!dev)
			return -WH_ENODEV;
		struct p9_mount *p =
			p9_mount_new(dev, m[i].tag, m[i].flags & WH_BOOT_MOUNT_READONLY);
		if (!p)
			return -WH_ENOMEM;
		int r = fs_mount(&p->super, m[i].path);
		if (r < 0)
			return r;
	}
	return 0;
}
