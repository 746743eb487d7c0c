/* SPDX-License-Identifier: ISC */
/*
 * Requests on a qcow2 image, one extent at a time. No other request touches the same bytes of the
 * disk meanwhile (block.c sees to that). A request that changes the place of a guest
 * cluster holds it: others that would change it too are parked until it is done.
 *
 * A write, by q->step:
 *
 *	START    look up; data with a place of its own is written IN_PLACE. Otherwise hold the clusters, plan:
 *	         take the lowest free ones, or the place that was kept (zero flag, absent subcluster)
 *	COW      read what the request leaves out of its first and last unit into the bounce buffer
 *	DATA     one operation: head, data, tail
 *	LINK     put the clusters into the L2 table; free what was there before, later
 *	SYNC     FUA: as a flush
 *
 * When anything fails before LINK, new clusters go back.
 */
#include "qcow2_priv.h"

enum step { START, IN_PLACE, COW, DATA, LINK, SYNC };

#define EDGE_SLICES 2u /* of the operation's pieces: head and tail */

/* Is somebody changing the place of one of these guest clusters? */
static bool held(const struct qcow2 *s, uint64_t start, uint64_t end)
{
	WH_LIST_FOR_EACH(n, &s->holding) {
		const struct wh_block_request *e =
			WH_LIST_ENTRY(n, struct wh_block_request, holding);
		if (e->hold_start < end && start < e->hold_end)
			return true;
	}
	return false;
}

bool qcow2_hold(struct qcow2 *s, struct wh_block_request *q, uint64_t start, uint64_t end)
{
	if (held(s, start, end))
		return false;
	q->hold_start = start;
	q->hold_end = end;
	q->holds = true;
	wh_list_push_back(&s->holding, &q->holding);
	return true;
}

void qcow2_unhold(struct qcow2 *s, struct wh_block_request *q)
{
	if (!q->holds)
		return;
	q->holds = false;
	wh_list_remove(&q->holding);
	block_unpark(&s->b);
}

const uint8_t *qcow2_zeros(struct qcow2 *s)
{
	if (!s->zeros)
		s->zeros = wh_alloc_zero(s->b.alloc, s->cluster_size);
	return s->zeros;
}

/* Before the first change of anything. Unknown bits of this kind must go when somebody writes who does
 * not know them; bitmaps that should record each write do not record ours. */
int qcow2_touch(struct qcow2 *s)
{
	int r = 0;
	if (s->corrupt)
		return -WH_EIO;
	if (s->touched)
		return 0;
	if (s->bitmap_count)
		r = qcow2_invalidate_bitmaps(s, false);
	if (r >= 0 && s->autoclear & ~QCOW2_AUTOCLEAR_KNOWN) {
		r = qcow2_header_store64(s, QCOW2_H_AUTOCLEAR,
					 s->autoclear & QCOW2_AUTOCLEAR_KNOWN);
		if (r >= 0)
			r = qcow2_barrier(s, QCOW2_BARRIER_AUTOCLEAR);
	}
	if (r < 0)
		return r;
	s->autoclear &= QCOW2_AUTOCLEAR_KNOWN;
	s->touched = true;
	return 0;
}

/* ---- writing ---- */

static uint64_t mask_of(const struct qcow2 *s)
{
	return s->cluster_size - 1;
}

static void drop_bounce(struct qcow2 *s, struct wh_block_request *q)
{
	if (!q->bounce)
		return;
	wh_free(s->b.alloc, q->bounce, q->bounce_size);
	q->bounce = 0;
	s->b.bounces--;
}

/* Takes back what a run was given. */
static void abandon(struct qcow2 *s, struct wh_block_request *q)
{
	drop_bounce(s, q);
	if (q->new_count)
		qcow2_unalloc(s, q->host >> s->cluster_bits, q->new_count);
	q->new_count = 0;
	qcow2_unhold(s, q);
}

/* The pieces of the operation: q->head bytes, the data, q->tail bytes. Lowers q->run when the request's memory is in
 * too many pieces; then the tail is not known yet. */
static uint32_t gather(struct qcow2 *s, struct wh_block_request *q)
{
	uint32_t n = 1;
	uint64_t skip = q->at, left = q->run;
	if (q->op != WH_BLOCK_WRITE) {
		q->slice[n++] = (struct wh_iov){ s->zeros, q->run };
		return n;
	}
	for (uint32_t i = 0; i < q->iov_count && left && n < WH_BLOCK_IOV_SLICE - 1; i++) {
		const struct wh_iov *v = &q->iov[i];
		if (skip >= v->size) {
			skip -= v->size;
			continue;
		}
		uint64_t take = v->size - skip < left ? v->size - skip : left;
		q->slice[n++] = (struct wh_iov){ (uint8_t *)v->base + skip, take };
		skip = 0;
		left -= take;
	}
	q->run -= left;
	wh_assert(n > 1);
	return n;
}

/* Head, data and tail to their place. */
static int submit_data(struct qcow2 *s, struct wh_block_request *q)
{
	uint32_t first = 1, n = gather(s, q);
	uint8_t *bounce = q->bounce ? q->bounce : s->zeros;
	uint64_t in_cluster = (q->offset + q->at) & mask_of(s);
	if (q->head)
		q->slice[--first] = (struct wh_iov){ bounce, q->head };
	if (q->tail)
		q->slice[n++] = (struct wh_iov){ q->bounce ? bounce + q->head : bounce, q->tail };
	q->step = DATA;
	q->file = &s->b.data;
	q->io.kind = WH_BLOCK_IO_WRITE;
	q->io.flags = 0;
	q->io.offset = q->host + in_cluster - q->head;
	q->io.size = q->head + q->run + q->tail;
	q->io.iov = q->slice + first;
	q->io.iov_count = n - first;
	return BLOCK_SUBMIT;
}

/* What the run leaves out of its first and last unit: those bytes of the disk. */
static int next_cow(struct qcow2 *s, struct wh_block_request *q)
{
	uint64_t start = q->offset + q->at - q->head, end = q->offset + q->at + q->run;
	uint64_t run = q->run, done = q->bounce_at, total = q->head + q->tail;
	if (done == total)
		return submit_data(s, q);
	uint64_t offset = done < q->head ? start + done : end + (done - q->head);
	uint64_t size = done < q->head ? q->head - done : total - done;
	uint64_t left = offset < s->b.size ? s->b.size - offset : 0;
	uint8_t *to = (uint8_t *)q->bounce + done;
	if (!left) { /* behind the end of the disk */
		memset(to, 0, size);
		q->bounce_at = total;
		return BLOCK_AGAIN;
	}
	int r = block_chain_read(&s->b, q, offset, size < left ? size : left, to);
	uint64_t got = q->run;
	q->run = run;
	if (r == BLOCK_AGAIN)
		q->bounce_at += got;
	else if (r == BLOCK_SUBMIT && !q->table)
		q->bounce_at += got; /* when it succeeds; a failure ends the request */
	return r;
}

/* Where the run goes: q->host, its first cluster. */
static int give_place(struct qcow2 *s, struct wh_block_request *q, const struct qcow2_extent *e)
{
	uint64_t at = q->offset + q->at, in_cluster = at & mask_of(s), cluster, count;
	bool keep = e->has_host && e->owned && e->kind != BLOCK_PACKED;
	if (s->data_file) {
		q->host = at - in_cluster;
		qcow2_data_taken(s, q->host >> s->cluster_bits,
				 (in_cluster + q->run + mask_of(s)) >> s->cluster_bits);
		return 0;
	}
	if (keep) {
		q->host = e->host - in_cluster;
		return 0;
	}
	count = (in_cluster + q->run + mask_of(s)) >> s->cluster_bits;
	int r = qcow2_alloc(s, count, &cluster, &count);
	if (r < 0)
		return r;
	uint64_t room = (count << s->cluster_bits) - in_cluster;
	if (q->run > room)
		q->run = room;
	q->host = cluster << s->cluster_bits;
	q->new_count = (uint32_t)count;
	return 0;
}

/* How much is left out, and where it comes from. */
static int plan_edges(struct qcow2 *s, struct wh_block_request *q, const struct qcow2_extent *e,
		      bool whole)
{
	uint64_t unit = whole ? s->cluster_size : 1ull << s->sub_bits;
	uint64_t at = q->offset + q->at;
	bool zero = !whole &&
		    (e->kind == BLOCK_ZERO || (e->kind == BLOCK_NOWHERE && !s->b.has_backing));
	bool fresh = q->new_count && q->host >> s->cluster_bits >= s->fresh;
	q->head = at & (unit - 1);
	q->tail = -(at + q->run) & (unit - 1);
	if (zero && fresh)
		q->head = q->tail = 0;
	if (q->new_count)
		qcow2_used(s, q->host >> s->cluster_bits, q->new_count);
	if ((q->op != WH_BLOCK_WRITE || (zero && q->head + q->tail)) && !qcow2_zeros(s))
		return -WH_ENOMEM;
	q->bounce_at = q->head + q->tail;
	if (!zero && q->bounce_at) {
		q->bounce_size = q->bounce_at;
		q->bounce = wh_alloc(s->b.alloc, q->bounce_size);
		if (!q->bounce)
			return -WH_ENOMEM;
		s->b.bounces++;
		q->bounce_at = 0;
	}
	q->step = COW;
	return BLOCK_AGAIN;
}

/* Data for units without a place of their own. */
static int plan(struct qcow2 *s, struct wh_block_request *q, const struct qcow2_extent *e)
{
	uint64_t at = q->offset + q->at, in_cluster = at & mask_of(s), size = e->size;
	/* Shared or packed: the whole cluster is copied. */
	bool whole = e->kind == BLOCK_PACKED || (e->has_host && !e->owned);
	uint64_t clusters = whole || q->op != WH_BLOCK_WRITE ? 1 : QCOW2_RUN_CLUSTERS;
	uint64_t room = (clusters << s->cluster_bits) - in_cluster;
	bool keep = s->data_file || (e->has_host && e->owned && e->kind != BLOCK_PACKED);
	int r = qcow2_l2_for_write(s, at, q);
	if (r == 0 && !keep)
		r = qcow2_alloc_ready(s, q);
	if (r != 0)
		return r;
	q->run = size < room ? size : room;
	if (q->op == WH_BLOCK_WRITE)
		(void)gather(s, q);
	if (!qcow2_hold(s, q, at >> s->cluster_bits, (at + q->run + mask_of(s)) >> s->cluster_bits))
		return BLOCK_PARK;
	q->new_count = 0;
	r = give_place(s, q, e);
	if (r >= 0)
		r = plan_edges(s, q, e, whole && !(s->data_file && e->owned));
	if (r < 0)
		abandon(s, q);
	return r;
}

/* The bitmap after a run was written. */
static uint64_t linked_bits(const struct qcow2 *s, uint64_t old_entry, uint64_t bits,
			    uint64_t first, uint64_t end)
{
	uint64_t low = first >> s->sub_bits,
		 high = (end + (1ull << s->sub_bits) - 1) >> s->sub_bits;
	bool whole = old_entry & QCOW2_COMPRESSED ||
		     (old_entry & QCOW2_OFFSET_MASK && !(old_entry & QCOW2_COPIED));
	if (!s->extended)
		return 0;
	if (whole)
		return UINT32_MAX;
	uint64_t set = (high == 32 ? 1ull << 32 : 1ull << high) - (1ull << low);
	return (bits | set) & ~(set << 32);
}

/* Data is there: put its clusters into the table. */
static int link_run(struct qcow2 *s, struct wh_block_request *q)
{
	uint64_t at = q->offset + q->at, end = at + q->run;
	struct qcow2_table *t;
	uint32_t i;
	int r = qcow2_may_change(s, q->now);
	if (r == 0)
		r = qcow2_slice(s, at, q, &t, &i);
	if (r != 0)
		return r;
	uint64_t cluster = at & ~mask_of(s);
	for (uint32_t k = 0; cluster < end; k++, cluster += s->cluster_size) {
		uint64_t old = qcow2_entry(s, t, i + k), bits = qcow2_bits(s, t, i + k);
		uint64_t host = q->host + ((uint64_t)k << s->cluster_bits);
		uint64_t first = at > cluster ? at - cluster : 0;
		uint64_t last = end - cluster < s->cluster_size ? end - cluster : s->cluster_size;
		qcow2_entry_set(s, t, i + k, host | QCOW2_COPIED,
				linked_bits(s, old, bits, first, last));
		if (q->new_count)
			qcow2_entry_free(s, old);
	}
	s->linked = true;
	q->new_count = 0;
	q->at += q->run;
	q->step = START;
	qcow2_unhold(s, q);
	return BLOCK_AGAIN;
}

static int write_start(struct qcow2 *s, struct wh_block_request *q, uint64_t max)
{
	struct qcow2_extent e;
	int r = qcow2_look_up(s, q->offset + q->at, max, q, true, &e);
	if (r != 0)
		return r;
	if (e.kind == BLOCK_DATA && e.owned) {
		q->step = IN_PLACE;
		if (q->op == WH_BLOCK_WRITE) {
			block_prepare(q, &s->b.data, WH_BLOCK_IO_WRITE, e.host, e.size);
			return BLOCK_SUBMIT;
		}
		block_prepare_memory(q, &s->b.data, WH_BLOCK_IO_ZERO, e.host, 0, e.size);
		q->io.flags = q->flags & WH_BLOCK_FAST ? WH_BLOCK_IO_FAST : 0;
		if (s->data_raw && q->op == WH_BLOCK_DISCARD)
			q->io.flags = WH_BLOCK_IO_UNMAP | WH_BLOCK_IO_FAST;
		else if (s->data_raw && q->flags & WH_BLOCK_UNMAP)
			q->io.flags |= WH_BLOCK_IO_UNMAP;
		return BLOCK_SUBMIT;
	}
	if (q->op != WH_BLOCK_WRITE && q->flags & WH_BLOCK_FAST)
		return -WH_EOPNOTSUPP;
	if (s->b.alone && s->b.has_backing)
		return -WH_ENXIO;
	r = qcow2_may_change(s, q->now);
	return r != 0 ? r : plan(s, q, &e);
}

/* ---- discarding and zeroing ---- */

/* New values of `count` entries from `at` on, which lie in one slice: without a place or (keep) with the old
 * one where it is owned. */
static int entries_drop(struct qcow2 *s, struct wh_block_request *q, uint64_t at, uint64_t count,
			bool zero, bool keep)
{
	struct qcow2_table *t;
	uint32_t i;
	int r = qcow2_slice(s, at, q, &t, &i);
	if (r != 0)
		return r;
	for (uint64_t k = 0; k < count; k++, i++) {
		uint64_t old = qcow2_entry(s, t, i), bits = qcow2_bits(s, t, i), entry = 0;
		bool stays = keep && !(old & QCOW2_COMPRESSED) && old & QCOW2_COPIED;
		if (stays)
			entry = old & (QCOW2_OFFSET_MASK | QCOW2_COPIED);
		if (zero && !s->extended)
			entry |= QCOW2_ZERO;
		uint64_t new_bits = zero ? (uint64_t)UINT32_MAX << 32 : 0;
		if (entry == old && (!s->extended || bits == new_bits))
			continue;
		qcow2_entry_set(s, t, i, entry, new_bits);
		if (!stays)
			qcow2_entry_free(s, old);
	}
	return 0;
}

/* Zero flags of some subclusters of one cluster. */
static int subs_zero(struct qcow2 *s, struct wh_block_request *q, uint64_t at, uint64_t size)
{
	struct qcow2_table *t;
	uint32_t i;
	int r = qcow2_slice(s, at, q, &t, &i);
	if (r != 0)
		return r;
	uint64_t first = (at & mask_of(s)) >> s->sub_bits, count = size >> s->sub_bits;
	uint64_t set = ((1ull << count) - 1) << first, bits = qcow2_bits(s, t, i);
	qcow2_entry_set(s, t, i, qcow2_entry(s, t, i), (bits & ~set) | set << 32);
	return 0;
}

/* Zeroes in less than a unit, or where the format has no flag for them. */
static int zero_part(struct qcow2 *s, struct wh_block_request *q, uint64_t size,
		     const struct qcow2_extent *e)
{
	struct block_place p;
	if (q->op == WH_BLOCK_DISCARD || e->kind == BLOCK_ZERO ||
	    (e->kind == BLOCK_NOWHERE && !s->b.has_backing)) {
		q->run = size;
		q->at += size;
		return BLOCK_AGAIN;
	}
	if (e->kind == BLOCK_NOWHERE) {
		int r = block_chain_locate(&s->b, q->offset + q->at, size, WH_BLOCK_CHAIN_MAX, q,
					   &p);
		if (r != 0)
			return r;
		if (p.kind == BLOCK_ZERO || p.kind == BLOCK_NOWHERE) {
			q->at += p.size;
			return BLOCK_AGAIN;
		}
		size = p.size;
	}
	return write_start(s, q, size);
}

/* With a data file that is to be a raw disk by itself, the zeroes must be in it; so must those of a discard, which gives
 * space back where the file can. */
static int zero_raw(struct qcow2 *s, struct wh_block_request *q, const struct qcow2_extent *e)
{
	if (e->kind != BLOCK_DATA) {
		q->at += e->size;
		return BLOCK_AGAIN;
	}
	return write_start(s, q, e->size);
}

/* Whole clusters. */
static int zero_clusters(struct qcow2 *s, struct wh_block_request *q, const struct qcow2_extent *e,
			 uint64_t size)
{
	uint64_t at = q->offset + q->at, count = (size + mask_of(s)) >> s->cluster_bits;
	bool discard = q->op == WH_BLOCK_DISCARD, flag = s->version >= 3;
	bool keep = !discard && !(q->flags & WH_BLOCK_UNMAP) && (flag || s->data_file);
	bool below = s->b.has_backing;
	if (!flag && below) /* old images cannot hide what is below */
		return zero_part(s, q, size, e);
	if (!flag && !discard && !(q->flags & WH_BLOCK_UNMAP) && e->kind == BLOCK_DATA)
		return zero_part(s, q, size, e);
	bool nothing = e->kind == BLOCK_NOWHERE && !e->has_host && (discard || !below);
	if (!nothing) {
		int r = qcow2_may_change(s, q->now);
		if (r != 0)
			return r;
		if (held(s, at >> s->cluster_bits, (at >> s->cluster_bits) + count))
			return BLOCK_PARK;
		r = qcow2_l2_for_write(s, at, q);
		if (r == 0)
			r = entries_drop(s, q, at, count, flag && (!discard || below), keep);
		if (r != 0)
			return r;
	}
	q->at += size;
	return BLOCK_AGAIN;
}

static int next_zero(struct qcow2 *s, struct wh_block_request *q)
{
	uint64_t at = q->offset + q->at, in_cluster = at & mask_of(s), left = q->size - q->at;
	uint64_t sub = 1ull << s->sub_bits;
	struct qcow2_extent e;
	int r = qcow2_look_up(s, at, left, q, true, &e);
	if (r != 0)
		return r;
	if (s->data_raw)
		return zero_raw(s, q, &e);
	/* The last cluster of a disk may be cut; it counts as whole. */
	bool end = at + left == s->b.size;
	uint64_t in_slice = ((uint64_t)(s->slice_size / s->entry_size) << s->cluster_bits);
	in_slice -= at & (in_slice - 1);
	uint64_t whole = left < in_slice ? left : in_slice;
	if (!end || whole < left)
		whole &= ~mask_of(s);
	if (!in_cluster && whole) {
		/* Clusters of one kind together; with subclusters one at a time. */
		uint64_t size = s->extended || e.kind == BLOCK_PACKED || e.size < s->cluster_size
					? s->cluster_size
					: e.size & ~mask_of(s);
		if (end && e.size == left && !s->extended)
			size = left;
		return zero_clusters(s, q, &e, size < whole ? size : whole);
	}
	uint64_t size =
		s->cluster_size - in_cluster < e.size ? s->cluster_size - in_cluster : e.size;
	if (s->extended && q->op == WH_BLOCK_WRITE_ZEROES && !(at & (sub - 1)) && size >= sub &&
	    e.kind != BLOCK_PACKED && (e.owned || !e.has_host)) {
		size &= ~(sub - 1);
		if (e.kind != BLOCK_ZERO) {
			r = qcow2_may_change(s, q->now);
			if (r == 0 && held(s, at >> s->cluster_bits, (at >> s->cluster_bits) + 1))
				r = BLOCK_PARK;
			if (r == 0)
				r = qcow2_l2_for_write(s, at, q);
			if (r == 0)
				r = subs_zero(s, q, at, size);
			if (r != 0)
				return r;
		}
		q->at += size;
		return BLOCK_AGAIN;
	}
	return zero_part(s, q, size, &e);
}

/* ---- all of them ---- */

static int next_read(struct qcow2 *s, struct wh_block_request *q)
{
	int r = block_chain_read(&s->b, q, q->offset + q->at, q->size - q->at, 0);
	if (r == BLOCK_AGAIN)
		q->at += q->run;
	return r;
}

/* Of the request, inside the cluster that it is at. */
static uint64_t cluster_left(const struct qcow2 *s, const struct wh_block_request *q)
{
	uint64_t left = q->size - q->at;
	uint64_t room = s->cluster_size - ((q->offset + q->at) & mask_of(s));
	return left < room ? left : room;
}

int qcow2_next(struct wh_block *b, struct wh_block_request *q)
{
	struct qcow2 *s = qcow2_of(b);
	if (q->op == WH_BLOCK_QUIESCE)
		return BLOCK_DONE;
	if (q->op == WH_BLOCK_READ)
		return q->at == q->size ? BLOCK_DONE : next_read(s, q);
	if (q->op == WH_BLOCK_FLUSH || q->step == SYNC)
		return qcow2_next_flush(s, q);
	int r;
	switch ((enum step)q->step) {
	case COW:
		r = next_cow(s, q);
		break;
	case LINK:
		r = s->corrupt ? -WH_EIO : link_run(s, q);
		break;
	default:
		if (q->at == q->size) {
			if (!(q->flags & WH_BLOCK_FUA) || q->op == WH_BLOCK_DISCARD)
				return BLOCK_DONE;
			q->step = SYNC;
			return BLOCK_AGAIN;
		}
		r = qcow2_touch(s);
		if (r < 0)
			break;
		if (q->op != WH_BLOCK_WRITE)
			r = next_zero(s, q);
		else if (q->flags & WH_BLOCK_COMPRESS &&
			 q->plain_at != ((q->offset + q->at) & ~mask_of(s)) + 1)
			r = qcow2_next_pack(s, q);
		else if (q->flags & WH_BLOCK_COMPRESS)
			r = write_start(s, q, cluster_left(s, q));
		else
			r = write_start(s, q, q->size - q->at);
	}
	if (r < 0)
		abandon(s, q);
	return r;
}

int qcow2_after(struct wh_block *b, struct wh_block_request *q, int result)
{
	struct qcow2 *s = qcow2_of(b);
	if (result == -WH_EOPNOTSUPP && q->op == WH_BLOCK_DISCARD)
		result = 0; /* what is there may stay */
	if (result < 0) {
		abandon(s, q);
		return result;
	}
	switch ((enum step)q->step) {
	case COW:
		break;
	case DATA:
		drop_bounce(s, q);
		q->step = LINK;
		break;
	default:
		q->at += q->run;
		q->step = START;
	}
	return 0;
}
