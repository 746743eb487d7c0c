/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

long wh_sys_readlinkat(int dirfd, const char *path, char *to, int size)
{
	struct fs_path p;
	if (size <= 0)
		return -WH_EINVAL;
	if (!kern_user_writable(to, (size_t)size))
		return -WH_EFAULT;
	int r = fs_walk_at(dirfd, path, 0, true, &p);
	if (r < 0)
		return r;
	r = p.node->ops->readlink ? p.node->ops->readlink(p.node, to, (uint32_t)size) : -WH_EINVAL;
	fs_path_fini(&p);
	return r;
}

long wh_sys_readlink(const char *path, char *to, int size)
{
	return wh_sys_readlinkat(LX_AT_FDCWD, path, to, size);
}
