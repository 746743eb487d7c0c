/* SPDX-License-Identifier: ISC */
#ifndef FS_ROOT_PRIV_H
#define FS_ROOT_PRIV_H

/* What the root directory is filled with. */

#include <fs/tmpfs.h>

void fs_archive_root(struct fs_node *root);
void fs_archive_fill(struct fs_node *dir, uint64_t index);
void fs_dev_fill(struct fs_node *dir, uint64_t data);
void fs_proc_fill(struct fs_node *dir, uint64_t data);
void fs_etc_fill(struct fs_node *dir, uint64_t data);

int fs_block_open(struct fs_node *n, uint64_t data, uint32_t flags, struct fs_file **ret_file);

extern int (*const fs_root_units[])(void);

/* Links to open files: /proc/self/fd. */
extern const struct fs_tmpfs_special fs_fdlink_dir;

#endif
