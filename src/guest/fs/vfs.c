/* SPDX-License-Identifier: ISC */
#include <fs/tmpfs.h>
#include <fs/vfs.h>
#include <kern/mem.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

struct fs_super *fs_supers;
uint32_t fs_umask = 022;

static struct fs_node *cwd;

void fs_node_unref(struct fs_node *n)
{
	if (!n)
		return;
	wh_assert(n->refs > 0);
	if (!--n->refs)
		n->ops->release(n);
}

int fs_root_init(void)
{
	wh_assert(!fs_supers);
	fs_supers = fs_tmpfs_root();
	cwd = fs_supers->root;
	fs_node_ref(cwd);
	return 0;
}

struct fs_node *fs_root(void)
{
	fs_node_ref(fs_supers->root);
	return fs_supers->root;
}

struct fs_node *fs_cwd(void)
{
	fs_node_ref(cwd);
	return cwd;
}

void fs_cwd_set(struct fs_node *dir)
{
	fs_node_unref(cwd);
	cwd = dir;
}

/* The directory above, across mounts; NULL at the root. */
static struct fs_node *above(struct fs_node *n, struct fs_name *ret_name)
{
	while (n == n->super->root && n->super->covered)
		n = n->super->covered;
	if (n == fs_supers->root || !n->ops->parent)
		return NULL;
	return n->ops->parent(n, ret_name);
}

int fs_node_path(struct fs_node *n, char *to, uint32_t size)
{
	uint32_t at = size;
	struct fs_name name;
	if (size < 2)
		return -WH_ERANGE;
	to[--at] = 0;
	for (struct fs_node *up; (up = above(n, &name)); n = up) {
		if (name.size + 1 > at)
			return -WH_ERANGE;
		at -= name.size;
		memcpy(to + at, name.text, name.size);
		to[--at] = '/';
	}
	while (n == n->super->root && n->super->covered)
		n = n->super->covered;
	if (n != fs_supers->root)
		return -WH_ENOENT;
	if (to[at] != '/')
		to[--at] = '/';
	memmove(to, to + at, size - at);
	return (int)(size - at - 1);
}

bool fs_dirent_put(void *buffer, uint32_t size, uint32_t *used, uint64_t ino, uint64_t cookie,
		   uint32_t mode, struct fs_name name)
{
	uint32_t length = (19 + name.size + 1 + 7) & ~7u;
	uint8_t *d = (uint8_t *)buffer + *used;
	uint16_t length16 = (uint16_t)length;
	if (length > size - *used)
		return false;
	memset(d, 0, length);
	memcpy(d, &ino, 8);
	memcpy(d + 8, &cookie, 8);
	memcpy(d + 16, &length16, 2);
	d[18] = (uint8_t)LX_DT_OF_MODE(mode);
	memcpy(d + 19, name.text, name.size);
	*used += length;
	return true;
}

int fs_node_stat(struct fs_node *n, struct fs_stat *ret_stat)
{
	memset(ret_stat, 0, sizeof *ret_stat);
	ret_stat->dev = n->super->dev;
	ret_stat->ino = n->ino;
	ret_stat->mode = n->mode;
	ret_stat->nlink = 1;
	ret_stat->blksize = 4096;
	return n->ops->stat ? n->ops->stat(n, ret_stat) : 0;
}

int fs_node_setattr(struct fs_node *n, const struct fs_setattr *set)
{
	if (n->super->read_only)
		return -WH_EROFS;
	return n->ops->setattr ? n->ops->setattr(n, set) : -WH_EPERM;
}

int fs_node_file_stat(struct fs_file *f, struct fs_stat *st)
{
	return fs_node_stat(f->node, st);
}

int fs_node_file_truncate(struct fs_file *f, uint64_t size)
{
	struct fs_setattr set = { .mask = FS_SET_SIZE, .size = size };
	return fs_node_setattr(f->node, &set);
}

void fs_node_file_release(struct fs_file *f)
{
	fs_node_unref(f->node);
	kern_free(f, sizeof *f);
}

int fs_node_file_new(struct fs_node *n, const struct fs_file_ops *ops, uint32_t flags,
		     struct fs_file **ret_file)
{
	struct fs_file *f = kern_alloc(sizeof *f);
	if (!f)
		return -WH_ENOMEM;
	fs_file_init(f, ops, flags);
	fs_node_ref(n);
	f->node = n;
	*ret_file = f;
	return 0;
}
