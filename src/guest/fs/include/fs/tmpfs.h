/* SPDX-License-Identifier: ISC */
#ifndef FS_TMPFS_H
#define FS_TMPFS_H

/*
 * The root file system: everything in memory. Three things make it do for the
 * archive, /dev and /proc too:
 *
 *  - a directory may have a `fill` function, called before anything first
 *    looks into it, which adds entries;
 *  - a file may begin as borrowed bytes (the archive's); a page is copied when
 *    it is first written;
 *  - a special node opens and reads through functions of its owner.
 *
 * Limits: contents may take half of the guest's memory (-WH_ENOSPC).
 */

#include <fs/vfs.h>

struct fs_tmpfs_special {
	int (*open)(struct fs_node *n, uint64_t data, uint32_t flags, struct fs_file **ret_file);
	int (*readlink)(struct fs_node *n, uint64_t data, char *to, uint32_t size);
	int (*lookup)(struct fs_node *n, uint64_t data, struct fs_name name,
		      struct fs_node **ret_node);
};

typedef void (*fs_tmpfs_fill)(struct fs_node *dir, uint64_t data);

/* The root's super, made once; its root directory has fs_root_fill. */
struct fs_super *fs_tmpfs_root(void);
void fs_root_fill(struct fs_node *dir, uint64_t data);

/* Add an entry to a directory: 0, -WH_EEXIST, -WH_ENOSPC. */
int fs_tmpfs_add_dir(struct fs_node *dir, struct fs_name name, uint32_t mode, fs_tmpfs_fill fill,
		     uint64_t data);
/* `bytes` stay the caller's and must stay for ever. */
int fs_tmpfs_add_file(struct fs_node *dir, struct fs_name name, uint32_t mode, const void *bytes,
		      uint64_t size, uint64_t mtime);
int fs_tmpfs_add_link(struct fs_node *dir, struct fs_name name, struct fs_name target);
/* mode with its type: character device, block device, link, directory or regular file. */
int fs_tmpfs_add_special(struct fs_node *dir, struct fs_name name, uint32_t mode, uint64_t rdev,
			 const struct fs_tmpfs_special *special, uint64_t data);

/* A nameless empty file (memfd). */
int fs_tmpfs_nameless(uint32_t mode, struct fs_node **ret_node);

static inline struct fs_name fs_name_of(const char *text)
{
	return (struct fs_name){ text, (uint32_t)wh_strlen(text) };
}

#endif
