/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <kern/mem.h>
#include <posix/file.h>
#include <wherry/base/errors.h>

long wh_sys_fstat(int fd, struct fs_stat *st)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	if (!kern_user_writable(st, sizeof *st))
		return -WH_EFAULT;
	return fs_file_stat(f, st);
}
