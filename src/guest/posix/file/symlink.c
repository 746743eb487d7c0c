/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

long wh_sys_symlinkat(const char *target, int dirfd, const char *path)
{
	struct fs_path p;
	int size = fs_path_check(target);
	if (size <= 0)
		return size < 0 ? size : -WH_ENOENT;
	int r = fs_walk_edit(dirfd, path, -WH_EEXIST, &p);
	if (r < 0)
		return r;
	struct fs_name name = { target, (uint32_t)size };
	if (p.slash)
		r = fs_edit_slash(&p);
	else
		r = p.dir->ops->symlink ? p.dir->ops->symlink(p.dir, p.last, name)
					: fs_edit_refused(&p);
	fs_path_fini(&p);
	return r;
}

long wh_sys_symlink(const char *target, const char *path)
{
	return wh_sys_symlinkat(target, LX_AT_FDCWD, path);
}
