/* SPDX-License-Identifier: ISC */
#ifndef FS_VFS_H
#define FS_VFS_H

/*
 * The tree of names. A node is a file, directory, link or device of some file
 * system; names are looked up component by component through the directory's
 * operations, nothing is cached above them. All of it runs as user 0: the
 * only permission that is checked is a file system's being read-only; what
 * lies on a host is checked there.
 *
 * Root is a tmpfs (fs/tmpfs.h) that fills its directories from the embedded
 * archive, /dev and /proc when they are first looked into. Others are
 * mounted over a directory.
 *
 * References: a function that gives a node (ret_node, fs_root) gives a reference.
 * Names are (pointer, size) and not terminated.
 */

#include <stdbool.h>
#include <stdint.h>
#include <fs/file.h>
#include <fs/linux.h>
#include <fs/stat.h>
#include <wherry/base/errors.h>

struct fs_statfs { /* struct statfs, x86_64 */
	int64_t type, bsize;
	uint64_t blocks, bfree, bavail, files, ffree;
	int32_t fsid[2];
	int64_t namelen, frsize, flags, spare[4];
};

#define FS_SET_MODE 1u
#define FS_SET_UID 2u
#define FS_SET_GID 4u
#define FS_SET_SIZE 8u
#define FS_SET_ATIME 16u
#define FS_SET_MTIME 32u

struct fs_setattr {
	uint32_t mask; /* FS_SET_* */
	uint32_t mode, uid, gid;
	uint64_t size;
	struct lx_timespec atime, mtime;
};

#define FS_RENAME_NOREPLACE 1u
#define FS_RENAME_EXCHANGE 2u

struct fs_name {
	const char *text;
	uint32_t size; /* 1..LX_NAME_MAX; never "." or ".." */
};

/* 1 for ".", 2 for "..", else 0. */
static inline uint32_t fs_name_dots(struct fs_name n)
{
	bool dots = n.size && n.size <= 2 && n.text[0] == '.' && n.text[n.size - 1] == '.';
	return dots ? n.size : 0;
}

/* NULL = the error beside it. Mutating operations are not called on a read-only file
 * system, and both nodes of a call belong to the same one. */
struct fs_node_ops {
	/* Directories: -ENOTDIR when NULL. */
	int (*lookup)(struct fs_node *dir, struct fs_name name, struct fs_node **ret_node);
	/* Makes a regular file and opens it; -EEXIST. */
	int (*create)(struct fs_node *dir, struct fs_name name, uint32_t flags, uint32_t mode,
		      struct fs_file **ret_file);
	int (*mkdir)(struct fs_node *dir, struct fs_name name, uint32_t mode);
	int (*symlink)(struct fs_node *dir, struct fs_name name, struct fs_name target);
	int (*link)(struct fs_node *dir, struct fs_name name, struct fs_node *old);
	int (*unlink)(struct fs_node *dir, struct fs_name name, bool directory);
	int (*rename)(struct fs_node *dir, struct fs_name name, struct fs_node *new_dir,
		      struct fs_name new_name, uint32_t flags);
	/* The directory that holds this node and its name there; NULL when it has no name
	 * any more. Borrowed, valid until the next operation. */
	struct fs_node *(*parent)(struct fs_node *node, struct fs_name *ret_name);
	/* All nodes. */
	int (*open)(struct fs_node *node, uint32_t flags, struct fs_file **ret_file);
	int (*stat)(struct fs_node *node, struct fs_stat *ret_stat);        /* zeroed before */
	int (*setattr)(struct fs_node *node, const struct fs_setattr *set); /* -EPERM */
	int (*readlink)(struct fs_node *node, char *to, uint32_t size);     /* -EINVAL */
	int (*statfs)(struct fs_node *node, struct fs_statfs *ret_stat);    /* zeroed before */
	/* A link that leads to a node instead of a path (/proc/self/fd). */
	int (*jump)(struct fs_node *node, struct fs_node **ret_node);
	void (*release)(struct fs_node *node); /* last reference */
};

/* A mounted file system. */
struct fs_super {
	struct fs_super *next;
	struct fs_node *root;
	struct fs_node *covered; /* the directory it is mounted on; NULL for the root */
	const char *type;        /* for /proc/mounts */
	const char *source;
	uint32_t dev;       /* st_dev */
	uint32_t mounts_on; /* how many are mounted on nodes of this one */
	bool read_only;
	bool open_truncates;                  /* open() itself does O_TRUNC */
	void (*sync)(struct fs_super *super); /* NULL: nothing to write back */
};

struct fs_node {
	const struct fs_node_ops *ops;
	struct fs_super *super;
	uint32_t refs;
	uint32_t mode; /* file type and, where the file system keeps it here, permissions */
	uint64_t ino;  /* tells nodes of one file system apart */
};

static inline void fs_node_ref(struct fs_node *n)
{
	n->refs++;
}

void fs_node_unref(struct fs_node *n); /* NULL allowed */

static inline bool fs_node_is(const struct fs_node *n, uint32_t type)
{
	return (n->mode & LX_S_IFMT) == type;
}

/* ---- the tree ---- */

extern struct fs_super *fs_supers; /* the root first */
extern uint32_t fs_umask;

int fs_root_init(void); /* called by fs_init when linked */
struct fs_node *fs_root(void);
struct fs_node *fs_cwd(void);
void fs_cwd_set(struct fs_node *dir); /* takes the reference */

/* Mounts `super` on the directory at `path`, which is made if it is missing. */
int fs_mount(struct fs_super *super, const char *path);

/* Absolute path of a node, NUL-terminated; length without NUL, -WH_ERANGE, -WH_ENOENT. */
int fs_node_path(struct fs_node *n, char *to, uint32_t size);

/* ---- walking ---- */

#define FS_WALK_FOLLOW 1u  /* follow a link in the last component */
#define FS_WALK_PARENT 2u  /* do not look the last component up */
#define FS_WALK_MISSING 4u /* a last component that does not exist is no error */

/* Result of a walk; fs_path_fini frees it (also when zeroed). */
struct fs_path {
	struct fs_node *node; /* what was found; NULL with PARENT, or MISSING */
	struct fs_node *dir;  /* with PARENT or MISSING: the directory of the last component */
	struct fs_name
		last; /* with PARENT or MISSING; may be "." or ".."; size 0 = the path was "/" */
	bool slash;   /* the path ended in a slash: it has to be a directory */
	char *links;  /* private */
};

int fs_walk(struct fs_node *start, const char *path, uint32_t flags, struct fs_path *ret_path);
void fs_path_fini(struct fs_path *p);

/* The same for system calls: `dirfd` may be AT_FDCWD; checks that `path` is readable.
 * With `empty` and path "" the result is the descriptor's own node. */
int fs_walk_at(int dirfd, const char *path, uint32_t flags, bool empty, struct fs_path *ret_path);
/* Walks to the parent for making or removing an entry: dir and last are set, last is a
 * proper name, and the file system may be written. `special` is the error for "/", "." and "..";
 * 0: those of rmdir. */
int fs_walk_edit(int dirfd, const char *path, int special, struct fs_path *ret_path);

/* The error when the directory of such a walk has no operation for the job: it is no directory,
 * or one whose entries nobody can change. */
static inline int fs_edit_refused(const struct fs_path *p)
{
	return fs_node_is(p->dir, LX_S_IFDIR) ? -WH_EPERM : -WH_ENOTDIR;
}

/* "name/" where something else than a directory is to be made: -WH_EEXIST or -WH_ENOENT. */
int fs_edit_slash(const struct fs_path *p);

/* Checks a string of the program: its length, or -WH_EFAULT, -WH_ENAMETOOLONG. */
int fs_path_check(const char *path);

int fs_open(int dirfd, const char *path, uint32_t flags, uint32_t mode, struct fs_file **ret_file);
int fs_node_stat(struct fs_node *n, struct fs_stat *ret_stat);
int fs_node_setattr(struct fs_node *n, const struct fs_setattr *set); /* -WH_EROFS */

/* ---- for implementations ---- */

/* Appends a struct linux_dirent64; false when it does not fit. */
bool fs_dirent_put(void *buffer, uint32_t size, uint32_t *used, uint64_t ino, uint64_t cookie,
		   uint32_t mode, struct fs_name name);

/* A file that shows `size` bytes of text; takes `text`, made by kern_alloc(capacity). */
int fs_text_open(struct fs_node *n, char *text, uint32_t size, uint32_t capacity, uint32_t flags,
		 struct fs_file **ret_file);

/* File operations that ask the node: stat, truncate, release. */
int fs_node_file_stat(struct fs_file *f, struct fs_stat *st);
int fs_node_file_truncate(struct fs_file *f, uint64_t size);
void fs_node_file_release(struct fs_file *f); /* for files that are a bare struct fs_file */
/* New bare file on a node, with a reference to it. */
int fs_node_file_new(struct fs_node *n, const struct fs_file_ops *ops, uint32_t flags,
		     struct fs_file **ret_file);

#endif
