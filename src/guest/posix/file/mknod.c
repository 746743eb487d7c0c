/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

/* Regular files only: devices are the machine's, and there is nobody at a named pipe's other end. */
long wh_sys_mknodat(int dirfd, const char *path, uint32_t mode, uint64_t device)
{
	struct fs_file *f;
	uint32_t type = mode & LX_S_IFMT;
	(void)device;
	if (type && type != LX_S_IFREG)
		return type == LX_S_IFDIR ? -WH_EINVAL : -WH_EPERM;
	int r = fs_open(dirfd, path, LX_O_CREAT | LX_O_EXCL | LX_O_WRONLY, mode, &f);
	if (r >= 0)
		fs_file_unref(f);
	return r == -WH_EISDIR ? -WH_ENOENT : r;
}

long wh_sys_mknod(const char *path, uint32_t mode, uint64_t device)
{
	return wh_sys_mknodat(LX_AT_FDCWD, path, mode, device);
}
