/* SPDX-License-Identifier: ISC */
/*
 * Requests: checked, put in order of submission, run piece by piece. A request runs when
 * no earlier one that is still in flight overlaps it (by lock units), unless both only read.
 * A flush waits for nobody: it covers what was answered before.
 */
#include "block_priv.h"

const char *wh_block_format_name(enum wh_block_format format)
{
	static const char *const names[] = { "none", "raw", "qcow2" };
	_Static_assert(WH_ARRAY_COUNT(names) == WH_BLOCK_FORMAT_QCOW2 + 1, "one name a format");
	return (unsigned)format < WH_ARRAY_COUNT(names) ? names[format] : "?";
}

enum wh_block_format wh_block_format_parse(const char *name)
{
	if (wh_streq(name, "raw"))
		return WH_BLOCK_FORMAT_RAW;
	return wh_streq(name, "qcow2") ? WH_BLOCK_FORMAT_QCOW2 : WH_BLOCK_FORMAT_NONE;
}

int wh_block_looks_like(const struct wh_block_file *file, enum wh_block_format *ret_format)
{
	uint8_t magic[4] = { 0 };
	struct wh_iov v = { magic, sizeof magic };
	struct wh_block_io io = { .kind = WH_BLOCK_IO_READ,
				  .flags = WH_BLOCK_IO_NOW,
				  .size = sizeof magic,
				  .iov = &v,
				  .iov_count = 1 };
	int r = file->ops->submit(file->ctx, &io);
	if (r < 0)
		return r;
	*ret_format = memcmp(magic, "QFI\xfb", 4) ? WH_BLOCK_FORMAT_NONE : WH_BLOCK_FORMAT_QCOW2;
	return 0;
}

int wh_block_open(const struct wh_block_config *config, struct wh_block **ret_block,
		  struct wh_diag *diag)
{
	wh_assert(config->size == sizeof *config);
	if (config->snapshot || config->flags)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "snapshots and open flags are not supported yet");
	if (config->file.read_only && !config->read_only)
		return wh_diag_set(diag, -WH_EROFS, "the file is open for reading only");
	switch (config->format) {
	case WH_BLOCK_FORMAT_RAW:
		return block_raw_open(config, ret_block, diag);
	case WH_BLOCK_FORMAT_QCOW2:
		return block_qcow2_open(config, ret_block, diag);
	default:
		return wh_diag_set(diag, -WH_EINVAL, "no format was given");
	}
}

int wh_block_close(struct wh_block *block)
{
	if (!block)
		return 0;
	wh_assert(wh_list_empty(&block->requests));
	int r = block->ops->close(block);
	wh_free(block->alloc, block, block->alloc_size);
	return r;
}

void wh_block_info(struct wh_block *block, struct wh_block_info *ret_info)
{
	*ret_info = (struct wh_block_info){ .format = block->format,
					    .read_only = block->read_only,
					    .size = block->size,
					    .backing_name = "",
					    .data_file_name = "" };
	(void)block->file.ops->size(block->file.ctx, &ret_info->file_size); /* stays 0 */
	if (block->ops->info)
		block->ops->info(block, ret_info);
}

struct wh_block *wh_block_backing(struct wh_block *block)
{
	return 0;
}

const struct wh_block_file *wh_block_data_file(const struct wh_block *block)
{
	return &block->file;
}

uint64_t wh_block_size(const struct wh_block *block)
{
	return block->size;
}

bool wh_block_read_only(const struct wh_block *block)
{
	return block->read_only;
}

int block_io_now(struct wh_block *b, enum wh_block_io_kind kind, uint64_t offset, void *data,
		 uint64_t size)
{
	struct wh_iov v = { data, size };
	struct wh_block_io io = { .kind = kind,
				  .flags = WH_BLOCK_IO_NOW,
				  .offset = offset,
				  .size = size,
				  .iov = &v,
				  .iov_count = data ? 1 : 0 };
	int r = b->file.ops->submit(b->file.ctx, &io);
	wh_assert(r <= 0);
	if (r < 0 && kind == WH_BLOCK_IO_FLUSH)
		b->failed = true;
	return r;
}

void block_prepare(struct wh_block_request *q, enum wh_block_io_kind kind, uint64_t host,
		   uint64_t size)
{
	uint64_t skip = q->at, left = size;
	uint32_t n = 0;
	for (uint32_t i = 0; i < q->iov_count && left && n < WH_BLOCK_IOV_SLICE; i++) {
		const struct wh_iov *v = &q->iov[i];
		if (skip >= v->size) {
			skip -= v->size;
			continue;
		}
		uint64_t take = v->size - skip < left ? v->size - skip : left;
		q->slice[n++] = (struct wh_iov){ (uint8_t *)v->base + skip, take };
		skip = 0;
		left -= take;
	}
	wh_assert(n && (!left || n == WH_BLOCK_IOV_SLICE));
	q->run = size - left;
	q->io = (struct wh_block_io){
		.kind = kind, .offset = host, .size = q->run, .iov = q->slice, .iov_count = n
	};
}

void block_fill_zero(struct wh_block_request *q, uint64_t size)
{
	uint64_t skip = q->at;
	for (uint32_t i = 0; i < q->iov_count && size; i++) {
		const struct wh_iov *v = &q->iov[i];
		if (skip >= v->size) {
			skip -= v->size;
			continue;
		}
		uint64_t n = v->size - skip < size ? v->size - skip : size;
		memset((uint8_t *)v->base + skip, 0, n);
		skip = 0;
		size -= n;
	}
	wh_assert(!size);
}

/* ---- requests ---- */

static bool reads(const struct wh_block_request *q)
{
	return q->op == WH_BLOCK_READ;
}

/* Does an earlier request exclude q? */
static bool must_wait(const struct wh_block *b, const struct wh_block_request *q)
{
	if (q->op == WH_BLOCK_FLUSH)
		return false;
	for (struct wh_list *n = q->node.prev; n != &b->requests; n = n->prev) {
		const struct wh_block_request *e = WH_LIST_ENTRY(n, struct wh_block_request, node);
		if (e->op == WH_BLOCK_FLUSH || (reads(e) && reads(q)))
			continue;
		if (e->lock_start < q->lock_end && q->lock_start < e->lock_end)
			return true;
	}
	return false;
}

static void run(struct wh_block_request *q);

static void finish(struct wh_block_request *q, int result)
{
	struct wh_block *b = q->block;
	wh_list_remove(&q->node);
	b->changed = true;
	q->done(q, result);
}

/* Starts what may start; the outermost caller loops, so that the stack stays flat. */
static void pump(struct wh_block *b)
{
	if (b->pumping)
		return;
	b->pumping = true;
	while (b->changed) {
		b->changed = false;
		WH_LIST_FOR_EACH(n, &b->requests) {
			struct wh_block_request *q =
				WH_LIST_ENTRY(n, struct wh_block_request, node);
			if (!q->waiting || must_wait(b, q))
				continue;
			q->waiting = false;
			run(q);
			b->changed = true; /* the list may be another one now */
			break;
		}
	}
	b->pumping = false;
}

static int after(struct wh_block_request *q, int result)
{
	if (result < 0 && q->io.kind == WH_BLOCK_IO_FLUSH)
		q->block->failed = true;
	return q->block->ops->after(q->block, q, result);
}

static void io_done(struct wh_block_io *io, int result)
{
	struct wh_block_request *q = io->ctx;
	struct wh_block *b = q->block;
	int r = after(q, result);
	if (r < 0)
		finish(q, r);
	else
		run(q);
	pump(b);
}

static void run(struct wh_block_request *q)
{
	struct wh_block *b = q->block;
	for (;;) {
		int r = b->ops->next(b, q);
		if (r == BLOCK_AGAIN)
			continue;
		if (r == BLOCK_SUBMIT) {
			q->io.done = io_done;
			q->io.ctx = q;
			r = b->file.ops->submit(b->file.ctx, &q->io);
			if (r == WH_BLOCK_LATER)
				return;
			r = after(q, r);
			if (r >= 0)
				continue;
		}
		finish(q, r);
		return;
	}
}

static int check(const struct wh_block *b, const struct wh_block_request *q)
{
	bool data = q->op == WH_BLOCK_READ || q->op == WH_BLOCK_WRITE;
	if ((unsigned)q->op > WH_BLOCK_WRITE_ZEROES)
		return -WH_EINVAL;
	if (q->flags & (WH_BLOCK_FUA | WH_BLOCK_FAST | WH_BLOCK_COMPRESS))
		return -WH_EOPNOTSUPP;
	if (!reads(q) && b->failed)
		return -WH_EIO;
	if (q->op == WH_BLOCK_FLUSH)
		return 0;
	if (!reads(q) && b->read_only)
		return -WH_EROFS;
	if (q->offset % WH_BLOCK_SECTOR || q->size % WH_BLOCK_SECTOR ||
	    !wh_range_inside(q->offset, q->size, b->size))
		return -WH_EINVAL;
	if (data && (q->size > WH_BLOCK_REQUEST_MAX || wh_iov_size(q->iov, q->iov_count) < q->size))
		return -WH_EINVAL;
	return 0;
}

void wh_block_submit(struct wh_block *b, struct wh_block_request *q)
{
	q->block = b;
	q->at = q->run = q->host = 0;
	q->step = q->new_count = 0;
	q->waiting = false;
	wh_list_init(&q->node);
	int r = check(b, q);
	if (r < 0 || (!q->size && q->op != WH_BLOCK_FLUSH)) {
		q->done(q, r);
		return;
	}
	q->lock_start = q->offset / b->lock_unit * b->lock_unit;
	q->lock_end = (q->offset + q->size + b->lock_unit - 1) / b->lock_unit * b->lock_unit;
	wh_list_push_back(&b->requests, &q->node);
	if (must_wait(b, q)) {
		q->waiting = true;
		return;
	}
	run(q);
	pump(b);
}

static void do_done(struct wh_block_request *q, int result)
{
	*(int *)q->ctx = result;
}

int wh_block_do(struct wh_block *block, enum wh_block_op op, uint64_t offset, void *data,
		uint64_t size, uint32_t flags)
{
	int result = 1;
	struct wh_iov v = { data, size };
	struct wh_block_request q = { .op = op,
				      .flags = flags,
				      .offset = offset,
				      .size = size,
				      .iov = &v,
				      .iov_count = data ? 1 : 0,
				      .done = do_done,
				      .ctx = &result };
	wh_block_submit(block, &q);
	wh_assert(result <= 0);
	return result;
}
