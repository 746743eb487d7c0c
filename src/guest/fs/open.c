/* SPDX-License-Identifier: ISC */
#include <fs/vfs.h>
#include <kern/mem.h>
#include <wherry/base/errors.h>

static const struct fs_file_ops path_ops = {
	.stat = fs_node_file_stat,
	.release = fs_node_file_release,
	.kind = FS_KIND_NODE,
};

static int check_open(struct fs_node *n, uint32_t flags)
{
	bool writes = (flags & LX_O_ACCMODE) != LX_O_RDONLY || (flags & LX_O_TRUNC);
	uint32_t type = n->mode & LX_S_IFMT;
	if ((flags & LX_O_DIRECTORY) && type != LX_S_IFDIR)
		return -WH_ENOTDIR;
	if (type == LX_S_IFLNK)
		return -WH_ELOOP;
	if (type == LX_S_IFDIR && (writes || (flags & LX_O_CREAT)))
		return -WH_EISDIR;
	if (writes && n->super->read_only && (type == LX_S_IFREG || type == LX_S_IFDIR))
		return -WH_EROFS;
	return n->ops->open ? 0 : -WH_ENXIO;
}

static int open_node(struct fs_node *n, uint32_t flags, struct fs_file **ret_file)
{
	struct fs_setattr empty = { .mask = FS_SET_SIZE };
	struct fs_file *f;
	if (flags & LX_O_PATH) {
		if ((flags & LX_O_DIRECTORY) && !fs_node_is(n, LX_S_IFDIR))
			return -WH_ENOTDIR;
		return fs_node_file_new(n, &path_ops, flags & (LX_O_PATH | LX_O_DIRECTORY),
					ret_file);
	}
	int r = check_open(n, flags);
	if (r >= 0)
		r = n->ops->open(n, flags, &f);
	if (r < 0)
		return r;
	if ((flags & LX_O_TRUNC) && fs_node_is(n, LX_S_IFREG) && !n->super->open_truncates)
		r = fs_node_setattr(n, &empty);
	if (r < 0)
		fs_file_unref(f);
	else
		*ret_file = f;
	return r;
}

static int create(struct fs_path *p, uint32_t flags, uint32_t mode, struct fs_file **ret_file)
{
	if (p->slash)
		return -WH_EISDIR;
	if (p->dir->super->read_only)
		return -WH_EROFS;
	if (!p->dir->ops->create)
		return -WH_EACCES;
	return p->dir->ops->create(p->dir, p->last, flags & ~(LX_O_CREAT | LX_O_EXCL | LX_O_TRUNC),
				   mode & ~fs_umask & 07777, ret_file);
}

/* "name/" cannot be made by open, whatever is there. */
static int refuse_slash(int dirfd, const char *path)
{
	struct fs_path p;
	int n = fs_path_check(path);
	if (n <= 0 || path[n - 1] != '/')
		return n < 0 ? n : 0;
	n = fs_walk_at(dirfd, path, FS_WALK_PARENT, false, &p);
	if (n < 0)
		return n;
	n = p.last.size && !fs_name_dots(p.last) ? -WH_EISDIR : 0;
	fs_path_fini(&p);
	return n;
}

int fs_open(int dirfd, const char *path, uint32_t flags, uint32_t mode, struct fs_file **ret_file)
{
	struct fs_path p;
	uint32_t walk = FS_WALK_FOLLOW;
	int r;
	if ((flags & LX_O_TMPFILE) == LX_O_TMPFILE)
		return -WH_EOPNOTSUPP;
	if (flags & LX_O_PATH)
		flags &= LX_O_PATH | LX_O_DIRECTORY | LX_O_NOFOLLOW | LX_O_CLOEXEC;
	if (flags & LX_O_NOFOLLOW || ((flags & LX_O_CREAT) && (flags & LX_O_EXCL)))
		walk &= ~FS_WALK_FOLLOW;
	if (flags & LX_O_CREAT) {
		walk |= FS_WALK_MISSING;
		r = refuse_slash(dirfd, path);
		if (r < 0)
			return r;
	}
	for (int tries = 0;; tries++) {
		r = fs_walk_at(dirfd, path, walk, false, &p);
		if (r < 0)
			return r;
		if (!p.node)
			r = create(&p, flags, mode, ret_file);
		else if ((flags & LX_O_CREAT) && (flags & LX_O_EXCL))
			r = -WH_EEXIST;
		else
			r = open_node(p.node, flags, ret_file);
		bool raced = !p.node && r == -WH_EEXIST && !(flags & LX_O_EXCL);
		fs_path_fini(&p);
		/* Made by somebody else between the look and the making (9P). */
		if (!raced || tries == 3)
			return r;
	}
}
