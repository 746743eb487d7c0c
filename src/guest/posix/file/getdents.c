/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/file.h>
#include <posix/file.h>

long wh_sys_getdents64(int fd, void *buffer, unsigned size)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	if (!f->ops->getdents)
		return -WH_ENOTDIR;
	if (!kern_user_writable(buffer, size))
		return -WH_EFAULT;
	fs_file_ref(f);
	int r = f->ops->getdents(f, buffer, size);
	fs_file_unref(f);
	return r;
}
