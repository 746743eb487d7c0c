/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

static int link_node(struct fs_node *old, struct fs_path *to)
{
	if (old->super != to->dir->super)
		return -WH_EXDEV;
	if (!to->dir->ops->link)
		return fs_edit_refused(to);
	if (to->slash)
		return fs_edit_slash(to);
	if (fs_node_is(old, LX_S_IFDIR))
		return fs_edit_slash(to) == -WH_EEXIST ? -WH_EEXIST : -WH_EPERM;
	return to->dir->ops->link(to->dir, to->last, old);
}

long wh_sys_linkat(int from_dirfd, const char *from, int to_dirfd, const char *to, int flags)
{
	struct fs_path a, b;
	if (flags & ~(LX_AT_SYMLINK_FOLLOW | LX_AT_EMPTY_PATH))
		return -WH_EINVAL;
	int r = fs_walk_at(from_dirfd, from, flags & LX_AT_SYMLINK_FOLLOW ? FS_WALK_FOLLOW : 0,
			   flags & LX_AT_EMPTY_PATH, &a);
	if (r < 0)
		return r;
	r = fs_walk_edit(to_dirfd, to, -WH_EEXIST, &b);
	if (r >= 0) {
		r = link_node(a.node, &b);
		fs_path_fini(&b);
	}
	fs_path_fini(&a);
	return r;
}

long wh_sys_link(const char *from, const char *to)
{
	return wh_sys_linkat(LX_AT_FDCWD, from, LX_AT_FDCWD, to, 0);
}
