/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

static long stat_at(int dirfd, const char *path, struct fs_stat *st, int flags)
{
	struct fs_path p;
	uint32_t walk = flags & LX_AT_SYMLINK_NOFOLLOW ? 0 : FS_WALK_FOLLOW;
	if (!kern_user_writable(st, sizeof *st))
		return -WH_EFAULT;
	int r = fs_walk_at(dirfd, path, walk, false, &p);
	if (r < 0)
		return r;
	r = fs_node_stat(p.node, st);
	fs_path_fini(&p);
	return r;
}

long wh_sys_stat(const char *path, struct fs_stat *st)
{
	return stat_at(LX_AT_FDCWD, path, st, 0);
}

long wh_sys_lstat(const char *path, struct fs_stat *st)
{
	return stat_at(LX_AT_FDCWD, path, st, LX_AT_SYMLINK_NOFOLLOW);
}

long wh_sys_newfstatat(int dirfd, const char *path, struct fs_stat *st, int flags)
{
	if (flags & ~(LX_AT_SYMLINK_NOFOLLOW | LX_AT_NO_AUTOMOUNT | LX_AT_EMPTY_PATH))
		return -WH_EINVAL;
	if ((flags & LX_AT_EMPTY_PATH) && dirfd != LX_AT_FDCWD && fs_path_check(path) == 0)
		return wh_sys_fstat(dirfd, st);
	if ((flags & LX_AT_EMPTY_PATH) && fs_path_check(path) == 0)
		return stat_at(dirfd, ".", st, 0);
	return stat_at(dirfd, path, st, flags);
}
