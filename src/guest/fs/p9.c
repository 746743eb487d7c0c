/* SPDX-License-Identifier: ISC */

/*
 * 9P2000.L as a file system, without a cache: every look is a question to the
 * server, so both sides always see the same. A node is a fid and the name it was
 * walked to by; each walk makes nodes of its own. A regular file is opened on its
 * node's fid; a directory on a copy, because one cannot walk from an open fid.
 */

#include "p9_priv.h"
#include <kern/mem.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

static const struct fs_node_ops node_ops;

int p9_call(struct p9_node *n, struct wh_p9_msg *t, struct wh_p9_msg *ret_r)
{
	uint8_t answer[DRV_P9_ANSWER_SIZE];
	return drv_p9_call(p9_dev(n), t, NULL, answer, sizeof answer, ret_r);
}

static uint32_t type_of(struct wh_p9_qid qid)
{
	return qid.type & WH_P9_QID_DIR       ? LX_S_IFDIR
	       : qid.type & WH_P9_QID_SYMLINK ? LX_S_IFLNK
					      : LX_S_IFREG;
}

static struct wh_p9_str str_of(struct fs_name name)
{
	return wh_p9_str(name.text, name.size);
}

static struct p9_node *new_node(struct p9_node *dir, struct fs_name name)
{
	struct p9_node *n = kern_alloc(sizeof *n + name.size);
	if (!n)
		return NULL;
	n->node = (struct fs_node){ .ops = &node_ops, .super = dir->node.super, .refs = 1 };
	n->parent = dir;
	n->has_fid = n->opened = false;
	n->name_size = name.size;
	memcpy(n->name, name.text, name.size);
	fs_node_ref(&dir->node);
	return n;
}

static void set_qid(struct p9_node *n, struct wh_p9_qid qid)
{
	n->node.mode = type_of(qid);
	n->node.ino = qid.path;
}

static void release(struct fs_node *node)
{
	struct p9_node *n = p9_of(node);
	wh_assert(n->parent); /* the mount keeps its root */
	if (n->has_fid)
		drv_p9_clunk(p9_dev(n), n->fid);
	fs_node_unref(&n->parent->node);
	kern_free(n, sizeof *n + n->name_size);
}

/* The root's fid comes with the first use. */
static int ready(struct p9_node *n)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TATTACH, .fid2 = WH_P9_NOFID };
	if (n->has_fid)
		return 0;
	wh_assert(!n->parent);
	t.name = wh_p9_str("root", 4);
	int e = drv_p9_fid_get(p9_dev(n), &t.fid);
	if (e < 0)
		return e;
	e = p9_call(n, &t, &r);
	if (e < 0 || n->has_fid) { /* or another thread was faster */
		drv_p9_fid_drop(p9_dev(n), t.fid);
		return e < 0 ? e : 0;
	}
	n->fid = t.fid;
	n->has_fid = true;
	n->node.ino = r.qid.path;
	return 0;
}

/* New fid for `name` below dir, or (size 0) a copy of dir's own. */
static int walk(struct p9_node *dir, struct fs_name name, uint32_t *ret_fid,
		struct wh_p9_qid *ret_qid)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TWALK };
	int e = ready(dir);
	if (e >= 0)
		e = drv_p9_fid_get(p9_dev(dir), &t.fid2);
	if (e < 0)
		return e;
	t.fid = dir->fid;
	t.name_count = name.size != 0;
	t.names[0] = str_of(name);
	e = p9_call(dir, &t, &r);
	if (e >= 0 && r.name_count != t.name_count)
		e = -WH_ENOENT;
	if (e < 0) {
		drv_p9_fid_drop(p9_dev(dir), t.fid2);
		return e;
	}
	*ret_fid = t.fid2;
	if (t.name_count)
		*ret_qid = r.qids[0];
	return 0;
}

static int lookup(struct fs_node *dir, struct fs_name name, struct fs_node **ret_node)
{
	struct wh_p9_qid qid;
	struct p9_node *n = new_node(p9_of(dir), name);
	if (!n)
		return -WH_ENOMEM;
	int e = walk(p9_of(dir), name, &n->fid, &qid);
	if (e < 0) {
		fs_node_unref(&n->node);
		return e;
	}
	n->has_fid = true;
	set_qid(n, qid);
	*ret_node = &n->node;
	return 0;
}

static uint32_t open_flags(uint32_t flags)
{
	return flags & (LX_O_ACCMODE | LX_O_TRUNC | LX_O_APPEND | LX_O_DIRECTORY | LX_O_SYNC |
			LX_O_EXCL | LX_O_NOFOLLOW);
}

static int lopen(struct p9_node *n, uint32_t fid, uint32_t flags)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TLOPEN, .fid = fid, .flags = open_flags(flags) };
	return p9_call(n, &t, &r);
}

static int open_own(struct p9_node *n, uint32_t flags, struct fs_file **ret_file)
{
	int e = lopen(n, n->fid, flags);
	if (e < 0)
		return e;
	n->opened = true;
	e = p9_file_new(n, n->fid, false, flags, ret_file);
	if (e < 0)
		n->opened = false;
	return e;
}

static int open(struct fs_node *node, uint32_t flags, struct fs_file **ret_file)
{
	struct p9_node *n = p9_of(node);
	struct wh_p9_qid qid;
	struct fs_name name = { n->name, n->name_size };
	uint32_t fid;
	bool dir = fs_node_is(node, LX_S_IFDIR);
	int e = ready(n);
	if (e < 0)
		return e;
	if (!dir && !n->opened)
		return open_own(n, flags, ret_file);
	e = dir ? walk(n, (struct fs_name){ "", 0 }, &fid, &qid)
		: walk(n->parent, name, &fid, &qid);
	if (e < 0)
		return e;
	e = lopen(n, fid, flags);
	if (e >= 0)
		e = p9_file_new(n, fid, true, flags, ret_file);
	if (e < 0)
		drv_p9_clunk(p9_dev(n), fid);
	return e;
}

static int create(struct fs_node *dir, struct fs_name name, uint32_t flags, uint32_t mode,
		  struct fs_file **ret_file)
{
	struct wh_p9_qid qid;
	struct wh_p9_msg r, t = { .type = WH_P9_TLCREATE, .mode = mode };
	struct p9_node *n = new_node(p9_of(dir), name);
	if (!n)
		return -WH_ENOMEM;
	int e = walk(p9_of(dir), (struct fs_name){ "", 0 }, &n->fid, &qid);
	if (e >= 0) {
		n->has_fid = true;
		t.fid = n->fid;
		t.name = str_of(name);
		t.flags = open_flags(flags) | LX_O_CREAT | LX_O_EXCL;
		e = p9_call(n, &t, &r);
	}
	if (e >= 0) {
		set_qid(n, r.qid);
		n->opened = true;
		e = p9_file_new(n, n->fid, false, flags, ret_file);
	}
	fs_node_unref(&n->node);
	return e;
}

static int mkdir(struct fs_node *dir, struct fs_name name, uint32_t mode)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TMKDIR, .mode = mode };
	int e = ready(p9_of(dir));
	t.fid = p9_of(dir)->fid;
	t.name = str_of(name);
	return e < 0 ? e : p9_call(p9_of(dir), &t, &r);
}

static int symlink(struct fs_node *dir, struct fs_name name, struct fs_name target)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TSYMLINK };
	int e = ready(p9_of(dir));
	t.fid = p9_of(dir)->fid;
	t.name = str_of(name);
	t.name2 = str_of(target);
	return e < 0 ? e : p9_call(p9_of(dir), &t, &r);
}

static int link(struct fs_node *dir, struct fs_name name, struct fs_node *old)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TLINK };
	int e = ready(p9_of(dir));
	t.fid = p9_of(dir)->fid;
	t.fid2 = p9_of(old)->fid;
	t.name = str_of(name);
	return e < 0 ? e : p9_call(p9_of(dir), &t, &r);
}

static int unlink(struct fs_node *dir, struct fs_name name, bool directory)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TUNLINKAT };
	int e = ready(p9_of(dir));
	t.fid = p9_of(dir)->fid;
	t.name = str_of(name);
	t.flags = directory ? LX_AT_REMOVEDIR : 0;
	return e < 0 ? e : p9_call(p9_of(dir), &t, &r);
}

static int rename(struct fs_node *dir, struct fs_name name, struct fs_node *new_dir,
		  struct fs_name new_name, uint32_t flags)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TRENAMEAT };
	struct fs_node *there;
	if (flags & FS_RENAME_EXCHANGE)
		return -WH_EINVAL;
	int e = ready(p9_of(dir));
	if (e >= 0)
		e = ready(p9_of(new_dir));
	if (e < 0)
		return e;
	if (flags & FS_RENAME_NOREPLACE && lookup(new_dir, new_name, &there) >= 0) {
		fs_node_unref(there);
		return -WH_EEXIST;
	}
	t.fid = p9_of(dir)->fid;
	t.name = str_of(name);
	t.fid2 = p9_of(new_dir)->fid;
	t.name2 = str_of(new_name);
	return p9_call(p9_of(dir), &t, &r);
}

static struct fs_node *parent(struct fs_node *node, struct fs_name *ret_name)
{
	struct p9_node *n = p9_of(node);
	if (!n->parent)
		return NULL;
	*ret_name = (struct fs_name){ n->name, n->name_size };
	return &n->parent->node;
}

static int stat(struct fs_node *node, struct fs_stat *st)
{
	struct p9_node *n = p9_of(node);
	struct wh_p9_msg r, t = { .type = WH_P9_TGETATTR, .mask = WH_P9_GETATTR_BASIC };
	const struct wh_p9_attr *a = &r.attr;
	int e = ready(n);
	t.fid = n->fid;
	if (e >= 0)
		e = p9_call(n, &t, &r);
	if (e < 0)
		return e;
	st->ino = a->qid.path;
	st->mode = a->mode;
	st->nlink = a->nlink;
	st->uid = a->uid;
	st->gid = a->gid;
	st->rdev = a->rdev;
	st->size = (int64_t)a->size;
	st->blksize = (int64_t)a->block_size;
	st->blocks = (int64_t)a->blocks;
	st->atime = (struct lx_timespec){ (int64_t)a->atime_s, (int64_t)a->atime_ns };
	st->mtime = (struct lx_timespec){ (int64_t)a->mtime_s, (int64_t)a->mtime_ns };
	st->ctime = (struct lx_timespec){ (int64_t)a->ctime_s, (int64_t)a->ctime_ns };
	return 0;
}

static int setattr(struct fs_node *node, const struct fs_setattr *set)
{
	struct p9_node *n = p9_of(node);
	struct wh_p9_msg r, t = { .type = WH_P9_TSETATTR };
	struct wh_p9_setattr *s = &t.setattr;
	if (set->mask & FS_SET_ATIME)
		s->valid |= WH_P9_SETATTR_ATIME | WH_P9_SETATTR_ATIME_SET;
	if (set->mask & FS_SET_MTIME)
		s->valid |= WH_P9_SETATTR_MTIME | WH_P9_SETATTR_MTIME_SET;
	/* The low bits are the same in both. */
	_Static_assert(FS_SET_MODE == WH_P9_SETATTR_MODE && FS_SET_UID == WH_P9_SETATTR_UID &&
			       FS_SET_GID == WH_P9_SETATTR_GID && FS_SET_SIZE == WH_P9_SETATTR_SIZE,
		       "9P2000.L");
	s->valid |= set->mask & (FS_SET_MODE | FS_SET_UID | FS_SET_GID | FS_SET_SIZE);
	s->mode = set->mode;
	s->uid = set->uid;
	s->gid = set->gid;
	s->size = set->size;
	s->atime_s = (uint64_t)set->atime.sec;
	s->atime_ns = (uint64_t)set->atime.nsec;
	s->mtime_s = (uint64_t)set->mtime.sec;
	s->mtime_ns = (uint64_t)set->mtime.nsec;
	int e = ready(n);
	t.fid = n->fid;
	return e < 0 ? e : p9_call(n, &t, &r);
}

static int readlink(struct fs_node *node, char *to, uint32_t size)
{
	struct p9_node *n = p9_of(node);
	struct wh_p9_msg r, t = { .type = WH_P9_TREADLINK, .fid = n->fid };
	uint32_t max = WH_P9_PATH_SIZE_MAX + 16;
	uint8_t *answer = kern_alloc(max);
	if (!answer)
		return -WH_ENOMEM;
	int e = drv_p9_call(p9_dev(n), &t, NULL, answer, max, &r);
	if (e >= 0) {
		e = r.name.size < size ? r.name.size : (int)size;
		memcpy(to, r.name.text, (size_t)e);
	}
	kern_free(answer, max);
	return e;
}

static int statfs(struct fs_node *node, struct fs_statfs *st)
{
	struct p9_node *n = p9_of(node);
	struct wh_p9_msg r, t = { .type = WH_P9_TSTATFS };
	int e = ready(n);
	t.fid = n->fid;
	if (e >= 0)
		e = p9_call(n, &t, &r);
	if (e < 0)
		return e;
	st->type = r.statfs.type;
	st->bsize = st->frsize = r.statfs.block_size;
	st->blocks = r.statfs.blocks;
	st->bfree = r.statfs.blocks_free;
	st->bavail = r.statfs.blocks_available;
	st->files = r.statfs.files;
	st->ffree = r.statfs.files_free;
	st->namelen = r.statfs.name_size_max;
	return 0;
}

static const struct fs_node_ops node_ops = {
	.lookup = lookup,
	.create = create,
	.mkdir = mkdir,
	.symlink = symlink,
	.link = link,
	.unlink = unlink,
	.rename = rename,
	.parent = parent,
	.open = open,
	.stat = stat,
	.setattr = setattr,
	.readlink = readlink,
	.statfs = statfs,
	.release = release,
};

struct p9_mount *p9_mount_new(struct drv_p9 *dev, const char *tag, bool read_only)
{
	struct p9_mount *m = kern_alloc_zero(sizeof *m);
	if (!m)
		return NULL;
	m->dev = dev;
	m->super.type = "9p";
	m->super.source = tag;
	m->super.read_only = read_only;
	m->super.open_truncates = true;
	m->super.root = &m->root.node;
	m->root.node = (struct fs_node){
		.ops = &node_ops, .super = &m->super, .refs = 1, .mode = LX_S_IFDIR
	};
	return m;
}
