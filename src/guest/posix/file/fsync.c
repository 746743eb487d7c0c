/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/file.h>
#include <posix/file.h>

static long sync_file(int fd, bool data_only)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	if (!f->ops->sync)
		return -WH_EINVAL;
	fs_file_ref(f);
	int r = f->ops->sync(f, data_only);
	fs_file_unref(f);
	return r;
}

long wh_sys_fsync(int fd)
{
	return sync_file(fd, false);
}

long wh_sys_fdatasync(int fd)
{
	return sync_file(fd, true);
}

long wh_sys_sync_file_range(int fd, int64_t offset, int64_t size, unsigned flags)
{
	return flags & ~7u || offset < 0 || size < 0 ? -WH_EINVAL : sync_file(fd, true);
}
