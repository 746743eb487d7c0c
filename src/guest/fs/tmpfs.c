/* SPDX-License-Identifier: ISC */
#include "tmpfs_priv.h"
#include <kern/mem.h>
#include <kern/plat.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

#define TMPFS_MAGIC 0x01021994

static int dir_create(struct fs_node *dir, struct fs_name name, uint32_t flags, uint32_t mode,
		      struct fs_file **ret_file);

static uint64_t next_ino = 1;

struct fs_super tmpfs_super = { .type = "tmpfs", .source = "none", .dev = 1 };

void tmpfs_touch(struct tmpfs_node *n)
{
	n->mtime_ns = n->ctime_ns = kern_time_realtime();
}

static void init_node(struct tmpfs_node *n, uint32_t mode, const struct fs_node_ops *ops)
{
	n->node.ops = ops;
	n->node.super = &tmpfs_super;
	n->node.refs = 1;
	n->node.mode = mode;
	n->node.ino = next_ino++;
	n->atime_ns = n->mtime_ns = n->ctime_ns = kern_time_realtime();
	if ((mode & LX_S_IFMT) == LX_S_IFDIR && ops == &tmpfs_dir_ops)
		tmpfs_dir_init(&n->dir);
}

struct tmpfs_node *tmpfs_node_new(uint32_t mode, const struct fs_node_ops *ops)
{
	struct tmpfs_node *n = kern_alloc_zero(sizeof *n);
	if (n)
		init_node(n, mode, ops);
	return n;
}

struct fs_super *fs_tmpfs_root(void)
{
	static struct tmpfs_node root;
	init_node(&root, LX_S_IFDIR | 0755, &tmpfs_dir_ops);
	root.nlink = 2;
	root.dir.fill = fs_root_fill;
	tmpfs_super.root = &root.node;
	return &tmpfs_super;
}

void tmpfs_release(struct fs_node *node)
{
	struct tmpfs_node *n = tmpfs_of(node);
	if (node->ops == &tmpfs_dir_ops)
		tmpfs_dir_fini(&n->dir);
	else if (node->ops == &tmpfs_file_ops)
		tmpfs_file_fini(n);
	else if (node->ops == &tmpfs_link_ops)
		kern_free(n->link.target, n->link.size);
	kern_free(n, sizeof *n);
}

static struct lx_timespec timespec_of(uint64_t ns)
{
	return (struct lx_timespec){ (int64_t)(ns / 1000000000), (int64_t)(ns % 1000000000) };
}

static uint64_t ns_of(struct lx_timespec t)
{
	return (uint64_t)t.sec * 1000000000 + (uint64_t)t.nsec;
}

int tmpfs_stat(struct fs_node *node, struct fs_stat *st)
{
	struct tmpfs_node *n = tmpfs_of(node);
	st->nlink = n->nlink;
	st->uid = n->uid;
	st->gid = n->gid;
	st->atime = timespec_of(n->atime_ns);
	st->mtime = timespec_of(n->mtime_ns);
	st->ctime = timespec_of(n->ctime_ns);
	if (node->ops == &tmpfs_file_ops) {
		st->size = (int64_t)n->file.size;
		st->blocks = (int64_t)n->file.page_count * (KERN_PAGE / 512) +
			     ((int64_t)n->file.base_size + 511) / 512;
	} else if (node->ops == &tmpfs_link_ops) {
		st->size = n->link.size;
	} else if (node->ops == &tmpfs_dir_ops) {
		st->size = KERN_PAGE;
	} else {
		st->rdev = n->special.rdev;
	}
	return 0;
}

int tmpfs_setattr(struct fs_node *node, const struct fs_setattr *set)
{
	struct tmpfs_node *n = tmpfs_of(node);
	if (set->mask & FS_SET_SIZE) {
		if (node->ops == &tmpfs_dir_ops)
			return -WH_EISDIR;
		if (node->ops != &tmpfs_file_ops) /* devices and settings have no size to change */
			return node->ops == &tmpfs_special_ops ? 0 : -WH_EINVAL;
		int r = tmpfs_file_resize(n, set->size);
		if (r < 0)
			return r;
	}
	if (set->mask & FS_SET_MODE)
		node->mode = (node->mode & LX_S_IFMT) | (set->mode & 07777);
	if (set->mask & FS_SET_UID)
		n->uid = set->uid;
	if (set->mask & FS_SET_GID)
		n->gid = set->gid;
	if (set->mask & FS_SET_ATIME)
		n->atime_ns = ns_of(set->atime);
	if (set->mask & FS_SET_MTIME)
		n->mtime_ns = ns_of(set->mtime);
	n->ctime_ns = kern_time_realtime();
	return 0;
}

int tmpfs_statfs(struct fs_node *n, struct fs_statfs *st)
{
	uint64_t limit = kern_pages_total_count() / 2, left = limit - tmpfs_pages_used;
	uint64_t free_pages = kern_pages_free_count();
	st->type = TMPFS_MAGIC;
	st->bsize = st->frsize = KERN_PAGE;
	st->blocks = limit;
	st->bfree = st->bavail = left < free_pages ? left : free_pages;
	st->files = st->ffree = limit;
	st->namelen = LX_NAME_MAX;
	return 0;
}

struct fs_node *tmpfs_parent(struct fs_node *node, struct fs_name *ret_name)
{
	struct tmpfs_entry *e = tmpfs_of(node)->entry;
	if (!e)
		return NULL;
	*ret_name = (struct fs_name){ e->name, e->name_size };
	return &e->dir->node;
}

/* ---- directory operations ---- */

static int dir_lookup(struct fs_node *dir, struct fs_name name, struct fs_node **ret_node)
{
	struct tmpfs_entry *e = tmpfs_dir_find(tmpfs_of(dir), name);
	if (!e)
		return -WH_ENOENT;
	fs_node_ref(&e->node->node);
	*ret_node = &e->node->node;
	return 0;
}

/* Puts a new node (whose only reference is given up) into the directory. */
static int add_new(struct fs_node *dir, struct fs_name name, struct tmpfs_node *n)
{
	int r = -WH_ENOSPC;
	if (!n)
		return r;
	if (tmpfs_dir_find(tmpfs_of(dir), name))
		r = -WH_EEXIST;
	else if (!tmpfs_of(dir)->nlink)
		r = -WH_ENOENT; /* removed, but somebody's current directory */
	else
		r = tmpfs_dir_add(tmpfs_of(dir), name, n);
	fs_node_unref(&n->node);
	return r;
}

static int dir_mkdir(struct fs_node *dir, struct fs_name name, uint32_t mode)
{
	return add_new(dir, name, tmpfs_node_new(LX_S_IFDIR | mode, &tmpfs_dir_ops));
}

static int dir_symlink(struct fs_node *dir, struct fs_name name, struct fs_name target)
{
	struct tmpfs_node *n = tmpfs_node_new(LX_S_IFLNK | 0777, &tmpfs_link_ops);
	if (!n)
		return -WH_ENOSPC;
	n->link.target = kern_alloc(target.size);
	if (n->link.target) {
		n->link.size = target.size;
		memcpy(n->link.target, target.text, target.size);
		return add_new(dir, name, n);
	}
	fs_node_unref(&n->node);
	return -WH_ENOSPC;
}

static int dir_create(struct fs_node *dir, struct fs_name name, uint32_t flags, uint32_t mode,
		      struct fs_file **ret_file)
{
	struct tmpfs_node *n = tmpfs_node_new(LX_S_IFREG | mode, &tmpfs_file_ops);
	if (!n)
		return -WH_ENOSPC;
	fs_node_ref(&n->node);
	int r = add_new(dir, name, n);
	if (r >= 0)
		r = tmpfs_file_open(&n->node, flags, ret_file);
	fs_node_unref(&n->node);
	return r;
}

static int dir_link(struct fs_node *dir, struct fs_name name, struct fs_node *old)
{
	if (tmpfs_dir_find(tmpfs_of(dir), name))
		return -WH_EEXIST;
	if (!tmpfs_of(old)->nlink || !tmpfs_of(dir)->nlink)
		return -WH_ENOENT;
	return tmpfs_dir_add(tmpfs_of(dir), name, tmpfs_of(old));
}

/* Has something been mounted on it? */
static bool is_covered(const struct fs_node *n)
{
	for (const struct fs_super *s = n->super->mounts_on ? fs_supers : NULL; s; s = s->next)
		if (s->covered == n)
			return true;
	return false;
}

/* May this entry go away, as a directory or as something else? */
static int check_removal(struct tmpfs_entry *e, bool directory)
{
	if (!fs_node_is(&e->node->node, LX_S_IFDIR))
		return directory ? -WH_ENOTDIR : 0;
	if (!directory)
		return -WH_EISDIR;
	if (is_covered(&e->node->node) || e->node->node.ops != &tmpfs_dir_ops)
		return -WH_EBUSY;
	/* Looking for any name fills the directory in. */
	(void)tmpfs_dir_find(e->node, (struct fs_name){ ".", 1 });
	return e->node->dir.count ? -WH_ENOTEMPTY : 0;
}

static int dir_unlink(struct fs_node *dir, struct fs_name name, bool directory)
{
	struct tmpfs_entry *e = tmpfs_dir_find(tmpfs_of(dir), name);
	if (!e)
		return -WH_ENOENT;
	int r = check_removal(e, directory);
	if (r < 0)
		return r;
	e->node->ctime_ns = kern_time_realtime();
	tmpfs_dir_remove(e);
	return 0;
}

/* Is `dir` the node itself or below it? */
static bool is_below(struct tmpfs_node *dir, const struct tmpfs_node *node)
{
	while (dir != node && dir->entry)
		dir = dir->entry->dir;
	return dir == node;
}

static int exchange(struct tmpfs_entry *a, struct tmpfs_entry *b)
{
	struct tmpfs_node *n = a->node;
	bool a_dir = fs_node_is(&a->node->node, LX_S_IFDIR);
	bool b_dir = fs_node_is(&b->node->node, LX_S_IFDIR);
	if (is_below(b->dir, a->node) || is_below(a->dir, b->node))
		return -WH_EINVAL;
	a->node = b->node;
	b->node = n;
	a->node->entry = a;
	b->node->entry = b;
	a->dir->nlink += (uint32_t)b_dir - (uint32_t)a_dir;
	b->dir->nlink += (uint32_t)a_dir - (uint32_t)b_dir;
	return 0;
}

static int dir_rename(struct fs_node *dir, struct fs_name name, struct fs_node *new_dir,
		      struct fs_name new_name, uint32_t flags)
{
	struct tmpfs_entry *e = tmpfs_dir_find(tmpfs_of(dir), name);
	struct tmpfs_entry *old = tmpfs_dir_find(tmpfs_of(new_dir), new_name);
	int r;
	if (!e || !tmpfs_of(new_dir)->nlink)
		return -WH_ENOENT;
	if (flags & FS_RENAME_EXCHANGE)
		return old ? exchange(e, old) : -WH_ENOENT;
	if (old && (flags & FS_RENAME_NOREPLACE))
		return -WH_EEXIST;
	if (fs_node_is(&e->node->node, LX_S_IFDIR) && is_below(tmpfs_of(new_dir), e->node))
		return -WH_EINVAL;
	if (old && is_below(tmpfs_of(dir), old->node))
		return -WH_ENOTEMPTY;
	if (old && old->node == e->node)
		return 0;
	if (is_covered(&e->node->node))
		return -WH_EBUSY;
	if (old) {
		r = check_removal(old, fs_node_is(&e->node->node, LX_S_IFDIR));
		if (r < 0)
			return r;
	}
	/* Add first: it is what can fail. The hash table may hold two of one name. */
	struct tmpfs_node *n = e->node;
	r = tmpfs_dir_add(tmpfs_of(new_dir), new_name, n);
	if (r < 0)
		return r;
	if (old)
		tmpfs_dir_remove(old);
	tmpfs_dir_remove(e);
	n->ctime_ns = kern_time_realtime();
	return 0;
}

static int link_readlink(struct fs_node *node, char *to, uint32_t size)
{
	struct tmpfs_node *n = tmpfs_of(node);
	uint32_t length = n->link.size < size ? n->link.size : size;
	memcpy(to, n->link.target, length);
	return (int)length;
}

const struct fs_node_ops tmpfs_dir_ops = {
	.lookup = dir_lookup,
	.create = dir_create,
	.mkdir = dir_mkdir,
	.symlink = dir_symlink,
	.link = dir_link,
	.unlink = dir_unlink,
	.rename = dir_rename,
	.parent = tmpfs_parent,
	.open = tmpfs_dir_open,
	.stat = tmpfs_stat,
	.setattr = tmpfs_setattr,
	.statfs = tmpfs_statfs,
	.release = tmpfs_release,
};

const struct fs_node_ops tmpfs_file_ops = {
	.parent = tmpfs_parent,
	.open = tmpfs_file_open,
	.stat = tmpfs_stat,
	.setattr = tmpfs_setattr,
	.statfs = tmpfs_statfs,
	.release = tmpfs_release,
};

const struct fs_node_ops tmpfs_link_ops = {
	.parent = tmpfs_parent,
	.stat = tmpfs_stat,
	.setattr = tmpfs_setattr,
	.readlink = link_readlink,
	.statfs = tmpfs_statfs,
	.release = tmpfs_release,
};

/* ---- for other units ---- */

int fs_tmpfs_add_dir(struct fs_node *dir, struct fs_name name, uint32_t mode, fs_tmpfs_fill fill,
		     uint64_t data)
{
	struct tmpfs_node *n = tmpfs_node_new(LX_S_IFDIR | mode, &tmpfs_dir_ops);
	if (n) {
		n->dir.fill = fill;
		n->dir.fill_data = data;
	}
	return add_new(dir, name, n);
}

int fs_tmpfs_add_file(struct fs_node *dir, struct fs_name name, uint32_t mode, const void *bytes,
		      uint64_t size, uint64_t mtime)
{
	struct tmpfs_node *n = tmpfs_node_new(LX_S_IFREG | mode, &tmpfs_file_ops);
	if (n) {
		n->file.base = bytes;
		n->file.base_size = n->file.size = size;
		if (mtime)
			n->mtime_ns = n->ctime_ns = mtime * 1000000000;
	}
	return add_new(dir, name, n);
}

int fs_tmpfs_add_link(struct fs_node *dir, struct fs_name name, struct fs_name target)
{
	return dir_symlink(dir, name, target);
}

int fs_tmpfs_nameless(uint32_t mode, struct fs_node **ret_node)
{
	struct tmpfs_node *n = tmpfs_node_new(LX_S_IFREG | mode, &tmpfs_file_ops);
	if (!n)
		return -WH_ENOMEM;
	*ret_node = &n->node;
	return 0;
}
