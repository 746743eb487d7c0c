/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/file.h>
#include <posix/file.h>

long wh_sys_fallocate(int fd, int mode, int64_t offset, int64_t size)
{
	struct fs_file *f = fs_fd_get(fd);
	int64_t end;
	if (!f || (f->flags & LX_O_ACCMODE) == LX_O_RDONLY)
		return -WH_EBADF;
	if (offset < 0 || size <= 0)
		return -WH_EINVAL;
	if (__builtin_add_overflow(offset, size, &end))
		return -WH_EFBIG;
	if (!f->ops->allocate)
		return f->ops->seekable ? -WH_EOPNOTSUPP : -WH_ESPIPE;
	fs_file_ref(f);
	int r = f->ops->allocate(f, mode, (uint64_t)offset, (uint64_t)size);
	fs_file_unref(f);
	return r;
}
