/* SPDX-License-Identifier: ISC */
/*
 * Metadata in memory and the order in which it reaches the disk.
 *
 * An L2 table may be on disk only when what it refers to is: data and refcounts. So:
 *
 *	1 refcount blocks            (any time: too high a count is only a leak)
 *	  -- flush, if anything was linked: data and counts are there
 *	2 refcount table entries     (new blocks are there)
 *	  -- flush, if any
 *	3 L2 tables, in place and new
 *	  -- flush, if L1 entries changed: new tables are there
 *	4 L1 entries
 *	  -- flush by the caller: the request is durable
 *	5 counts of clusters that nothing refers to any more go down, holes are punched, and
 *	  only now can these clusters be given out again
 *
 * A crash in between leaves counts that are too high, never too low, and no table that
 * refers to something that is not there. Entries have 8 bytes and do not
 * straddle sectors, so a torn table is a mix of old and new entries, each of them good.
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
	uint64_t i = set_slot(set, v);
	wh_assert(set->slot[i] == v);
	set->slot[i] = 0;
	set->used--;
	/* Those behind it may have been pushed there by it. */
	for (i = (i + 1) & (set->size - 1); set->slot[i]; i = (i + 1) & (set->size - 1)) {
		uint64_t moved = set->slot[i];
		set->slot[i] = 0;
		set->slot[set_slot(set, moved)] = moved;
	}
}

bool qcow2_is_meta(const struct qcow2 *s, uint64_t cluster)
{
	uint64_t l1 = s->l1_offset >> s->cluster_bits, rt = s->rt_offset >> s->cluster_bits;
	uint64_t l1_clusters = (s->l1_size * 8ull + s->cluster_size - 1) >> s->cluster_bits;
	return !cluster || (cluster >= l1 && cluster - l1 < l1_clusters) ||
	       (cluster >= rt && cluster - rt < s->rt_clusters) || qcow2_set_has(&s->meta, cluster);
}

/* ---- header ---- */

int qcow2_header_store64(struct qcow2 *s, uint32_t at, uint64_t value)
{
	uint8_t b[8];
	wh_store_be64(b, value);
	return block_io_now(&s->b, WH_BLOCK_IO_WRITE, at, b, sizeof b);
}

int qcow2_corrupted(struct qcow2 *s, const char *what, uint64_t where)
{
	wh_log_write(&s->b.log, WH_LOG_ERROR, "qcow2", 0, "image is corrupt: %s at 0x%llx", what,
		     (unsigned long long)where);
	if (!s->corrupt && !s->b.read_only && s->version >= 3) {
		s->incompatible |= QCOW2_INCOMPATIBLE_CORRUPT;
		/* The answer is an error in any case; a failure here cannot make it worse. */
		(void)qcow2_header_store64(s, QCOW2_H_INCOMPATIBLE, s->incompatible);
		(void)block_io_now(&s->b, WH_BLOCK_IO_FLUSH, 0, 0, 0);
	}
	s->corrupt = true;
	return -WH_EIO;
}

/* ---- cache ---- */

static size_t table_bytes(const struct qcow2 *s)
{
	return sizeof(struct qcow2_table) + s->cluster_size;
}

static struct qcow2_table **place(struct qcow2 *s, bool refblock, uint32_t index)
{
	return refblock ? &s->refblock[index] : &s->l2[index];
}

void qcow2_table_drop(struct qcow2 *s, struct qcow2_table *t)
{
	*place(s, t->refblock, t->index) = 0;
	wh_list_remove(&t->node);
	s->table_count--;
	wh_free(s->b.alloc, t, table_bytes(s));
}

/* Makes room for one more table. While tables are being written the limit may be passed. */
static int make_room(struct qcow2 *s)
{
	if (s->table_count < s->table_max)
		return 0;
	for (int round = 0; round < 2; round++) {
		WH_LIST_FOR_EACH(n, &s->lru) {
			struct qcow2_table *t = WH_LIST_ENTRY(n, struct qcow2_table, node);
			if (!t->dirty) {
				qcow2_table_drop(s, t);
				return 0;
			}
		}
		if (s->in_sync || round)
			break;
		int r = qcow2_write_back(s);
		if (r < 0)
			return r;
	}
	return 0;
}

static int table_add(struct qcow2 *s, bool refblock, uint32_t index, uint64_t host,
		     struct qcow2_table **ret_table)
{
	int r = make_room(s);
	if (r < 0)
		return r;
	struct qcow2_table *t = wh_alloc(s->b.alloc, table_bytes(s));
	if (!t)
		return -WH_ENOMEM;
	wh_assert(!*place(s, refblock, index));
	*t = (struct qcow2_table){ .host = host, .index = index, .refblock = refblock };
	wh_list_push_back(&s->lru, &t->node);
	*place(s, refblock, index) = t;
	s->table_count++;
	*ret_table = t;
	return 0;
}

static int table_get(struct qcow2 *s, bool refblock, uint32_t index, uint64_t host,
		     struct qcow2_table **ret_table)
{
	struct qcow2_table *t = *place(s, refblock, index);
	if (t) {
		wh_list_remove(&t->node);
		wh_list_push_back(&s->lru, &t->node);
		*ret_table = t;
		return 0;
	}
	int r = table_add(s, refblock, index, host, &t);
	if (r < 0)
		return r;
	r = block_io_now(&s->b, WH_BLOCK_IO_READ, host, t->data, s->cluster_size);
	if (r < 0) {
		qcow2_table_drop(s, t);
		return r;
	}
	*ret_table = t;
	return 0;
}

int qcow2_l2_get(struct qcow2 *s, uint32_t index, struct qcow2_table **ret_table)
{
	wh_assert(index < s->l1_size && s->l1[index] & QCOW2_OFFSET_MASK);
	return table_get(s, false, index, s->l1[index] & QCOW2_OFFSET_MASK, ret_table);
}

int qcow2_refblock_get(struct qcow2 *s, uint32_t index, struct qcow2_table **ret_table)
{
	wh_assert(index < s->rt_size && s->rt[index]);
	return table_get(s, true, index, s->rt[index], ret_table);
}

int qcow2_table_new(struct qcow2 *s, bool refblock, uint32_t index, uint64_t host,
		    struct qcow2_table **ret_table)
{
	struct qcow2_table *t;
	int r = table_add(s, refblock, index, host, &t);
	if (r < 0)
		return r;
	r = qcow2_set_add(s, host >> s->cluster_bits);
	if (r < 0) {
		qcow2_table_drop(s, t);
		return r;
	}
	memset(t->data, 0, s->cluster_size);
	t->dirty = true;
	if (refblock) {
		wh_assert(!s->rt[index]);
		s->rt[index] = host;
		s->rt_dirty[index / 64] = s->rt_any = true;
	} else {
		wh_assert(!s->l1[index]);
		s->l1[index] = host | QCOW2_COPIED;
		s->l1_dirty[index / 64] = s->l1_any = true;
	}
	s->linked = true;
	*ret_table = t;
	return 0;
}

void qcow2_caches_free(struct qcow2 *s)
{
	struct wh_list *n;
	while ((n = s->lru.next) != &s->lru)
		qcow2_table_drop(s, WH_LIST_ENTRY(n, struct qcow2_table, node));
}

/* ---- writing ---- */

int qcow2_table_write(struct qcow2 *s, struct qcow2_table *t)
{
	int r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, t->host, t->data, s->cluster_size);
	if (r >= 0)
		t->dirty = false;
	return r;
}

static int write_tables(struct qcow2 *s, bool refblock)
{
	WH_LIST_FOR_EACH(n, &s->lru) {
		struct qcow2_table *t = WH_LIST_ENTRY(n, struct qcow2_table, node);
		if (!t->dirty || t->refblock != refblock)
			continue;
		int r = qcow2_table_write(s, t);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool any_dirty(const struct qcow2 *s, bool refblock)
{
	WH_LIST_FOR_EACH(n, &s->lru) {
		const struct qcow2_table *t = WH_LIST_ENTRY(n, struct qcow2_table, node);
		if (t->dirty && t->refblock == refblock)
			return true;
	}
	return false;
}

/* Changed sectors of a table that is kept in host order. */
static int write_sectors(struct qcow2 *s, uint64_t offset, const uint64_t *entries, uint32_t count,
			 bool *dirty, bool *any)
{
	uint8_t sector[WH_BLOCK_SECTOR];
	for (uint32_t i = 0; *any && i < count; i += 64) {
		uint32_t n = count - i < 64 ? count - i : 64;
		if (!dirty[i / 64])
			continue;
		for (uint32_t k = 0; k < n; k++)
			wh_store_be64(sector + 8 * k, entries[i + k]);
		int r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, offset + 8ull * i, sector, 8 * n);
		if (r < 0)
			return r;
		dirty[i / 64] = false;
	}
	*any = false;
	return 0;
}

static int flush(struct qcow2 *s)
{
	return block_io_now(&s->b, WH_BLOCK_IO_FLUSH, 0, 0, 0);
}

static int write_back(struct qcow2 *s)
{
	bool l2_any = any_dirty(s, false);
	int r = write_tables(s, true);
	if (r >= 0 && s->linked && (l2_any || s->rt_any || s->l1_any))
		r = flush(s);
	if (r >= 0 && s->rt_any) {
		r = write_sectors(s, s->rt_offset, s->rt, s->rt_size, s->rt_dirty, &s->rt_any);
		if (r >= 0)
			r = flush(s);
	}
	if (r >= 0)
		r = write_tables(s, false);
	if (r >= 0 && s->l1_any) {
		r = flush(s);
		if (r >= 0)
			r = write_sectors(s, s->l1_offset, s->l1, s->l1_size, s->l1_dirty,
					  &s->l1_any);
	}
	if (r >= 0)
		s->linked = false;
	return r;
}

int qcow2_write_back(struct qcow2 *s)
{
	wh_assert(!s->in_sync);
	if (s->b.read_only)
		return 0;
	if (s->b.failed || s->corrupt)
		return -WH_EIO;
	s->in_sync = true;
	int r = write_back(s);
	s->in_sync = false;
	return r;
}

int qcow2_settle(struct qcow2 *s)
{
	if (s->b.read_only)
		return 0;
	do {
		uint64_t number = s->freed_done + s->freed_count;
		int r = qcow2_write_back(s);
		if (r >= 0)
			r = flush(s);
		if (r >= 0)
			r = qcow2_free_now(s, number);
		if (r < 0)
			return r;
	} while (any_dirty(s, true));
	return 0;
}

/* ---- clusters that are on their way out ---- */

int qcow2_free_later(struct qcow2 *s, uint64_t cluster, uint64_t count)
{
	wh_assert(cluster && count);
	if (s->freed_count) {
		struct qcow2_range *last = &s->freed[s->freed_count - 1];
		if (last->cluster + last->count == cluster) {
			last->count += count;
			return 0;
		}
	}
	if (s->freed_count == QCOW2_FREED_MAX) {
		uint64_t number = s->freed_done + s->freed_count;
		int r = qcow2_write_back(s);
		if (r >= 0)
			r = flush(s);
		if (r >= 0)
			r = qcow2_free_now(s, number);
		if (r < 0)
			return r;
	}
	s->freed[s->freed_count++] = (struct qcow2_range){ cluster, count };
	return 0;
}

static void punch(struct qcow2 *s, uint64_t cluster, uint64_t count)
{
	if (!count)
		return;
	/* Space that cannot be given back is no error of the request. */
	(void)block_io_now(&s->b, WH_BLOCK_IO_DISCARD, cluster << s->cluster_bits, 0,
			   count << s->cluster_bits);
	if (cluster < s->free_hint)
		s->free_hint = cluster;
}

static int release(struct qcow2 *s, const struct qcow2_range *range)
{
	uint64_t end = range->cluster + range->count, hole = range->cluster, c, count;
	int r = 0;
	for (c = range->cluster; c < end; c++) {
		r = qcow2_refcount(s, c, &count);
		if (r >= 0 && !count)
			r = qcow2_corrupted(s, "a cluster in use had no count",
					    c << s->cluster_bits);
		if (r >= 0)
			r = qcow2_refcount_set(s, c, count - 1);
		if (r < 0)
			break;
		if (count > 1) { /* somebody else's as well */
			punch(s, hole, c - hole);
			hole = c + 1;
		}
	}
	punch(s, hole, c - hole);
	return r;
}

int qcow2_free_now(struct qcow2 *s, uint64_t number)
{
	uint32_t n = 0;
	int r = 0;
	while (n < s->freed_count && s->freed_done + n < number && r >= 0)
		r = release(s, &s->freed[n++]);
	/* What failed stays a leak: its count is too high. */
	memmove(s->freed, s->freed + n, (s->freed_count - n) * sizeof *s->freed);
	s->freed_count -= n;
	s->freed_done += n;
	return r;
}
