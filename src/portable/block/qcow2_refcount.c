/* SPDX-License-Identifier: ISC */
/*
 * Refcounts and allocation. The lowest free clusters are given out first; a hint for each refcount
 * block says from where on there may be some, so that used ones are looked at once. A refcount
 * block that is missing is put on the first cluster that it covers and counts itself; a refcount
 * table that is too short moves behind everything.
 */
#include "qcow2_priv.h"

uint64_t qcow2_refcount_load(const uint8_t *block, uint32_t order, uint64_t index)
{
	switch (order) {
	case 0:
	case 1:
	case 2: {
		uint32_t bits = 1u << order, per_byte = 8u / bits;
		uint32_t shift = (uint32_t)(index % per_byte) * bits;
		return block[index / per_byte] >> shift & ((1u << bits) - 1);
	}
	case 3:
		return block[index];
	case 4:
		return wh_load_be16(block + 2 * index);
	case 5:
		return wh_load_be32(block + 4 * index);
	default:
		return wh_load_be64(block + 8 * index);
	}
}

void qcow2_refcount_store(uint8_t *block, uint32_t order, uint64_t index, uint64_t count)
{
	switch (order) {
	case 0:
	case 1:
	case 2: {
		uint32_t bits = 1u << order, per_byte = 8u / bits;
		uint32_t shift = (uint32_t)(index % per_byte) * bits;
		uint32_t mask = (1u << bits) - 1;
		uint8_t *p = block + index / per_byte;
		*p = (uint8_t)((*p & ~(mask << shift)) | (uint32_t)count << shift);
		break;
	}
	case 3:
		block[index] = (uint8_t)count;
		break;
	case 4:
		wh_store_be16(block + 2 * index, (uint16_t)count);
		break;
	case 5:
		wh_store_be32(block + 4 * index, (uint32_t)count);
		break;
	default:
		wh_store_be64(block + 8 * index, count);
	}
}

uint64_t qcow2_refcount_max(const struct qcow2 *s)
{
	return s->refcount_order == 6 ? UINT64_MAX : (1ull << (1u << s->refcount_order)) - 1;
}

/* The slice with the count of `cluster`, whose block exists, and the index in it. */
static int count_slice(struct qcow2 *s, uint64_t cluster, struct qcow2_table **ret_table,
		       uint32_t *ret_index)
{
	uint64_t block = s->rt[cluster / s->refblock_entries];
	uint64_t i = cluster % s->refblock_entries;
	uint32_t per_slice = s->slice_size * 8 >> s->refcount_order;
	*ret_index = (uint32_t)(i % per_slice);
	return qcow2_table_get(s, block + i / per_slice * s->slice_size, true, 0, ret_table);
}

static bool has_block(const struct qcow2 *s, uint64_t cluster)
{
	uint64_t index = cluster / s->refblock_entries;
	return index < s->rt_size && s->rt[index];
}

int qcow2_refcount(struct qcow2 *s, uint64_t cluster, uint64_t *ret_count)
{
	struct qcow2_table *t;
	uint32_t i;
	if (!has_block(s, cluster)) {
		*ret_count = 0;
		return 0;
	}
	int r = count_slice(s, cluster, &t, &i);
	if (r >= 0)
		*ret_count = qcow2_refcount_load(t->data, s->refcount_order, i);
	return r;
}

int qcow2_refcount_set(struct qcow2 *s, uint64_t cluster, uint64_t count)
{
	struct qcow2_table *t;
	uint32_t i;
	wh_assert(has_block(s, cluster) && count <= qcow2_refcount_max(s));
	int r = count_slice(s, cluster, &t, &i);
	if (r < 0)
		return r;
	qcow2_refcount_store(t->data, s->refcount_order, i, count);
	qcow2_table_dirty(t);
	if (!count && s->packed_at >> s->cluster_bits == cluster)
		s->packed_at = 0;
	if (!count) {
		uint32_t index = (uint32_t)(cluster / s->refblock_entries);
		uint32_t at = (uint32_t)(cluster % s->refblock_entries);
		if (s->rb_hint[index] > at)
			s->rb_hint[index] = at;
		if (s->free_block > index)
			s->free_block = index;
	}
	return 0;
}

void qcow2_used(struct qcow2 *s, uint64_t cluster, uint64_t count)
{
	if (s->fresh < cluster + count)
		s->fresh = cluster + count;
	if (s->file_clusters < cluster + count)
		s->file_clusters = cluster + count;
}

/* Makes a cluster that becomes a table read as zeroes, and have its space: what was written is only found again with
 * its tables, so a flush must not find the disk full. */
static int blank_cluster(struct qcow2 *s, uint64_t cluster)
{
	return block_io_now(&s->b, WH_BLOCK_IO_ZERO, cluster << s->cluster_bits, 0,
			    s->cluster_size);
}

/* Makes `cluster` the block `index` of the table in memory. Nothing may have been cached there. */
static int block_begin(struct qcow2 *s, uint32_t index, uint64_t cluster)
{
	struct qcow2_table *t;
	uint64_t host = cluster << s->cluster_bits;
	int r = blank_cluster(s, cluster);
	if (r >= 0)
		r = qcow2_set_add(s, cluster);
	if (r < 0)
		return r;
	wh_assert(!s->rt[index]);
	r = qcow2_table_blank(s, host, true, &t);
	if (r < 0) {
		qcow2_table_forget(s, cluster);
		return r;
	}
	qcow2_table_dirty(t); /* so that the file becomes long enough */
	s->rt[index] = host;
	s->rb_hint[index] = 0;
	s->rt_dirty[index / 64] = s->rt_any = true;
	s->linked = true;
	qcow2_used(s, cluster, 1);
	return 0;
}

/* ---- a longer refcount table ---- */

struct growth {
	uint64_t entries, table_clusters; /* of the new table */
	uint64_t first, blocks;           /* block indices that are new */
	uint64_t end;                     /* cluster behind table and blocks */
};

/* The table goes to `at`, which the old one does not cover, its blocks behind it. */
static int growth_plan(const struct qcow2 *s, uint64_t at, struct growth *g)
{
	uint64_t per_cluster = s->cluster_size / 8;
	g->first = at / s->refblock_entries;
	wh_assert(g->first >= s->rt_size);
	g->entries = s->rt_size + s->rt_size / 2 + 1;
	g->blocks = 1;
	for (;;) {
		if (g->entries < g->first + g->blocks)
			g->entries = g->first + g->blocks;
		g->entries = (g->entries + per_cluster - 1) / per_cluster * per_cluster;
		g->table_clusters = g->entries / per_cluster;
		if (g->entries * 8 > QCOW2_RT_BYTES_MAX)
			return -WH_ENOSPC;
		g->end = at + g->table_clusters + g->blocks;
		uint64_t blocks = (g->end - 1) / s->refblock_entries - g->first + 1;
		if (blocks == g->blocks && g->entries >= g->first + blocks)
			return 0;
		g->blocks = blocks;
	}
}

struct tables {
	uint64_t *rt;
	bool *rt_dirty;
	uint32_t *rb_hint;
	uint32_t size, clusters;
	uint64_t offset;
};

static void tables_free(struct qcow2 *s, struct tables *t)
{
	wh_free(s->b.alloc, t->rt, t->size * sizeof *t->rt);
	wh_free(s->b.alloc, t->rt_dirty, (t->size + 63) / 64 * sizeof *t->rt_dirty);
	wh_free(s->b.alloc, t->rb_hint, t->size * sizeof *t->rb_hint);
}

static int tables_new(struct qcow2 *s, uint32_t size, struct tables *t)
{
	*t = (struct tables){ .size = size };
	t->rt = wh_alloc_zero(s->b.alloc, size * sizeof *t->rt);
	t->rt_dirty = wh_alloc_zero(s->b.alloc, (size + 63) / 64 * sizeof *t->rt_dirty);
	t->rb_hint = wh_alloc_zero(s->b.alloc, size * sizeof *t->rb_hint);
	if (t->rt && t->rt_dirty && t->rb_hint)
		return 0;
	tables_free(s, t);
	return -WH_ENOMEM;
}

static void tables_swap(struct qcow2 *s, struct tables *t)
{
	struct tables now = { s->rt,      s->rt_dirty,    s->rb_hint,
			      s->rt_size, s->rt_clusters, s->rt_offset };
	s->rt = t->rt;
	s->rt_dirty = t->rt_dirty;
	s->rb_hint = t->rb_hint;
	s->rt_size = t->size;
	s->rt_clusters = t->clusters;
	s->rt_offset = t->offset;
	*t = now;
}

static int write_refblocks(struct qcow2 *s)
{
	WH_LIST_FOR_EACH_SAFE(n, &s->dirty[1]) {
		struct qcow2_table *t = WH_LIST_ENTRY(n, struct qcow2_table, dirty_node);
		int r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, t->host, t->data, s->slice_size);
		if (r < 0)
			return r;
		qcow2_table_clean(t);
	}
	return 0;
}

/* Fills in and writes blocks and table of the new, already active arrays; flushed at the end. */
static int growth_write(struct qcow2 *s, uint64_t at, const struct growth *g)
{
	for (uint64_t i = 0; i < g->blocks; i++) {
		int r = block_begin(s, (uint32_t)(g->first + i), at + g->table_clusters + i);
		if (r < 0)
			return r;
	}
	for (uint64_t c = at; c < g->end; c++) {
		int r = qcow2_refcount_set(s, c, 1);
		if (r < 0)
			return r;
	}
	/* All blocks that the table names must be there, also older ones that are still dirty. */
	int r = write_refblocks(s);
	memset(s->rt_dirty, true, (s->rt_size + 63) / 64);
	s->rt_any = true;
	if (r >= 0)
		r = qcow2_write_sectors(s, s->rt_offset, s->rt, s->rt_size, s->rt_dirty,
					&s->rt_any);
	if (r >= 0)
		r = qcow2_barrier(s, QCOW2_BARRIER_GROWTH);
	return r;
}

/* Whatever relies on it (an entry for what the new blocks count, the old table's space) has a barrier of its own. */
static int growth_switch(struct qcow2 *s)
{
	uint8_t b[12];
	wh_store_be64(b, s->rt_offset);
	wh_store_be32(b + 8, s->rt_clusters);
	return block_io_now(&s->b, WH_BLOCK_IO_WRITE, QCOW2_H_RT_OFFSET, b, sizeof b);
}

/* Takes the new blocks out of the cache and the set. */
static void growth_undo(struct qcow2 *s, const struct growth *g)
{
	for (uint64_t i = g->first; i < g->first + g->blocks; i++)
		if (s->rt[i])
			qcow2_table_forget(s, s->rt[i] >> s->cluster_bits);
}

static int rt_grow(struct qcow2 *s, uint64_t at)
{
	struct growth g;
	struct tables t;
	bool was = s->no_sync, was_dirty = s->rt_any;
	int r = growth_plan(s, at, &g);
	for (uint64_t c = at; r >= 0 && c < g.end; c++)
		if (qcow2_is_meta(s, c))
			r = qcow2_corrupted(s, "metadata counted as free", c << s->cluster_bits);
	if (r >= 0)
		r = tables_new(s, (uint32_t)g.entries, &t);
	if (r < 0)
		return r;
	memcpy(t.rt, s->rt, s->rt_size * sizeof *t.rt);
	memcpy(t.rb_hint, s->rb_hint, s->rt_size * sizeof *t.rb_hint);
	t.clusters = (uint32_t)g.table_clusters;
	t.offset = at << s->cluster_bits;
	tables_swap(s, &t);
	s->no_sync = true; /* the cache must not write the half-made table by itself */
	r = growth_write(s, at, &g);
	s->no_sync = was;
	if (r < 0) {
		growth_undo(s, &g);
		tables_swap(s, &t);
		tables_free(s, &t);
		s->rt_any = was_dirty;
		qcow2_used(s, at, g.end - at); /* may hold something by now */
		return r;
	}
	qcow2_used(s, at, g.end - at);
	r = growth_switch(s);
	if (r < 0)
		s->b.failed = true; /* which table counts is not known any more */
	else
		qcow2_free_later(s, t.offset >> s->cluster_bits, t.clusters);
	tables_free(s, &t);
	return r;
}

/* ---- allocation ---- */

/* A block on the first cluster that it covers. */
static int block_new(struct qcow2 *s, uint64_t cluster)
{
	uint64_t index = cluster / s->refblock_entries;
	struct qcow2_table *t;
	uint32_t i;
	if (qcow2_is_meta(s, cluster))
		return qcow2_corrupted(s, "metadata counted as free", cluster << s->cluster_bits);
	if (index >= s->rt_size)
		return rt_grow(s, cluster);
	int r = block_begin(s, (uint32_t)index, cluster);
	if (r < 0)
		return r;
	r = count_slice(s, cluster, &t, &i);
	wh_assert(r >= 0); /* it was just made */
	qcow2_refcount_store(t->data, s->refcount_order, i, 1);
	return 0;
}

/* Moves the hint of a block to its first free entry (none = its number of entries), a slice at a time: what was looked at
 * stays so when a slice must be waited for. */
static int free_entry(struct qcow2 *s, uint64_t index, struct wh_block_request *q)
{
	uint32_t per_slice = s->slice_size * 8 >> s->refcount_order;
	uint64_t i = s->rb_hint[index];
	while (i < s->refblock_entries) {
		struct qcow2_table *t;
		uint64_t end = (i / per_slice + 1) * per_slice;
		int r = qcow2_table_get(s, s->rt[index] + i / per_slice * s->slice_size, true, q,
					&t);
		if (r != 0)
			return r;
		while (i < end && qcow2_refcount_load(t->data, s->refcount_order, i % per_slice))
			i++;
		s->rb_hint[index] = (uint32_t)i;
		if (i < end)
			break;
	}
	return 0;
}

int qcow2_alloc_ready(struct qcow2 *s, struct wh_block_request *q)
{
	while (s->free_block < s->rt_size && s->rt[s->free_block]) {
		int r = free_entry(s, s->free_block, q);
		if (r != 0 || s->rb_hint[s->free_block] < s->refblock_entries)
			return r;
		s->free_block++;
	}
	return 0;
}

/* The lowest free cluster at or above that of the hints; a block for it exists. */
static int first_free(struct qcow2 *s, uint64_t *ret_cluster)
{
	for (;;) {
		uint64_t index = s->free_block;
		if (index * s->refblock_entries > QCOW2_OFFSET_MASK >> s->cluster_bits)
			return -WH_ENOSPC;
		if (index >= s->rt_size || !s->rt[index]) {
			int r = block_new(s, index * s->refblock_entries);
			if (r < 0)
				return r;
			continue;
		}
		int r = free_entry(s, index, 0);
		if (r < 0)
			return r;
		if (s->rb_hint[index] < s->refblock_entries) {
			*ret_cluster = index * s->refblock_entries + s->rb_hint[index];
			return 0;
		}
		s->free_block++;
	}
}

/* How many clusters from here on are free, at most `max`. */
static int free_run(struct qcow2 *s, uint64_t cluster, uint64_t max, uint64_t *ret_count)
{
	uint64_t n = 0, count = 0;
	while (n < max && has_block(s, cluster + n)) {
		int r = qcow2_refcount(s, cluster + n, &count);
		if (r < 0)
			return r;
		if (count)
			break;
		n++;
	}
	*ret_count = n;
	return 0;
}

/* Counts them as used. */
static int take(struct qcow2 *s, uint64_t cluster, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		int r = 0;
		if (qcow2_is_meta(s, cluster + i))
			r = qcow2_corrupted(s, "metadata counted as free",
					    (cluster + i) << s->cluster_bits);
		if (r >= 0)
			r = qcow2_refcount_set(s, cluster + i, 1);
		if (r < 0) {
			qcow2_unalloc(s, cluster, i);
			return r;
		}
	}
	uint32_t index = (uint32_t)(cluster / s->refblock_entries);
	if (s->rb_hint[index] == cluster % s->refblock_entries) {
		uint64_t hint = s->rb_hint[index] + n;
		s->rb_hint[index] =
			(uint32_t)(hint < s->refblock_entries ? hint : s->refblock_entries);
	}
	if (s->file_clusters < cluster + n)
		s->file_clusters = cluster + n;
	return 0;
}

int qcow2_alloc(struct qcow2 *s, uint64_t count, uint64_t *ret_cluster, uint64_t *ret_count)
{
	uint64_t cluster, n;
	int r = first_free(s, &cluster);
	if (r >= 0)
		r = free_run(s, cluster, count, &n);
	if (r >= 0)
		r = take(s, cluster, n);
	if (r < 0)
		return r;
	wh_assert(n && n <= count);
	*ret_cluster = cluster;
	*ret_count = n;
	return 0;
}

int qcow2_alloc_row(struct qcow2 *s, uint64_t count, uint64_t *ret_cluster)
{
	uint64_t cluster, n = 0;
	int r = first_free(s, &cluster);
	while (r >= 0) {
		r = free_run(s, cluster, count, &n);
		if (r < 0 || n == count)
			break;
		if (!has_block(s, cluster + n)) {
			/* The block takes the first cluster that it covers, so begin behind it. */
			r = block_new(s, (cluster + n) / s->refblock_entries * s->refblock_entries);
		} else {
			cluster += n + 1;
		}
		if (cluster + count > QCOW2_OFFSET_MASK >> s->cluster_bits)
			r = -WH_ENOSPC;
	}
	if (r >= 0)
		r = take(s, cluster, count);
	if (r >= 0)
		*ret_cluster = cluster;
	return r;
}

void qcow2_unalloc(struct qcow2 *s, uint64_t cluster, uint64_t count)
{
	qcow2_used(s, cluster, count); /* they may hold something by now */
	for (uint64_t i = 0; i < count; i++) {
		uint64_t n;
		if (qcow2_refcount(s, cluster + i, &n) < 0 || !n ||
		    qcow2_refcount_set(s, cluster + i, n - 1) < 0)
			return; /* a leak */
	}
}
