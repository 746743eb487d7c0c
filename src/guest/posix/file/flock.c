/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <posix/file.h>
#include <wherry/base/errors.h>

/* One process: nobody else can hold the lock. */
long wh_sys_flock(int fd, int operation)
{
	(void)operation;
	return fs_fd_get(fd) ? 0 : -WH_EBADF;
}
