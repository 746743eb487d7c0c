/* SPDX-License-Identifier: ISC */
/*
 * Requests on a qcow2 image, one extent at a time. No other request touches the same guest
 * clusters meanwhile (block.c sees to that), so what was looked up stays true while data is
 * on its way.
 *
 * A write to clusters that have no place of their own takes the lowest free ones, fills what the
 * request leaves out, writes the data, and only then puts the clusters into the L2 table. When
 * anything fails before that, they go back.
 */
#include "qcow2_priv.h"

/* SHARED: others refer to the cluster as well, it must not be written. */
enum kind { UNALLOCATED, ZERO_PLAIN, ZERO_ALLOCATED, ZERO_SHARED, DATA, DATA_SHARED };

/* Neighbouring guest clusters of one kind and, where they have one, in one place. */
struct extent {
	enum kind kind;
	uint64_t host; /* of the first byte */
	uint64_t size; /* bytes */
};

/* What q->step says about the write under way. */
enum write_step { IN_PLACE, ALLOCATED, REUSED };

static uint32_t l1_index(const struct qcow2 *s, uint64_t offset)
{
	return (uint32_t)((offset >> s->cluster_bits) / s->l2_entries);
}

static uint64_t l2_index(const struct qcow2 *s, uint64_t offset)
{
	return (offset >> s->cluster_bits) % s->l2_entries;
}

static uint64_t entry_load(const struct qcow2_table *t, uint64_t i)
{
	return wh_load_be64(t->data + 8 * i);
}

static void entry_store(struct qcow2_table *t, uint64_t i, uint64_t entry)
{
	wh_store_be64(t->data + 8 * i, entry);
	t->dirty = true;
}

/* Kind and place of one L2 entry, refused when it cannot be true. */
static int classify(struct qcow2 *s, uint64_t entry, enum kind *ret_kind, uint64_t *ret_host)
{
	uint64_t host = entry & QCOW2_OFFSET_MASK, cluster = host >> s->cluster_bits;
	bool zero = s->version >= 3 && entry & QCOW2_ZERO;
	if (entry & QCOW2_COMPRESSED) { /* bit 0 means something else there: first of all */
		wh_log_write(&s->b.log, WH_LOG_ERROR, "qcow2", 0,
			     "compressed cluster (entry 0x%llx)", (unsigned long long)entry);
		return -WH_EOPNOTSUPP;
	}
	if (entry & ~(QCOW2_OFFSET_MASK | QCOW2_COPIED | (zero ? QCOW2_ZERO : 0)))
		return qcow2_corrupted(s, "reserved bits in an L2 entry", entry);
	*ret_host = host;
	if (!host) {
		*ret_kind = zero ? ZERO_PLAIN : UNALLOCATED;
		return 0;
	}
	if (host & (s->cluster_size - 1) || cluster >= s->file_clusters ||
	    qcow2_is_meta(s, cluster))
		return qcow2_corrupted(s, "L2 entry outside the data", entry);
	if (zero)
		*ret_kind = entry & QCOW2_COPIED ? ZERO_ALLOCATED : ZERO_SHARED;
	else
		*ret_kind = entry & QCOW2_COPIED ? DATA : DATA_SHARED;
	return 0;
}

/* The extent at `offset`, at most `max` bytes and inside one L2 table. */
static int look_up(struct qcow2 *s, uint64_t offset, uint64_t max, struct extent *ret_extent)
{
	uint64_t in_cluster = offset & (s->cluster_size - 1), i = l2_index(s, offset);
	uint32_t l1 = l1_index(s, offset);
	struct qcow2_table *t;
	wh_assert(max && l1 < s->l1_size);
	if (!s->l1[l1]) {
		uint64_t rest = ((s->l2_entries - i) << s->cluster_bits) - in_cluster;
		*ret_extent = (struct extent){ UNALLOCATED, 0, max < rest ? max : rest };
		return 0;
	}
	int r = qcow2_l2_get(s, l1, &t);
	if (r < 0)
		return r;
	struct extent e;
	r = classify(s, entry_load(t, i), &e.kind, &e.host);
	if (r < 0)
		return r;
	uint64_t next = e.host, host;
	enum kind kind;
	e.host += e.host ? in_cluster : 0;
	e.size = s->cluster_size - in_cluster;
	while (e.size < max && ++i < s->l2_entries) {
		next += next ? s->cluster_size : 0;
		r = classify(s, entry_load(t, i), &kind, &host);
		if (r < 0 || kind != e.kind || host != next)
			break; /* an error will be met when its turn comes */
		e.size += s->cluster_size;
	}
	if (e.size > max)
		e.size = max;
	*ret_extent = e;
	return 0;
}

/* The L2 table for a write: made when there is none. */
static int l2_for_write(struct qcow2 *s, uint64_t offset)
{
	uint32_t l1 = l1_index(s, offset);
	uint64_t cluster, count;
	struct qcow2_table *t;
	if (s->l1[l1]) {
		if (!(s->l1[l1] & QCOW2_COPIED))
			return qcow2_corrupted(s, "L2 table in use elsewhere", s->l1[l1]);
		return 0;
	}
	int r = qcow2_alloc(s, 1, &cluster, &count);
	if (r < 0)
		return r;
	if (s->fresh <= cluster)
		s->fresh = cluster + 1;
	r = qcow2_table_new(s, false, l1, cluster << s->cluster_bits, &t);
	if (r < 0)
		qcow2_unalloc(s, cluster, 1);
	return r;
}

/* Before the first change of anything. Unknown bits of this kind must go when somebody writes who does
 * not know them. */
static int touch(struct qcow2 *s)
{
	if (s->corrupt)
		return -WH_EIO;
	if (s->touched || !s->autoclear) {
		s->touched = true;
		return 0;
	}
	int r = qcow2_header_store64(s, QCOW2_H_AUTOCLEAR, 0);
	if (r >= 0)
		r = block_io_now(&s->b, WH_BLOCK_IO_FLUSH, 0, 0, 0);
	if (r < 0)
		return r;
	s->autoclear = 0;
	s->touched = true;
	return 0;
}

/* ---- reading ---- */

static int next_read(struct qcow2 *s, struct wh_block_request *q)
{
	struct extent e;
	int r = look_up(s, q->offset + q->at, q->size - q->at, &e);
	if (r < 0)
		return r;
	if (e.kind == DATA || e.kind == DATA_SHARED) {
		block_prepare(q, WH_BLOCK_IO_READ, e.host, e.size);
		return BLOCK_SUBMIT;
	}
	block_fill_zero(q, e.size);
	q->at += e.size;
	return BLOCK_AGAIN;
}

/* ---- writing ---- */

/* Makes [at, at + size) of the file read as what guest memory at `offset` is now: zeroes, or the bytes of
 * the shared cluster that `old` (a place in the file, 0 = none) is. */
static int fill(struct qcow2 *s, uint64_t at, uint64_t size, uint64_t old)
{
	uint64_t fresh = s->fresh << s->cluster_bits;
	if (!size)
		return 0;
	if (!old)
		return at >= fresh ? 0 : block_io_now(&s->b, WH_BLOCK_IO_ZERO, at, 0, size);
	uint8_t *copy = wh_alloc(s->b.alloc, size);
	if (!copy)
		return -WH_ENOMEM;
	int r = block_io_now(&s->b, WH_BLOCK_IO_READ, old, copy, size);
	if (r >= 0)
		r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, at, copy, size);
	wh_free(s->b.alloc, copy, size);
	return r;
}

/* Fills what the run [q->at, q->at + q->run) leaves out of its first and last cluster, which begin at
 * `host`; `old` is the place of the shared cluster under a run of one cluster. */
static int fill_edges(struct qcow2 *s, struct wh_block_request *q, uint64_t host, uint64_t old)
{
	uint64_t head = (q->offset + q->at) & (s->cluster_size - 1);
	uint64_t end = head + q->run, tail = -end & (s->cluster_size - 1);
	int r = fill(s, host, head, old);
	return r < 0 ? r : fill(s, host + end, tail, old ? old + end : 0);
}

/* Data for clusters without a place. */
static int write_new(struct qcow2 *s, struct wh_block_request *q, const struct extent *e)
{
	uint64_t mask = s->cluster_size - 1, head = (q->offset + q->at) & mask, count, cluster;
	uint64_t size = e->size, old = e->kind == DATA_SHARED ? e->host - head : 0;
	if ((old || e->kind == ZERO_SHARED) && head + size > s->cluster_size)
		size = s->cluster_size - head;
	if (size > (QCOW2_RUN_CLUSTERS << s->cluster_bits) - head)
		size = (QCOW2_RUN_CLUSTERS << s->cluster_bits) - head;
	block_prepare(q, WH_BLOCK_IO_WRITE, 0, size);
	count = (head + q->run + mask) >> s->cluster_bits;
	int r = qcow2_alloc(s, count, &cluster, &count);
	if (r < 0)
		return r;
	uint64_t room = (count << s->cluster_bits) - head;
	uint64_t host = cluster << s->cluster_bits;
	block_prepare(q, WH_BLOCK_IO_WRITE, host + head, q->run < room ? q->run : room);
	q->step = ALLOCATED;
	q->host = host;
	q->new_count = (uint32_t)count;
	r = fill_edges(s, q, host, old);
	if (s->fresh < cluster + count)
		s->fresh = cluster + count;
	if (r < 0) {
		qcow2_unalloc(s, cluster, count);
		return r;
	}
	return BLOCK_SUBMIT;
}

static int next_write(struct qcow2 *s, struct wh_block_request *q)
{
	uint64_t mask = s->cluster_size - 1, at = q->offset + q->at;
	struct extent e;
	int r = l2_for_write(s, at);
	if (r >= 0)
		r = look_up(s, at, q->size - q->at, &e);
	if (r < 0)
		return r;
	switch (e.kind) {
	case DATA:
		q->step = IN_PLACE;
		block_prepare(q, WH_BLOCK_IO_WRITE, e.host, e.size);
		return BLOCK_SUBMIT;
	case ZERO_ALLOCATED:
		q->step = REUSED;
		block_prepare(q, WH_BLOCK_IO_WRITE, e.host, e.size);
		q->host = e.host & ~mask;
		q->new_count = (uint32_t)(((at & mask) + q->run + mask) >> s->cluster_bits);
		r = fill_edges(s, q, q->host, 0);
		return r < 0 ? r : BLOCK_SUBMIT;
	default:
		return write_new(s, q, &e);
	}
}

/* Data is there: put its clusters into the table. */
static int link_run(struct qcow2 *s, struct wh_block_request *q)
{
	uint64_t at = q->offset + q->at, i = l2_index(s, at), old[1];
	struct qcow2_table *t;
	int r = qcow2_l2_get(s, l1_index(s, at), &t);
	if (r < 0)
		return r;
	old[0] = entry_load(t, i) & QCOW2_OFFSET_MASK;
	for (uint64_t k = 0; k < q->new_count; k++)
		entry_store(t, i + k, (q->host + (k << s->cluster_bits)) | QCOW2_COPIED);
	s->linked = true;
	if (q->step == ALLOCATED && old[0]) /* shared: copied cluster by cluster */
		return qcow2_free_later(s, old[0] >> s->cluster_bits, 1);
	return 0;
}

static int after_write(struct qcow2 *s, struct wh_block_request *q, int result)
{
	if (q->step != IN_PLACE && result >= 0)
		result = link_run(s, q);
	else if (q->step == ALLOCATED)
		qcow2_unalloc(s, q->host >> s->cluster_bits, q->new_count);
	q->at += q->run;
	q->step = IN_PLACE;
	return result;
}

/* ---- discarding and zeroing ---- */

/* Gives `count` entries from i on a new value, without a place or (keep) with the old one. */
static int entries_drop(struct qcow2 *s, uint64_t at, uint64_t count, uint64_t flags, bool keep)
{
	for (uint64_t k = 0; k < count; k++) {
		uint64_t i = l2_index(s, at) + k;
		struct qcow2_table *t;
		int r = qcow2_l2_get(s, l1_index(s, at), &t);
		if (r < 0)
			return r;
		uint64_t entry = entry_load(t, i), host = entry & QCOW2_OFFSET_MASK;
		uint64_t new_entry = flags | (keep ? host | (entry & QCOW2_COPIED) : 0);
		if (entry == new_entry)
			continue;
		entry_store(t, i, new_entry);
		if (host && !keep) {
			r = qcow2_free_later(s, host >> s->cluster_bits, 1);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* Zeroes in a part of a cluster, or where the format has no flag for them. */
static int zero_in_place(struct qcow2 *s, struct wh_block_request *q, const struct extent *e,
			 uint64_t size)
{
	q->run = size;
	if (e->kind != DATA)
		return -WH_EIO; /* shared: nobody makes such clusters without snapshots */
	q->step = IN_PLACE;
	q->io = (struct wh_block_io){ .kind = WH_BLOCK_IO_ZERO, .offset = e->host, .size = size };
	return BLOCK_SUBMIT;
}

static int next_zero(struct qcow2 *s, struct wh_block_request *q)
{
	uint64_t mask = s->cluster_size - 1, at = q->offset + q->at, in_cluster = at & mask;
	bool discard = q->op == WH_BLOCK_DISCARD;
	struct extent e;
	int r = look_up(s, at, q->size - q->at, &e);
	if (r < 0)
		return r;
	/* The last cluster of a disk may be cut; it counts as whole. */
	bool to_end = at + e.size == s->b.size;
	uint64_t part = in_cluster ? s->cluster_size - in_cluster : 0;
	uint64_t size = e.size;
	if (part || (size < s->cluster_size && !to_end)) {
		size = part && part < size ? part : size;
		if (!discard && (e.kind == DATA || e.kind == DATA_SHARED))
			return zero_in_place(s, q, &e, size);
		q->at += size;
		return BLOCK_AGAIN;
	}
	uint64_t count = to_end ? (size + mask) >> s->cluster_bits : size >> s->cluster_bits;
	if (!to_end)
		size = count << s->cluster_bits;
	bool keep = !discard && !(q->flags & WH_BLOCK_UNMAP);
	if (keep && s->version == 2 && (e.kind == DATA || e.kind == DATA_SHARED))
		return zero_in_place(s, q, &e, size);
	if (e.kind != UNALLOCATED) {
		bool flag = s->version >= 3 && !discard;
		r = l2_for_write(s, at);
		if (r >= 0)
			r = entries_drop(s, at, count, flag ? QCOW2_ZERO : 0, keep);
		if (r < 0)
			return r;
	}
	q->at += size;
	return BLOCK_AGAIN;
}

/* ---- flush: write back, flush the file, free ---- */

static int next_flush(struct qcow2 *s, struct wh_block_request *q)
{
	if (q->step)
		return BLOCK_DONE;
	q->step = 1;
	q->host = s->freed_done + s->freed_count;
	int r = qcow2_write_back(s);
	if (r < 0)
		return r;
	q->io = (struct wh_block_io){ .kind = WH_BLOCK_IO_FLUSH };
	return BLOCK_SUBMIT;
}

int qcow2_next(struct wh_block *b, struct wh_block_request *q)
{
	struct qcow2 *s = qcow2_of(b);
	if (q->op == WH_BLOCK_FLUSH)
		return next_flush(s, q);
	if (q->at == q->size)
		return BLOCK_DONE;
	if (q->op == WH_BLOCK_READ)
		return next_read(s, q);
	int r = touch(s);
	if (r < 0)
		return r;
	return q->op == WH_BLOCK_WRITE ? next_write(s, q) : next_zero(s, q);
}

int qcow2_after(struct wh_block *b, struct wh_block_request *q, int result)
{
	struct qcow2 *s = qcow2_of(b);
	if (q->op == WH_BLOCK_WRITE)
		return after_write(s, q, result);
	if (result >= 0 && q->op == WH_BLOCK_FLUSH)
		return qcow2_free_now(s, q->host);
	q->at += q->run;
	return result;
}
