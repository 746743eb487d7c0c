/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

static long statfs_of(struct fs_node *n, struct fs_statfs *st)
{
	if (!kern_user_writable(st, sizeof *st))
		return -WH_EFAULT;
	memset(st, 0, sizeof *st);
	st->namelen = LX_NAME_MAX;
	st->bsize = st->frsize = 4096;
	return n && n->ops->statfs ? n->ops->statfs(n, st) : 0;
}

long wh_sys_statfs(const char *path, struct fs_statfs *st)
{
	struct fs_path p;
	int r = fs_walk_at(LX_AT_FDCWD, path, FS_WALK_FOLLOW, false, &p);
	if (r < 0)
		return r;
	long result = statfs_of(p.node, st);
	fs_path_fini(&p);
	return result;
}

long wh_sys_fstatfs(int fd, struct fs_statfs *st)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	fs_file_ref(f);
	long r = statfs_of(f->node, st);
	fs_file_unref(f);
	return r;
}
