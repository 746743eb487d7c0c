/* SPDX-License-Identifier: ISC */
#ifndef FS_P9_PRIV_H
#define FS_P9_PRIV_H

#include <drv/p9.h>
#include <fs/vfs.h>

struct p9_node {
	struct fs_node node;
	struct p9_node *parent; /* a reference; NULL = the root */
	uint32_t fid;
	bool has_fid;
	bool opened; /* fid is that of an open file */
	uint32_t name_size;
	char name[];
};

struct p9_mount {
	struct fs_super super;
	struct drv_p9 *dev;
	struct p9_node root; /* without a name */
};

static inline struct p9_node *p9_of(struct fs_node *n)
{
	return WH_CONTAINER_OF(n, struct p9_node, node);
}

static inline struct drv_p9 *p9_dev(const struct p9_node *n)
{
	return WH_CONTAINER_OF(n->node.super, struct p9_mount, super)->dev;
}

/* One exchange without payload or long strings. */
int p9_call(struct p9_node *n, struct wh_p9_msg *t, struct wh_p9_msg *ret_r);

struct p9_mount *p9_mount_new(struct drv_p9 *dev, const char *tag, bool read_only);

/* An open file on `fid`; `own`: it is clunked with the file, else it is the node's. */
int p9_file_new(struct p9_node *n, uint32_t fid, bool own, uint32_t flags,
		struct fs_file **ret_file);

#endif
