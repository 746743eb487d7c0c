/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <posix/file.h>
#include <wherry/base/errors.h>

long wh_sys_dup(int fd)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	fs_file_ref(f);
	int r = fs_fd_install(f, 0, false);
	if (r < 0)
		fs_file_unref(f);
	return r;
}
