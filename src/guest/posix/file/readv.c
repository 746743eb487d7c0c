/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/file.h>
#include <kern/signal.h>
#include <posix/file.h>

static long readv_at(int fd, const struct wh_iov *iov, int count, const uint64_t *offset)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	int r = posix_iov_check(iov, count, true);
	return r < 0 ? r : fs_file_read(f, iov, count, offset);
}

long wh_sys_readv(int fd, const struct wh_iov *iov, int count)
{
	long r;
	do
		r = readv_at(fd, iov, count, NULL);
	while (kern_signal_again(r));
	return r;
}

long wh_sys_preadv(int fd, const struct wh_iov *iov, int count, int64_t offset)
{
	uint64_t at = (uint64_t)offset;
	return offset < 0 ? -WH_EINVAL : readv_at(fd, iov, count, &at);
}

long wh_sys_preadv2(int fd, const struct wh_iov *iov, int count, int64_t offset, long high,
		    int flags)
{
	(void)high;
	if (flags)
		return -WH_EOPNOTSUPP;
	return offset == -1 ? readv_at(fd, iov, count, NULL)
			    : wh_sys_preadv(fd, iov, count, offset);
}
