/* SPDX-License-Identifier: ISC */

/*
 * /proc/self/fd: a link for each open descriptor. Following one leads to the open
 * file itself, not to what its text says: a node is opened anew, anything
 * else (pipe, socket, console) is shared as dup() would.
 */

#include "root_priv.h"
#include <fs/tmpfs.h>
#include <kern/mem.h>
#include <wherry/base/diag.h>
#include <wherry/base/errors.h>

struct fd_node {
	struct fs_node node;
	int fd;               /* a link; or */
	struct fs_file *file; /* what a link to a nodeless file leads to */
};

static struct fd_node *fd_node_of(struct fs_node *n)
{
	return WH_CONTAINER_OF(n, struct fd_node, node);
}

static void fd_node_release(struct fs_node *n)
{
	struct fd_node *d = fd_node_of(n);
	if (d->file)
		fs_file_unref(d->file);
	kern_free(d, sizeof *d);
}

static int file_open(struct fs_node *n, uint32_t flags, struct fs_file **ret_file)
{
	*ret_file = fd_node_of(n)->file;
	fs_file_ref(*ret_file);
	return 0;
}

static int file_stat(struct fs_node *n, struct fs_stat *st)
{
	return fs_file_stat(fd_node_of(n)->file, st);
}

static const struct fs_node_ops shared_ops = {
	.open = file_open,
	.stat = file_stat,
	.release = fd_node_release,
};

static const struct fs_node_ops link_ops;

static struct fd_node *new_node(const struct fs_node_ops *ops, uint32_t mode)
{
	struct fd_node *d = kern_alloc_zero(sizeof *d);
	if (!d)
		return NULL;
	d->node = (struct fs_node){ .ops = ops, .super = fs_supers, .refs = 1, .mode = mode };
	return d;
}

static int link_jump(struct fs_node *n, struct fs_node **ret_node)
{
	struct fs_file *f = fs_fd_get(fd_node_of(n)->fd);
	struct fs_stat st;
	if (!f)
		return -WH_ENOENT;
	if (f->node) {
		fs_node_ref(f->node);
		*ret_node = f->node;
		return 0;
	}
	int r = fs_file_stat(f, &st);
	if (r < 0)
		return r;
	struct fd_node *d = new_node(&shared_ops, st.mode);
	if (!d)
		return -WH_ENOMEM;
	fs_file_ref(f);
	d->file = f;
	*ret_node = &d->node;
	return 0;
}

static int link_readlink(struct fs_node *n, char *to, uint32_t size)
{
	static const char *const kinds[] = { "file",       "pipe",      "socket",
					     "[eventfd]",  "[timerfd]", "[epoll]",
					     "[signalfd]", "console",   "device" };
	struct fs_file *f = fs_fd_get(fd_node_of(n)->fd);
	char text[64];
	if (!f)
		return -WH_ENOENT;
	if (f->node) {
		int r = fs_node_path(f->node, to, size);
		if (r != -WH_ENOENT)
			return r;
	}
	size_t length;
	if (f->ops->kind == FS_KIND_CONSOLE)
		length = wh_format(text, sizeof text, "/dev/console");
	else if (f->ops->kind == FS_KIND_PIPE || f->ops->kind == FS_KIND_SOCKET)
		length = wh_format(text, sizeof text, "%s:[%u]", kinds[f->ops->kind],
				   (unsigned)((uintptr_t)f >> 4));
	else
		length = wh_format(text, sizeof text, "anon_inode:%s", kinds[f->ops->kind]);
	if (length > size)
		length = size;
	memcpy(to, text, length);
	return (int)length;
}

static const struct fs_node_ops link_ops = {
	.readlink = link_readlink,
	.jump = link_jump,
	.release = fd_node_release,
};

static int dir_lookup(struct fs_node *dir, uint64_t data, struct fs_name name,
		      struct fs_node **ret_node)
{
	int fd = 0;
	for (uint32_t i = 0; i < name.size; i++) {
		if (name.text[i] < '0' || name.text[i] > '9' || fd > (int)FS_FDS_MAX)
			return -WH_ENOENT;
		fd = fd * 10 + (name.text[i] - '0');
	}
	if (!fs_fd_get(fd))
		return -WH_ENOENT;
	struct fd_node *d = new_node(&link_ops, LX_S_IFLNK | 0700);
	if (!d)
		return -WH_ENOMEM;
	d->fd = fd;
	d->node.ino = 1u << 24 | (unsigned)fd;
	*ret_node = &d->node;
	return 0;
}

static int dir_getdents(struct fs_file *f, void *buffer, uint32_t size)
{
	uint32_t used = 0;
	char text[12];
	for (;;) {
		struct fs_name name = { "..", (uint32_t)f->position + 1 };
		int fd = f->position < 2 ? 0 : fs_fd_next((int)f->position - 2);
		uint32_t mode = LX_S_IFDIR;
		if (fd < 0)
			return (int)used;
		if (f->position >= 2) {
			mode = LX_S_IFLNK;
			name.text = text;
			name.size = (uint32_t)wh_format(text, sizeof text, "%d", fd);
		}
		uint64_t cookie = f->position < 2 ? f->position + 1 : (uint64_t)fd + 3;
		if (!fs_dirent_put(buffer, size, &used, 1u << 24 | (unsigned)fd, cookie, mode,
				   name))
			return used ? (int)used : -WH_EINVAL;
		f->position = cookie;
	}
}

static const struct fs_file_ops dir_ops = {
	.stat = fs_node_file_stat,
	.getdents = dir_getdents,
	.release = fs_node_file_release,
	.seekable = true,
	.kind = FS_KIND_NODE,
};

static int dir_open(struct fs_node *n, uint64_t data, uint32_t flags, struct fs_file **ret_file)
{
	return fs_node_file_new(n, &dir_ops, flags | LX_O_DIRECTORY, ret_file);
}

const struct fs_tmpfs_special fs_fdlink_dir = { .open = dir_open, .lookup = dir_lookup };
