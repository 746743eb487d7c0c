/* SPDX-License-Identifier: ISC */
/*
 * Refcounts and allocation. The lowest free clusters are given out first. A refcount block that is
 * missing is put on the first cluster that it covers and is needed for, and counts
 * itself; a refcount table that is too short moves behind everything.
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

int qcow2_refcount(struct qcow2 *s, uint64_t cluster, uint64_t *ret_count)
{
	uint64_t index = cluster / s->refblock_entries;
	struct qcow2_table *t;
	if (index >= s->rt_size || !s->rt[index]) {
		*ret_count = 0;
		return 0;
	}
	int r = qcow2_refblock_get(s, (uint32_t)index, &t);
	if (r >= 0)
		*ret_count = qcow2_refcount_load(t->data, s->refcount_order,
						 cluster % s->refblock_entries);
	return r;
}

int qcow2_refcount_set(struct qcow2 *s, uint64_t cluster, uint64_t count)
{
	struct qcow2_table *t;
	int r = qcow2_refblock_get(s, (uint32_t)(cluster / s->refblock_entries), &t);
	if (r < 0)
		return r;
	qcow2_refcount_store(t->data, s->refcount_order, cluster % s->refblock_entries, count);
	t->dirty = true;
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
	struct qcow2_table **refblock;
	uint32_t size, clusters;
	uint64_t offset;
};

static void tables_free(struct qcow2 *s, struct tables *t)
{
	wh_free(s->b.alloc, t->rt, t->size * sizeof *t->rt);
	wh_free(s->b.alloc, t->rt_dirty, (t->size + 63) / 64 * sizeof *t->rt_dirty);
	wh_free(s->b.alloc, t->refblock, t->size * sizeof(void *));
}

static int tables_new(struct qcow2 *s, uint32_t size, struct tables *t)
{
	*t = (struct tables){ .size = size };
	t->rt = wh_alloc_zero(s->b.alloc, size * sizeof *t->rt);
	t->rt_dirty = wh_alloc_zero(s->b.alloc, (size + 63) / 64 * sizeof *t->rt_dirty);
	t->refblock = wh_alloc_zero(s->b.alloc, size * sizeof(void *));
	if (t->rt && t->rt_dirty && t->refblock)
		return 0;
	tables_free(s, t);
	return -WH_ENOMEM;
}

static void tables_swap(struct qcow2 *s, struct tables *t)
{
	struct tables now = { s->rt,      s->rt_dirty,    s->refblock,
			      s->rt_size, s->rt_clusters, s->rt_offset };
	s->rt = t->rt;
	s->rt_dirty = t->rt_dirty;
	s->refblock = t->refblock;
	s->rt_size = t->size;
	s->rt_clusters = t->clusters;
	s->rt_offset = t->offset;
	*t = now;
}

/* Fills in and writes blocks and table of the new, already active arrays; flushed at the end. */
static int growth_write(struct qcow2 *s, uint64_t at, const struct growth *g)
{
	for (uint64_t i = 0; i < g->blocks; i++) {
		struct qcow2_table *t;
		uint64_t host = (at + g->table_clusters + i) << s->cluster_bits;
		int r = qcow2_table_new(s, true, (uint32_t)(g->first + i), host, &t);
		if (r < 0)
			return r;
	}
	for (uint64_t c = at; c < g->end; c++) {
		int r = qcow2_refcount_set(s, c, 1);
		if (r < 0)
			return r;
	}
	/* All blocks that the table names must be there, also older ones that are still dirty. */
	WH_LIST_FOR_EACH(n, &s->lru) {
		struct qcow2_table *t = WH_LIST_ENTRY(n, struct qcow2_table, node);
		int r = t->refblock && t->dirty ? qcow2_table_write(s, t) : 0;
		if (r < 0)
			return r;
	}
	memset(s->rt_dirty, true, (s->rt_size + 63) / 64);
	uint8_t sector[WH_BLOCK_SECTOR];
	for (uint32_t i = 0; i < s->rt_size; i += 64) {
		for (uint32_t k = 0; k < 64; k++)
			wh_store_be64(sector + 8 * k, s->rt[i + k]);
		int r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, s->rt_offset + 8ull * i, sector,
				     sizeof sector);
		if (r < 0)
			return r;
	}
	memset(s->rt_dirty, false, (s->rt_size + 63) / 64);
	return block_io_now(&s->b, WH_BLOCK_IO_FLUSH, 0, 0, 0);
}

static int growth_switch(struct qcow2 *s)
{
	uint8_t b[12];
	wh_store_be64(b, s->rt_offset);
	wh_store_be32(b + 8, s->rt_clusters);
	int r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, QCOW2_H_RT_OFFSET, b, sizeof b);
	if (r >= 0)
		r = block_io_now(&s->b, WH_BLOCK_IO_FLUSH, 0, 0, 0);
	return r;
}

static int rt_grow(struct qcow2 *s, uint64_t at)
{
	struct growth g;
	struct tables t;
	bool was_in_sync = s->in_sync, was_dirty = s->rt_any;
	int r = growth_plan(s, at, &g);
	for (uint64_t c = at; r >= 0 && c < g.end; c++)
		if (qcow2_is_meta(s, c))
			r = qcow2_corrupted(s, "metadata counted as free", c << s->cluster_bits);
	if (r >= 0)
		r = tables_new(s, (uint32_t)g.entries, &t);
	if (r < 0)
		return r;
	memcpy(t.rt, s->rt, s->rt_size * sizeof *t.rt);
	memcpy(t.refblock, s->refblock, s->rt_size * sizeof(void *));
	t.clusters = (uint32_t)g.table_clusters;
	t.offset = at << s->cluster_bits;
	tables_swap(s, &t);
	s->in_sync = true; /* the cache must not write the half-made table by itself */
	r = growth_write(s, at, &g);
	s->in_sync = was_in_sync;
	if (r < 0) {
		for (uint64_t i = g.first; i < g.first + g.blocks; i++)
			if (s->refblock[i]) {
				qcow2_set_remove(&s->meta, s->rt[i] >> s->cluster_bits);
				qcow2_table_drop(s, s->refblock[i]);
			}
		/* Blocks of the old range may have been loaded meanwhile. */
		memcpy(t.refblock, s->refblock, t.size * sizeof(void *));
		tables_swap(s, &t);
		tables_free(s, &t);
		s->rt_any = was_dirty;
		return r;
	}
	s->rt_any = false;
	if (s->file_clusters < g.end)
		s->file_clusters = g.end;
	if (s->fresh < g.end)
		s->fresh = g.end;
	r = growth_switch(s);
	if (r < 0)
		s->b.failed = true; /* which table counts is not known any more */
	else
		r = qcow2_free_later(s, t.offset >> s->cluster_bits, t.clusters);
	tables_free(s, &t);
	return r;
}

/* ---- allocation ---- */

/* A block on the first cluster that needs it. */
static int block_new(struct qcow2 *s, uint64_t cluster)
{
	uint64_t index = cluster / s->refblock_entries;
	struct qcow2_table *t;
	if (qcow2_is_meta(s, cluster))
		return qcow2_corrupted(s, "metadata counted as free", cluster << s->cluster_bits);
	if (index >= s->rt_size)
		return rt_grow(s, cluster);
	int r = qcow2_table_new(s, true, (uint32_t)index, cluster << s->cluster_bits, &t);
	if (r < 0)
		return r;
	qcow2_refcount_store(t->data, s->refcount_order, cluster % s->refblock_entries, 1);
	if (s->file_clusters <= cluster)
		s->file_clusters = cluster + 1;
	if (s->fresh <= cluster)
		s->fresh = cluster + 1;
	return 0;
}

/* The first free clusters, at most `count` in a row. Blocks for them exist. */
static int find(struct qcow2 *s, uint64_t count, uint64_t *ret_cluster, uint64_t *ret_count)
{
	uint64_t start = s->free_hint, run = 0;
	bool first = true;
	while (run < count) {
		uint64_t cluster = start + run, index = cluster / s->refblock_entries, used;
		if (cluster > QCOW2_OFFSET_MASK >> s->cluster_bits)
			return -WH_ENOSPC;
		if (index >= s->rt_size || !s->rt[index]) {
			if (run)
				break; /* what there is will do */
			int r = block_new(s, cluster);
			if (r < 0)
				return r;
			continue; /* this cluster is taken now */
		}
		int r = qcow2_refcount(s, cluster, &used);
		if (r < 0)
			return r;
		if (used && run)
			break;
		if (used) {
			start++;
			continue;
		}
		if (first)
			s->free_hint = start;
		first = false;
		run++;
	}
	*ret_cluster = start;
	*ret_count = run;
	return 0;
}

int qcow2_alloc(struct qcow2 *s, uint64_t count, uint64_t *ret_cluster, uint64_t *ret_count)
{
	uint64_t cluster, n;
	int r = find(s, count, &cluster, &n);
	if (r < 0)
		return r;
	wh_assert(n && n <= count);
	for (uint64_t i = 0; i < n; i++) {
		if (qcow2_is_meta(s, cluster + i))
			return qcow2_corrupted(s, "metadata counted as free",
					       (cluster + i) << s->cluster_bits);
		r = qcow2_refcount_set(s, cluster + i, 1);
		if (r < 0) {
			qcow2_unalloc(s, cluster, i);
			return r;
		}
	}
	if (s->free_hint == cluster)
		s->free_hint = cluster + n;
	if (s->file_clusters < cluster + n)
		s->file_clusters = cluster + n;
	*ret_cluster = cluster;
	*ret_count = n;
	return 0;
}

void qcow2_unalloc(struct qcow2 *s, uint64_t cluster, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		if (qcow2_refcount_set(s, cluster + i, 0) < 0)
			return; /* a leak */
	if (count && cluster < s->free_hint)
		s->free_hint = cluster;
	/* They may hold something by now. */
	if (s->fresh < cluster + count)
		s->fresh = cluster + count;
}
