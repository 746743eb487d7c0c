/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <posix/file.h>
#include <wherry/base/errors.h>

#define CLOSE_RANGE_UNSHARE 2u
#define CLOSE_RANGE_CLOEXEC 4u

long wh_sys_close_range(unsigned first, unsigned last, unsigned flags)
{
	if (flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) || first > last)
		return -WH_EINVAL;
	if (first > FS_FDS_MAX)
		return 0;
	for (int fd = fs_fd_next((int)first); fd >= 0 && (unsigned)fd <= last;
	     fd = fs_fd_next(fd + 1)) {
		if (flags & CLOSE_RANGE_CLOEXEC)
			fs_fd_set_cloexec(fd, true);
		else
			(void)fs_fd_close(fd); /* open: fs_fd_next said so */
	}
	return 0;
}
