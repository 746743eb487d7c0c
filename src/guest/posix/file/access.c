/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

#define R_OK 4
#define W_OK 2
#define X_OK 1

/* User 0: everything may be read and written, and executed when anybody may. */
static int check(struct fs_node *n, int mode)
{
	struct fs_stat st;
	if ((mode & W_OK) && n->super->read_only)
		return -WH_EROFS;
	if (!(mode & X_OK))
		return 0;
	int r = fs_node_stat(n, &st);
	if (r < 0)
		return r;
	return st.mode & 0111 || fs_node_is(n, LX_S_IFDIR) ? 0 : -WH_EACCES;
}

long wh_sys_faccessat2(int dirfd, const char *path, int mode, int flags)
{
	struct fs_path p;
	if (mode & ~(R_OK | W_OK | X_OK) ||
	    flags & ~(LX_AT_EACCESS | LX_AT_SYMLINK_NOFOLLOW | LX_AT_EMPTY_PATH))
		return -WH_EINVAL;
	int r = fs_walk_at(dirfd, path, flags & LX_AT_SYMLINK_NOFOLLOW ? 0 : FS_WALK_FOLLOW,
			   flags & LX_AT_EMPTY_PATH, &p);
	if (r < 0)
		return r;
	r = check(p.node, mode);
	fs_path_fini(&p);
	return r;
}

long wh_sys_faccessat(int dirfd, const char *path, int mode)
{
	return wh_sys_faccessat2(dirfd, path, mode, 0);
}

long wh_sys_access(const char *path, int mode)
{
	return wh_sys_faccessat2(LX_AT_FDCWD, path, mode, 0);
}
