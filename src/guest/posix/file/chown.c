/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <posix/file.h>

static struct fs_setattr owner(uint32_t uid, uint32_t gid)
{
	struct fs_setattr set = { .uid = uid, .gid = gid };
	set.mask = (uid == UINT32_MAX ? 0 : FS_SET_UID) | (gid == UINT32_MAX ? 0 : FS_SET_GID);
	return set;
}

long wh_sys_fchownat(int dirfd, const char *path, uint32_t uid, uint32_t gid, int flags)
{
	struct fs_setattr set = owner(uid, gid);
	if (flags & ~(LX_AT_SYMLINK_NOFOLLOW | LX_AT_EMPTY_PATH))
		return -WH_EINVAL;
	return posix_setattr_at(dirfd, path, !(flags & LX_AT_SYMLINK_NOFOLLOW),
				flags & LX_AT_EMPTY_PATH, &set);
}

long wh_sys_chown(const char *path, uint32_t uid, uint32_t gid)
{
	return wh_sys_fchownat(LX_AT_FDCWD, path, uid, gid, 0);
}

long wh_sys_lchown(const char *path, uint32_t uid, uint32_t gid)
{
	return wh_sys_fchownat(LX_AT_FDCWD, path, uid, gid, LX_AT_SYMLINK_NOFOLLOW);
}

long wh_sys_fchown(int fd, uint32_t uid, uint32_t gid)
{
	struct fs_setattr set = owner(uid, gid);
	return posix_setattr_fd(fd, &set);
}
