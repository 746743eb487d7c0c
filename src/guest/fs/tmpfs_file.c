/* SPDX-License-Identifier: ISC */

/* Contents of tmpfs files: pages that are made when they are first written; what has no
 * page reads as the borrowed bytes, and behind them as zeroes. */

#include "tmpfs_priv.h"
#include <kern/mem.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

#define SIZE_MAX_FILE (1ull << 40) /* keeps page numbers in 32 bits */
#define FALLOC_KEEP_SIZE 1
#define FALLOC_PUNCH_HOLE 2
#define FALLOC_ZERO_RANGE 16

uint64_t tmpfs_pages_used;

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int grow_table(struct tmpfs_file *t, uint64_t needed)
{
	uint64_t max = t->page_max ? t->page_max : 4;
	while (max < needed)
		max *= 2;
	uint8_t **page = kern_alloc_zero(max * sizeof *page);
	if (!page)
		return -WH_ENOSPC;
	if (t->page_max)
		memcpy(page, t->page, t->page_max * sizeof *page);
	kern_free(t->page, t->page_max * sizeof *page);
	t->page = page;
	t->page_max = (uint32_t)max;
	return 0;
}

/* The page for writing; NULL = no space. */
static uint8_t *own_page(struct tmpfs_file *t, uint64_t index)
{
	uint64_t at = index * KERN_PAGE;
	if (index >= t->page_max && grow_table(t, index + 1) < 0)
		return NULL;
	if (t->page[index])
		return t->page[index];
	if (tmpfs_pages_used >= kern_pages_total_count() / 2)
		return NULL;
	uint8_t *p = kern_pages_alloc(1);
	if (!p)
		return NULL;
	if (at < t->base_size)
		memcpy(p, t->base + at, min64(KERN_PAGE, t->base_size - at));
	t->page[index] = p;
	t->page_count++;
	tmpfs_pages_used++;
	return p;
}

static void drop_page(struct tmpfs_file *t, uint64_t index)
{
	if (index >= t->page_max || !t->page[index])
		return;
	kern_pages_free(t->page[index], 1);
	t->page[index] = NULL;
	t->page_count--;
	tmpfs_pages_used--;
}

/* Copies out of one page; size does not cross its end. */
static void read_page(const struct tmpfs_file *t, uint64_t at, uint8_t *to, size_t size)
{
	uint64_t index = at / KERN_PAGE;
	if (index < t->page_max && t->page[index]) {
		memcpy(to, t->page[index] + at % KERN_PAGE, size);
		return;
	}
	size_t n = at < t->base_size ? min64(size, t->base_size - at) : 0;
	if (n)
		memcpy(to, t->base + at, n);
	memset(to + n, 0, size - n);
}

static int64_t file_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			 bool nonblock)
{
	struct tmpfs_file *t = &tmpfs_of(f->node)->file;
	int64_t done = 0;
	for (int i = 0; i < count; i++) {
		for (size_t part = 0; part < iov[i].size;) {
			if (offset >= t->size)
				return done;
			size_t n = min64(iov[i].size - part, t->size - offset);
			/* Borrowed bytes are contiguous: one copy for a file never written. */
			if (t->page_count || offset >= t->base_size)
				n = min64(n, KERN_PAGE - offset % KERN_PAGE);
			else
				n = min64(n, t->base_size - offset);
			read_page(t, offset, (uint8_t *)iov[i].base + part, n);
			part += n;
			offset += n;
			done += (int64_t)n;
		}
	}
	return done;
}

static int64_t file_peek(struct fs_file *f, uint64_t offset, const void **ret_bytes)
{
	static uint8_t zeroes[KERN_PAGE]; /* in .bss, not in the image; never written */
	struct tmpfs_file *t = &tmpfs_of(f->node)->file;
	uint64_t index = offset / KERN_PAGE, in_page = offset % KERN_PAGE;
	if (offset >= t->size)
		return 0;
	uint64_t n = min64(KERN_PAGE - in_page, t->size - offset);
	if (index < t->page_max && t->page[index]) {
		*ret_bytes = t->page[index] + in_page;
	} else if (offset < t->base_size) {
		*ret_bytes = t->base + offset;
		n = t->page_count ? min64(n, t->base_size - offset) : t->base_size - offset;
	} else {
		*ret_bytes = zeroes;
	}
	return (int64_t)n;
}

static int64_t file_write(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			  bool nonblock)
{
	struct tmpfs_node *node = tmpfs_of(f->node);
	struct tmpfs_file *t = &node->file;
	int64_t done = 0;
	for (int i = 0; i < count; i++) {
		for (size_t part = 0; part < iov[i].size;) {
			size_t n = min64(iov[i].size - part, KERN_PAGE - offset % KERN_PAGE);
			if (offset >= SIZE_MAX_FILE)
				return done ? done : -WH_EFBIG;
			uint8_t *p = own_page(t, offset / KERN_PAGE);
			if (!p)
				return done ? done : -WH_ENOSPC;
			memcpy(p + offset % KERN_PAGE, (uint8_t *)iov[i].base + part, n);
			part += n;
			offset += n;
			done += (int64_t)n;
			if (offset > t->size)
				t->size = offset;
		}
	}
	if (done)
		tmpfs_touch(node);
	return done;
}

static int64_t file_size(struct fs_file *f)
{
	return (int64_t)tmpfs_of(f->node)->file.size;
}

static int file_sync(struct fs_file *f, bool data_only)
{
	return 0;
}

/* Makes [from, to) read as zeroes. */
static int zero(struct tmpfs_file *t, uint64_t from, uint64_t to)
{
	to = min64(to, t->size);
	while (from < to) {
		uint64_t index = from / KERN_PAGE;
		size_t n = min64(to - from, KERN_PAGE - from % KERN_PAGE);
		bool covered = from < t->base_size;
		if (n == KERN_PAGE && !covered) {
			drop_page(t, index);
		} else if (covered || (index < t->page_max && t->page[index])) {
			uint8_t *p = own_page(t, index);
			if (!p)
				return -WH_ENOSPC;
			memset(p + from % KERN_PAGE, 0, n);
		}
		from += n;
	}
	return 0;
}

int tmpfs_file_resize(struct tmpfs_node *n, uint64_t size)
{
	struct tmpfs_file *t = &n->file;
	if (size > SIZE_MAX_FILE)
		return -WH_EFBIG;
	if (size < t->size) {
		uint64_t keep = (size + KERN_PAGE - 1) / KERN_PAGE;
		for (uint64_t i = keep; i < t->page_max && t->page_count; i++)
			drop_page(t, i);
		if (size % KERN_PAGE && keep <= t->page_max && t->page[keep - 1])
			memset(t->page[keep - 1] + size % KERN_PAGE, 0,
			       KERN_PAGE - size % KERN_PAGE);
		t->base_size = min64(t->base_size, size);
	}
	t->size = size;
	tmpfs_touch(n);
	return 0;
}

static int file_allocate(struct fs_file *f, int mode, uint64_t offset, uint64_t size)
{
	struct tmpfs_node *n = tmpfs_of(f->node);
	uint64_t end = offset + size;
	if (mode & ~(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE))
		return -WH_EOPNOTSUPP;
	if (end > SIZE_MAX_FILE)
		return -WH_EFBIG;
	if (mode & FALLOC_PUNCH_HOLE && !(mode & FALLOC_KEEP_SIZE))
		return -WH_EOPNOTSUPP;
	if (mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE)) {
		int r = zero(&n->file, offset, end);
		if (r < 0)
			return r;
	}
	if (!(mode & FALLOC_KEEP_SIZE) && end > n->file.size)
		n->file.size = end;
	tmpfs_touch(n);
	return 0;
}

void tmpfs_file_fini(struct tmpfs_node *n)
{
	(void)tmpfs_file_resize(n, 0); /* to zero: cannot fail */
	wh_assert(!n->file.page_count);
	kern_free(n->file.page, n->file.page_max * sizeof *n->file.page);
}

static const struct fs_file_ops regular_ops = {
	.read = file_read,
	.write = file_write,
	.stat = fs_node_file_stat,
	.truncate = fs_node_file_truncate,
	.sync = file_sync,
	.release = fs_node_file_release,
	.size = file_size,
	.allocate = file_allocate,
	.peek = file_peek,
	.seekable = true,
	.kind = FS_KIND_NODE,
};

int tmpfs_file_open(struct fs_node *n, uint32_t flags, struct fs_file **ret_file)
{
	return fs_node_file_new(n, &regular_ops, flags, ret_file);
}
