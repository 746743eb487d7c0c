/* SPDX-License-Identifier: ISC */

/* Open files and directories of a 9P mount. */

#include "p9_priv.h"
#include <drv/virtio.h>
#include <kern/mem.h>
#include <wherry/base/errors.h>

#define BOUNCE_SIZE (16u << 10) /* for data that devices cannot reach */
#define READDIR_SIZE (8u << 10)

struct p9_file {
	struct fs_file file;
	uint32_t fid;
	bool own;
};

static struct p9_file *file_of(struct fs_file *f)
{
	return WH_CONTAINER_OF(f, struct p9_file, file);
}

/* One Tread or Twrite of at most `size` bytes; bytes moved. */
static int64_t move(struct fs_file *f, uint64_t offset, void *data, size_t size, bool writes)
{
	struct p9_node *n = p9_of(f->node);
	struct wh_p9_msg r, t = { .type = writes ? WH_P9_TWRITE : WH_P9_TREAD, .offset = offset };
	uint8_t answer[DRV_P9_ANSWER_SIZE], *bounce = NULL;
	uint32_t max = drv_p9_payload_max(p9_dev(n));
	t.fid = file_of(f)->fid;
	t.count = size < max ? (uint32_t)size : max;
	if (writes && !drv_in_ram(data, t.count)) {
		bounce = kern_alloc(BOUNCE_SIZE);
		if (!bounce)
			return -WH_ENOMEM;
		if (t.count > BOUNCE_SIZE)
			t.count = BOUNCE_SIZE;
		memcpy(bounce, data, t.count);
	}
	struct wh_iov payload = { bounce ? bounce : data, t.count };
	int e = drv_p9_call(p9_dev(n), &t, &payload, answer, sizeof answer, &r);
	kern_free(bounce, BOUNCE_SIZE);
	if (e < 0)
		return e;
	return r.count < t.count ? r.count : t.count;
}

static int64_t move_all(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			bool writes)
{
	int64_t done = 0;
	for (int i = 0; i < count; i++) {
		for (size_t at = 0; at < iov[i].size;) {
			int64_t n = move(f, offset, (uint8_t *)iov[i].base + at, iov[i].size - at,
					 writes);
			if (n <= 0)
				return done ? done : n;
			at += (size_t)n;
			offset += (uint64_t)n;
			done += n;
		}
	}
	return done;
}

static int64_t p9_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
		       bool nonblock)
{
	return move_all(f, iov, count, offset, false);
}

static int64_t p9_write(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			bool nonblock)
{
	return move_all(f, iov, count, offset, true);
}

/* 9P cannot reserve space; what can be seen of fallocate is the size. */
static int p9_allocate(struct fs_file *f, int mode, uint64_t offset, uint64_t size)
{
	if (mode)
		return -WH_EOPNOTSUPP;
	int64_t now = fs_file_size(f);
	if (now < 0 || (uint64_t)now >= offset + size)
		return now < 0 ? (int)now : 0;
	return fs_node_file_truncate(f, offset + size);
}

static int p9_sync(struct fs_file *f, bool data_only)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TFSYNC, .flags = data_only };
	t.fid = file_of(f)->fid;
	return p9_call(p9_of(f->node), &t, &r);
}

#define DIRENT_SIZE_MAX 288u /* one with the longest name, in either format */

/* Entries of one Treaddir into the caller's buffer; bytes put. */
static int convert(struct fs_file *f, const uint8_t *from, uint32_t from_size, void *to,
		   uint32_t size)
{
	struct wh_p9_dirent e;
	uint32_t used = 0;
	while (from_size) {
		int n = wh_p9_dirent_decode(from, from_size, &e);
		if (n <= 0)
			return n < 0 && !used ? -WH_EIO : (int)used;
		struct fs_name name = { e.name.text, e.name.size };
		if (!fs_dirent_put(to, size, &used, e.qid.path, e.offset, (uint32_t)e.type << 12,
				   name))
			return used ? (int)used : -WH_EINVAL;
		f->position = e.offset;
		from += n;
		from_size -= (uint32_t)n;
	}
	return (int)used;
}

static int p9_getdents(struct fs_file *f, void *buffer, uint32_t size)
{
	struct p9_node *n = p9_of(f->node);
	struct wh_p9_msg r, t = { .type = WH_P9_TREADDIR, .offset = f->position };
	uint8_t answer[DRV_P9_ANSWER_SIZE];
	uint32_t max = drv_p9_payload_max(p9_dev(n));
	struct wh_iov payload = { kern_alloc(READDIR_SIZE), READDIR_SIZE };
	if (!payload.base)
		return -WH_ENOMEM;
	t.fid = file_of(f)->fid;
	/* No more than surely fits (a name of 5 letters grows most, from 29 bytes to 32): going back in a
	 * folder while its files are removed misses some on hosts whose offsets are positions. */
	uint32_t fits = size / 32 * 29;
	t.count = READDIR_SIZE < max ? READDIR_SIZE : max;
	if (fits > DIRENT_SIZE_MAX && fits < t.count)
		t.count = fits;
	int e = drv_p9_call(p9_dev(n), &t, &payload, answer, sizeof answer, &r);
	if (e >= 0)
		e = convert(f, payload.base, r.count < t.count ? r.count : t.count, buffer, size);
	kern_free(payload.base, READDIR_SIZE);
	return e;
}

static void p9_release(struct fs_file *f)
{
	struct p9_file *p = file_of(f);
	struct p9_node *n = p9_of(f->node);
	if (p->own)
		drv_p9_clunk(p9_dev(n), p->fid);
	fs_node_unref(f->node);
	kern_free(p, sizeof *p);
}

/* A file shows its attributes through its open fid: also when it has been unlinked. */
static const struct fs_file_ops p9_file_ops = {
	.read = p9_read,
	.write = p9_write,
	.stat = fs_node_file_stat,
	.truncate = fs_node_file_truncate,
	.sync = p9_sync,
	.release = p9_release,
	.allocate = p9_allocate,
	.seekable = true,
	.kind = FS_KIND_NODE,
};

static int64_t dir_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			bool nonblock)
{
	return -WH_EISDIR;
}

static const struct fs_file_ops p9_dir_ops = {
	.read = dir_read,
	.stat = fs_node_file_stat,
	.sync = p9_sync,
	.getdents = p9_getdents,
	.release = p9_release,
	.seekable = true,
	.kind = FS_KIND_NODE,
};

int p9_file_new(struct p9_node *n, uint32_t fid, bool own, uint32_t flags,
		struct fs_file **ret_file)
{
	struct p9_file *p = kern_alloc(sizeof *p);
	if (!p)
		return -WH_ENOMEM;
	fs_file_init(&p->file, fs_node_is(&n->node, LX_S_IFDIR) ? &p9_dir_ops : &p9_file_ops,
		     flags);
	fs_node_ref(&n->node);
	p->file.node = &n->node;
	p->fid = fid;
	p->own = own;
	*ret_file = &p->file;
	return 0;
}
