/* SPDX-License-Identifier: ISC */
/*
 * wherry store mount: 9P as a FUSE file system. Every request of the kernel becomes one or a few 9P messages; nobody waits for
 * another, so that a read of head.live holds up nothing. An interrupted program sends Tflush.
 */
#define FUSE_USE_VERSION 34
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>
#include <wherry/ninep.h>
#include <wherry/os.h>

#include "store.h"

#define CALLS 4096u /* requests under way */
#define INODE_BUCKETS 4096u
#define MSIZE (256u << 10)
#define STAT_MASK 0x7ffull

struct inode {
	struct inode *next;
	uint64_t path, lookups;
	uint32_t fid;
	uint8_t type;
};

struct call {
	fuse_req_t req; /* NULL: nobody waits for the end */
	int (*then)(struct call *c,
		    const struct wh_p9_msg *r); /* after an answer; an errno ends the request */
	struct inode *inode;
	uint32_t fid; /* made by this request; given back when it fails */
	uint32_t size;
	uint64_t offset;
	struct fuse_file_info file;
	bool used, flushed, created, has_fid;
	uint8_t type;
	char name[256];
};

static struct {
	int sock;
	uint32_t msize, next_fid;
	uint32_t *free_fids;
	size_t free_count, free_room;
	struct call calls[CALLS];
	struct inode *bucket[INODE_BUCKETS];
	struct inode root;
	uint8_t *in;
	size_t in_size;
	struct fuse_session *session;
	bool over;
} m;

/* ---- messages ---- */

static void send_all(const void *data, size_t size)
{
	if (!m.over && wh_os_write_all(m.sock, data, size) < 0)
		m.over = true;
}

static int put(struct call *c, struct wh_p9_msg *t,
	       int (*then)(struct call *, const struct wh_p9_msg *))
{
	static uint8_t head[WH_P9_MSIZE_MAX];
	t->tag = (uint16_t)(c - m.calls);
	int n = wh_p9_encode(WH_P9_DIALECT_2000L, t, head, sizeof head);
	if (n < 0)
		return EIO;
	c->then = then;
	c->type = t->type;
	send_all(head, (size_t)n);
	return 0;
}

static struct call *call_new(fuse_req_t req, struct inode *inode)
{
	for (unsigned i = 0; i < CALLS; i++)
		if (!m.calls[i].used) {
			m.calls[i] = (struct call){ .used = true, .req = req, .inode = inode };
			return &m.calls[i];
		}
	return NULL;
}

static uint32_t fid_get(void)
{
	return m.free_count ? m.free_fids[--m.free_count] : ++m.next_fid;
}

static int nothing(struct call *c, const struct wh_p9_msg *r)
{
	c->used = false;
	return 0;
}

/* The number is free again when the answer came. */
static int fid_back(struct call *c, const struct wh_p9_msg *r)
{
	if (m.free_count == m.free_room) {
		uint32_t *more =
			realloc(m.free_fids, (m.free_room = m.free_room * 2 + 256) * sizeof *more);
		if (!more)
			return nothing(c, r); /* the number is lost, no more */
		m.free_fids = more;
	}
	m.free_fids[m.free_count++] = c->fid;
	return nothing(c, r);
}

static void clunk(uint32_t fid)
{
	struct call *c = call_new(NULL, NULL);
	struct wh_p9_msg t = { .type = WH_P9_TCLUNK, .fid = fid };
	if (!c)
		return;
	c->fid = fid;
	(void)put(c, &t, fid_back);
}

static void call_end(struct call *c, int error)
{
	if (c->req && error >= 0)
		fuse_reply_err(c->req, error);
	if (c->has_fid)
		clunk(c->fid);
	c->used = false;
}

static void start(struct call *c, struct wh_p9_msg *t,
		  int (*then)(struct call *, const struct wh_p9_msg *))
{
	int error = put(c, t, then);
	if (error)
		call_end(c, error);
}

static void interrupted(fuse_req_t req, void *data)
{
	struct call *c = data, *f;
	if (!c->used || c->req != req || c->flushed)
		return;
	f = call_new(NULL, NULL);
	if (!f)
		return;
	c->flushed = true;
	struct wh_p9_msg t = { .type = WH_P9_TFLUSH, .flush_tag = (uint16_t)(c - m.calls) };
	f->offset = (uint64_t)(c - m.calls);
	(void)put(f, &t, nothing);
}

static struct call *begin(fuse_req_t req, struct inode *inode)
{
	struct call *c = call_new(req, inode);
	if (!c)
		fuse_reply_err(req, EAGAIN);
	else
		fuse_req_interrupt_func(req, interrupted, c);
	return c;
}

/* ---- inodes ---- */

static struct inode *inode_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &m.root : (struct inode *)(uintptr_t)ino;
}

static struct inode *inode_get(struct call *c, const struct wh_p9_qid *q)
{
	struct inode **b = &m.bucket[(q->path ^ q->path >> 32) % INODE_BUCKETS], *i = *b;
	while (i && (i->path != q->path || i->type != q->type))
		i = i->next;
	if (!i) {
		i = calloc(1, sizeof *i);
		if (!i)
			return NULL;
		*i = (struct inode){ .next = *b, .path = q->path, .type = q->type, .fid = c->fid };
		*b = i;
		c->has_fid = false;
	}
	i->lookups++;
	return i;
}

static void inode_put(struct inode *i, uint64_t count)
{
	if (i == &m.root || (i->lookups -= count < i->lookups ? count : i->lookups))
		return;
	struct inode **p = &m.bucket[(i->path ^ i->path >> 32) % INODE_BUCKETS];
	while (*p != i)
		p = &(*p)->next;
	*p = i->next;
	clunk(i->fid);
	free(i);
}

static void fill(const struct wh_p9_attr *a, struct stat *st)
{
	*st = (struct stat){ .st_ino = a->qid.path,
			     .st_mode = a->mode,
			     .st_nlink = a->nlink,
			     .st_size = (off_t)a->size };
	st->st_uid = getuid();
	st->st_gid = getgid();
	st->st_blksize = (blksize_t)a->block_size;
	st->st_blocks = (blkcnt_t)a->blocks;
	st->st_mtim.tv_sec = st->st_ctim.tv_sec = st->st_atim.tv_sec = (time_t)a->mtime_s;
}

/* ---- looking up: walk, getattr ---- */

static int entry_done(struct call *c, const struct wh_p9_msg *r)
{
	struct fuse_entry_param e = { .generation = 0 };
	struct inode *i = inode_get(c, &r->attr.qid);
	if (!i)
		return ENOMEM;
	fill(&r->attr, &e.attr);
	e.ino = (fuse_ino_t)(uintptr_t)i;
	if (c->created)
		fuse_reply_create(c->req, &e, &c->file);
	else
		fuse_reply_entry(c->req, &e);
	call_end(c, -1);
	return 0;
}

static int entry_walked(struct call *c, const struct wh_p9_msg *r)
{
	struct wh_p9_msg t = { .type = WH_P9_TGETATTR, .fid = c->fid, .mask = STAT_MASK };
	c->has_fid = true;
	return put(c, &t, entry_done);
}

static int look_up(struct call *c)
{
	c->fid = fid_get();
	struct wh_p9_msg t = {
		.type = WH_P9_TWALK, .fid = c->inode->fid, .fid2 = c->fid, .name_count = 1
	};
	t.names[0] = wh_p9_str(c->name, strlen(c->name));
	return put(c, &t, entry_walked);
}

static bool take_name(struct call *c, const char *name)
{
	if (strlen(name) >= sizeof c->name) {
		call_end(c, ENAMETOOLONG);
		return false;
	}
	memcpy(c->name, name, strlen(name) + 1);
	return true;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call *c = begin(req, inode_of(parent));
	if (!c || !take_name(c, name))
		return;
	int error = look_up(c);
	if (error)
		call_end(c, error);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	inode_put(inode_of(ino), count);
	fuse_reply_none(req);
}

/* ---- attributes ---- */

static int attr_done(struct call *c, const struct wh_p9_msg *r)
{
	struct stat st;
	fill(&r->attr, &st);
	fuse_reply_attr(c->req, &st, 0);
	call_end(c, -1);
	return 0;
}

static int get_attr(struct call *c, const struct wh_p9_msg *r)
{
	struct wh_p9_msg t = { .type = WH_P9_TGETATTR, .fid = c->inode->fid, .mask = STAT_MASK };
	return put(c, &t, attr_done);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *f)
{
	struct call *c = begin(req, inode_of(ino));
	int error = c ? get_attr(c, NULL) : 0;
	if (error)
		call_end(c, error);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set,
		       struct fuse_file_info *f)
{
	struct call *c = begin(req, inode_of(ino));
	if (!c)
		return;
	struct wh_p9_msg t = { .type = WH_P9_TSETATTR, .fid = c->inode->fid };
	if (set & FUSE_SET_ATTR_MODE)
		t.setattr.valid |= WH_P9_SETATTR_MODE, t.setattr.mode = st->st_mode & 07777;
	if (set & FUSE_SET_ATTR_SIZE)
		t.setattr.valid |= WH_P9_SETATTR_SIZE, t.setattr.size = (uint64_t)st->st_size;
	start(c, &t, get_attr);
}

static int link_done(struct call *c, const struct wh_p9_msg *r)
{
	char text[WH_P9_PATH_SIZE_MAX + 1];
	size_t n = r->name.size < sizeof text ? r->name.size : sizeof text - 1;
	memcpy(text, r->name.text, n);
	text[n] = 0;
	fuse_reply_readlink(c->req, text);
	call_end(c, -1);
	return 0;
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct call *c = begin(req, inode_of(ino));
	struct wh_p9_msg t = { .type = WH_P9_TREADLINK, .fid = inode_of(ino)->fid };
	if (c)
		start(c, &t, link_done);
}

/* ---- names ---- */

static int made(struct call *c, const struct wh_p9_msg *r)
{
	return look_up(c);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct call *c = begin(req, inode_of(parent));
	if (!c || !take_name(c, name))
		return;
	struct wh_p9_msg t = { .type = WH_P9_TMKDIR,
			       .fid = c->inode->fid,
			       .name = wh_p9_str(c->name, strlen(c->name)),
			       .mode = mode };
	start(c, &t, made);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct call *c = begin(req, inode_of(parent));
	if (!c || !take_name(c, name))
		return;
	struct wh_p9_msg t = { .type = WH_P9_TSYMLINK,
			       .fid = c->inode->fid,
			       .name = wh_p9_str(c->name, strlen(c->name)),
			       .name2 = wh_p9_str(target, strlen(target)) };
	start(c, &t, made);
}

static int done(struct call *c, const struct wh_p9_msg *r)
{
	call_end(c, 0);
	return 0;
}

static void unlink_with(fuse_req_t req, fuse_ino_t parent, const char *name, uint32_t flags)
{
	struct call *c = begin(req, inode_of(parent));
	if (!c || !take_name(c, name))
		return;
	struct wh_p9_msg t = { .type = WH_P9_TUNLINKAT,
			       .fid = c->inode->fid,
			       .name = wh_p9_str(c->name, strlen(c->name)),
			       .flags = flags };
	start(c, &t, done);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	unlink_with(req, parent, name, 0);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	unlink_with(req, parent, name, 0x200);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to,
		      const char *to_name, unsigned flags)
{
	struct call *c = begin(req, inode_of(parent));
	if (!c || !take_name(c, name))
		return;
	struct wh_p9_msg t = { .type = WH_P9_TRENAMEAT,
			       .fid = c->inode->fid,
			       .name = wh_p9_str(c->name, strlen(c->name)),
			       .fid2 = inode_of(to)->fid,
			       .name2 = wh_p9_str(to_name, strlen(to_name)) };
	if (flags || strlen(to_name) > 255)
		call_end(c, flags ? EINVAL : ENAMETOOLONG);
	else
		start(c, &t, done);
}

/* ---- open files ---- */

static int opened(struct call *c, const struct wh_p9_msg *r)
{
	c->file.fh = c->fid;
	c->file.direct_io = 1; /* sizes and contents change under the kernel, and news have none */
	c->has_fid = false;
	fuse_reply_open(c->req, &c->file);
	call_end(c, -1);
	return 0;
}

static int open_walked(struct call *c, const struct wh_p9_msg *r)
{
	struct wh_p9_msg t = { .type = WH_P9_TLOPEN,
			       .fid = c->fid,
			       .flags = (uint32_t)c->file.flags & (O_ACCMODE | O_TRUNC) };
	c->has_fid = true;
	return put(c, &t, opened);
}

static void clone_of(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *f, const char *name,
		     int (*then)(struct call *, const struct wh_p9_msg *))
{
	struct call *c = begin(req, inode_of(ino));
	if (!c || (name && !take_name(c, name)))
		return;
	c->file = *f;
	c->fid = fid_get();
	struct wh_p9_msg t = { .type = WH_P9_TWALK, .fid = c->inode->fid, .fid2 = c->fid };
	start(c, &t, then);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *f)
{
	clone_of(req, ino, f, NULL, open_walked);
}

static int created(struct call *c, const struct wh_p9_msg *r)
{
	c->file.fh = c->fid;
	c->file.direct_io = 1;
	c->created = true;
	c->has_fid = false;
	return look_up(c);
}

static int create_walked(struct call *c, const struct wh_p9_msg *r)
{
	struct wh_p9_msg t = { .type = WH_P9_TLCREATE,
			       .fid = c->fid,
			       .name = wh_p9_str(c->name, strlen(c->name)),
			       .flags = O_RDWR,
			       .mode = c->size };
	c->has_fid = true;
	return put(c, &t, created);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *f)
{
	struct call *c = begin(req, inode_of(parent));
	if (!c || !take_name(c, name))
		return;
	c->file = *f;
	c->size = mode;
	c->fid = fid_get();
	struct wh_p9_msg t = { .type = WH_P9_TWALK, .fid = c->inode->fid, .fid2 = c->fid };
	start(c, &t, create_walked);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *f)
{
	clunk((uint32_t)f->fh);
	fuse_reply_err(req, 0);
}

static int read_done(struct call *c, const struct wh_p9_msg *r)
{
	fuse_reply_buf(c->req, r->data, r->count);
	call_end(c, -1);
	return 0;
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *f)
{
	struct call *c = begin(req, inode_of(ino));
	uint32_t max = m.msize - WH_P9_WRITE_HEAD_SIZE - 1;
	struct wh_p9_msg t = { .type = WH_P9_TREAD,
			       .fid = (uint32_t)f->fh,
			       .offset = (uint64_t)offset,
			       .count = size < max ? (uint32_t)size : max };
	if (c)
		start(c, &t, read_done);
}

static int write_done(struct call *c, const struct wh_p9_msg *r)
{
	fuse_reply_write(c->req, r->count);
	call_end(c, -1);
	return 0;
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *f)
{
	struct call *c = begin(req, inode_of(ino));
	uint32_t max = m.msize - WH_P9_WRITE_HEAD_SIZE - 1;
	struct wh_p9_msg t = { .type = WH_P9_TWRITE,
			       .fid = (uint32_t)f->fh,
			       .offset = (uint64_t)offset,
			       .count = size < max ? (uint32_t)size : max,
			       .data = data };
	if (c)
		start(c, &t, write_done);
}

static int list_done(struct call *c, const struct wh_p9_msg *r)
{
	char *buffer = malloc(c->size + 1);
	size_t used = 0;
	uint32_t at = 0;
	struct wh_p9_dirent e;
	if (!buffer)
		return ENOMEM;
	while (at < r->count) {
		char name[256];
		int n = wh_p9_dirent_decode((const uint8_t *)r->data + at, r->count - at, &e);
		if (n <= 0 || e.name.size > 255)
			break;
		memcpy(name, e.name.text, e.name.size);
		name[e.name.size] = 0;
		struct stat st = { .st_ino = e.qid.path, .st_mode = (mode_t)e.type << 12 };
		size_t need = fuse_add_direntry(c->req, buffer + used, c->size - used, name, &st,
						(off_t)e.offset);
		if (need > c->size - used)
			break;
		used += need;
		at += (uint32_t)n;
	}
	fuse_reply_buf(c->req, buffer, used);
	free(buffer);
	call_end(c, -1);
	return 0;
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *f)
{
	struct call *c = begin(req, inode_of(ino));
	uint32_t max = m.msize - WH_P9_READ_HEAD_SIZE;
	struct wh_p9_msg t = { .type = WH_P9_TREADDIR,
			       .fid = (uint32_t)f->fh,
			       .offset = (uint64_t)offset,
			       .count = size < max ? (uint32_t)size : max };
	if (!c)
		return;
	c->size = (uint32_t)size;
	start(c, &t, list_done);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *f)
{
	fuse_reply_err(req, 0); /* a transaction is durable by its commit */
}

static const struct fuse_lowlevel_ops ops = { .lookup = op_lookup,
					      .forget = op_forget,
					      .getattr = op_getattr,
					      .setattr = op_setattr,
					      .readlink = op_readlink,
					      .mkdir = op_mkdir,
					      .symlink = op_symlink,
					      .unlink = op_unlink,
					      .rmdir = op_rmdir,
					      .rename = op_rename,
					      .open = op_open,
					      .create = op_create,
					      .release = op_release,
					      .read = op_read,
					      .write = op_write,
					      .opendir = op_open,
					      .readdir = op_readdir,
					      .releasedir = op_release,
					      .fsync = op_fsync };

/* ---- answers ---- */

static void answer(const uint8_t *data, size_t size)
{
	struct wh_p9_msg r;
	if (wh_p9_decode(WH_P9_DIALECT_2000L, data, size, &r) < 0 || r.tag >= CALLS ||
	    !m.calls[r.tag].used) {
		m.over = true;
		return;
	}
	struct call *c = &m.calls[r.tag];
	if (r.type == WH_P9_RLERROR && c->req)
		call_end(c, (int)r.error > 0 ? (int)r.error : EIO);
	else if (r.type != c->type + 1 && r.type != WH_P9_RLERROR)
		m.over = true;
	else {
		int error = c->then(c, &r);
		if (error)
			call_end(c, error);
	}
}

static void answers(void)
{
	ssize_t n = read(m.sock, m.in + m.in_size, WH_P9_MSIZE_MAX - m.in_size);
	if (n <= 0) {
		m.over = n == 0 || (errno != EINTR && errno != EAGAIN);
		return;
	}
	m.in_size += (size_t)n;
	size_t at = 0;
	while (!m.over && m.in_size - at >= WH_P9_HEADER_SIZE) {
		uint32_t size = wh_load_le32(m.in + at);
		if (size < WH_P9_HEADER_SIZE || size > WH_P9_MSIZE_MAX)
			m.over = true;
		if (m.over || size > m.in_size - at)
			break;
		answer(m.in + at, size);
		at += size;
	}
	memmove(m.in, m.in + at, m.in_size - at);
	m.in_size -= at;
}

/* ---- start ---- */

/* One exchange before anything runs. */
static int exchange(struct wh_p9_msg *t, struct wh_p9_msg *ret_r)
{
	int n = wh_p9_encode(WH_P9_DIALECT_2000L, t, m.in, WH_P9_MSIZE_MAX);
	if (n < 0 || wh_os_write_all(m.sock, m.in, (size_t)n) < 0 ||
	    wh_os_read_all(m.sock, m.in, 4) < 0)
		return -WH_EPROTO;
	uint32_t size = wh_load_le32(m.in);
	if (size < WH_P9_HEADER_SIZE || size > WH_P9_MSIZE_MAX ||
	    wh_os_read_all(m.sock, m.in + 4, size - 4) < 0 ||
	    wh_p9_decode(WH_P9_DIALECT_2000L, m.in, size, ret_r) < 0)
		return -WH_EPROTO;
	if (ret_r->type == WH_P9_RLERROR)
		return -(int)ret_r->error;
	return ret_r->type == t->type + 1 ? 0 : -WH_EPROTO;
}

static int attach(const char *branch)
{
	char aname[256] = "";
	struct wh_p9_msg r, v = { .type = WH_P9_TVERSION,
				  .tag = WH_P9_NOTAG,
				  .msize = MSIZE,
				  .name = wh_p9_str("9P2000.L", 8) };
	m.in = malloc(WH_P9_MSIZE_MAX);
	if (!m.in)
		return -WH_ENOMEM;
	int error = exchange(&v, &r);
	if (error < 0)
		return error;
	if (r.name.size != 8 || r.msize < WH_P9_MSIZE_MIN || r.msize > MSIZE)
		return -WH_EPROTO;
	m.msize = r.msize;
	if (branch)
		snprintf(aname, sizeof aname, "branch/%s", branch);
	const char *user = store_user();
	struct wh_p9_msg t = { .type = WH_P9_TATTACH,
			       .fid = 0,
			       .fid2 = WH_P9_NOFID,
			       .name = wh_p9_str(user, strlen(user)),
			       .name2 = wh_p9_str(aname, strlen(aname)),
			       .number = getuid() };
	return exchange(&t, &r);
}

static int connect_to(struct store_arguments *a, pid_t *ret_child)
{
	int pair[2];
	char where[32];
	if (!strncmp(a->operand[0], "unix:", 5)) {
		struct sockaddr_un u = { .sun_family = AF_UNIX };
		const char *path = a->operand[0] + 5;
		snprintf(u.sun_path, sizeof u.sun_path, "%s", path);
		m.sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		return m.sock < 0 || connect(m.sock, (struct sockaddr *)&u, sizeof u) ? -errno : 0;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	m.sock = pair[0];
	*ret_child = fork();
	if (!*ret_child) {
		close(pair[0]);
		setpgid(0, 0);
		snprintf(where, sizeof where, "fd:%d", pair[1]);
		a->listen[0] = where;
		a->listen_count = 1;
		_exit(store_serve(a));
	}
	close(pair[1]);
	return *ret_child < 0 ? -errno : 0;
}

static void loop(void)
{
	struct fuse_buf buffer = { .mem = NULL };
	while (!m.over && !fuse_session_exited(m.session)) {
		struct pollfd p[2] = { { .fd = fuse_session_fd(m.session), .events = POLLIN },
				       { .fd = m.sock, .events = POLLIN } };
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[1].revents)
			answers();
		if (!p[0].revents)
			continue;
		int n = fuse_session_receive_buf(m.session, &buffer);
		if (n > 0)
			fuse_session_process_buf(m.session, &buffer);
		else if (n != -EINTR && n != -EAGAIN)
			break;
	}
	free(buffer.mem);
}

int store_mount(struct store_arguments *a)
{
	char name[] = "wherry-store", option[] = "-o", options[64];
	char *argv[] = { name, option, options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	pid_t child = 0;
	snprintf(options, sizeof options, "fsname=wherry-store,subtype=wherry%s",
		 a->read_only ? ",ro" : "");
	signal(SIGPIPE, SIG_IGN);
	int error = connect_to(a, &child);
	if (error >= 0)
		error = attach(a->branch_said && strncmp(a->operand[0], "unix:", 5) ? a->branch
										    : NULL);
	if (error < 0) {
		if (child <= 0) /* the child has said why */
			cli_error("store: %s: %s", a->operand[0], strerror(-error));
		return CLI_ERROR;
	}
	m.session = fuse_session_new(&args, &ops, sizeof ops, NULL);
	if (!m.session || fuse_set_signal_handlers(m.session) ||
	    fuse_session_mount(m.session, a->operand[1])) {
		cli_error("store: %s cannot be mounted on (is there a /dev/fuse, and fusermount3?)",
			  a->operand[1]);
		return CLI_ERROR;
	}
	cli_print("mounted on %s", a->operand[1]);
	loop();
	fuse_session_unmount(m.session);
	fuse_remove_signal_handlers(m.session);
	fuse_session_destroy(m.session);
	fuse_opt_free_args(&args);
	close(m.sock);
	free(m.in);
	free(m.free_fids);
	for (unsigned i = 0; i < INODE_BUCKETS; i++)
		for (struct inode *n; (n = m.bucket[i]);) {
			m.bucket[i] = n->next;
			free(n);
		}
	if (m.over)
		cli_error("store: the server of %s is gone", a->operand[1]);
	return m.over ? CLI_ERROR : CLI_OK;
}
