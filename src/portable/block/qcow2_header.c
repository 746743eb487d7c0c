/* SPDX-License-Identifier: ISC */
/* The header cluster behind the fixed fields: extensions and the backing file's name. */
#include "qcow2_priv.h"

#define BITMAP_EXT_SIZE 24u
#define BITMAP_ENTRY_SIZE 24u /* then extra data and name */
#define BITMAP_IN_USE 1u
#define BITMAP_AUTO 2u
#define BITMAPS_MAX 65535u

int qcow2_header_store64(struct qcow2 *s, uint32_t at, uint64_t value)
{
	uint8_t b[8];
	wh_store_be64(b, value);
	return block_io_now(&s->b, WH_BLOCK_IO_WRITE, at, b, sizeof b);
}

int qcow2_mark_dirty(struct qcow2 *s, bool dirty)
{
	uint64_t value = s->incompatible & ~QCOW2_INCOMPATIBLE_DIRTY;
	if (s->version < 3)
		return 0;
	if (dirty)
		value |= QCOW2_INCOMPATIBLE_DIRTY;
	int r = qcow2_header_store64(s, QCOW2_H_INCOMPATIBLE, value);
	if (r >= 0)
		r = qcow2_barrier(s, dirty ? QCOW2_BARRIER_DIRTY : QCOW2_BARRIER_CLEAN);
	if (r >= 0)
		s->incompatible = value;
	return r;
}

static int text_take(struct qcow2 *s, uint64_t at, uint32_t size, char **ret_text)
{
	char *text = wh_alloc_zero(s->b.alloc, WH_BLOCK_NAME_MAX + 1);
	if (!text)
		return -WH_ENOMEM;
	int r = block_io_now(&s->b, WH_BLOCK_IO_READ, at, text, size);
	if (r < 0 || *ret_text) {
		wh_free(s->b.alloc, text, WH_BLOCK_NAME_MAX + 1);
		return r < 0 ? r : -WH_EINVAL;
	}
	*ret_text = text;
	return 0;
}

static int take_bitmaps(struct qcow2 *s, uint64_t at, uint32_t size, struct wh_diag *diag)
{
	uint8_t b[BITMAP_EXT_SIZE];
	int r = size == sizeof b ? block_io_now(&s->b, WH_BLOCK_IO_READ, at, b, sizeof b)
				 : -WH_EINVAL;
	if (r < 0)
		return wh_diag_set(diag, r, "qcow2: bitmaps extension of %u bytes", size);
	/* Without the bit somebody wrote who did not know bitmaps: they count for nothing. */
	if (!(s->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	s->bitmap_count = wh_load_be32(b);
	s->bitmap_dir_size = wh_load_be64(b + 8);
	s->bitmap_dir = wh_load_be64(b + 16);
	if (!s->bitmap_count || s->bitmap_count > BITMAPS_MAX || wh_load_be32(b + 4) ||
	    s->bitmap_dir_size > QCOW2_BITMAP_BYTES_MAX ||
	    s->bitmap_dir_size < (uint64_t)s->bitmap_count * BITMAP_ENTRY_SIZE ||
	    s->bitmap_dir & (s->cluster_size - 1) || !s->bitmap_dir ||
	    !wh_range_inside(s->bitmap_dir, s->bitmap_dir_size,
			     s->file_clusters << s->cluster_bits)) {
		s->bitmap_count = 0;
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: the bitmap directory is not valid");
	}
	return 0;
}

static int take_extension(struct qcow2 *s, uint32_t type, uint64_t at, uint32_t size,
			  struct wh_diag *diag)
{
	char format[16] = { 0 };
	int r = 0;
	switch (type) {
	case QCOW2_EXT_BACKING_FORMAT:
		if (size >= sizeof format)
			return wh_diag_set(diag, -WH_EINVAL, "qcow2: backing format of %u bytes",
					   size);
		r = block_io_now(&s->b, WH_BLOCK_IO_READ, at, format, size);
		if (r < 0)
			break;
		s->backing_format = wh_block_format_parse(format);
		if (!s->backing_format && size && !s->b.alone && !s->b.check_only)
			return wh_diag_set(diag, -WH_EOPNOTSUPP,
					   "qcow2: a backing file of format %s is not supported",
					   format);
		return 0;
	case QCOW2_EXT_DATA_FILE:
		if (size > WH_BLOCK_NAME_MAX)
			return wh_diag_set(diag, -WH_EINVAL, "qcow2: data file name of %u bytes",
					   size);
		r = text_take(s, at, size, &s->data_name);
		break;
	case QCOW2_EXT_BITMAPS:
		return take_bitmaps(s, at, size, diag);
	case QCOW2_EXT_LUKS:
		return wh_diag_set(diag, -WH_EOPNOTSUPP, "qcow2: the image is encrypted (LUKS)");
	default: /* kept, since the header is only changed in place */
		return 0;
	}
	return r < 0 ? wh_diag_set(diag, r, "qcow2: the header cannot be read") : 0;
}

int qcow2_read_extensions(struct qcow2 *s, const struct qcow2_header *h, struct wh_diag *diag)
{
	uint64_t at = h->length, end = h->backing_offset ? h->backing_offset : s->cluster_size;
	if (h->backing_offset) {
		if (h->backing_size > WH_BLOCK_NAME_MAX || h->backing_offset < h->length ||
		    !wh_range_inside(h->backing_offset, h->backing_size, s->cluster_size))
			return wh_diag_set(diag, -WH_EINVAL,
					   "qcow2: backing file name of %u bytes at 0x%llx",
					   h->backing_size, (unsigned long long)h->backing_offset);
		int r = text_take(s, h->backing_offset, h->backing_size, &s->backing_name);
		if (r < 0)
			return wh_diag_set(diag, r, "qcow2: the header cannot be read");
	}
	while (at + 8 <= end) {
		uint8_t b[8];
		int r = block_io_now(&s->b, WH_BLOCK_IO_READ, at, b, sizeof b);
		if (r < 0)
			return wh_diag_set(diag, r, "qcow2: the header cannot be read");
		uint32_t type = wh_load_be32(b), size = wh_load_be32(b + 4);
		if (!type)
			return 0;
		at += 8;
		if (size > end - at)
			return wh_diag_set(diag, -WH_EINVAL,
					   "qcow2: header extension 0x%x has %u bytes", type, size);
		r = take_extension(s, type, at, size, diag);
		if (r < 0)
			return r;
		at += wh_align_up(size, 8);
	}
	return 0;
}

uint32_t qcow2_put_extension(uint8_t *b, uint32_t at, uint32_t room, uint32_t type,
			     const void *data, uint32_t size)
{
	uint32_t padded = (uint32_t)wh_align_up(size, 8);
	if (at + 8 + padded > room)
		return 0;
	wh_store_be32(b + at, type);
	wh_store_be32(b + at + 4, size);
	memset(b + at + 8, 0, padded);
	if (size)
		memcpy(b + at + 8, data, size);
	return at + 8 + padded;
}

/* Says of each bitmap that should have recorded our writes (or all: of each) that it is not true any more. */
int qcow2_invalidate_bitmaps(struct qcow2 *s, bool all)
{
	uint64_t at = s->bitmap_dir, end = at + s->bitmap_dir_size;
	bool changed = false;
	int r = 0;
	for (uint32_t i = 0; i < s->bitmap_count && r >= 0; i++) {
		uint8_t b[BITMAP_ENTRY_SIZE];
		if (end - at < sizeof b)
			return qcow2_corrupted(s, "bitmap directory", at);
		r = block_io_now(&s->b, WH_BLOCK_IO_READ, at, b, sizeof b);
		if (r < 0)
			return r;
		uint32_t flags = wh_load_be32(b + 12);
		uint64_t size =
			wh_align_up(sizeof b + wh_load_be32(b + 20) + (b[18] << 8 | b[19]), 8);
		if (size > end - at)
			return qcow2_corrupted(s, "bitmap directory", at);
		if ((all || flags & BITMAP_AUTO) && !(flags & BITMAP_IN_USE)) {
			wh_store_be32(b + 12, flags | BITMAP_IN_USE);
			r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, at + 12, b + 12, 4);
			changed = true;
		}
		at += size;
	}
	if (r >= 0 && changed)
		r = qcow2_barrier(s, QCOW2_BARRIER_BITMAPS);
	return r;
}
