/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/file.h>
#include <posix/file.h>

long wh_sys_ftruncate(int fd, int64_t size)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	if (size < 0 || (f->flags & LX_O_ACCMODE) == LX_O_RDONLY || !f->ops->truncate)
		return -WH_EINVAL;
	fs_file_ref(f);
	int r = f->ops->truncate(f, (uint64_t)size);
	fs_file_unref(f);
	return r;
}
