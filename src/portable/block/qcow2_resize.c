/* SPDX-License-Identifier: ISC */
/* Another size of the disk; other changes of the header. */
#include "qcow2_priv.h"

static int ready(struct wh_block *b, struct wh_diag *diag)
{
	if (b->read_only || b->check_only)
		return wh_diag_set(diag, -WH_EROFS, "the image is open for reading only");
	int r = block_idle(b);
	if (r < 0)
		return wh_diag_set(diag, r, "requests are in flight");
	if (b->failed)
		return wh_diag_set(diag, -WH_EIO, "the file failed before");
	if (b->format != WH_BLOCK_FORMAT_QCOW2)
		return 0;
	r = qcow2_touch(qcow2_of(b));
	if (r >= 0)
		r = qcow2_settle(qcow2_of(b));
	return r < 0 ? wh_diag_set(diag, r, "the image cannot be written") : 0;
}

static int raw_resize(struct wh_block *b, uint64_t size)
{
	int r = block_io_now(b, WH_BLOCK_IO_RESIZE, size, 0, 0);
	if (r >= 0)
		r = block_io_now(b, WH_BLOCK_IO_FLUSH, 0, 0, 0);
	if (r >= 0)
		b->size = size;
	return r;
}

/* Zeroes of [offset, end), which may lie behind the end that the header still says. */
static int zero_range(struct wh_block *b, uint64_t offset, uint64_t end, uint64_t size)
{
	uint64_t old = b->size;
	int r = 0;
	b->size = size;
	/* Piece by piece: a request has a limit in no direction, but progress is good to have. */
	while (offset < end && r >= 0) {
		uint64_t n = end - offset < 1u << 30 ? end - offset : 1u << 30;
		r = wh_block_do(b, WH_BLOCK_WRITE_ZEROES, offset, 0, n, WH_BLOCK_UNMAP);
		offset += n;
	}
	b->size = old;
	return r;
}

/* A longer L1 table, still with the old size. */
static int grow_l1(struct qcow2 *s, uint64_t needed)
{
	uint64_t size = needed > s->l1_size + s->l1_size / 2 ? needed : s->l1_size + s->l1_size / 2;
	if (size * 8 > QCOW2_L1_BYTES_MAX)
		size = needed;
	uint64_t *l1 = wh_alloc_zero(s->b.alloc, size * sizeof *l1);
	if (!l1)
		return -WH_ENOMEM;
	if (s->l1_size)
		memcpy(l1, s->l1, s->l1_size * sizeof *l1);
	int r = qcow2_use_l1(s, l1, (uint32_t)size, s->b.size);
	wh_free(s->b.alloc, l1, size * sizeof *l1);
	if (r < 0)
		return r;
	r = qcow2_settle(s);
	return r < 0 ? r : qcow2_reload(s);
}

static int grow(struct qcow2 *s, uint64_t size)
{
	struct wh_block *b = &s->b;
	uint64_t old = b->size, mask = s->cluster_size - 1,
		 per_l1 = s->l2_entries << s->cluster_bits;
	uint64_t needed = size / per_l1 + !!(size % per_l1);
	int r = needed > s->l1_size ? grow_l1(s, needed) : 0;
	if (r < 0)
		return r;
	/* What a cluster held behind the old end, and what is below there, must not show. */
	uint64_t end = (old + mask) & ~mask, shown = b->backing ? wh_block_size(b->backing) : 0;
	end = end < size ? end : size;
	if (shown > end)
		end = shown < size ? shown : size;
	if (old < end)
		r = zero_range(b, old, end, size);
	if (r >= 0 && s->data_raw)
		r = block_file_now(b, &b->data, WH_BLOCK_IO_RESIZE, 0, size, 0, 0);
	return r < 0 ? r : qcow2_settle(s);
}

/* Clusters behind the new end go, as far as they are whole. */
static int shrink(struct qcow2 *s, uint64_t size)
{
	uint64_t mask = s->cluster_size - 1, at = (size + mask) & ~mask;
	int r = 0;
	while (at < s->b.size && r >= 0) {
		uint64_t n = s->b.size - at < 1u << 30 ? s->b.size - at : 1u << 30;
		r = wh_block_do(&s->b, WH_BLOCK_DISCARD, at, 0, n, 0);
		at += n;
	}
	return r < 0 ? r : qcow2_settle(s);
}

static int qcow2_resize(struct qcow2 *s, uint64_t size, struct wh_diag *diag)
{
	if (s->snapshot_count && s->version < 3)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "an image of version 2 with snapshots has one size for all");
	if (size / s->cluster_size / s->l2_entries * 8 >= QCOW2_L1_BYTES_MAX)
		return wh_diag_set(diag, -WH_EFBIG,
				   "the disk is too large for clusters of %llu bytes",
				   (unsigned long long)s->cluster_size);
	/* Bitmaps are of a disk of another size then: none is true. */
	int r = s->bitmap_count && size != s->b.size ? qcow2_invalidate_bitmaps(s, true) : 0;
	if (r >= 0 && size > s->b.size)
		r = grow(s, size);
	bool less = size < s->b.size;
	if (r >= 0 && less) /* while the old size still counts: its L2 tables are inside */
		r = shrink(s, size);
	if (r >= 0)
		r = qcow2_header_store64(s, QCOW2_H_SIZE, size);
	if (r >= 0)
		r = qcow2_barrier(s, QCOW2_BARRIER_SIZE);
	if (r >= 0)
		s->b.size = size;
	if (r >= 0 && less && s->data_raw)
		r = block_file_now(&s->b, &s->b.data, WH_BLOCK_IO_RESIZE, 0, size, 0, 0);
	return r < 0 ? wh_diag_set(diag, r, "the image cannot be written") : 0;
}

int wh_block_resize(struct wh_block *block, uint64_t size, uint32_t flags, struct wh_diag *diag)
{
	int r = ready(block, diag);
	if (r < 0)
		return r;
	if (size % WH_BLOCK_SECTOR || !size)
		return wh_diag_set(diag, -WH_EINVAL, "a size is a multiple of %u bytes",
				   WH_BLOCK_SECTOR);
	if (size > WH_BLOCK_SIZE_MAX)
		return wh_diag_set(diag, -WH_EFBIG, "the disk is too large");
	if (size < block->size && !(flags & WH_BLOCK_SHRINK))
		return wh_diag_set(diag, -WH_EINVAL,
				   "the disk would become smaller and lose what is behind its new "
				   "end; say --shrink if that is meant");
	if (block->format == WH_BLOCK_FORMAT_QCOW2)
		return qcow2_resize(qcow2_of(block), size, diag);
	r = raw_resize(block, size);
	return r < 0 ? wh_diag_set(diag, r, "the file cannot be resized") : 0;
}

/* ---- the header ---- */

/* Where the extensions are: the format of the backing file (0 = none), the end behind the last. */
static void find_extensions(const uint8_t *b, uint32_t at, uint32_t end, uint32_t *ret_format,
			    uint32_t *ret_end)
{
	*ret_format = 0;
	while (at + 8 <= end) {
		uint32_t type = wh_load_be32(b + at), n = wh_load_be32(b + at + 4);
		if (!type || n > end - at - 8)
			break;
		if (type == QCOW2_EXT_BACKING_FORMAT)
			*ret_format = at;
		at += 8 + (uint32_t)wh_align_up(n, 8);
	}
	*ret_end = at + 8;
}

/* Copies all extensions but the backing format from old to b + out; the new end or 0. */
static uint32_t copy_extensions(const uint8_t *old, uint32_t at, uint32_t end, uint8_t *b,
				uint32_t out, uint32_t size)
{
	while (out && at + 8 <= end) {
		uint32_t type = wh_load_be32(old + at), n = wh_load_be32(old + at + 4);
		if (!type || n > end - at - 8)
			break;
		if (type != QCOW2_EXT_BACKING_FORMAT)
			out = qcow2_put_extension(b, out, size, type, old + at + 8, n);
		at += 8 + (uint32_t)wh_align_up(n, 8);
	}
	return out ? qcow2_put_extension(b, out, size, 0, 0, 0) : 0;
}

/* A new header cluster. Sector 0 goes last, after a flush, and what the old sector 0 refers to is not touched as far as there
 * is room: old and new are both whole at any time. */
static int store_header(struct qcow2 *s, const uint8_t *old, const uint8_t *b)
{
	uint64_t rest = s->cluster_size - WH_BLOCK_SECTOR;
	int r = 0;
	if (rest && memcmp(b + WH_BLOCK_SECTOR, old + WH_BLOCK_SECTOR, rest)) {
		r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, WH_BLOCK_SECTOR,
				 (void *)(uintptr_t)(b + WH_BLOCK_SECTOR), rest);
		if (r >= 0)
			r = qcow2_barrier(s, QCOW2_BARRIER_HEADER_TAIL);
	}
	if (r >= 0)
		r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, 0, (void *)(uintptr_t)b,
				 WH_BLOCK_SECTOR);
	if (r >= 0)
		r = qcow2_barrier(s, QCOW2_BARRIER_HEADER);
	return r;
}

/* `name` as backing file (NULL = none), extensions kept. */
static int fill_backing(const struct qcow2 *s, const uint8_t *old, uint8_t *b, const char *name,
			enum wh_block_format format)
{
	uint32_t size = (uint32_t)s->cluster_size, length = s->header_length, format_at, end;
	uint32_t name_size = name ? (uint32_t)wh_strlen(name) : 0;
	uint32_t old_name = (uint32_t)wh_load_be64(old + QCOW2_H_BACKING_OFFSET);
	uint32_t old_end = old_name ? old_name + wh_load_be32(old + QCOW2_H_BACKING_SIZE) : 0;
	const char *text = wh_block_format_name(format);
	memcpy(b, old, size);
	wh_store_be64(b + QCOW2_H_BACKING_OFFSET, 0);
	wh_store_be32(b + QCOW2_H_BACKING_SIZE, 0);
	if (!name_size)
		return 0;
	find_extensions(old, length, old_name ? old_name : size, &format_at, &end);
	if (format_at) {
		(void)qcow2_put_extension(b, format_at, size, QCOW2_EXT_BACKING_FORMAT, text,
					  (uint32_t)wh_strlen(text));
	} else {
		end = qcow2_put_extension(b, length, size, QCOW2_EXT_BACKING_FORMAT, text,
					  (uint32_t)wh_strlen(text));
		end = copy_extensions(old, length, old_name ? old_name : size, b, end, size);
		if (!end)
			return -WH_ENOSPC;
	}
	uint32_t at = (uint32_t)wh_align_up(end > old_end ? end : old_end, 8);
	if (at + name_size > size)
		at = end;
	if (at + name_size > size)
		return -WH_ENOSPC;
	memcpy(b + at, name, name_size);
	wh_store_be64(b + QCOW2_H_BACKING_OFFSET, at);
	wh_store_be32(b + QCOW2_H_BACKING_SIZE, name_size);
	return 0;
}

/* Version 3, with its longer header; 16-bit counts as before. */
static int fill_upgrade(const struct qcow2 *s, const uint8_t *old, uint8_t *b)
{
	uint32_t size = (uint32_t)s->cluster_size, out = QCOW2_H_V3_SIZE, format_at, end;
	uint32_t old_name = (uint32_t)wh_load_be64(old + QCOW2_H_BACKING_OFFSET);
	uint32_t name_size = old_name ? wh_load_be32(old + QCOW2_H_BACKING_SIZE) : 0;
	memcpy(b, old, QCOW2_H_V2_SIZE);
	memset(b + QCOW2_H_V2_SIZE, 0, size - QCOW2_H_V2_SIZE);
	wh_store_be32(b + QCOW2_H_VERSION, 3);
	wh_store_be32(b + QCOW2_H_REFCOUNT_ORDER, 4);
	wh_store_be32(b + QCOW2_H_LENGTH, QCOW2_H_V3_SIZE);
	find_extensions(old, QCOW2_H_V2_SIZE, old_name ? old_name : size, &format_at, &end);
	if (format_at)
		out = qcow2_put_extension(b, out, size, QCOW2_EXT_BACKING_FORMAT,
					  old + format_at + 8, wh_load_be32(old + format_at + 4));
	out = copy_extensions(old, QCOW2_H_V2_SIZE, old_name ? old_name : size, b, out, size);
	if (!out || out + name_size > size)
		return -WH_ENOSPC;
	if (name_size) {
		memcpy(b + out, old + old_name, name_size);
		wh_store_be64(b + QCOW2_H_BACKING_OFFSET, out);
	}
	return 0;
}

static int change_header(struct qcow2 *s, bool upgrade, const char *name,
			 enum wh_block_format format)
{
	uint64_t size = s->cluster_size;
	uint8_t *old = wh_alloc_zero(s->b.alloc, 2 * size);
	if (!old)
		return -WH_ENOMEM;
	int r = block_io_now(&s->b, WH_BLOCK_IO_READ, 0, old, size);
	if (r >= 0)
		r = upgrade ? fill_upgrade(s, old, old + size)
			    : fill_backing(s, old, old + size, name, format);
	if (r >= 0)
		r = store_header(s, old, old + size);
	wh_free(s->b.alloc, old, 2 * size);
	return r;
}

int wh_block_set_backing(struct wh_block *block, const char *name, enum wh_block_format format,
			 struct wh_diag *diag)
{
	bool some = name && name[0];
	if (block->format != WH_BLOCK_FORMAT_QCOW2)
		return wh_diag_set(diag, -WH_EOPNOTSUPP, "a raw disk has no backing file");
	struct qcow2 *s = qcow2_of(block);
	/* Alone is enough: only the header changes. */
	int r = ready(block, diag);
	if (r < 0)
		return r;
	if (some && wh_strnlen(name, WH_BLOCK_NAME_MAX + 1) > WH_BLOCK_NAME_MAX)
		return wh_diag_set(diag, -WH_ENAMETOOLONG, "the name has more than %u bytes",
				   WH_BLOCK_NAME_MAX);
	if (some && format == WH_BLOCK_FORMAT_NONE)
		return wh_diag_set(diag, -WH_EINVAL, "the format of the backing file is not said");
	if (some && s->data_raw)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "a raw data file leaves no place for a backing file");
	r = change_header(s, false, name, format);
	if (r < 0)
		return wh_diag_set(diag, r,
				   r == -WH_ENOSPC ? "the name does not fit into the header"
						   : "the header cannot be written");
	char *copy = some ? wh_alloc_zero(block->alloc, WH_BLOCK_NAME_MAX + 1) : 0;
	wh_free(block->alloc, s->backing_name, WH_BLOCK_NAME_MAX + 1);
	s->backing_name = copy;
	if (copy)
		memcpy(copy, name, wh_strlen(name));
	s->backing_format = some ? format : WH_BLOCK_FORMAT_NONE;
	return 0;
}

int wh_block_amend(struct wh_block *block, const struct wh_block_amend *amend, struct wh_diag *diag)
{
	if (block->format != WH_BLOCK_FORMAT_QCOW2)
		return wh_diag_set(diag, -WH_EOPNOTSUPP, "a raw disk has nothing to amend");
	struct qcow2 *s = qcow2_of(block);
	int r = ready(block, diag);
	if (r < 0)
		return r;
	bool upgrade =
		amend->fields & WH_BLOCK_AMEND_VERSION && amend->version == 3 && s->version == 2;
	if (amend->fields & ~(WH_BLOCK_AMEND_VERSION | WH_BLOCK_AMEND_LAZY) ||
	    (amend->fields & WH_BLOCK_AMEND_VERSION && amend->version != s->version && !upgrade))
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "only version 2 to 3 and lazy refcounts can "
				   "be changed in place");
	if (amend->fields & WH_BLOCK_AMEND_LAZY && amend->lazy_refcounts && s->version < 3 &&
	    !upgrade)
		return wh_diag_set(diag, -WH_EINVAL, "lazy refcounts need version 3");
	if (upgrade) {
		r = change_header(s, true, 0, WH_BLOCK_FORMAT_NONE);
		if (r < 0)
			return wh_diag_set(diag, r, "the header cannot be written");
		s->version = 3;
		s->header_length = QCOW2_H_V3_SIZE;
	}
	if (amend->fields & WH_BLOCK_AMEND_LAZY && s->version >= 3) {
		uint64_t value = s->compatible & ~QCOW2_COMPATIBLE_LAZY;
		value |= amend->lazy_refcounts ? QCOW2_COMPATIBLE_LAZY : 0;
		r = qcow2_header_store64(s, QCOW2_H_COMPATIBLE, value);
		if (r >= 0)
			r = qcow2_barrier(s, QCOW2_BARRIER_HEADER);
		if (r < 0)
			return wh_diag_set(diag, r, "the header cannot be written");
		s->compatible = value;
	}
	return 0;
}

int wh_block_empty(struct wh_block *block, struct wh_diag *diag)
{
	if (block->format != WH_BLOCK_FORMAT_QCOW2)
		return wh_diag_set(diag, -WH_EOPNOTSUPP, "a raw disk cannot be emptied");
	struct qcow2 *s = qcow2_of(block);
	int r = ready(block, diag);
	if (r < 0)
		return r;
	if (s->data_raw)
		return wh_diag_set(diag, -WH_EOPNOTSUPP, "the data file is a disk by itself");
	/* As a discard where nothing is below. */
	bool below = block->has_backing;
	block->has_backing = false;
	for (uint64_t at = 0; at < block->size && r >= 0;) {
		uint64_t n = block->size - at < 1u << 30 ? block->size - at : 1u << 30;
		r = wh_block_do(block, WH_BLOCK_DISCARD, at, 0, n, 0);
		at += n;
	}
	block->has_backing = below;
	if (r >= 0)
		r = qcow2_settle(s);
	return r < 0 ? wh_diag_set(diag, r, "the image cannot be written") : 0;
}
