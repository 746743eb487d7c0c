/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/file.h>
#include <kern/signal.h>
#include <posix/file.h>

static long write_at(int fd, const void *buffer, size_t size, const uint64_t *offset)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	if (size > LX_RW_MAX)
		size = LX_RW_MAX;
	if (size && !kern_user_readable(buffer, size))
		return -WH_EFAULT;
	struct wh_iov iov = { (void *)(uintptr_t)buffer, size };
	return fs_file_write(f, &iov, 1, offset);
}

long wh_sys_write(int fd, const void *buffer, size_t size)
{
	long r;
	do
		r = write_at(fd, buffer, size, NULL);
	while (kern_signal_again(r));
	return r;
}

long wh_sys_pwrite64(int fd, const void *buffer, size_t size, int64_t offset)
{
	uint64_t at = (uint64_t)offset;
	return offset < 0 ? -WH_EINVAL : write_at(fd, buffer, size, &at);
}
