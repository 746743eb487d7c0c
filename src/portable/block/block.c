/* SPDX-License-Identifier: ISC */
/*
 * Requests: checked, put in order of submission, run piece by piece. A request runs when no
 * earlier one that is still in flight overlaps it (in bytes of the disk), unless both only read.
 * A flush waits for nobody: it covers what was answered before. A request that the
 * format cannot go on with (another one changes the same cluster; metadata is being
 * written) is parked until the format calls block_unpark.
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

int block_open(const struct wh_block_config *config, uint32_t depth, struct wh_block **ret_block,
	       struct wh_diag *diag)
{
	wh_assert(config->size == sizeof *config);
	if (config->file.read_only && !config->read_only)
		return wh_diag_set(diag, -WH_EROFS, "the file is open for reading only");
	if (config->snapshot && !config->read_only)
		return wh_diag_set(diag, -WH_EROFS, "a snapshot can only be read");
	switch (config->format) {
	case WH_BLOCK_FORMAT_RAW:
		if (config->snapshot)
			return wh_diag_set(diag, -WH_EINVAL, "a raw disk has no snapshots");
		return block_raw_open(config, ret_block, diag);
	case WH_BLOCK_FORMAT_QCOW2:
		return block_qcow2_open(config, depth, ret_block, diag);
	default:
		return wh_diag_set(diag, -WH_EINVAL, "no format was given");
	}
}

int wh_block_open(const struct wh_block_config *config, struct wh_block **ret_block,
		  struct wh_diag *diag)
{
	return block_open(config, 0, ret_block, diag);
}

int wh_block_close(struct wh_block *block)
{
	int result = 0;
	/* The images below were only read: their errors are none of ours. */
	while (block) {
		struct wh_block *below = block->backing;
		const struct wh_block_resolver *resolver = block->resolver;
		struct wh_block_file file = block->file;
		bool own = block->file_is_own;
		wh_assert(wh_list_empty(&block->requests) && !block->background);
		wh_assert(!block->bounces);
		int r = block->ops->close(block);
		if (r < 0 && !own)
			result = r;
		if (block->data_is_own)
			resolver->close(resolver->ctx, &block->data);
		wh_free(block->alloc, block, block->alloc_size);
		if (own)
			resolver->close(resolver->ctx, &file);
		block = below;
	}
	return result;
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
	return block->backing;
}

const struct wh_block_file *wh_block_data_file(const struct wh_block *block)
{
	return &block->data;
}

uint64_t wh_block_size(const struct wh_block *block)
{
	return block->size;
}

bool wh_block_read_only(const struct wh_block *block)
{
	return block->read_only;
}

int block_file_now(struct wh_block *b, const struct wh_block_file *file, enum wh_block_io_kind kind,
		   uint32_t flags, uint64_t offset, void *data, uint64_t size)
{
	struct wh_iov v = { data, size };
	struct wh_block_io io = { .kind = kind,
				  .flags = flags | WH_BLOCK_IO_NOW,
				  .offset = offset,
				  .size = size,
				  .iov = &v,
				  .iov_count = data ? 1 : 0 };
	int r = file->ops->submit(file->ctx, &io);
	wh_assert(r <= 0);
	if (r < 0 && kind == WH_BLOCK_IO_FLUSH)
		b->failed = true;
	return r;
}

void block_prepare(struct wh_block_request *q, const struct wh_block_file *file,
		   enum wh_block_io_kind kind, uint64_t host, uint64_t size)
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
	q->file = file;
	q->io.kind = kind;
	q->io.flags = 0;
	q->io.offset = host;
	q->io.size = q->run;
	q->io.iov = q->slice;
	q->io.iov_count = n;
}

void block_prepare_memory(struct wh_block_request *q, const struct wh_block_file *file,
			  enum wh_block_io_kind kind, uint64_t host, void *memory, uint64_t size)
{
	q->slice[0] = (struct wh_iov){ memory, size };
	q->run = size;
	q->file = file;
	q->io.kind = kind;
	q->io.flags = 0;
	q->io.offset = host;
	q->io.size = size;
	q->io.iov = q->slice;
	q->io.iov_count = memory ? 1 : 0;
}

void block_fill(struct wh_block_request *q, const uint8_t *from, uint64_t size)
{
	uint64_t skip = q->at;
	for (uint32_t i = 0; i < q->iov_count && size; i++) {
		const struct wh_iov *v = &q->iov[i];
		if (skip >= v->size) {
			skip -= v->size;
			continue;
		}
		uint64_t n = v->size - skip < size ? v->size - skip : size;
		if (from) {
			memcpy((uint8_t *)v->base + skip, from, n);
			from += n;
		} else {
			memset((uint8_t *)v->base + skip, 0, n);
		}
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

static bool exclusive(const struct wh_block_request *q)
{
	return q->op == WH_BLOCK_QUIESCE;
}

/* Does an earlier request exclude q? */
static bool must_wait(const struct wh_block *b, const struct wh_block_request *q)
{
	if (b->quiesced)
		return !q->now;
	if (exclusive(q) && (q->node.prev != &b->requests || b->background))
		return true;
	for (struct wh_list *n = q->node.prev; n != &b->requests; n = n->prev) {
		const struct wh_block_request *e = WH_LIST_ENTRY(n, struct wh_block_request, node);
		if (exclusive(e))
			return true;
		if (q->op == WH_BLOCK_FLUSH || e->op == WH_BLOCK_FLUSH || (reads(e) && reads(q)))
			continue;
		if (e->offset < q->offset + q->size && q->offset < e->offset + e->size)
			return true;
	}
	return false;
}

static void run(struct wh_block_request *q);

static void finish(struct wh_block_request *q, int result)
{
	struct wh_block *b = q->block;
	bool quiesce = exclusive(q);
	wh_assert(!q->bounce && !q->packed && !q->holds);
	wh_list_remove(&q->node);
	b->changed = true;
	b->quiesced |= quiesce;
	q->done(q, result);
	if (quiesce) {
		b->quiesced = false;
		b->changed = true;
	}
}

/* Starts what may start; the outermost caller loops, so that the stack stays flat. */
void block_pump(struct wh_block *b)
{
	if (b->pumping)
		return;
	b->pumping = true;
	while (b->changed) {
		b->changed = false;
		for (struct wh_list *n = b->waiting.next; n != &b->waiting;) {
			struct wh_block_request *q =
				WH_LIST_ENTRY(n, struct wh_block_request, parked);
			n = n->next;
			if (must_wait(b, q))
				continue;
			wh_list_remove(&q->parked);
			run(q);
			b->changed = true; /* the list may be another one now */
			break;
		}
	}
	b->pumping = false;
}

void block_unpark(struct wh_block *b)
{
	struct wh_list *n;
	while ((n = wh_list_pop_front(&b->parked)))
		wh_list_push_back(&b->waiting, n);
	b->changed = true;
}

int block_idle(const struct wh_block *b)
{
	return b->quiesced || (wh_list_empty(&b->requests) && !b->background) ? 0 : -WH_EBUSY;
}

uint64_t block_oldest(const struct wh_block *b)
{
	if (b->quiesced) /* those in the list have not begun */
		return b->next_number;
	WH_LIST_FOR_EACH(n, &b->requests) {
		const struct wh_block_request *q = WH_LIST_ENTRY(n, struct wh_block_request, node);
		if (q->op != WH_BLOCK_FLUSH && !q->syncing)
			return q->number;
	}
	return b->next_number;
}

static int after(struct wh_block_request *q, int result)
{
	if (q->table_of)
		return q->table_of->ops->after_table(q->table_of, q, result);
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
	block_pump(b);
}

static void run(struct wh_block_request *q)
{
	struct wh_block *b = q->block;
	for (;;) {
		int r = b->ops->next(b, q);
		if (r == BLOCK_AGAIN)
			continue;
		if (r == BLOCK_PARK) {
			wh_list_push_back(&b->parked, &q->parked);
			return;
		}
		if (r == BLOCK_SUBMIT) {
			q->io.done = io_done;
			q->io.ctx = q;
			if (q->now)
				q->io.flags |= WH_BLOCK_IO_NOW;
			r = q->file->ops->submit(q->file->ctx, &q->io);
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
	if ((unsigned)q->op > WH_BLOCK_QUIESCE)
		return -WH_EINVAL;
	if (exclusive(q))
		return 0;
	if (b->check_only)
		return -WH_EIO;
	if (b->no_data && q->op != WH_BLOCK_FLUSH)
		return -WH_ENXIO;
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

static void submit(struct wh_block *b, struct wh_block_request *q, bool now)
{
	q->block = b;
	q->table_of = 0;
	q->at = q->run = q->host = q->plain_at = 0;
	q->step = q->new_count = 0;
	q->bounce = q->packed = q->table = 0;
	q->now = now;
	q->syncing = q->holds = false;
	wh_list_init(&q->node);
	wh_list_init(&q->parked);
	int r = check(b, q);
	if (r < 0 || (!q->size && q->op < WH_BLOCK_QUIESCE && q->op != WH_BLOCK_FLUSH)) {
		q->done(q, r);
		return;
	}
	q->number = b->next_number++;
	wh_list_push_back(&b->requests, &q->node);
	if (must_wait(b, q)) {
		wh_list_push_back(&b->waiting, &q->parked);
		return;
	}
	if (exclusive(q))
		finish(q, 0);
	else
		run(q);
	if (b->changed)
		block_pump(b);
}

void wh_block_submit(struct wh_block *b, struct wh_block_request *q)
{
	submit(b, q, false);
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
	if (op == WH_BLOCK_QUIESCE)
		return -WH_EINVAL;
	if (block_idle(block) < 0)
		return -WH_EBUSY;
	submit(block, &q, true);
	wh_assert(result <= 0);
	return result;
}
