/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/file.h>
#include <kern/signal.h>
#include <posix/file.h>

static long writev_at(int fd, const struct wh_iov *iov, int count, const uint64_t *offset)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	int r = posix_iov_check(iov, count, false);
	return r < 0 ? r : fs_file_write(f, iov, count, offset);
}

long wh_sys_writev(int fd, const struct wh_iov *iov, int count)
{
	long r;
	do
		r = writev_at(fd, iov, count, NULL);
	while (kern_signal_again(r));
	return r;
}

long wh_sys_pwritev(int fd, const struct wh_iov *iov, int count, int64_t offset)
{
	uint64_t at = (uint64_t)offset;
	return offset < 0 ? -WH_EINVAL : writev_at(fd, iov, count, &at);
}

long wh_sys_pwritev2(int fd, const struct wh_iov *iov, int count, int64_t offset, long high,
		     int flags)
{
	(void)high;
	if (flags)
		return -WH_EOPNOTSUPP;
	return offset == -1 ? writev_at(fd, iov, count, NULL)
			    : wh_sys_pwritev(fd, iov, count, offset);
}
