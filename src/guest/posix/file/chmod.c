/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <posix/file.h>

long wh_sys_fchmodat(int dirfd, const char *path, uint32_t mode)
{
	struct fs_setattr set = { .mask = FS_SET_MODE, .mode = mode & 07777 };
	return posix_setattr_at(dirfd, path, true, false, &set);
}

long wh_sys_fchmodat2(int dirfd, const char *path, uint32_t mode, int flags)
{
	struct fs_setattr set = { .mask = FS_SET_MODE, .mode = mode & 07777 };
	if (flags & ~(LX_AT_SYMLINK_NOFOLLOW | LX_AT_EMPTY_PATH))
		return -WH_EINVAL;
	if (flags & LX_AT_SYMLINK_NOFOLLOW)
		return -WH_EOPNOTSUPP; /* as Linux: links have no mode */
	return posix_setattr_at(dirfd, path, true, flags & LX_AT_EMPTY_PATH, &set);
}

long wh_sys_chmod(const char *path, uint32_t mode)
{
	return wh_sys_fchmodat(LX_AT_FDCWD, path, mode);
}

long wh_sys_fchmod(int fd, uint32_t mode)
{
	struct fs_setattr set = { .mask = FS_SET_MODE, .mode = mode & 07777 };
	return posix_setattr_fd(fd, &set);
}
