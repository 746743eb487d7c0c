/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/tmpfs.h>
#include <posix/file.h>

#define MFD_CLOEXEC 1u
#define MFD_ALLOW_SEALING 2u

long wh_sys_memfd_create(const char *name, unsigned flags)
{
	struct fs_node *n;
	struct fs_file *f;
	int r = fs_path_check(name);
	if (r < 0)
		return r;
	if (flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING))
		return -WH_EINVAL;
	r = fs_tmpfs_nameless(0777, &n);
	if (r < 0)
		return r;
	r = n->ops->open(n, LX_O_RDWR, &f);
	fs_node_unref(n);
	if (r < 0)
		return r;
	r = fs_fd_install(f, 0, flags & MFD_CLOEXEC);
	if (r < 0)
		fs_file_unref(f);
	return r;
}
