/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

/* "name/" asks for a directory, and unlink does not remove those. */
static int refuse_slash(struct fs_path *p)
{
	struct fs_node *n;
	if (!p->dir->ops->lookup)
		return -WH_ENOTDIR;
	int r = p->dir->ops->lookup(p->dir, p->last, &n);
	if (r < 0)
		return r;
	r = fs_node_is(n, LX_S_IFDIR) ? -WH_EISDIR : -WH_ENOTDIR;
	fs_node_unref(n);
	return r;
}

static long unlink_at(int dirfd, const char *path)
{
	struct fs_path p;
	int r = fs_walk_edit(dirfd, path, -WH_EISDIR, &p);
	if (r < 0)
		return r;
	if (p.slash)
		r = refuse_slash(&p);
	else
		r = p.dir->ops->unlink ? p.dir->ops->unlink(p.dir, p.last, false)
				       : fs_edit_refused(&p);
	fs_path_fini(&p);
	return r;
}

static long rmdir_at(int dirfd, const char *path)
{
	struct fs_path p;
	int r = fs_walk_edit(dirfd, path, 0, &p);
	if (r < 0)
		return r;
	r = p.dir->ops->unlink ? p.dir->ops->unlink(p.dir, p.last, true) : fs_edit_refused(&p);
	fs_path_fini(&p);
	return r;
}

long wh_sys_unlink(const char *path)
{
	return unlink_at(LX_AT_FDCWD, path);
}

long wh_sys_rmdir(const char *path)
{
	return rmdir_at(LX_AT_FDCWD, path);
}

long wh_sys_unlinkat(int dirfd, const char *path, int flags)
{
	if (flags & ~LX_AT_REMOVEDIR)
		return -WH_EINVAL;
	return flags ? rmdir_at(dirfd, path) : unlink_at(dirfd, path);
}
