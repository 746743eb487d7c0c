/* SPDX-License-Identifier: ISC */
#include <fs/vfs.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <wherry/base/errors.h>

int fs_path_check(const char *path)
{
	/* Page by page: a string may end just before memory does. */
	for (uint32_t n = 0; n < LX_PATH_MAX; n++) {
		if ((!n || !(((uintptr_t)path + n) % KERN_PAGE)) &&
		    !kern_user_readable(path + n, 1))
			return -WH_EFAULT;
		if (!path[n])
			return (int)n;
	}
	return -WH_ENAMETOOLONG;
}

int fs_walk_at(int dirfd, const char *path, uint32_t flags, bool empty, struct fs_path *ret_path)
{
	struct fs_node *start = NULL;
	int r = fs_path_check(path);
	if (r < 0)
		return r;
	if (*path != '/' && dirfd != LX_AT_FDCWD) {
		struct fs_file *f = fs_fd_get(dirfd);
		if (!f)
			return -WH_EBADF;
		if (!f->node)
			return -WH_ENOTDIR;
		start = f->node;
		fs_node_ref(start);
	} else {
		start = fs_cwd();
	}
	if (!*path && empty) {
		*ret_path = (struct fs_path){ .node = start };
		return 0;
	}
	if (*path != '/' && !fs_node_is(start, LX_S_IFDIR))
		r = *path ? -WH_ENOTDIR : -WH_ENOENT;
	else
		r = fs_walk(start, path, flags, ret_path);
	fs_node_unref(start);
	return r;
}

int fs_walk_edit(int dirfd, const char *path, int special, struct fs_path *ret_path)
{
	struct fs_path p;
	int r = fs_walk_at(dirfd, path, FS_WALK_PARENT, false, &p);
	if (r < 0)
		return r;
	uint32_t dots = fs_name_dots(p.last);
	if (!p.last.size || dots)
		r = special ? special : dots == 1 ? -WH_EINVAL : dots ? -WH_ENOTEMPTY : -WH_EBUSY;
	else if (p.dir->super->read_only)
		r = -WH_EROFS;
	if (r < 0) {
		fs_path_fini(&p);
		return r;
	}
	*ret_path = p;
	return 0;
}

int fs_edit_slash(const struct fs_path *p)
{
	struct fs_node *n;
	int r = p->dir->ops->lookup ? p->dir->ops->lookup(p->dir, p->last, &n) : -WH_ENOTDIR;
	if (r < 0)
		return r;
	fs_node_unref(n);
	return -WH_EEXIST;
}

/* Started after the mounts, one of which may hold it. */
int fs_workdir_init(void);
int fs_workdir_init(void)
{
	const struct wh_boot_info *b = kern_boot();
	struct fs_path p;
	if (!b->workdir)
		return 0;
	struct fs_node *root = fs_root();
	int r = fs_walk(root, (const char *)(uintptr_t)b->workdir, FS_WALK_FOLLOW, &p);
	fs_node_unref(root);
	if (r < 0)
		return r;
	if (!fs_node_is(p.node, LX_S_IFDIR)) {
		fs_path_fini(&p);
		return -WH_ENOTDIR;
	}
	fs_cwd_set(p.node);
	p.node = NULL;
	fs_path_fini(&p);
	return 0;
}
