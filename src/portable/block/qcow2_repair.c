/* SPDX-License-Identifier: ISC */
/*
 * Repair, after a check has counted the references. The tables are the truth, counts follow them:
 *
 *	mark dirty (version 3), flush      a crash from here on makes the next open begin again
 *	drop entries that cannot be true
 *	set counts, or write a whole new refcount structure behind everything, flush, and switch the header
 *	COPIED flags, flush
 *	clear dirty and corrupt, flush
 *
 * Version 2 has no mark. What a crash leaves there is no worse than what was there before: a bad entry that is
 * back is as bad as it was, a count that is back too; only the header must not name what was never written.
 */
#include "qcow2_priv.h"

/* ---- a new refcount structure ---- */

struct plan {
	uint64_t start, table_clusters, blocks; /* table at start, then blocks for clusters 0 .. */
};

static int plan_make(const struct qcow2_refs *r, struct plan *p)
{
	const struct qcow2 *s = r->s;
	uint64_t per = s->refblock_entries;
	p->start = r->clusters;
	p->blocks = 1;
	for (;;) {
		p->table_clusters = qcow2_clusters(s, p->blocks * 8);
		uint64_t end = p->start + p->table_clusters + p->blocks;
		uint64_t need = (end + per - 1) / per;
		if (p->table_clusters << s->cluster_bits > QCOW2_RT_BYTES_MAX)
			return -WH_EFBIG;
		if (need <= p->blocks)
			return 0;
		p->blocks = need;
	}
}

static uint64_t count_in_plan(const struct qcow2_refs *r, const struct plan *p, uint64_t c)
{
	uint64_t end = p->start + p->table_clusters + p->blocks, max = qcow2_refcount_max(r->s);
	uint64_t want = c < r->clusters ? r->count[c] : c >= p->start && c < end;
	return want < max ? want : max;
}

static int write_blocks(struct qcow2_refs *r, const struct plan *p)
{
	struct qcow2 *s = r->s;
	int e = 0;
	for (uint64_t b = 0; b < p->blocks && e >= 0; b++) {
		memset(r->slice, 0, s->cluster_size);
		for (uint64_t i = 0; i < s->refblock_entries; i++)
			qcow2_refcount_store(r->slice, s->refcount_order, i,
					     count_in_plan(r, p, b * s->refblock_entries + i));
		e = block_io_now(&s->b, WH_BLOCK_IO_WRITE,
				 (p->start + p->table_clusters + b) << s->cluster_bits, r->slice,
				 s->cluster_size);
	}
	return e;
}

static int write_table(struct qcow2_refs *r, const struct plan *p)
{
	struct qcow2 *s = r->s;
	uint64_t per = s->cluster_size / 8;
	int e = 0;
	for (uint64_t t = 0; t < p->table_clusters && e >= 0; t++) {
		memset(r->slice, 0, s->cluster_size);
		for (uint64_t i = 0; i < per && t * per + i < p->blocks; i++)
			wh_store_be64(r->slice + 8 * i, (p->start + p->table_clusters + t * per + i)
								<< s->cluster_bits);
		e = block_io_now(&s->b, WH_BLOCK_IO_WRITE, (p->start + t) << s->cluster_bits,
				 r->slice, s->cluster_size);
	}
	return e;
}

int qcow2_rebuild(struct qcow2_refs *r)
{
	struct qcow2 *s = r->s;
	struct plan p;
	uint8_t b[12];
	/* The old table and blocks are free afterwards. */
	if (s->rt_offset)
		for (uint32_t c = 0; c < s->rt_clusters; c++)
			r->count[(s->rt_offset >> s->cluster_bits) + c]--;
	for (uint32_t i = 0; i < s->rt_size; i++)
		if (s->rt[i])
			r->count[s->rt[i] >> s->cluster_bits]--;
	int e = plan_make(r, &p);
	if (e >= 0)
		e = write_blocks(r, &p);
	if (e >= 0)
		e = write_table(r, &p);
	if (e >= 0)
		e = qcow2_barrier(s, QCOW2_BARRIER_REBUILD);
	if (e < 0)
		return e;
	wh_store_be64(b, p.start << s->cluster_bits);
	wh_store_be32(b + 8, (uint32_t)p.table_clusters);
	e = block_io_now(&s->b, WH_BLOCK_IO_WRITE, QCOW2_H_RT_OFFSET, b, sizeof b);
	s->file_clusters = s->fresh = p.start + p.table_clusters + p.blocks;
	return e;
}

/* ---- the whole of it ---- */

/* L1 entries that were taken for absent are so on disk, too. */
static int drop_l1(struct qcow2 *s)
{
	if (!s->bad_l1 || !s->l1_size)
		return 0;
	memset(s->l1_dirty, true, (s->l1_size + 63) / 64);
	s->l1_any = true;
	return qcow2_write_sectors(s, s->l1_offset, s->l1, s->l1_size, s->l1_dirty, &s->l1_any);
}

static int flags_clear(struct qcow2 *s)
{
	uint64_t value = s->incompatible & ~(QCOW2_INCOMPATIBLE_DIRTY | QCOW2_INCOMPATIBLE_CORRUPT);
	if (s->version < 3)
		return 0;
	int e = qcow2_header_store64(s, QCOW2_H_INCOMPATIBLE, value);
	if (e >= 0)
		e = qcow2_barrier(s, QCOW2_BARRIER_CLEAN);
	if (e >= 0) {
		s->incompatible = value;
		s->corrupt = false;
	}
	return e;
}

/* After counts were compared and set: what is left. */
static int finish_all(struct qcow2_refs *r)
{
	struct qcow2 *s = r->s;
	uint64_t before = r->c->corruptions - r->c->corruptions_fixed;
	for (uint64_t c = 0; c < r->clusters; c++)
		r->beyond += r->count[c] > qcow2_refcount_max(s);
	int e = r->rebuild ? qcow2_rebuild(r) : 0;
	if (e >= 0) {
		r->c->corruptions_fixed += before - (before < r->beyond ? before : r->beyond);
		r->c->leaks_fixed = r->c->leaks;
		s->bad_l1 = 0;
		e = qcow2_reload(s);
	}
	return e;
}

static int check_and_repair(struct qcow2_refs *r, uint32_t repair)
{
	struct qcow2 *s = r->s;
	bool all = repair & WH_BLOCK_REPAIR_ALL;
	int e = 0;
	if (all && !(s->incompatible & QCOW2_INCOMPATIBLE_DIRTY))
		e = qcow2_mark_dirty(s, true);
	r->drop = all;
	if (e >= 0)
		e = qcow2_refs_count(r);
	if (e >= 0 && all)
		e = drop_l1(s);
	if (e >= 0)
		e = qcow2_counts_compare(r, repair);
	if (e >= 0 && all)
		e = finish_all(r);
	else if (e >= 0 && r->c->leaks_fixed)
		e = qcow2_reload(s);
	if (e >= 0)
		e = qcow2_copied_compare(s, r->c, all);
	if (e < 0 || !repair)
		return e;
	s->touched = true;
	if (s->l1_any)
		e = qcow2_write_sectors(s, s->l1_offset, s->l1, s->l1_size, s->l1_dirty,
					&s->l1_any);
	if (e >= 0)
		e = qcow2_barrier(s, QCOW2_BARRIER_REPAIR);
	if (e >= 0 && all && !r->c->errors && !r->beyond)
		e = flags_clear(s);
	qcow2_caches_drop(s);
	return e;
}

int qcow2_repair_dirty(struct qcow2 *s, struct wh_diag *diag)
{
	struct wh_block_check c = { 0 };
	struct qcow2_refs r = { .s = s, .c = &c };
	bool tolerant = s->tolerant;
	qcow2_caches_drop(s);
	s->freed_count = 0; /* counted anew */
	s->tolerant = true;
	int e = qcow2_reload(s);
	if (e >= 0)
		e = check_and_repair(&r, WH_BLOCK_REPAIR_ALL);
	qcow2_refs_free(&r);
	s->tolerant = tolerant;
	if (e >= 0 && (c.errors || r.beyond))
		e = -WH_EIO;
	if (e < 0)
		return wh_diag_set(diag, e,
				   "qcow2: the image was not closed, and repairing it failed; look "
				   "with: wherry disk check FILE");
	s->tolerant = false;
	wh_log_write(&s->b.log, WH_LOG_INFO, "qcow2", 0,
		     "the image was not closed: repaired, %llu leaks, %llu errors",
		     (unsigned long long)c.leaks, (unsigned long long)c.corruptions);
	return 0;
}

int wh_block_check(struct wh_block *block, uint32_t repair,
		   const struct wh_block_progress *progress, struct wh_block_check *ret_check,
		   struct wh_diag *diag)
{
	struct wh_block_check c = { 0 };
	if (block->format != WH_BLOCK_FORMAT_QCOW2)
		return wh_diag_set(diag, -WH_EOPNOTSUPP, "there is nothing to check in a raw disk");
	struct qcow2 *s = qcow2_of(block);
	struct qcow2_refs r = { .s = s, .c = &c, .progress = progress };
	int e = block_idle(block);
	if (e < 0)
		return wh_diag_set(diag, e, "requests are in flight");
	if (repair && block->read_only)
		return wh_diag_set(diag, -WH_EROFS, "the image is open for reading only");
	if (!block->check_only && !block->read_only) {
		e = qcow2_settle(s);
		if (e < 0)
			return wh_diag_set(diag, e, "the image cannot be written");
	}
	e = check_and_repair(&r, repair);
	qcow2_refs_free(&r);
	if (e < 0)
		return wh_diag_set(diag, e,
				   e == -WH_ECANCELED ? "ended early" : "the image cannot be %s",
				   repair ? "repaired" : "read");
	*ret_check = c;
	return 0;
}
