/* SPDX-License-Identifier: ISC */
/*
 * Internal snapshots: a copy of the L1 table and an entry in the snapshot table, with all counts of what
 * it refers to raised by one. Whatever is used more than once is not written in place (no
 * COPIED flag), which is what protects a snapshot from the disk.
 *
 * The snapshot table and L1 tables are only ever written to new places, and the header is switched to
 * them with one sector. Around each change the image is marked dirty (version 3): counts and flags are
 * then worked out again from the tables after a crash. The order of the rest makes version 2 safe as well:
 * counts go up, flush, flags go, flush, header, flush, counts go down, flush, flags come back (the third flush is
 * that of qcow2_settle, which frees nothing before it).
 */
#include "qcow2_priv.h"

#define ENTRY_SIZE 40u
#define EXTRA_SIZE 24u /* VM state size, disk size, instruction count */
#define EXTRA_MAX 1024u

/* ---- the table ---- */

void qcow2_snapshots_free(struct qcow2 *s)
{
	wh_free(s->b.alloc, s->snapshots, s->snapshots_room * sizeof *s->snapshots);
	s->snapshots = 0;
	s->snapshots_room = 0;
}

static int read_text(struct qcow2 *s, uint64_t at, uint32_t size, char *text, uint32_t room)
{
	uint32_t n = size < room - 1 ? size : room - 1;
	text[n] = 0;
	return n ? block_io_now(&s->b, WH_BLOCK_IO_READ, at, text, n) : 0;
}

/* The entry at `at`; *ret_size bytes of the table. */
static int read_entry(struct qcow2 *s, uint64_t at, struct qcow2_snapshot_head *h,
		      uint64_t *ret_size)
{
	uint8_t b[ENTRY_SIZE], extra[EXTRA_SIZE] = { 0 };
	int r = block_io_now(&s->b, WH_BLOCK_IO_READ, at, b, sizeof b);
	if (r < 0)
		return r;
	*h = (struct qcow2_snapshot_head){ .l1_offset = wh_load_be64(b),
					   .l1_size = wh_load_be32(b + 8),
					   .id_size = wh_load_be16(b + 12),
					   .name_size = wh_load_be16(b + 14),
					   .extra_size = wh_load_be32(b + 36),
					   .at = at };
	h->about.date_s = wh_load_be32(b + 16);
	h->about.date_ns = wh_load_be32(b + 20);
	h->about.vm_clock_ns = wh_load_be64(b + 24);
	h->about.vm_state_size = wh_load_be32(b + 32);
	if (h->extra_size > EXTRA_MAX)
		return -WH_EINVAL;
	if (h->extra_size) {
		uint32_t n = h->extra_size < sizeof extra ? h->extra_size : sizeof extra;
		r = block_io_now(&s->b, WH_BLOCK_IO_READ, at + sizeof b, extra, n);
	}
	if (h->extra_size >= 8)
		h->about.vm_state_size = wh_load_be64(extra);
	if (h->extra_size >= 16)
		h->about.disk_size = wh_load_be64(extra + 8);
	uint64_t text = at + sizeof b + h->extra_size;
	if (r >= 0)
		r = read_text(s, text, h->id_size, h->about.id, sizeof h->about.id);
	if (r >= 0)
		r = read_text(s, text + h->id_size, h->name_size, h->about.name,
			      sizeof h->about.name);
	*ret_size = wh_align_up(sizeof b + (uint64_t)h->extra_size + h->id_size + h->name_size, 8);
	return r;
}

static bool entry_valid(const struct qcow2 *s, const struct qcow2_snapshot_head *h)
{
	return h->l1_size * 8ull <= QCOW2_L1_BYTES_MAX && !(h->l1_offset & (s->cluster_size - 1)) &&
	       (h->l1_offset || !h->l1_size) && h->about.disk_size <= WH_BLOCK_SIZE_MAX &&
	       wh_range_inside(h->l1_offset, h->l1_size * 8ull,
			       s->file_clusters << s->cluster_bits);
}

int qcow2_snapshots_read(struct qcow2 *s, struct wh_diag *diag)
{
	uint64_t at = s->snapshots_offset, end = s->file_clusters << s->cluster_bits, size;
	uint32_t count = s->snapshot_count;
	qcow2_snapshots_free(s);
	s->snapshots_bytes = 0;
	if (!count)
		return 0;
	s->snapshot_count = 0;
	if (count > WH_BLOCK_SNAPSHOT_MAX || at & (s->cluster_size - 1) || !at || at >= end)
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: %u snapshots at 0x%llx", count,
				   (unsigned long long)at);
	s->snapshots = wh_alloc_zero(s->b.alloc, count * sizeof *s->snapshots);
	if (!s->snapshots)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the snapshots of the image");
	s->snapshots_room = count;
	for (uint32_t i = 0; i < count; i++) {
		struct qcow2_snapshot_head *h = &s->snapshots[i];
		int r = read_entry(s, at, h, &size);
		if (r < 0 || !entry_valid(s, h) ||
		    at + size - s->snapshots_offset > QCOW2_SNAPSHOT_BYTES_MAX)
			return wh_diag_set(diag, r < 0 ? r : -WH_EINVAL,
					   "qcow2: snapshot %u is not valid", i);
		at += size;
	}
	s->snapshot_count = count;
	s->snapshots_bytes = at - s->snapshots_offset;
	return 0;
}

int qcow2_snapshot_find(const struct qcow2 *s, const char *which, uint32_t *ret_index)
{
	for (uint32_t i = 0; i < s->snapshot_count; i++)
		if (wh_streq(s->snapshots[i].about.id, which)) {
			*ret_index = i;
			return 0;
		}
	for (uint32_t i = 0; i < s->snapshot_count; i++)
		if (wh_streq(s->snapshots[i].about.name, which)) {
			*ret_index = i;
			return 0;
		}
	return -WH_ENOENT;
}

int wh_block_snapshot_get(struct wh_block *block, uint32_t index,
			  struct wh_block_snapshot *ret_snapshot)
{
	const struct qcow2 *s = qcow2_of(block);
	if (block->format != WH_BLOCK_FORMAT_QCOW2 || index >= s->snapshot_count)
		return -WH_ENOENT;
	*ret_snapshot = s->snapshots[index].about;
	return 0;
}

/* ---- counts ---- */

/* Adds to the counts of all clusters of a packed or plain entry. */
static int entry_add(struct qcow2 *s, uint64_t entry, int add)
{
	uint64_t host = entry & QCOW2_OFFSET_MASK, size = s->cluster_size, count;
	if (entry & QCOW2_COMPRESSED)
		qcow2_packed_range(s, entry, &host, &size);
	else if (!host)
		return 0;
	for (uint64_t c = host >> s->cluster_bits; c <= (host + size - 1) >> s->cluster_bits; c++) {
		int r = qcow2_refcount(s, c, &count);
		if (r < 0)
			return r;
		if (add < 0 && c) {
			qcow2_free_later(s, c, 1);
			continue;
		}
		if (!count || c >= s->file_clusters || !c)
			return qcow2_corrupted(s, "a cluster in use had no count",
					       c << s->cluster_bits);
		if (count == qcow2_refcount_max(s))
			return -WH_EOVERFLOW;
		r = qcow2_refcount_set(s, c, count + 1);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Adds to the counts of all that an L1 table refers to: L2 tables and their clusters. */
static int tree_add(struct qcow2 *s, const uint64_t *l1, uint32_t l1_size, int add)
{
	uint8_t *slice = wh_alloc(s->b.alloc, s->slice_size);
	int r = slice ? 0 : -WH_ENOMEM;
	for (uint32_t i = 0; i < l1_size && r >= 0; i++) {
		uint64_t l2 = l1[i] & QCOW2_OFFSET_MASK;
		if (!l2)
			continue;
		if (l2 & (s->cluster_size - 1) || l2 >> s->cluster_bits >= s->file_clusters) {
			r = qcow2_corrupted(s, "L1 entry outside the file", l1[i]);
			break;
		}
		r = entry_add(s, l2, add);
		for (uint64_t at = 0; at < s->cluster_size && r >= 0; at += s->slice_size) {
			/* All is on disk: nothing is dirty but refcount blocks. */
			r = block_io_now(&s->b, WH_BLOCK_IO_READ, l2 + at, slice, s->slice_size);
			for (uint32_t k = 0; k < s->slice_size && r >= 0; k += s->entry_size)
				r = entry_add(s, wh_load_be64(slice + k), add);
		}
	}
	wh_free(s->b.alloc, slice, s->slice_size);
	return r;
}

/* ---- writing tables to new places ---- */

/* `bytes` of `data` at a new place; written. */
static int put_new(struct qcow2 *s, const uint8_t *data, uint64_t bytes, uint64_t *ret_offset)
{
	uint64_t cluster, count = qcow2_clusters(s, bytes);
	int r = qcow2_alloc_row(s, count, &cluster);
	if (r < 0)
		return r;
	qcow2_used(s, cluster, count);
	r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, cluster << s->cluster_bits,
			 (void *)(uintptr_t)data, bytes);
	/* The last cluster whole, so that the file has it. */
	uint64_t end = (cluster + count) << s->cluster_bits,
		 at = (cluster << s->cluster_bits) + bytes;
	if (r >= 0 && at < end)
		r = block_io_now(&s->b, WH_BLOCK_IO_ZERO, at, 0, end - at);
	if (r < 0) {
		qcow2_unalloc(s, cluster, count);
		return r;
	}
	*ret_offset = cluster << s->cluster_bits;
	return 0;
}

static int put_l1(struct qcow2 *s, const uint64_t *l1, uint32_t size, uint64_t flags,
		  uint64_t *ret_offset)
{
	uint64_t bytes = 8ull * size;
	*ret_offset = 0;
	if (!size)
		return 0;
	uint8_t *b = wh_alloc(s->b.alloc, bytes);
	if (!b)
		return -WH_ENOMEM;
	for (uint32_t i = 0; i < size; i++)
		wh_store_be64(b + 8ull * i, l1[i] & (QCOW2_OFFSET_MASK | flags));
	int r = put_new(s, b, bytes, ret_offset);
	wh_free(s->b.alloc, b, bytes);
	return r;
}

/* An entry for a new snapshot at `b`; its size. b = NULL only counts. */
static uint32_t entry_bytes(const struct qcow2 *s, const struct wh_block_snapshot *a,
			    uint64_t l1_offset, uint8_t *b)
{
	uint32_t id = (uint32_t)wh_strlen(a->id), name = (uint32_t)wh_strlen(a->name);
	uint32_t size = (uint32_t)wh_align_up(ENTRY_SIZE + EXTRA_SIZE + id + name, 8);
	if (!b)
		return size;
	memset(b, 0, size);
	wh_store_be64(b, l1_offset);
	wh_store_be32(b + 8, s->l1_size);
	wh_store_be16(b + 12, (uint16_t)id);
	wh_store_be16(b + 14, (uint16_t)name);
	wh_store_be32(b + 16, (uint32_t)a->date_s);
	wh_store_be32(b + 20, a->date_ns);
	wh_store_be64(b + 24, a->vm_clock_ns);
	wh_store_be32(b + 36, EXTRA_SIZE);
	wh_store_be64(b + ENTRY_SIZE + 8, s->b.size);
	wh_store_be64(b + ENTRY_SIZE + 16, UINT64_MAX); /* instruction count: unknown */
	memcpy(b + ENTRY_SIZE + EXTRA_SIZE, a->id, id);
	memcpy(b + ENTRY_SIZE + EXTRA_SIZE + id, a->name, name);
	return size;
}

/* A new table: all entries but `without`, and one more (or NULL). */
static int put_table(struct qcow2 *s, uint32_t without, const struct wh_block_snapshot *more,
		     uint64_t l1_offset, uint64_t *ret_offset)
{
	uint64_t extra = more ? entry_bytes(s, more, 0, 0) : 0;
	uint64_t room = s->snapshots_bytes + extra, n = 0;
	*ret_offset = 0;
	if (room > QCOW2_SNAPSHOT_BYTES_MAX)
		return -WH_EFBIG;
	uint8_t *b = wh_alloc_zero(s->b.alloc, room + 1);
	int r = b ? 0 : -WH_ENOMEM;
	for (uint32_t i = 0; i < s->snapshot_count && r >= 0; i++) {
		uint64_t at = s->snapshots[i].at;
		uint64_t end = i + 1 < s->snapshot_count ? s->snapshots[i + 1].at
							 : s->snapshots_offset + s->snapshots_bytes;
		if (i == without)
			continue;
		r = block_io_now(&s->b, WH_BLOCK_IO_READ, at, b + n, end - at);
		n += end - at;
	}
	if (more)
		n += entry_bytes(s, more, l1_offset, b + n);
	if (r >= 0 && n)
		r = put_new(s, b, n, ret_offset);
	wh_free(s->b.alloc, b, room + 1);
	return r;
}

/* ---- the operations ---- */

/* Before: everything is on disk, the image is marked. */
static int begin(struct wh_block *b, struct qcow2 *s, struct wh_diag *diag)
{
	if (b->format != WH_BLOCK_FORMAT_QCOW2)
		return wh_diag_set(diag, -WH_EOPNOTSUPP, "a raw disk has no snapshots");
	if (b->read_only || b->check_only)
		return wh_diag_set(diag, -WH_EROFS, "the image is open for reading only");
	if (s->data_file)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "an image with a data file cannot have internal snapshots");
	int r = block_idle(b);
	if (r < 0)
		return wh_diag_set(diag, r, "requests are in flight");
	r = qcow2_touch(s);
	if (r >= 0)
		r = qcow2_settle(s);
	if (r >= 0)
		r = qcow2_mark_dirty(s, true);
	return r < 0 ? wh_diag_set(diag, r, "the image cannot be written") : 0;
}

/* After: counts down, flags, the mark. `result` of the work. */
static int end(struct qcow2 *s, int result, struct wh_diag *diag)
{
	int r = qcow2_settle(s);
	if (r >= 0)
		r = qcow2_fix_copied(s);
	if (r >= 0)
		r = qcow2_settle(s);
	if (r >= 0)
		r = qcow2_mark_dirty(s, false);
	if (result >= 0)
		result = r;
	switch (result < 0 ? result : 0) {
	case 0:
		return 0;
	case -WH_EOVERFLOW:
		return wh_diag_set(diag, result,
				   "reference counts of %u bits cannot count one more snapshot",
				   1u << s->refcount_order);
	case -WH_ENOSPC:
		return wh_diag_set(diag, result, "no space for the snapshot");
	default:
		return wh_diag_set(diag, result, "the image cannot be written");
	}
}

/* Switches the header to another snapshot table and reads it. Counts of what only the old one names go down
 * when that is settled. */
static int switch_table(struct qcow2 *s, uint64_t offset, uint32_t count)
{
	uint8_t b[12];
	uint64_t old = s->snapshots_offset, old_bytes = s->snapshots_bytes;
	wh_store_be32(b, count);
	wh_store_be64(b + 4, offset);
	int r = qcow2_settle(s); /* it and its count are there */
	if (r < 0)
		return r;
	r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, QCOW2_H_SNAPSHOTS, b, sizeof b);
	if (r < 0) {
		s->b.failed = true; /* which table counts is not known any more */
		return r;
	}
	if (old_bytes)
		qcow2_free_later(s, old >> s->cluster_bits, qcow2_clusters(s, old_bytes));
	s->snapshots_offset = offset;
	s->snapshot_count = count;
	return qcow2_snapshots_read(s, 0);
}

static void choose_id(const struct qcow2 *s, char *id, size_t room)
{
	uint64_t highest = 0;
	for (uint32_t i = 0; i < s->snapshot_count; i++) {
		uint64_t v = 0;
		for (const char *p = s->snapshots[i].about.id; *p >= '0' && *p <= '9'; p++)
			v = v * 10 + (uint64_t)(*p - '0');
		if (v > highest)
			highest = v;
	}
	wh_format(id, room, "%llu", (unsigned long long)(highest + 1));
}

static int create(struct qcow2 *s, const struct wh_block_snapshot *about)
{
	uint64_t l1, table;
	int r = put_l1(s, s->l1, s->l1_size, 0, &l1);
	if (r < 0)
		return r;
	r = put_table(s, UINT32_MAX, about, l1, &table);
	if (r < 0) {
		qcow2_unalloc(s, l1 >> s->cluster_bits, qcow2_clusters(s, s->l1_size * 8ull));
		return r;
	}
	r = tree_add(s, s->l1, s->l1_size, 1);
	/* Counts, then flags: what is used twice must not be written in place any more. */
	if (r >= 0)
		r = qcow2_settle(s);
	if (r >= 0)
		r = qcow2_fix_copied(s);
	if (r >= 0)
		r = switch_table(s, table, s->snapshot_count + 1);
	return r;
}

int wh_block_snapshot_create(struct wh_block *block, const struct wh_block_snapshot *snapshot,
			     struct wh_diag *diag)
{
	struct qcow2 *s = qcow2_of(block);
	struct wh_block_snapshot about = *snapshot;
	about.name[sizeof about.name - 1] = 0;
	int r = begin(block, s, diag);
	if (r < 0)
		return r;
	if (s->snapshot_count == WH_BLOCK_SNAPSHOT_MAX)
		return wh_diag_set(diag, -WH_EFBIG, "the image has %u snapshots already",
				   WH_BLOCK_SNAPSHOT_MAX);
	choose_id(s, about.id, sizeof about.id);
	r = create(s, &about);
	if (r < 0 && !s->b.failed && !s->corrupt) {
		/* Counts may have been raised for nothing: work them out again. */
		int again = qcow2_repair_dirty(s, 0);
		return wh_diag_set(diag, again < 0 ? again : r,
				   r == -WH_EOVERFLOW
					   ? "reference counts of this width cannot count a "
					     "snapshot more (make the image with refcount_bits=16)"
					   : "the snapshot cannot be made");
	}
	return end(s, r, diag);
}

static int load_l1(struct qcow2 *s, const struct qcow2_snapshot_head *h, uint64_t **ret_l1)
{
	uint64_t *l1 = wh_alloc_zero(s->b.alloc, (h->l1_size + 1ull) * 8);
	if (!l1)
		return -WH_ENOMEM;
	int r = h->l1_size
			? block_io_now(&s->b, WH_BLOCK_IO_READ, h->l1_offset, l1, h->l1_size * 8ull)
			: 0;
	for (uint32_t i = 0; i < h->l1_size && r >= 0; i++)
		l1[i] = wh_load_be64(&l1[i]);
	if (r < 0) {
		wh_free(s->b.alloc, l1, (h->l1_size + 1ull) * 8);
		return r;
	}
	*ret_l1 = l1;
	return 0;
}

int wh_block_snapshot_delete(struct wh_block *block, const char *which, struct wh_diag *diag)
{
	struct qcow2 *s = qcow2_of(block);
	struct qcow2_snapshot_head h;
	uint64_t table, *l1;
	uint32_t i;
	if (block->format == WH_BLOCK_FORMAT_QCOW2 && qcow2_snapshot_find(s, which, &i) < 0)
		return wh_diag_set(diag, -WH_ENOENT, "there is no snapshot %s in the image", which);
	int r = begin(block, s, diag);
	if (r < 0)
		return r;
	h = s->snapshots[i];
	r = load_l1(s, &h, &l1);
	if (r < 0)
		return end(s, r, diag);
	r = put_table(s, i, 0, 0, &table);
	if (r >= 0)
		r = switch_table(s, table, s->snapshot_count - 1);
	if (r >= 0)
		r = tree_add(s, l1, h.l1_size, -1);
	if (r >= 0 && h.l1_size)
		qcow2_free_later(s, h.l1_offset >> s->cluster_bits,
				 qcow2_clusters(s, h.l1_size * 8ull));
	wh_free(s->b.alloc, l1, (h.l1_size + 1ull) * 8);
	return end(s, r, diag);
}

/* Header: L1 table and size of the disk in one sector. */
static int switch_l1(struct qcow2 *s, uint64_t l1_offset, uint32_t l1_size, uint64_t size)
{
	uint8_t b[QCOW2_H_RT_OFFSET - QCOW2_H_SIZE];
	int r = block_io_now(&s->b, WH_BLOCK_IO_READ, QCOW2_H_SIZE, b, sizeof b);
	if (r < 0)
		return r;
	wh_store_be64(b, size);
	wh_store_be32(b + QCOW2_H_L1_SIZE - QCOW2_H_SIZE, l1_size);
	wh_store_be64(b + QCOW2_H_L1_OFFSET - QCOW2_H_SIZE, l1_offset);
	r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, QCOW2_H_SIZE, b, sizeof b);
	if (r < 0)
		s->b.failed = true;
	return r;
}

/* The caller calls qcow2_reload when it is done with the old table in memory. */
int qcow2_use_l1(struct qcow2 *s, const uint64_t *l1, uint32_t l1_size, uint64_t size)
{
	uint64_t offset, old = s->l1_offset, old_count = qcow2_clusters(s, s->l1_size * 8ull);
	int r = put_l1(s, l1, l1_size, QCOW2_COPIED, &offset);
	if (r >= 0)
		r = qcow2_settle(s); /* it and its count are there */
	if (r >= 0)
		r = switch_l1(s, offset, l1_size, size);
	if (r < 0)
		return r;
	if (old_count)
		qcow2_free_later(s, old >> s->cluster_bits, old_count);
	return 0;
}

int wh_block_snapshot_apply(struct wh_block *block, const char *which, struct wh_diag *diag)
{
	struct qcow2 *s = qcow2_of(block);
	struct qcow2_snapshot_head h;
	uint64_t *l1, per_l1 = s->cluster_size * s->l2_entries;
	uint32_t i;
	if (block->format == WH_BLOCK_FORMAT_QCOW2 && qcow2_snapshot_find(s, which, &i) < 0)
		return wh_diag_set(diag, -WH_ENOENT, "there is no snapshot %s in the image", which);
	int r = begin(block, s, diag);
	if (r < 0)
		return r;
	h = s->snapshots[i];
	uint64_t size = h.about.disk_size ? h.about.disk_size : s->b.size;
	if (size / per_l1 + !!(size % per_l1) > h.l1_size)
		return end(s, -WH_EINVAL, diag);
	r = load_l1(s, &h, &l1);
	if (r < 0)
		return end(s, r, diag);
	for (uint32_t k = 0; k < h.l1_size; k++)
		l1[k] &= QCOW2_OFFSET_MASK; /* all of it is used twice from now on */
	r = tree_add(s, l1, h.l1_size, 1);
	if (r >= 0)
		r = qcow2_use_l1(s, l1, h.l1_size, size);
	if (r >= 0)
		r = tree_add(s, s->l1, s->l1_size, -1); /* what the disk was until now */
	wh_free(s->b.alloc, l1, (h.l1_size + 1ull) * 8);
	if (r < 0 && !s->b.failed && !s->corrupt) {
		int again = qcow2_repair_dirty(s, 0);
		return wh_diag_set(diag, again < 0 ? again : r, "the snapshot cannot be applied");
	}
	if (r >= 0)
		r = qcow2_settle(s);
	if (r >= 0)
		r = qcow2_reload(s);
	return end(s, r, diag);
}
