/* SPDX-License-Identifier: ISC */
#include "root_priv.h"
#include "tmpfs_priv.h"
#include <drv/rng.h>
#include <fs/p9.h>

/* What a program that uses paths may meet. Nobody calls through this: it makes the linker
 * take the units along, and start-up then finds their initialisers. */
int (*const fs_root_units[])(void) = { fs_mount_9p_init, drv_rng_init };

/* Makes the directory, or has `fill` add to what the archive brought. */
static void add_dir(struct fs_node *root, const char *name, uint32_t mode, fs_tmpfs_fill fill)
{
	struct fs_name n = fs_name_of(name);
	struct tmpfs_entry *e = tmpfs_dir_find(tmpfs_of(root), n);
	if (!e)
		(void)fs_tmpfs_add_dir(root, n, mode, fill, 0);
	else if (fill && e->node->node.ops == &tmpfs_dir_ops)
		fill(&e->node->node, 0);
}

void fs_root_fill(struct fs_node *root, uint64_t data)
{
	fs_archive_root(root);
	add_dir(root, "dev", 0755, fs_dev_fill);
	add_dir(root, "etc", 0755, fs_etc_fill);
	add_dir(root, "proc", 0555, fs_proc_fill);
	add_dir(root, "tmp", 01777, NULL);
	add_dir(root, "root", 0700, NULL);
}
