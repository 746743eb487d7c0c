/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

long wh_sys_chdir(const char *path)
{
	struct fs_path p;
	int r = fs_walk_at(LX_AT_FDCWD, path, FS_WALK_FOLLOW, false, &p);
	if (r < 0)
		return r;
	if (fs_node_is(p.node, LX_S_IFDIR)) {
		fs_cwd_set(p.node);
		p.node = NULL;
	} else {
		r = -WH_ENOTDIR;
	}
	fs_path_fini(&p);
	return r;
}

long wh_sys_fchdir(int fd)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	if (!f->node || !fs_node_is(f->node, LX_S_IFDIR))
		return -WH_ENOTDIR;
	fs_node_ref(f->node);
	fs_cwd_set(f->node);
	return 0;
}
