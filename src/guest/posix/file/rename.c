/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

static int rename_paths(struct fs_path *a, struct fs_path *b, unsigned flags)
{
	if (a->dir->super != b->dir->super)
		return -WH_EXDEV;
	if (!a->last.size || !b->last.size || fs_name_dots(a->last) || fs_name_dots(b->last))
		return -WH_EBUSY;
	if (a->dir->super->read_only)
		return -WH_EROFS;
	if (!a->dir->ops->rename || a->dir->ops->rename != b->dir->ops->rename)
		return fs_edit_refused(a);
	if (a->slash || b->slash) { /* then what is moved has to be a directory */
		struct fs_node *n;
		int r = a->dir->ops->lookup(a->dir, a->last, &n);
		if (r < 0)
			return r;
		bool is_dir = fs_node_is(n, LX_S_IFDIR);
		fs_node_unref(n);
		if (!is_dir)
			return -WH_ENOTDIR;
	}
	return a->dir->ops->rename(a->dir, a->last, b->dir, b->last, flags);
}

long wh_sys_renameat2(int from_dirfd, const char *from, int to_dirfd, const char *to,
		      unsigned flags)
{
	struct fs_path a, b;
	if (flags & ~(FS_RENAME_NOREPLACE | FS_RENAME_EXCHANGE) ||
	    flags == (FS_RENAME_NOREPLACE | FS_RENAME_EXCHANGE))
		return -WH_EINVAL;
	int r = fs_walk_at(from_dirfd, from, FS_WALK_PARENT, false, &a);
	if (r < 0)
		return r;
	r = fs_walk_at(to_dirfd, to, FS_WALK_PARENT, false, &b);
	if (r >= 0) {
		r = rename_paths(&a, &b, flags);
		fs_path_fini(&b);
	}
	fs_path_fini(&a);
	return r;
}

long wh_sys_renameat(int from_dirfd, const char *from, int to_dirfd, const char *to)
{
	return wh_sys_renameat2(from_dirfd, from, to_dirfd, to, 0);
}

long wh_sys_rename(const char *from, const char *to)
{
	return wh_sys_renameat2(LX_AT_FDCWD, from, LX_AT_FDCWD, to, 0);
}
