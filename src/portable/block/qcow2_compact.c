/* SPDX-License-Identifier: ISC */
/*
 * Compaction: what lies at the end of the file moves into holes, then the file is cut. In passes: each
 * looks through all tables for references to the highest clusters, and moves these in
 * batches. First data, plain and packed; then L2 tables and refcount blocks; then L1 and refcount
 * table. Snapshot tables and bitmaps stay where they are.
 *
 * A batch, each step on disk before the next:
 *
 *	1 new places are taken, with as many counts as the old ones have
 *	2 the content is copied
 *	3 all references go to the new place
 *	4 the old place is freed
 *
 * At any moment both places are good, or one of them is a leak. Between batches the disk may be used: before
 * it moves, each reference is looked at again.
 */
#include "qcow2_priv.h"

#define OWNERS_MAX (512u << 10) /* references that one pass remembers: 12 MiB */
#define BATCH_MAX 4096u

enum pass { DATA, TABLES, ROOTS, CUT, DONE };

struct owner {
	uint64_t key;   /* place of a cluster, or a packed entry */
	uint64_t where; /* in the file, of the entry */
};

struct move {
	uint64_t key, to;      /* to: place in the file */
	uint32_t first, count; /* owners */
	uint32_t packed_size;
};

struct wh_block_compaction {
	struct qcow2 *s;
	enum pass pass;
	struct owner *owner;
	uint32_t owner_count, next; /* owners from `next` on are to be moved */
	bool have_owners, progress;
	uint64_t boundary; /* clusters from here on move */
	uint64_t moved, total;
	unsigned rounds;
	struct move *move;
	uint8_t *buffer;
};

static uint64_t key_offset(const struct qcow2 *s, uint64_t key)
{
	uint64_t offset, size;
	if (!(key & QCOW2_COMPRESSED))
		return key;
	qcow2_packed_range(s, key, &offset, &size);
	return offset;
}

/* ---- looking for references ---- */

static void add(struct wh_block_compaction *c, uint64_t key, uint64_t where)
{
	struct qcow2 *s = c->s;
	uint64_t offset, size;
	if (key_offset(s, key) >> s->cluster_bits < c->boundary || c->owner_count == OWNERS_MAX)
		return;
	if (key & QCOW2_COMPRESSED) {
		qcow2_packed_range(s, key, &offset, &size);
		if (size > s->cluster_size)
			return; /* hardly ever: it stays */
	}
	c->owner[c->owner_count++] = (struct owner){ key, where };
}

static int collect_l2(struct wh_block_compaction *c, uint64_t l2)
{
	struct qcow2 *s = c->s;
	if (l2 & (s->cluster_size - 1) || l2 >> s->cluster_bits >= s->file_clusters)
		return qcow2_corrupted(s, "L1 entry outside the file", l2);
	int r = block_io_now(&s->b, WH_BLOCK_IO_READ, l2, c->buffer, s->cluster_size);
	for (uint64_t k = 0; k < s->cluster_size && r >= 0; k += s->entry_size) {
		uint64_t entry = wh_load_be64(c->buffer + k);
		if (entry & QCOW2_COMPRESSED)
			add(c, entry, l2 + k);
		else if (entry & QCOW2_OFFSET_MASK && !s->data_file)
			add(c, entry & QCOW2_OFFSET_MASK, l2 + k);
	}
	return r;
}

static int collect_l1(struct wh_block_compaction *c, uint64_t offset, uint32_t size)
{
	struct qcow2 *s = c->s;
	for (uint32_t i = 0; i < size; i++) {
		uint8_t b[8];
		int r = block_io_now(&s->b, WH_BLOCK_IO_READ, offset + 8ull * i, b, sizeof b);
		uint64_t l2 = wh_load_be64(b) & QCOW2_OFFSET_MASK;
		if (r >= 0 && l2 && c->pass == TABLES)
			add(c, l2, offset + 8ull * i);
		else if (r >= 0 && l2)
			r = collect_l2(c, l2);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Where the used clusters would end without holes, but no lower than that OWNERS_MAX are above it. */
static int find_boundary(struct wh_block_compaction *c)
{
	struct qcow2 *s = c->s;
	uint64_t used = 0, above = 0, count = 0, n;
	for (n = 0; n < s->file_clusters; n++) {
		int r = qcow2_refcount(s, n, &count);
		if (r < 0)
			return r;
		used += !!count;
	}
	for (n = s->file_clusters; n > used; n--) {
		int r = qcow2_refcount(s, n - 1, &count);
		if (r < 0)
			return r;
		above += count;
		if (above > OWNERS_MAX)
			break;
	}
	c->boundary = n;
	return 0;
}

static bool before(const struct qcow2 *s, const struct owner *a, const struct owner *b)
{
	uint64_t x = key_offset(s, a->key), y = key_offset(s, b->key);
	return x != y ? x > y : a->key > b->key;
}

/* Highest places first; heap sort. */
static void sift(const struct wh_block_compaction *c, uint32_t i, uint32_t n)
{
	struct owner *o = c->owner;
	for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && before(c->s, &o[child], &o[child + 1]))
			child++;
		if (!before(c->s, &o[i], &o[child]))
			return;
		struct owner t = o[i];
		o[i] = o[child];
		o[child] = t;
	}
}

static void sort(const struct wh_block_compaction *c)
{
	uint32_t n = c->owner_count;
	for (uint32_t i = n / 2; i-- > 0;)
		sift(c, i, n);
	while (n > 1) {
		struct owner t = c->owner[0];
		c->owner[0] = c->owner[--n];
		c->owner[n] = t;
		sift(c, 0, n);
	}
}

static int collect(struct wh_block_compaction *c)
{
	struct qcow2 *s = c->s;
	c->owner_count = c->next = 0;
	int r = find_boundary(c);
	if (r >= 0)
		r = collect_l1(c, s->l1_offset, s->l1_size);
	for (uint32_t i = 0; i < s->snapshot_count && r >= 0; i++)
		r = collect_l1(c, s->snapshots[i].l1_offset, s->snapshots[i].l1_size);
	for (uint32_t i = 0; i < s->rt_size && c->pass == TABLES; i++)
		if (s->rt[i])
			add(c, s->rt[i], s->rt_offset + 8ull * i);
	if (r < 0)
		return r;
	if (s->packed_at >> s->cluster_bits >= c->boundary)
		s->packed_at = 0; /* what is packed goes down as well */
	sort(c);
	c->have_owners = true;
	c->progress = false;
	c->total = c->moved + c->owner_count;
	return 0;
}

/* ---- one batch ---- */

/* Is the reference still there? */
static int verify(struct wh_block_compaction *c, const struct owner *o)
{
	struct qcow2 *s = c->s;
	uint8_t b[8];
	int r = block_io_now(&s->b, WH_BLOCK_IO_READ, o->where, b, sizeof b);
	if (r < 0)
		return r;
	uint64_t entry = wh_load_be64(b);
	return entry & QCOW2_COMPRESSED || o->key & QCOW2_COMPRESSED
		       ? entry == o->key
		       : (entry & QCOW2_OFFSET_MASK) == o->key;
}

/* The next cluster with all who refer to it: 1, or 0 = the rest of them is no longer as it was. */
static int next_group(struct wh_block_compaction *c, struct move *m)
{
	struct qcow2 *s = c->s;
	uint64_t count;
	*m = (struct move){ .key = c->owner[c->next].key, .first = c->next };
	bool good = true;
	while (c->next < c->owner_count && c->owner[c->next].key == m->key) {
		int r = verify(c, &c->owner[c->next]);
		if (r < 0)
			return r;
		good &= r;
		m->count++;
		c->next++;
	}
	/* The window may have cut a group, the disk may have changed. */
	if (!good || c->owner_count == OWNERS_MAX)
		if (!good || c->next == c->owner_count)
			return 0;
	if (m->key & QCOW2_COMPRESSED)
		return 1;
	int r = qcow2_refcount(s, m->key >> s->cluster_bits, &count);
	return r < 0 ? r : count == m->count;
}

/* Counts for `more` further references to a place. */
static int add_counts(struct qcow2 *s, uint64_t offset, uint64_t size, uint64_t more)
{
	for (uint64_t n = offset >> s->cluster_bits; n <= (offset + size - 1) >> s->cluster_bits;
	     n++) {
		uint64_t count;
		int r = qcow2_refcount(s, n, &count);
		if (r >= 0 && count + more > qcow2_refcount_max(s))
			r = -WH_EOVERFLOW;
		if (r >= 0)
			r = qcow2_refcount_set(s, n, count + more);
		if (r < 0)
			return r;
	}
	return 0;
}

static void drop_counts(struct qcow2 *s, const struct move *m, uint64_t count)
{
	uint64_t size = m->packed_size ? m->packed_size : s->cluster_size;
	uint64_t first = m->to >> s->cluster_bits;
	for (; count; count--)
		qcow2_unalloc(s, first, ((m->to + size - 1) >> s->cluster_bits) - first + 1);
}

/* A lower place: 1, or 0 = there is none. */
static int give_place(struct wh_block_compaction *c, struct move *m)
{
	struct qcow2 *s = c->s;
	uint64_t size = s->cluster_size, offset = m->key, cluster, n;
	int r;
	if (m->key & QCOW2_COMPRESSED) {
		qcow2_packed_range(s, m->key, &offset, &size);
		m->packed_size = (uint32_t)size;
		r = qcow2_packed_room(s, m->packed_size, &m->to);
	} else {
		r = qcow2_alloc(s, 1, &cluster, &n);
		if (r >= 0)
			m->to = cluster << s->cluster_bits;
	}
	if (r < 0)
		return r;
	if (m->to >= offset) {
		drop_counts(s, m, 1);
		return 0;
	}
	qcow2_used(s, m->to >> s->cluster_bits, 1);
	r = m->count > 1 ? add_counts(s, m->to, size, m->count - 1) : 0;
	if (r < 0) {
		drop_counts(s, m, 1);
		return r == -WH_EOVERFLOW ? 0 : r;
	}
	return 1;
}

static int copy(struct wh_block_compaction *c, const struct move *m)
{
	struct qcow2 *s = c->s;
	uint64_t size = m->packed_size ? m->packed_size : s->cluster_size;
	int r = block_io_now(&s->b, WH_BLOCK_IO_READ, key_offset(s, m->key), c->buffer, size);
	return r < 0 ? r : block_io_now(&s->b, WH_BLOCK_IO_WRITE, m->to, c->buffer, size);
}

static int repoint(struct wh_block_compaction *c, const struct move *m)
{
	struct qcow2 *s = c->s;
	int r = 0;
	for (uint32_t i = 0; i < m->count && r >= 0; i++) {
		uint64_t where = c->owner[m->first + i].where;
		uint8_t b[8];
		r = block_io_now(&s->b, WH_BLOCK_IO_READ, where, b, sizeof b);
		if (m->packed_size)
			wh_store_be64(b, qcow2_packed_entry(s, m->to, m->packed_size));
		else
			wh_store_be64(b, (wh_load_be64(b) & ~QCOW2_OFFSET_MASK) | m->to);
		if (r >= 0)
			r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, where, b, sizeof b);
	}
	return r;
}

static void free_old(struct qcow2 *s, const struct move *m)
{
	for (uint32_t i = 0; i < m->count; i++)
		qcow2_entry_free(s, m->packed_size ? m->key : m->key & QCOW2_OFFSET_MASK);
}

static int finish_batch(struct wh_block_compaction *c, uint32_t n)
{
	struct qcow2 *s = c->s;
	int r = qcow2_settle(s); /* places are counted */
	for (uint32_t i = 0; i < n && r >= 0; i++)
		r = copy(c, &c->move[i]);
	if (r >= 0)
		r = qcow2_barrier(s, QCOW2_BARRIER_COMPACT_COPY);
	if (r < 0) {
		for (uint32_t i = 0; i < n; i++)
			drop_counts(s, &c->move[i], c->move[i].count);
		return r;
	}
	for (uint32_t i = 0; i < n && r >= 0; i++)
		r = repoint(c, &c->move[i]);
	/* The settling below flushes before it frees. From here on memory is what the disk is; where that is not known, both places stay counted. */
	qcow2_unpacked_free(s);
	int again = qcow2_reload(s);
	if (r < 0 || again < 0)
		return r < 0 ? r : again;
	bool data_file = s->data_file;
	s->data_file = false; /* tables are in this file in any case */
	for (uint32_t i = 0; i < n; i++)
		free_old(s, &c->move[i]);
	s->data_file = data_file;
	c->progress |= n > 0;
	c->moved += n;
	return qcow2_settle(s);
}

/* 1 = there may be more in this pass. */
static int batch(struct wh_block_compaction *c, uint64_t bytes)
{
	uint64_t max = bytes >> c->s->cluster_bits;
	uint32_t n = 0;
	int r = 1;
	max = max < 1 ? 1 : max > BATCH_MAX ? BATCH_MAX : max;
	while (c->next < c->owner_count && n < max) {
		struct move *m = &c->move[n];
		r = next_group(c, m);
		if (r < 0)
			break;
		if (!r)
			continue;
		r = give_place(c, m);
		if (r <= 0)
			break;
		n++;
	}
	if (r < 0) {
		for (uint32_t i = 0; i < n; i++)
			drop_counts(c->s, &c->move[i], c->move[i].count);
		return r;
	}
	bool more = r > 0 && c->next < c->owner_count;
	if (n)
		r = finish_batch(c, n);
	return r < 0 ? r : more || (r >= 0 && c->next < c->owner_count && n == max);
}

/* ---- tables that are rows of clusters; the end of the file ---- */

static int move_rt(struct qcow2 *s)
{
	uint64_t cluster, old = s->rt_offset;
	uint32_t clusters = s->rt_clusters;
	uint8_t b[8];
	int r = qcow2_alloc_row(s, clusters, &cluster);
	if (r < 0)
		return r;
	if (cluster << s->cluster_bits > old || s->rt_clusters != clusters) {
		qcow2_unalloc(s, cluster, clusters);
		return qcow2_settle(s);
	}
	qcow2_used(s, cluster, clusters);
	r = qcow2_settle(s);
	if (r < 0)
		return r;
	/* As it is in memory, at the new place. */
	memset(s->rt_dirty, true, (s->rt_size + 63) / 64);
	bool any = true;
	r = qcow2_write_sectors(s, cluster << s->cluster_bits, s->rt, s->rt_size, s->rt_dirty,
				&any);
	if (r >= 0)
		r = qcow2_barrier(s, QCOW2_BARRIER_COMPACT_RT);
	memset(s->rt_dirty, false, (s->rt_size + 63) / 64);
	if (r < 0) {
		qcow2_unalloc(s, cluster, clusters);
		return r;
	}
	wh_store_be64(b, cluster << s->cluster_bits);
	r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, QCOW2_H_RT_OFFSET, b, sizeof b);
	if (r < 0) {
		s->b.failed = true; /* which table counts is not known any more */
		return r;
	}
	s->rt_offset = cluster << s->cluster_bits;
	qcow2_free_later(s, old >> s->cluster_bits, clusters);
	return qcow2_settle(s);
}

static int move_l1(struct qcow2 *s)
{
	uint64_t first, count = qcow2_clusters(s, s->l1_size * 8ull);
	if (!count)
		return 0;
	/* Only when it comes to lie lower. */
	int r = qcow2_alloc_row(s, count, &first);
	if (r < 0)
		return r;
	qcow2_unalloc(s, first, count);
	if (first << s->cluster_bits >= s->l1_offset)
		return qcow2_settle(s);
	r = qcow2_use_l1(s, s->l1, s->l1_size, s->b.size);
	if (r >= 0)
		r = qcow2_settle(s);
	return r < 0 ? r : qcow2_reload(s);
}

static int cut(struct qcow2 *s)
{
	uint64_t n = s->file_clusters, count = 0, size;
	int r = qcow2_settle(s);
	while (r >= 0 && n > 1) {
		r = qcow2_refcount(s, n - 1, &count);
		if (count)
			break;
		n--;
	}
	if (r >= 0)
		r = s->b.file.ops->size(s->b.file.ctx, &size);
	if (r < 0 || n << s->cluster_bits >= size)
		return r;
	r = block_io_now(&s->b, WH_BLOCK_IO_RESIZE, n << s->cluster_bits, 0, 0);
	if (r < 0)
		return r;
	s->file_clusters = s->fresh = n;
	s->packed_at = 0;
	return qcow2_barrier(s, QCOW2_BARRIER_CUT);
}

/* ---- the steps ---- */

static int pass_step(struct wh_block_compaction *c, uint64_t bytes)
{
	struct qcow2 *s = c->s;
	int r = 0;
	switch (c->pass) {
	case DATA:
	case TABLES:
		if (!c->have_owners)
			r = collect(c);
		if (r >= 0)
			r = batch(c, bytes);
		if (r != 0)
			return r;
		c->have_owners = false;
		/* The window was full, or holes appeared below: once more. */
		if (c->progress && ++c->rounds < 64)
			return 1;
		c->rounds = 0;
		c->pass++;
		return 1;
	case ROOTS:
		r = move_rt(s);
		if (r >= 0)
			r = move_l1(s);
		c->pass = CUT;
		return r < 0 ? r : 1;
	case CUT:
		r = cut(s);
		c->pass = DONE;
		return r;
	default:
		return 0;
	}
}

int wh_block_compact_begin(struct wh_block *block, struct wh_block_compaction **ret_compaction,
			   struct wh_diag *diag)
{
	if (block->format != WH_BLOCK_FORMAT_QCOW2)
		return wh_diag_set(diag, -WH_EOPNOTSUPP, "a raw disk has nothing to compact");
	if (block->read_only || block->check_only)
		return wh_diag_set(diag, -WH_EROFS, "the image is open for reading only");
	struct qcow2 *s = qcow2_of(block);
	struct wh_block_compaction *c = wh_alloc_zero(block->alloc, sizeof *c);
	if (!c)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory");
	c->s = s;
	c->owner = wh_alloc(block->alloc, OWNERS_MAX * sizeof *c->owner);
	c->move = wh_alloc(block->alloc, BATCH_MAX * sizeof *c->move);
	c->buffer = wh_alloc(block->alloc, s->cluster_size);
	if (!c->owner || !c->move || !c->buffer) {
		wh_block_compact_end(c);
		return wh_diag_set(diag, -WH_ENOMEM, "no memory");
	}
	*ret_compaction = c;
	return 0;
}

int wh_block_compact_step(struct wh_block_compaction *c, uint64_t bytes, uint64_t *ret_done,
			  uint64_t *ret_total)
{
	struct qcow2 *s = c->s;
	int r = block_idle(&s->b);
	if (r >= 0 && s->b.failed)
		r = -WH_EIO;
	if (r >= 0)
		r = qcow2_touch(s);
	if (r >= 0)
		r = qcow2_settle(s);
	if (r >= 0)
		r = pass_step(c, bytes);
	*ret_done = c->moved << s->cluster_bits;
	*ret_total = (c->total > c->moved ? c->total : c->moved) << s->cluster_bits;
	return r;
}

void wh_block_compact_end(struct wh_block_compaction *c)
{
	if (!c)
		return;
	const struct wh_alloc *a = c->s->b.alloc;
	wh_free(a, c->owner, OWNERS_MAX * sizeof *c->owner);
	wh_free(a, c->move, BATCH_MAX * sizeof *c->move);
	wh_free(a, c->buffer, c->s->cluster_size);
	wh_free(a, c, sizeof *c);
}
