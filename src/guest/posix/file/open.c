/* SPDX-License-Identifier: ISC */
#include <fs/vfs.h>
#include <posix/file.h>

long wh_sys_openat(int dirfd, const char *path, int flags, uint32_t mode)
{
	struct fs_file *f;
	int r = fs_open(dirfd, path, (uint32_t)flags, mode, &f);
	if (r < 0)
		return r;
	r = fs_fd_install(f, 0, (uint32_t)flags & LX_O_CLOEXEC);
	if (r < 0)
		fs_file_unref(f);
	return r;
}

long wh_sys_open(const char *path, int flags, uint32_t mode)
{
	return wh_sys_openat(LX_AT_FDCWD, path, flags, mode);
}

long wh_sys_creat(const char *path, uint32_t mode)
{
	return wh_sys_openat(LX_AT_FDCWD, path, LX_O_CREAT | LX_O_WRONLY | LX_O_TRUNC, mode);
}
