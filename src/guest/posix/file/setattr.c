/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>

int posix_setattr_at(int dirfd, const char *path, bool follow, bool empty,
		     const struct fs_setattr *set)
{
	struct fs_path p;
	int r = fs_walk_at(dirfd, path, follow ? FS_WALK_FOLLOW : 0, empty, &p);
	if (r < 0)
		return r;
	r = fs_node_setattr(p.node, set);
	fs_path_fini(&p);
	return r;
}

int posix_setattr_fd(int fd, const struct fs_setattr *set)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f || (f->flags & LX_O_PATH))
		return -WH_EBADF;
	if (!f->node)
		return 0; /* pipes and sockets keep no attributes: accepted without effect */
	fs_file_ref(f);
	int r = fs_node_setattr(f->node, set);
	fs_file_unref(f);
	return r;
}
