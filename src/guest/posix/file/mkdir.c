/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

long wh_sys_mkdirat(int dirfd, const char *path, uint32_t mode)
{
	struct fs_path p;
	int r = fs_walk_edit(dirfd, path, -WH_EEXIST, &p);
	if (r < 0)
		return r;
	r = p.dir->ops->mkdir ? p.dir->ops->mkdir(p.dir, p.last, mode & ~fs_umask & 01777)
			      : fs_edit_refused(&p);
	fs_path_fini(&p);
	return r;
}

long wh_sys_mkdir(const char *path, uint32_t mode)
{
	return wh_sys_mkdirat(LX_AT_FDCWD, path, mode);
}
