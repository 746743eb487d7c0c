/* SPDX-License-Identifier: ISC */
#include "block_priv.h"

static int raw_next(struct wh_block *b, struct wh_block_request *q)
{
	static const enum wh_block_io_kind kinds[] = { [WH_BLOCK_READ] = WH_BLOCK_IO_READ,
						       [WH_BLOCK_WRITE] = WH_BLOCK_IO_WRITE,
						       [WH_BLOCK_FLUSH] = WH_BLOCK_IO_FLUSH,
						       [WH_BLOCK_DISCARD] = WH_BLOCK_IO_DISCARD,
						       [WH_BLOCK_WRITE_ZEROES] = WH_BLOCK_IO_ZERO };
	enum wh_block_io_kind kind = kinds[q->op];
	if (q->step || (q->op != WH_BLOCK_FLUSH && q->at == q->size))
		return BLOCK_DONE;
	if (kind == WH_BLOCK_IO_READ || kind == WH_BLOCK_IO_WRITE) {
		block_prepare(q, kind, q->offset + q->at, q->size - q->at);
		return BLOCK_SUBMIT;
	}
	q->step = 1;
	q->io = (struct wh_block_io){ .kind = kind,
				      .flags = q->flags & WH_BLOCK_UNMAP ? WH_BLOCK_IO_UNMAP : 0,
				      .offset = q->offset,
				      .size = q->size };
	return BLOCK_SUBMIT;
}

static int raw_after(struct wh_block *b, struct wh_block_request *q, int result)
{
	q->at += q->run;
	return result;
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
	static const struct block_format_ops ops = { .next = raw_next,
						     .after = raw_after,
						     .close = raw_close };
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
	b->file = config->file;
	b->alloc = config->alloc;
	b->alloc_size = sizeof *b;
	b->log = config->log;
	b->format = WH_BLOCK_FORMAT_RAW;
	b->size = wh_align_up(size,
			      WH_BLOCK_SECTOR); /* the rest of the last sector reads as zeroes */
	b->lock_unit = WH_BLOCK_SECTOR;
	b->read_only = config->read_only;
	wh_list_init(&b->requests);
	*ret_block = b;
	return 0;
}
