/* SPDX-License-Identifier: ISC */
/*
 * Check: counts how often each cluster of the file is referred to, by all tables, and compares
 * that with the counts on disk. Tables are read from the file, not through the cache, which is
 * written back before.
 */
#include <stdarg.h>

#include "qcow2_priv.h"

void qcow2_found(struct qcow2_refs *r, const char *format, ...)
{
	va_list args;
	r->c->corruptions++;
	if (r->c->first[0])
		return;
	va_start(args, format);
	(void)wh_vformat(r->c->first, sizeof r->c->first, format, args);
	va_end(args);
}

void qcow2_refs_free(struct qcow2_refs *r)
{
	const struct wh_alloc *a = r->s->b.alloc;
	wh_free(a, r->count, (r->clusters + 1) * sizeof *r->count);
	wh_free(a, r->slice, r->s->cluster_size);
	r->count = 0;
	r->slice = 0;
}

/* [offset, offset + bytes) is used once more. */
static bool refer(struct qcow2_refs *r, uint64_t offset, uint64_t bytes, const char *what)
{
	struct qcow2 *s = r->s;
	uint64_t first = offset >> s->cluster_bits, last = (offset + bytes - 1) >> s->cluster_bits;
	if (!bytes)
		return true;
	if (last >= r->clusters || offset + bytes < offset) {
		qcow2_found(r, "%s at 0x%llx is behind the end of the file", what,
			    (unsigned long long)offset);
		return false;
	}
	for (uint64_t c = first; c <= last; c++)
		r->count[c] += r->count[c] != UINT32_MAX;
	return true;
}

static int step(struct qcow2_refs *r)
{
	const struct wh_block_progress *p = r->progress;
	r->done++;
	return p && p->fn && p->fn(p->ctx, r->done, r->total) ? -WH_ECANCELED : 0;
}

/* ---- L2 tables ---- */

static void seen(struct qcow2_refs *r, uint64_t host, bool packed)
{
	struct wh_block_check *c = r->c;
	c->clusters_allocated++;
	if (packed)
		c->clusters_compressed++;
	else if (r->last_host && host != r->last_host + r->s->cluster_size)
		c->clusters_fragmented++;
	if (!packed)
		r->last_host = host;
}

/* What is wrong with a plain entry, NULL = nothing. */
static const char *entry_wrong(const struct qcow2_refs *r, uint64_t entry, uint64_t bits,
			       uint64_t guest)
{
	const struct qcow2 *s = r->s;
	uint64_t host = entry & QCOW2_OFFSET_MASK, zero = 0;
	bool there = host || (s->data_file && entry & QCOW2_COPIED);
	if (s->extended && (bits & bits >> 32 & UINT32_MAX))
		return "has subclusters with both bits";
	if (s->extended && !there && bits & UINT32_MAX)
		return "has subclusters without a place";
	if (!s->extended && s->version >= 3)
		zero = QCOW2_ZERO;
	if (entry & ~(QCOW2_OFFSET_MASK | QCOW2_COPIED | zero))
		return "has reserved bits";
	if (!there)
		return 0;
	if (host & (s->cluster_size - 1))
		return "is not aligned";
	if (s->data_file)
		return host != guest ? "is not at its place in the data file" : 0;
	if (host >> s->cluster_bits >= r->clusters)
		return "is behind the end of the file";
	return qcow2_is_meta(s, host >> s->cluster_bits) ? "refers to metadata" : 0;
}

static bool packed_wrong(const struct qcow2_refs *r, uint64_t entry)
{
	uint64_t host, size;
	qcow2_packed_range(r->s, entry, &host, &size);
	for (uint64_t c = host >> r->s->cluster_bits; c <= (host + size - 1) >> r->s->cluster_bits;
	     c++)
		if (c >= r->clusters || qcow2_is_meta(r->s, c))
			return true;
	return r->s->data_file || !host;
}

/* false = it should go. */
static bool count_entry(struct qcow2_refs *r, uint64_t entry, uint64_t bits, uint64_t guest,
			bool active)
{
	struct qcow2 *s = r->s;
	uint64_t host = entry & QCOW2_OFFSET_MASK, size;
	if (!entry && !bits)
		return true;
	if (entry & QCOW2_COMPRESSED) {
		if (packed_wrong(r, entry) || entry & QCOW2_COPIED) {
			qcow2_found(r, "compressed cluster of 0x%llx is not valid (0x%llx)",
				    (unsigned long long)guest, (unsigned long long)entry);
			return false;
		}
		qcow2_packed_range(s, entry, &host, &size);
		if (active)
			seen(r, host, true);
		return refer(r, host, size, "compressed data");
	}
	const char *wrong = entry_wrong(r, entry, bits, guest);
	if (wrong) {
		qcow2_found(r, "L2 entry of 0x%llx %s (0x%llx)", (unsigned long long)guest, wrong,
			    (unsigned long long)entry);
		return false;
	}
	if (!host && !(s->data_file && entry & QCOW2_COPIED))
		return true;
	if (active)
		seen(r, host, false);
	return s->data_file || refer(r, host, s->cluster_size, "data");
}

static int count_l2(struct qcow2_refs *r, uint64_t l2, uint64_t guest, bool active)
{
	struct qcow2 *s = r->s;
	bool changed = false;
	int e = block_io_now(&s->b, WH_BLOCK_IO_READ, l2, r->slice, s->cluster_size);
	if (e < 0) {
		r->c->errors++;
		return 0;
	}
	for (uint64_t k = 0; k < s->l2_entries; k++, guest += s->cluster_size) {
		uint8_t *p = r->slice + k * s->entry_size;
		uint64_t bits = s->extended ? wh_load_be64(p + 8) : 0;
		if (count_entry(r, wh_load_be64(p), bits, guest, active) || !r->drop)
			continue;
		/* Its content is gone. It reads as zeroes from now on, not as what is below. */
		memset(p, 0, s->entry_size);
		if (s->extended)
			wh_store_be64(p + 8, (uint64_t)UINT32_MAX << 32);
		else if (s->version >= 3)
			wh_store_be64(p, QCOW2_ZERO);
		changed = true;
	}
	if (!changed)
		return 0;
	return block_io_now(&s->b, WH_BLOCK_IO_WRITE, l2, r->slice, s->cluster_size);
}

/* ---- L1 tables ---- */

static int count_l1(struct qcow2_refs *r, uint64_t offset, uint32_t size, const uint64_t *active)
{
	struct qcow2 *s = r->s;
	uint64_t per_l1 = s->l2_entries << s->cluster_bits;
	if (size && !refer(r, offset, size * 8ull, "L1 table"))
		return 0;
	for (uint32_t i = 0; i < size; i++) {
		uint64_t entry = active ? active[i] : 0;
		uint8_t b[8];
		int e = active ? 0 : block_io_now(&s->b, WH_BLOCK_IO_READ, offset + 8ull * i, b, 8);
		if (e < 0) {
			r->c->errors++;
			continue;
		}
		if (!active)
			entry = wh_load_be64(b);
		uint64_t l2 = entry & QCOW2_OFFSET_MASK;
		e = step(r);
		if (e < 0)
			return e;
		if (!entry)
			continue;
		if (l2 & (s->cluster_size - 1) || !l2 ||
		    entry & ~(QCOW2_OFFSET_MASK | QCOW2_COPIED) ||
		    !refer(r, l2, s->cluster_size, "L2 table")) {
			qcow2_found(r, "L1 entry %u is not valid (0x%llx)", i,
				    (unsigned long long)entry);
			continue;
		}
		e = count_l2(r, l2, i * per_l1, active);
		if (e < 0)
			return e;
	}
	return 0;
}

static int count_snapshots(struct qcow2_refs *r)
{
	struct qcow2 *s = r->s;
	if (s->snapshot_count)
		(void)refer(r, s->snapshots_offset, s->snapshots_bytes, "snapshot table");
	for (uint32_t i = 0; i < s->snapshot_count; i++) {
		int e = count_l1(r, s->snapshots[i].l1_offset, s->snapshots[i].l1_size, 0);
		if (e < 0)
			return e;
	}
	return 0;
}

/* ---- bitmaps ---- */

static int count_bitmap(struct qcow2_refs *r, const uint8_t *entry)
{
	struct qcow2 *s = r->s;
	uint64_t table = wh_load_be64(entry), size = wh_load_be32(entry + 8);
	if (table & (s->cluster_size - 1) || !refer(r, table, size * 8, "bitmap table")) {
		qcow2_found(r, "bitmap table at 0x%llx is not valid", (unsigned long long)table);
		return 0;
	}
	for (uint64_t i = 0; i < size; i++) {
		uint8_t b[8];
		int e = block_io_now(&s->b, WH_BLOCK_IO_READ, table + 8 * i, b, sizeof b);
		if (e < 0) {
			r->c->errors++;
			return 0;
		}
		uint64_t host = wh_load_be64(b) & QCOW2_OFFSET_MASK;
		if (host && (host & (s->cluster_size - 1)))
			qcow2_found(r, "bitmap data at 0x%llx is not aligned",
				    (unsigned long long)host);
		else if (host)
			(void)refer(r, host, s->cluster_size, "bitmap data");
	}
	return 0;
}

static int count_bitmaps(struct qcow2_refs *r)
{
	struct qcow2 *s = r->s;
	uint64_t at = s->bitmap_dir, end = at + s->bitmap_dir_size;
	if (!s->bitmap_count)
		return 0;
	(void)refer(r, s->bitmap_dir, s->bitmap_dir_size, "bitmap directory");
	for (uint32_t i = 0; i < s->bitmap_count; i++) {
		uint8_t b[24];
		if (end - at < sizeof b)
			break;
		int e = block_io_now(&s->b, WH_BLOCK_IO_READ, at, b, sizeof b);
		if (e >= 0)
			e = count_bitmap(r, b);
		if (e < 0) {
			r->c->errors++;
			return 0;
		}
		uint64_t size =
			wh_align_up(sizeof b + wh_load_be32(b + 20) + (b[18] << 8 | b[19]), 8);
		if (size > end - at) {
			qcow2_found(r, "bitmap directory entry %u is too long", i);
			break;
		}
		at += size;
	}
	return 0;
}

/* ---- all ---- */

int qcow2_refs_count(struct qcow2_refs *r)
{
	struct qcow2 *s = r->s;
	uint64_t size;
	int e = s->b.file.ops->size(s->b.file.ctx, &size);
	if (e < 0)
		return e;
	r->clusters = qcow2_clusters(s, size);
	r->count = wh_alloc_zero(s->b.alloc, (r->clusters + 1) * sizeof *r->count);
	r->slice = wh_alloc(s->b.alloc, s->cluster_size);
	if (!r->count || !r->slice)
		return -WH_ENOMEM;
	r->total = s->l1_size + 1;
	for (uint32_t i = 0; i < s->snapshot_count; i++)
		r->total += s->snapshots[i].l1_size;
	r->c->clusters_total = qcow2_clusters(s, s->b.size);
	(void)refer(r, 0, s->cluster_size, "header");
	if (s->rt_offset)
		(void)refer(r, s->rt_offset, (uint64_t)s->rt_clusters << s->cluster_bits,
			    "refcount table");
	for (uint32_t i = 0; i < s->rt_size; i++)
		if (s->rt[i])
			(void)refer(r, s->rt[i], s->cluster_size, "refcount block");
	r->rebuild = s->bad_rt;
	if (s->bad_rt)
		qcow2_found(r, "%u entries of the refcount table are not valid", s->bad_rt);
	if (s->bad_l1)
		qcow2_found(r, "%u entries of the L1 table are not valid", s->bad_l1);
	e = count_l1(r, s->l1_offset, s->l1_size, s->l1);
	if (e >= 0)
		e = count_snapshots(r);
	if (e >= 0)
		e = count_bitmaps(r);
	r->c->image_end = 0;
	for (uint64_t c = 0; c < r->clusters; c++)
		if (r->count[c])
			r->c->image_end = (c + 1) << s->cluster_bits;
	return e;
}

/* One block's counts against the references. */
static int compare_block(struct qcow2_refs *r, uint64_t first, uint64_t end, uint32_t repair)
{
	struct qcow2 *s = r->s;
	uint64_t block = s->rt[first / s->refblock_entries], max = qcow2_refcount_max(s);
	bool changed = false;
	int e = block ? block_io_now(&s->b, WH_BLOCK_IO_READ, block, r->slice, s->cluster_size) : 0;
	if (e < 0) {
		r->c->errors++;
		return 0;
	}
	for (uint64_t c = first; c < end; c++) {
		uint64_t i = c - first, want = r->count[c];
		uint64_t have = block ? qcow2_refcount_load(r->slice, s->refcount_order, i) : 0;
		bool leak = have > want;
		if (have == want)
			continue;
		if (leak)
			r->c->leaks++;
		else
			qcow2_found(r, "cluster 0x%llx is used %llu times, its count is %llu",
				    (unsigned long long)(c << s->cluster_bits),
				    (unsigned long long)want, (unsigned long long)have);
		if (!block || want > max ||
		    !(repair &
		      (leak ? WH_BLOCK_REPAIR_LEAKS | WH_BLOCK_REPAIR_ALL : WH_BLOCK_REPAIR_ALL)))
			continue;
		qcow2_refcount_store(r->slice, s->refcount_order, i, want);
		changed = true;
		if (leak)
			r->c->leaks_fixed++;
		else
			r->c->corruptions_fixed++;
	}
	return changed ? block_io_now(&s->b, WH_BLOCK_IO_WRITE, block, r->slice, s->cluster_size)
		       : 0;
}

int qcow2_counts_compare(struct qcow2_refs *r, uint32_t repair)
{
	struct qcow2 *s = r->s;
	uint64_t per = s->refblock_entries;
	for (uint64_t first = 0; first < r->clusters; first += per) {
		uint64_t end = first + per < r->clusters ? first + per : r->clusters;
		bool none = first / per >= s->rt_size || !s->rt[first / per];
		for (uint64_t c = first; none && c < end; c++)
			if (r->count[c]) {
				r->rebuild = true;
				qcow2_found(r, "cluster 0x%llx is used and has no count",
					    (unsigned long long)(c << s->cluster_bits));
			}
		int e = none ? 0 : compare_block(r, first, end, repair);
		if (e < 0)
			return e;
	}
	return 0;
}

/* ---- COPIED flags ---- */

static void flag_wrong(struct qcow2 *s, struct wh_block_check *c, const char *what, uint64_t entry,
		       uint64_t count)
{
	c->corruptions++;
	if (!c->first[0])
		wh_format(c->first, sizeof c->first,
			  "%s entry 0x%llx is%s marked copied, its count is %llu", what,
			  (unsigned long long)entry, entry & QCOW2_COPIED ? "" : " not",
			  (unsigned long long)count);
}

/* 1 = the flag is wrong. */
static int flag_check(struct qcow2 *s, uint64_t entry)
{
	uint64_t count;
	uint64_t cluster = (entry & QCOW2_OFFSET_MASK) >> s->cluster_bits;
	if (!cluster || cluster >= s->file_clusters)
		return 0;
	int r = qcow2_refcount(s, cluster, &count);
	return r < 0 ? r : (count == 1) != !!(entry & QCOW2_COPIED);
}

static int copied_slice(struct qcow2 *s, struct wh_block_check *c, uint64_t host, bool fix)
{
	uint8_t *copy = wh_alloc(s->b.alloc, s->slice_size);
	bool changed = false;
	int r = copy ? block_io_now(&s->b, WH_BLOCK_IO_READ, host, copy, s->slice_size)
		     : -WH_ENOMEM;
	for (uint32_t k = 0; k < s->slice_size && r >= 0; k += s->entry_size) {
		uint64_t entry = wh_load_be64(copy + k);
		if (entry & QCOW2_COMPRESSED || !(entry & QCOW2_OFFSET_MASK) || s->data_file)
			continue;
		r = flag_check(s, entry);
		if (r <= 0)
			continue;
		if (c)
			flag_wrong(s, c, "L2", entry, 0);
		if (!fix)
			continue;
		wh_store_be64(copy + k, entry ^ QCOW2_COPIED);
		changed = true;
		if (c)
			c->corruptions_fixed++;
	}
	if (r >= 0 && changed)
		r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, host, copy, s->slice_size);
	wh_free(s->b.alloc, copy, s->slice_size);
	return r < 0 ? r : 0;
}

/* Works on the file: what is cached of L2 tables must be clean, and is forgotten. */
int qcow2_copied_compare(struct qcow2 *s, struct wh_block_check *c, bool fix)
{
	int r = 0;
	for (uint32_t i = 0; i < s->l1_size && r >= 0; i++) {
		uint64_t l2 = s->l1[i] & QCOW2_OFFSET_MASK;
		if (!l2)
			continue;
		r = flag_check(s, s->l1[i]);
		if (r < 0)
			break;
		if (r && c)
			flag_wrong(s, c, "L1", s->l1[i], 0);
		if (r && fix) {
			s->l1[i] ^= QCOW2_COPIED;
			s->l1_dirty[i / 64] = s->l1_any = true;
			if (c)
				c->corruptions_fixed++;
		}
		for (uint64_t at = 0; at < s->cluster_size && r >= 0; at += s->slice_size)
			r = copied_slice(s, c, l2 + at, fix);
	}
	return r < 0 ? r : 0;
}

int qcow2_fix_copied(struct qcow2 *s)
{
	int r = qcow2_copied_compare(s, 0, true);
	if (r >= 0)
		r = qcow2_settle(s);
	if (r >= 0)
		qcow2_caches_drop(s);
	return r;
}
