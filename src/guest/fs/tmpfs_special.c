/* SPDX-License-Identifier: ISC */

/* tmpfs nodes whose contents somebody else makes: devices, /proc. */

#include "tmpfs_priv.h"
#include <wherry/base/errors.h>

static int special_open(struct fs_node *node, uint32_t flags, struct fs_file **ret_file)
{
	struct tmpfs_node *n = tmpfs_of(node);
	const struct fs_tmpfs_special *s = n->special.ops;
	return s->open ? s->open(node, n->special.data, flags, ret_file) : -WH_ENXIO;
}

static int special_readlink(struct fs_node *node, char *to, uint32_t size)
{
	struct tmpfs_node *n = tmpfs_of(node);
	const struct fs_tmpfs_special *s = n->special.ops;
	return s->readlink ? s->readlink(node, n->special.data, to, size) : -WH_EINVAL;
}

static int special_lookup(struct fs_node *node, struct fs_name name, struct fs_node **ret_node)
{
	struct tmpfs_node *n = tmpfs_of(node);
	const struct fs_tmpfs_special *s = n->special.ops;
	return s->lookup ? s->lookup(node, n->special.data, name, ret_node) : -WH_ENOTDIR;
}

const struct fs_node_ops tmpfs_special_ops = {
	.lookup = special_lookup,
	.parent = tmpfs_parent,
	.open = special_open,
	.stat = tmpfs_stat,
	.setattr = tmpfs_setattr,
	.readlink = special_readlink,
	.statfs = tmpfs_statfs,
	.release = tmpfs_release,
};

int fs_tmpfs_add_special(struct fs_node *dir, struct fs_name name, uint32_t mode, uint64_t rdev,
			 const struct fs_tmpfs_special *special, uint64_t data)
{
	struct tmpfs_node *n = tmpfs_node_new(mode, &tmpfs_special_ops);
	if (!n)
		return -WH_ENOSPC;
	n->special.ops = special;
	n->special.data = data;
	n->special.rdev = rdev;
	int r = tmpfs_dir_find(tmpfs_of(dir), name) ? -WH_EEXIST
						    : tmpfs_dir_add(tmpfs_of(dir), name, n);
	fs_node_unref(&n->node);
	return r;
}
