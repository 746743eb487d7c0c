/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <posix/file.h>
#include <wherry/base/errors.h>

static long dup_to(int fd, int to, bool cloexec)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f || to < 0)
		return -WH_EBADF;
	fs_file_ref(f);
	int r = fs_fd_replace(f, to, cloexec);
	if (r < 0)
		fs_file_unref(f);
	return r;
}

long wh_sys_dup2(int fd, int to)
{
	if (fd == to)
		return fs_fd_get(fd) ? to : -WH_EBADF;
	return dup_to(fd, to, false);
}

long wh_sys_dup3(int fd, int to, int flags)
{
	if (fd == to || (uint32_t)flags & ~LX_O_CLOEXEC)
		return -WH_EINVAL;
	return dup_to(fd, to, flags);
}
