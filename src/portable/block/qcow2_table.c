/* SPDX-License-Identifier: ISC */
/*
 * Cache of L2 tables and refcount blocks, in slices of at most 4 KiB, found by their place in
 * the file. What is not dirty may be forgotten, by the clock. qcow2_sync.c writes what is dirty.
 */
#include "qcow2_priv.h"

/* ---- set ---- */

static uint64_t set_slot(const struct qcow2_set *set, uint64_t v)
{
	uint64_t i = v * 0x9e3779b97f4a7c15ull >> 20 & (set->size - 1);
	while (set->slot[i] && set->slot[i] != v)
		i = (i + 1) & (set->size - 1);
	return i;
}

bool qcow2_set_has(const struct qcow2_set *set, uint64_t v)
{
	return set->size && set->slot[set_slot(set, v)];
}

int qcow2_set_add(struct qcow2 *s, uint64_t v)
{
	struct qcow2_set *set = &s->meta;
	wh_assert(v);
	if (set->used * 2 >= set->size) {
		struct qcow2_set bigger = { .size = set->size ? set->size * 2 : 64 };
		bigger.slot = wh_alloc_zero(s->b.alloc, bigger.size * sizeof *bigger.slot);
		if (!bigger.slot)
			return -WH_ENOMEM;
		for (uint64_t i = 0; i < set->size; i++)
			if (set->slot[i])
				bigger.slot[set_slot(&bigger, set->slot[i])] = set->slot[i];
		bigger.used = set->used;
		wh_free(s->b.alloc, set->slot, set->size * sizeof *set->slot);
		*set = bigger;
	}
	uint64_t i = set_slot(set, v);
	if (set->slot[i])
		return -WH_EEXIST;
	set->slot[i] = v;
	set->used++;
	return 0;
}

void qcow2_set_remove(struct qcow2_set *set, uint64_t v)
{
	if (!set->size)
		return;
	uint64_t i = set_slot(set, v);
	if (!set->slot[i])
		return;
	set->slot[i] = 0;
	set->used--;
	/* Those behind it may have been pushed there by it. */
	for (i = (i + 1) & (set->size - 1); set->slot[i]; i = (i + 1) & (set->size - 1)) {
		uint64_t moved = set->slot[i];
		set->slot[i] = 0;
		set->slot[set_slot(set, moved)] = moved;
	}
}

static bool inside(const struct qcow2 *s, uint64_t cluster, uint64_t offset, uint64_t bytes)
{
	uint64_t first = offset >> s->cluster_bits;
	return bytes && cluster >= first && cluster - first < qcow2_clusters(s, bytes);
}

bool qcow2_is_meta(const struct qcow2 *s, uint64_t cluster)
{
	if (!cluster || inside(s, cluster, s->l1_offset, s->l1_size * 8ull) ||
	    inside(s, cluster, s->rt_offset, (uint64_t)s->rt_clusters << s->cluster_bits) ||
	    qcow2_set_has(&s->meta, cluster))
		return true;
	if (s->bitmap_count && inside(s, cluster, s->bitmap_dir, s->bitmap_dir_size))
		return true;
	if (!s->snapshot_count)
		return false;
	if (inside(s, cluster, s->snapshots_offset, s->snapshots_bytes))
		return true;
	for (uint32_t i = 0; i < s->snapshot_count; i++)
		if (inside(s, cluster, s->snapshots[i].l1_offset, s->snapshots[i].l1_size * 8ull))
			return true;
	return false;
}

int qcow2_corrupted(struct qcow2 *s, const char *what, uint64_t where)
{
	wh_log_write(&s->b.log, WH_LOG_ERROR, "qcow2", 0, "image is corrupt: %s at 0x%llx", what,
		     (unsigned long long)where);
	if (!s->corrupt && !s->b.read_only && s->version >= 3) {
		s->incompatible |= QCOW2_INCOMPATIBLE_CORRUPT;
		/* The answer is an error in any case; a failure here cannot make it worse. */
		(void)qcow2_header_store64(s, QCOW2_H_INCOMPATIBLE, s->incompatible);
		(void)qcow2_barrier(s, QCOW2_BARRIER_CORRUPT);
	}
	s->corrupt = true;
	return -WH_EIO;
}

/* ---- cache ---- */

static size_t table_bytes(const struct qcow2 *s)
{
	return sizeof(struct qcow2_table) + s->slice_size;
}

static struct qcow2_table **bucket_of(struct qcow2 *s, uint64_t host)
{
	return &s->bucket[(host / s->slice_size * 0x9e3779b97f4a7c15ull >> 32) &
			  (s->bucket_count - 1)];
}

int qcow2_caches_init(struct qcow2 *s, uint64_t bytes)
{
	uint64_t max = bytes / s->slice_size;
	s->table_max = (uint32_t)(max < QCOW2_TABLES_MIN ? QCOW2_TABLES_MIN : max);
	s->bucket_count = 64;
	while (s->bucket_count < s->table_max)
		s->bucket_count *= 2;
	wh_list_init(&s->dirty[0]);
	wh_list_init(&s->dirty[1]);
	s->bucket = wh_alloc_zero(s->b.alloc, s->bucket_count * sizeof *s->bucket);
	s->tables = wh_alloc_zero(s->b.alloc, 2ull * s->table_max * sizeof *s->tables);
	return s->bucket && s->tables ? 0 : -WH_ENOMEM;
}

static void unhash(struct qcow2 *s, struct qcow2_table *t)
{
	struct qcow2_table **p = bucket_of(s, t->host);
	if (t->orphan)
		return;
	while (*p != t)
		p = &(*p)->chain;
	*p = t->chain;
}

static void table_free(struct qcow2 *s, uint32_t slot)
{
	struct qcow2_table *t = s->tables[slot];
	unhash(s, t);
	s->tables[slot] = s->tables[--s->table_count];
	wh_free(s->b.alloc, t, table_bytes(s));
}

/* Memory for one more table: new, or a clean one's. */
static struct qcow2_table *table_memory(struct qcow2 *s)
{
	for (int round = 0; round < 2; round++) {
		uint32_t steps = s->table_count < s->table_max ? 0 : 2 * s->table_count;
		for (; steps; steps--) {
			s->hand = s->hand + 1 < s->table_count ? s->hand + 1 : 0;
			struct qcow2_table *t = s->tables[s->hand];
			if (t->dirty || t->loading || t->writing)
				continue;
			if (!t->used) {
				unhash(s, t);
				return t;
			}
			t->used = false;
		}
		/* All are dirty. Normally qcow2_may_change has seen to it before. */
		if (s->table_count < s->table_max || s->no_sync || s->sync.running || round ||
		    qcow2_write_back(s) < 0)
			break;
	}
	if (s->table_count == 2 * s->table_max)
		return 0;
	struct qcow2_table *t = wh_alloc(s->b.alloc, table_bytes(s));
	if (t)
		s->tables[s->table_count++] = t;
	return t;
}

static struct qcow2_table *table_find(struct qcow2 *s, uint64_t host)
{
	struct qcow2_table *t = *bucket_of(s, host);
	while (t && t->host != host)
		t = t->chain;
	return t;
}

static struct qcow2_table *table_add(struct qcow2 *s, uint64_t host, bool refblock)
{
	struct qcow2_table *t = table_memory(s);
	if (!t)
		return 0;
	struct qcow2_table **p = bucket_of(s, host);
	t->chain = *p;
	*p = t;
	t->s = s;
	t->host = host;
	t->refblock = refblock;
	t->dirty = t->loading = t->writing = t->again = t->orphan = false;
	t->used = true;
	wh_list_init(&t->dirty_node);
	return t;
}

static void table_remove(struct qcow2 *s, struct qcow2_table *t)
{
	for (uint32_t i = 0; i < s->table_count; i++)
		if (s->tables[i] == t) {
			table_free(s, i);
			return;
		}
}

int qcow2_table_get(struct qcow2 *s, uint64_t host, bool refblock, struct wh_block_request *q,
		    struct qcow2_table **ret_table)
{
	struct qcow2_table *t = table_find(s, host);
	wh_assert(host % s->slice_size == 0);
	if (t && !t->loading) {
		t->used = true;
		*ret_table = t;
		return 0;
	}
	if (t && q)
		return BLOCK_PARK;
	if (t) { /* being read for somebody else, but needed at once: read twice, and the other's is thrown away */
		unhash(s, t);
		t->orphan = true;
	}
	t = table_add(s, host, refblock);
	if (!t)
		return -WH_ENOMEM;
	if (q) {
		uint64_t run = q->run; /* of the request's own data */
		t->loading = true;
		q->table = t;
		q->table_of = &s->b;
		block_prepare_memory(q, &s->b.file, WH_BLOCK_IO_READ, host, t->data, s->slice_size);
		q->run = run;
		return BLOCK_SUBMIT;
	}
	int r = block_io_now(&s->b, WH_BLOCK_IO_READ, host, t->data, s->slice_size);
	if (r < 0) {
		table_remove(s, t);
		return r;
	}
	*ret_table = t;
	return 0;
}

int qcow2_table_blank(struct qcow2 *s, uint64_t host, bool refblock, struct qcow2_table **ret_table)
{
	struct qcow2_table *t = table_find(s, host);
	if (!t)
		t = table_add(s, host, refblock);
	if (!t)
		return -WH_ENOMEM;
	wh_assert(!t->loading && !t->writing && !t->dirty);
	t->refblock = refblock;
	memset(t->data, 0, s->slice_size);
	*ret_table = t;
	return 0;
}

int qcow2_after_table(struct wh_block *b, struct wh_block_request *q, int result)
{
	struct qcow2 *s = qcow2_of(b);
	struct qcow2_table *t = q->table;
	q->table_of = 0;
	if (!t)
		return qcow2_after_packed(s, q, result);
	q->table = 0;
	t->loading = false;
	if (result < 0 || t->orphan)
		table_remove(s, t);
	block_unpark(q->block); /* an image below is used by nobody else */
	if (result < 0)
		return q->block->ops->after(q->block, q, result);
	return 0;
}

void qcow2_table_dirty(struct qcow2_table *t)
{
	wh_assert(!t->s->sync.running || t->refblock);
	t->again = t->writing;
	if (t->dirty)
		return;
	t->dirty = true;
	t->s->dirty_count++;
	wh_list_push_back(&t->s->dirty[t->refblock], &t->dirty_node);
}

void qcow2_table_clean(struct qcow2_table *t)
{
	wh_assert(t->dirty);
	t->dirty = false;
	t->s->dirty_count--;
	wh_list_remove(&t->dirty_node);
}

void qcow2_table_forget(struct qcow2 *s, uint64_t cluster)
{
	uint64_t host = cluster << s->cluster_bits;
	qcow2_set_remove(&s->meta, cluster);
	for (uint64_t at = host; at < host + s->cluster_size; at += s->slice_size) {
		struct qcow2_table *t = table_find(s, at);
		if (!t)
			continue;
		wh_assert(!t->loading && !t->writing);
		if (t->dirty)
			qcow2_table_clean(t);
		table_remove(s, t);
	}
}

void qcow2_caches_drop(struct qcow2 *s)
{
	while (s->table_count) {
		struct qcow2_table *t = s->tables[s->table_count - 1];
		if (t->dirty)
			qcow2_table_clean(t);
		table_free(s, s->table_count - 1);
	}
	s->hand = 0;
}

void qcow2_caches_free(struct qcow2 *s)
{
	if (s->bucket && s->tables)
		qcow2_caches_drop(s);
	wh_free(s->b.alloc, s->bucket, s->bucket_count * sizeof *s->bucket);
	wh_free(s->b.alloc, s->tables, 2ull * s->table_max * sizeof *s->tables);
	s->bucket = s->tables = 0;
}
