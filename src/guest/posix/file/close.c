/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <posix/file.h>

long wh_sys_close(int fd)
{
	return fs_fd_close(fd);
}
