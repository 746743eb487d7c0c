/* SPDX-License-Identifier: ISC */
/*
 * Images on top of each other. Those below are read only and never change, so a read asks one
 * after the other where its bytes are and then needs one operation of one file.
 */
#include "block_priv.h"

int block_chain_locate(struct wh_block *b, uint64_t offset, uint64_t max, uint32_t depth_max,
		       struct wh_block_request *q, struct block_place *ret_place)
{
	struct block_place p = { 0 };
	struct wh_block *at = b;
	for (uint32_t depth = 0;; depth++, at = at->backing) {
		wh_assert(max);
		if (offset >= at->size) { /* behind the end of a shorter image below */
			*ret_place = (struct block_place){
				.kind = BLOCK_ZERO, .size = max, .image = at, .depth = depth
			};
			return 0;
		}
		uint64_t here = at->size - offset < max ? at->size - offset : max;
		int r = at->ops->locate(at, offset, here, q, &p);
		if (r != 0)
			return r;
		p.image = at;
		p.depth = depth;
		if (p.kind != BLOCK_NOWHERE || depth == depth_max || !at->has_backing)
			break;
		if (!at->backing)
			return -WH_ENXIO;
		max = p.size;
	}
	*ret_place = p;
	return 0;
}

int block_chain_read(struct wh_block *b, struct wh_block_request *q, uint64_t offset, uint64_t size,
		     uint8_t *to)
{
	struct block_place p;
	int r = block_chain_locate(b, offset, size, WH_BLOCK_CHAIN_MAX, q, &p);
	if (r != 0)
		return r;
	switch (p.kind) {
	case BLOCK_DATA:
		if (to)
			block_prepare_memory(q, &p.image->data, WH_BLOCK_IO_READ, p.host, to,
					     p.size);
		else
			block_prepare(q, &p.image->data, WH_BLOCK_IO_READ, p.host, p.size);
		return BLOCK_SUBMIT;
	case BLOCK_PACKED:
		return p.image->ops->read_packed(p.image, q, &p, offset, to);
	default:
		if (to)
			memset(to, 0, p.size);
		else
			block_fill(q, 0, p.size);
		q->run = p.size;
		return BLOCK_AGAIN;
	}
}

int wh_block_map(struct wh_block *block, uint64_t offset, uint64_t size, uint32_t depth_max,
		 struct wh_block_extent *ret_extent)
{
	static const uint32_t flags[] = {
		[BLOCK_NOWHERE] = 0,
		[BLOCK_ZERO] = WH_BLOCK_MAP_PRESENT | WH_BLOCK_MAP_ZERO,
		[BLOCK_DATA] = WH_BLOCK_MAP_PRESENT | WH_BLOCK_MAP_DATA | WH_BLOCK_MAP_HOST,
		[BLOCK_PACKED] = WH_BLOCK_MAP_PRESENT | WH_BLOCK_MAP_DATA | WH_BLOCK_MAP_COMPRESSED
	};
	struct block_place p, more;
	uint64_t done;
	if (!size || !wh_range_inside(offset, size, block->size))
		return -WH_EINVAL;
	if (block->check_only)
		return -WH_EIO;
	int r = block_chain_locate(block, offset, size, depth_max, 0, &p);
	if (r < 0)
		return r;
	wh_assert(r == 0);
	/* What follows and is alike belongs to it. */
	for (done = p.size; done < size && p.kind != BLOCK_PACKED; done += more.size) {
		r = block_chain_locate(block, offset + done, size - done, depth_max, 0, &more);
		if (r != 0 || more.kind != p.kind || more.depth != p.depth ||
		    (p.kind == BLOCK_DATA ? more.host != p.host + done : !!more.host != !!p.host))
			break;
		if (p.kind == BLOCK_ZERO && p.host && more.host != p.host + done)
			break;
	}
	*ret_extent = (struct wh_block_extent){ .offset = offset,
						.size = done < size ? done : size,
						.flags = flags[p.kind],
						.depth = p.depth,
						.host = p.host,
						.image = p.image };
	if (p.kind == BLOCK_ZERO && p.host)
		ret_extent->flags |= WH_BLOCK_MAP_HOST;
	if (p.kind == BLOCK_NOWHERE && !p.image->has_backing)
		ret_extent->flags |= WH_BLOCK_MAP_ZERO;
	return 0;
}

/* ---- opening ---- */

int block_backing_open(struct wh_block *b, const struct wh_block_config *config, const char *name,
		       enum wh_block_format format, uint32_t depth, struct wh_diag *diag)
{
	const struct wh_block_resolver *resolver = config->resolver;
	struct wh_block_config c = *config;
	if (!resolver)
		return wh_diag_set(diag, -WH_EACCES,
				   "the image has a backing file (%s), which is not allowed here",
				   name);
	if (depth + 1 >= WH_BLOCK_CHAIN_MAX)
		return wh_diag_set(diag, -WH_ELOOP,
				   "more than %u images on top of each other (a loop?)",
				   WH_BLOCK_CHAIN_MAX);
	int r = resolver->open(resolver->ctx, WH_BLOCK_LINK_BACKING, &config->file, name, format,
			       true, &c.file, &c.format, diag);
	if (r < 0)
		return r;
	c.read_only = true;
	c.snapshot = 0;
	c.file.read_only = true;
	c.flags = 0;
	r = c.format == WH_BLOCK_FORMAT_NONE
		    ? wh_diag_set(diag, -WH_EINVAL,
				  "the format of the backing file %s is not recorded: say it with: "
				  "wherry disk rebase -u -F FORMAT",
				  name)
		    : block_open(&c, depth + 1, &b->backing, diag);
	if (r < 0) {
		resolver->close(resolver->ctx, &c.file);
		return r;
	}
	b->backing->file_is_own = true;
	return 0;
}
