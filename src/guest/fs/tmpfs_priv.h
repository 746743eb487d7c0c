/* SPDX-License-Identifier: ISC */
#ifndef FS_TMPFS_PRIV_H
#define FS_TMPFS_PRIV_H

#include <fs/tmpfs.h>

struct tmpfs_node;

struct tmpfs_entry {
	struct wh_list order; /* in the directory's list, by cookie */
	struct tmpfs_entry *chain;
	struct tmpfs_node *dir;
	struct tmpfs_node *node; /* a reference */
	uint64_t cookie;         /* never used twice in a directory: getdents' position */
	uint32_t hash;
	uint32_t name_size;
	char name[];
};

struct tmpfs_dir {
	struct wh_list order;
	struct tmpfs_entry **bucket;
	uint32_t bucket_count; /* power of two, or 0 */
	uint32_t count;
	uint64_t next_cookie;
	fs_tmpfs_fill fill;
	uint64_t fill_data;
};

struct tmpfs_file {
	uint64_t size;
	const uint8_t *base; /* borrowed first contents */
	uint64_t base_size;  /* how much of it still counts */
	uint8_t **page;      /* NULL entries: base, then zeroes */
	uint32_t page_max;   /* entries of `page` */
	uint32_t page_count; /* allocated pages */
};

struct tmpfs_node {
	struct fs_node node;
	uint32_t nlink, uid, gid;
	uint64_t atime_ns, mtime_ns, ctime_ns;
	struct tmpfs_entry *entry; /* a name of it, NULL = none */
	union {
		struct tmpfs_dir dir;
		struct tmpfs_file file;
		struct {
			char *target;
			uint32_t size;
		} link;
		struct {
			const struct fs_tmpfs_special *ops;
			uint64_t data, rdev;
		} special;
	};
};

static inline struct tmpfs_node *tmpfs_of(struct fs_node *n)
{
	return WH_CONTAINER_OF(n, struct tmpfs_node, node);
}

extern struct fs_super tmpfs_super;
extern const struct fs_node_ops tmpfs_dir_ops, tmpfs_file_ops, tmpfs_link_ops, tmpfs_special_ops;

struct tmpfs_node *tmpfs_node_new(uint32_t mode, const struct fs_node_ops *ops);
void tmpfs_touch(struct tmpfs_node *n); /* contents changed: mtime, ctime */
int tmpfs_stat(struct fs_node *n, struct fs_stat *st);
int tmpfs_setattr(struct fs_node *n, const struct fs_setattr *set);
int tmpfs_statfs(struct fs_node *n, struct fs_statfs *st);
void tmpfs_release(struct fs_node *n);
struct fs_node *tmpfs_parent(struct fs_node *n, struct fs_name *ret_name);

/* tmpfs_file.c */
extern uint64_t tmpfs_pages_used;
int tmpfs_file_open(struct fs_node *n, uint32_t flags, struct fs_file **ret_file);
int tmpfs_file_resize(struct tmpfs_node *n, uint64_t size);
void tmpfs_file_fini(struct tmpfs_node *n);

/* tmpfs_dir.c */
void tmpfs_dir_init(struct tmpfs_dir *d);
void tmpfs_dir_fini(struct tmpfs_dir *d); /* of an empty one */
int tmpfs_dir_open(struct fs_node *n, uint32_t flags, struct fs_file **ret_file);
struct tmpfs_entry *tmpfs_dir_find(struct tmpfs_node *dir, struct fs_name name);
int tmpfs_dir_add(struct tmpfs_node *dir, struct fs_name name, struct tmpfs_node *n);
void tmpfs_dir_remove(struct tmpfs_entry *e); /* gives its reference up */

#endif
