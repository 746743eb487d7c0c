/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/file.h>
#include <posix/file.h>

/* Nothing is cached: no advice changes anything. */
long wh_sys_fadvise64(int fd, int64_t offset, int64_t size, int advice)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	if (advice < 0 || advice > 5 || size < 0)
		return -WH_EINVAL;
	return f->ops->seekable ? 0 : -WH_ESPIPE;
}

long wh_sys_readahead(int fd, int64_t offset, size_t size)
{
	return fs_fd_get(fd) ? 0 : -WH_EBADF;
}
