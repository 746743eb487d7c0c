/* SPDX-License-Identifier: ISC */
#include "block_priv.h"

static int raw_next(struct wh_block *b, struct wh_block_request *q)
{
	static const enum wh_block_io_kind kinds[] = { [WH_BLOCK_READ] = WH_BLOCK_IO_READ,
						       [WH_BLOCK_WRITE] = WH_BLOCK_IO_WRITE,
						       [WH_BLOCK_FLUSH] = WH_BLOCK_IO_FLUSH,
						       [WH_BLOCK_DISCARD] = WH_BLOCK_IO_DISCARD,
						       [WH_BLOCK_WRITE_ZEROES] = WH_BLOCK_IO_ZERO };
	enum wh_block_io_kind kind;
	if (q->op == WH_BLOCK_QUIESCE)
		return BLOCK_DONE;
	kind = kinds[q->op];
	if (q->op != WH_BLOCK_FLUSH && q->at == q->size) {
		if (!(q->flags & WH_BLOCK_FUA) || q->step == 2 || q->op == WH_BLOCK_READ)
			return BLOCK_DONE;
		q->step = 2;
		block_prepare_memory(q, &b->file, WH_BLOCK_IO_FLUSH, 0, 0, 0);
		return BLOCK_SUBMIT;
	}
	if (kind == WH_BLOCK_IO_READ || kind == WH_BLOCK_IO_WRITE) {
		if (q->flags & WH_BLOCK_COMPRESS)
			return -WH_EOPNOTSUPP;
		block_prepare(q, &b->file, kind, q->offset + q->at, q->size - q->at);
		return BLOCK_SUBMIT;
	}
	if (q->step)
		return BLOCK_DONE;
	q->step = 1;
	block_prepare_memory(q, &b->file, kind, q->offset, 0, q->size);
	if (kind == WH_BLOCK_IO_FLUSH)
		q->io.size = 0;
	if (kind == WH_BLOCK_IO_ZERO)
		q->io.flags = (q->flags & WH_BLOCK_UNMAP ? WH_BLOCK_IO_UNMAP : 0) |
			      (q->flags & WH_BLOCK_FAST ? WH_BLOCK_IO_FAST : 0);
	return BLOCK_SUBMIT;
}

static int raw_after(struct wh_block *b, struct wh_block_request *q, int result)
{
	if (result < 0 && q->io.kind == WH_BLOCK_IO_FLUSH)
		b->failed = true;
	q->at += q->run;
	return result;
}

static int raw_locate(struct wh_block *b, uint64_t offset, uint64_t max, struct wh_block_request *q,
		      struct block_place *ret_place)
{
	struct block_place p = { .kind = BLOCK_DATA, .size = max, .host = offset };
	uint64_t size;
	bool data;
	if (!q && b->file.ops->map && b->file.ops->size(b->file.ctx, &size) >= 0) {
		/* Somebody asks what is where, instead of reading. */
		if (offset >= size) {
			p.kind = BLOCK_ZERO;
		} else {
			uint64_t n;
			if (max > size - offset)
				max = size - offset;
			int r = b->file.ops->map(b->file.ctx, offset, max, &data, &n);
			if (r < 0)
				return r;
			p.kind = data ? BLOCK_DATA : BLOCK_ZERO;
			p.size = n < max && n ? n : max;
		}
		/* In whole sectors: the last one may be cut by the end of the file. */
		p.size = wh_align_up(p.size, WH_BLOCK_SECTOR);
	}
	*ret_place = p;
	return 0;
}

static int raw_close(struct wh_block *b)
{
	if (b->read_only)
		return 0;
	return b->failed ? -WH_EIO : block_io_now(b, WH_BLOCK_IO_FLUSH, 0, 0, 0);
}

int block_raw_open(const struct wh_block_config *config, struct wh_block **ret_block,
		   struct wh_diag *diag)
{
	static const struct block_format_ops ops = {
		.next = raw_next, .after = raw_after, .close = raw_close, .locate = raw_locate
	};
	uint64_t size;
	int r = config->file.ops->size(config->file.ctx, &size);
	if (r < 0)
		return wh_diag_set(diag, r, "the size of the file is unknown");
	if (!size)
		return wh_diag_set(diag, -WH_EINVAL, "the disk is empty (0 bytes)");
	if (size > WH_BLOCK_SIZE_MAX)
		return wh_diag_set(diag, -WH_EFBIG, "the disk is too large");
	struct wh_block *b = wh_alloc_zero(config->alloc, sizeof *b);
	if (!b)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the disk");
	b->ops = &ops;
	b->file = b->data = config->file;
	b->alloc = config->alloc;
	b->alloc_size = sizeof *b;
	b->log = config->log;
	b->resolver = config->resolver;
	b->format = WH_BLOCK_FORMAT_RAW;
	b->size = wh_align_up(size,
			      WH_BLOCK_SECTOR); /* the rest of the last sector reads as zeroes */
	b->read_only = config->read_only;
	wh_list_init(&b->requests);
	wh_list_init(&b->waiting);
	wh_list_init(&b->parked);
	*ret_block = b;
	return 0;
}
