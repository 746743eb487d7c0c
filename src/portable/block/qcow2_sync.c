/* SPDX-License-Identifier: ISC */
/*
 * The order in which metadata reaches the disk.
 *
 * An L2 table may be on disk only when what it refers to is: data and refcounts. So:
 *
 *	REFBLOCKS  refcount blocks       (any time: too high a count is only a leak)
 *	LINKED       -- flush, if anything was linked: data and counts are there
 *	RT         refcount table entries (new blocks are there)
 *	RT_FLUSH     -- flush, if any
 *	L2         L2 tables, in place and new
 *	L1         L1 entries: a new table is there since LINKED, empty or as the one it is a copy of
 *	FINAL        -- flush, when somebody asked for one: what was written before is durable
 *	RELEASE    counts of clusters that nothing refers to any more go down, holes are punched, and
 *	           only now can these clusters be given out again
 *
 * A crash in between leaves counts that are too high, never too low, and no table that
 * refers to something that is not there. Entries have 8 bytes (16 with a bitmap) and do not
 * straddle sectors, so a torn table is a mix of old and new entries, each of them good.
 *
 * While this goes on, requests that would change metadata are parked; reads and writes in place
 * go on. Several flush requests that arrive meanwhile share the next round.
 */
#include "qcow2_priv.h"

enum phase { REFBLOCKS, LINKED, RT, RT_FLUSH, L2, L1, FINAL, RELEASE, END };

static void go(struct qcow2 *s);

/* ---- operations ---- */

static void ended(struct qcow2 *s, enum wh_block_io_kind kind, int result)
{
	if (result >= 0)
		return;
	if (kind == WH_BLOCK_IO_FLUSH)
		s->b.failed = true;
	if (!s->sync.error)
		s->sync.error = result;
}

static void later(struct qcow2 *s)
{
	wh_assert(s->sync.outstanding);
	if (!--s->sync.outstanding || s->sync.phase == L2 || s->sync.phase == REFBLOCKS)
		go(s);
	block_pump(&s->b);
}

static void flush_done(struct wh_block_io *io, int result)
{
	ended(io->ctx, WH_BLOCK_IO_FLUSH, result);
	later(io->ctx);
}

static void table_ended(struct qcow2_table *t, int result)
{
	bool again = t->again;
	t->again = false;
	if (result >= 0 && !again)
		qcow2_table_clean(t);
	else if (result < 0)
		/* Stays dirty; behind what is still to be written, so that this round ends. */
		ended(t->s, WH_BLOCK_IO_WRITE, result);
}

static void table_done(struct wh_block_io *io, int result)
{
	struct qcow2_table *t = io->ctx;
	struct qcow2 *s = t->s;
	t->writing = false;
	table_ended(t, result);
	later(s);
}

static void start_flush(struct qcow2 *s, enum qcow2_barrier why)
{
	struct wh_block_file *files[2] = { &s->b.file, &s->b.data };
	for (int i = 0; i < (s->data_file ? 2 : 1); i++) {
		struct wh_block_io *io = &s->sync.io[i];
		*io = (struct wh_block_io){ .kind = WH_BLOCK_IO_FLUSH,
					    .flags = (s->sync.now ? WH_BLOCK_IO_NOW : 0) |
						     WH_BLOCK_IO_WHY(why),
					    .done = flush_done,
					    .ctx = s };
		s->sync.outstanding++;
		int r = files[i]->ops->submit(files[i]->ctx, io);
		if (r == WH_BLOCK_LATER)
			continue;
		s->sync.outstanding--;
		ended(s, WH_BLOCK_IO_FLUSH, r);
	}
}

/* Begins writing tables; true = all were begun. `writing` marks those under way, so that they stay. */
static bool start_tables(struct qcow2 *s, bool refblock)
{
	WH_LIST_FOR_EACH_SAFE(n, &s->dirty[refblock]) {
		struct qcow2_table *t = WH_LIST_ENTRY(n, struct qcow2_table, dirty_node);
		if (t->writing)
			continue;
		if (s->sync.outstanding >= QCOW2_SYNC_OPS_MAX || s->sync.error)
			return s->sync.error != 0;
		t->iov = (struct wh_iov){ t->data, s->slice_size };
		t->io = (struct wh_block_io){ .kind = WH_BLOCK_IO_WRITE,
					      .flags = s->sync.now ? WH_BLOCK_IO_NOW : 0,
					      .offset = t->host,
					      .size = s->slice_size,
					      .iov = &t->iov,
					      .iov_count = 1,
					      .done = table_done,
					      .ctx = t };
		s->sync.outstanding++;
		int r = s->b.file.ops->submit(s->b.file.ctx, &t->io);
		if (r == WH_BLOCK_LATER) {
			t->writing = true;
			continue;
		}
		s->sync.outstanding--;
		table_ended(t, r);
	}
	return true;
}

int qcow2_write_sectors(struct qcow2 *s, uint64_t offset, const uint64_t *entries, uint32_t count,
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

int qcow2_barrier(struct qcow2 *s, enum qcow2_barrier why)
{
	return block_file_now(&s->b, &s->b.file, WH_BLOCK_IO_FLUSH, WH_BLOCK_IO_WHY(why), 0, 0, 0);
}

/* ---- clusters that are on their way out ---- */

static void free_later(struct qcow2 *s, uint64_t cluster, uint64_t count, bool data)
{
	if (s->freed_count) {
		struct qcow2_range *last = &s->freed[s->freed_count - 1];
		if (last->cluster + last->count == cluster && !last->durable &&
		    last->data == data) {
			last->count += count;
			last->number = s->b.next_number;
			return;
		}
	}
	if (s->freed_count == s->freed_room) {
		uint32_t room = s->freed_room ? s->freed_room * 2 : 64;
		struct qcow2_range *more = wh_alloc(s->b.alloc, room * sizeof *more);
		if (!more)
			return; /* a leak, which check finds */
		if (s->freed_count)
			memcpy(more, s->freed, s->freed_count * sizeof *more);
		wh_free(s->b.alloc, s->freed, s->freed_room * sizeof *more);
		s->freed = more;
		s->freed_room = room;
	}
	s->freed[s->freed_count++] = (struct qcow2_range){
		.cluster = cluster, .count = count, .number = s->b.next_number, .data = data
	};
}

void qcow2_free_later(struct qcow2 *s, uint64_t cluster, uint64_t count)
{
	wh_assert(cluster && count);
	free_later(s, cluster, count, false);
}

void qcow2_data_free_later(struct qcow2 *s, uint64_t cluster, uint64_t count)
{
	free_later(s, cluster, count, true);
}

void qcow2_data_taken(struct qcow2 *s, uint64_t cluster, uint64_t count)
{
	uint64_t end = cluster + count;
	uint32_t all = s->freed_count;
	for (uint32_t i = 0; i < all; i++) {
		struct qcow2_range old = s->freed[i], *range = &s->freed[i];
		uint64_t old_end = old.cluster + old.count;
		if (!old.data || old.cluster >= end || cluster >= old_end)
			continue;
		range->count = old.cluster < cluster ? cluster - old.cluster : 0;
		if (old_end <= end)
			continue;
		/* What is left behind it; in its place or as one more (which may be forgotten: it stays allocated). */
		if (!range->count)
			*range = (struct qcow2_range){ end, old_end - end, old.number, old.durable,
						       true };
		else
			free_later(s, end, old_end - end, true);
	}
}

static void punch(struct qcow2 *s, const struct wh_block_file *file, uint64_t cluster,
		  uint64_t count)
{
	/* Space that cannot be given back is no error of anything. */
	if (count)
		(void)block_file_now(&s->b, file, WH_BLOCK_IO_DISCARD, 0,
				     cluster << s->cluster_bits, 0, count << s->cluster_bits);
}

static int release(struct qcow2 *s, const struct qcow2_range *range)
{
	uint64_t end = range->cluster + range->count, hole = range->cluster, c, count;
	int r = 0;
	if (range->data) {
		punch(s, &s->b.data, range->cluster, range->count);
		return 0;
	}
	/* Holes first: a cluster may be given out again as soon as its count is 0. */
	for (c = range->cluster; c < end; c++) {
		r = qcow2_refcount(s, c, &count);
		if (r >= 0 && !count)
			r = qcow2_corrupted(s, "a cluster in use had no count",
					    c << s->cluster_bits);
		if (r < 0)
			break;
		if (count > 1) { /* somebody else's as well */
			punch(s, &s->b.file, hole, c - hole);
			hole = c + 1;
		} else if (qcow2_set_has(&s->meta, c)) {
			qcow2_table_forget(s, c);
		}
	}
	punch(s, &s->b.file, hole, c - hole);
	if (r >= 0)
		qcow2_unalloc(s, range->cluster, range->count);
	return r;
}

/* What failed stays a leak: its count is too high. */
static void release_all(struct qcow2 *s)
{
	uint64_t oldest = block_oldest(&s->b);
	uint32_t kept = 0;
	for (uint32_t i = 0; i < s->freed_count; i++) {
		struct qcow2_range *range = &s->freed[i];
		if (range->durable && range->number <= oldest)
			(void)release(s, range);
		else
			s->freed[kept++] = *range;
	}
	s->freed_count = kept;
}

/* ---- the phases ---- */

static bool l2_dirty(const struct qcow2 *s)
{
	return !wh_list_empty(&s->dirty[0]);
}

/* Begins one; true = it may be left when its operations have ended. */
static bool begin(struct qcow2 *s)
{
	int r = 0;
	switch ((enum phase)s->sync.phase) {
	case REFBLOCKS:
		return start_tables(s, true);
	case LINKED:
		if ((s->linked && (l2_dirty(s) || s->l1_any)) || s->rt_any)
			start_flush(s, QCOW2_BARRIER_LINKED);
		break;
	case RT:
		r = qcow2_write_sectors(s, s->rt_offset, s->rt, s->rt_size, s->rt_dirty,
					&s->rt_any);
		if (r >= 0)
			break;
		ended(s, WH_BLOCK_IO_WRITE, r);
		break;
	case RT_FLUSH:
		start_flush(s, QCOW2_BARRIER_RT);
		break;
	case L2:
		return start_tables(s, false);
	case L1:
		r = qcow2_write_sectors(s, s->l1_offset, s->l1, s->l1_size, s->l1_dirty,
					&s->l1_any);
		if (r < 0)
			ended(s, WH_BLOCK_IO_WRITE, r);
		break;
	case FINAL:
		s->linked = false;
		if (s->sync.flush)
			start_flush(s, QCOW2_BARRIER_FINAL);
		break;
	default:
		if (!s->sync.flush)
			break;
		for (uint32_t i = 0; i < s->freed_count; i++)
			s->freed[i].durable = true;
		release_all(s);
	}
	return true;
}

/* The next phase that has something to do. */
static unsigned following(const struct qcow2 *s)
{
	switch ((enum phase)s->sync.phase) {
	case LINKED:
		return s->rt_any ? RT : L2;
	case L2:
		return s->l1_any ? L1 : FINAL;
	default:
		return s->sync.phase + 1;
	}
}

static void finish(struct qcow2 *s)
{
	struct qcow2_sync *y = &s->sync;
	y->running = false;
	s->b.background = false;
	if (y->flush) {
		y->done = y->started;
		y->result = y->error;
	}
	block_unpark(&s->b);
}

static void go(struct qcow2 *s)
{
	struct qcow2_sync *y = &s->sync;
	for (;;) {
		if (!y->error && !y->begun)
			y->begun = begin(s);
		if (y->outstanding)
			return; /* the rest follows when operations end */
		if (y->error)
			break;
		if (!y->begun)
			continue;
		y->phase = following(s);
		y->begun = false;
		if (y->phase == END)
			break;
	}
	finish(s);
}

static void start(struct qcow2 *s, bool now, bool flush)
{
	struct qcow2_sync *y = &s->sync;
	wh_assert(!y->running && !y->outstanding && !s->no_sync);
	y->running = true;
	y->now = now;
	y->flush = flush;
	y->phase = REFBLOCKS;
	y->begun = false;
	y->error = 0;
	s->b.background = true;
	y->started += flush;
	go(s);
}

int qcow2_may_change(struct qcow2 *s, bool now)
{
	struct qcow2_sync *y = &s->sync;
	if (!y->running && s->dirty_count > s->table_max / 2)
		start(s, now, false);
	else if (!y->running && s->freed_count > QCOW2_FREED_MAX &&
		 s->freed[0].number <= block_oldest(&s->b))
		start(s, now, true);
	return y->running ? BLOCK_PARK : 0;
}

int qcow2_next_flush(struct qcow2 *s, struct wh_block_request *q)
{
	struct qcow2_sync *y = &s->sync;
	if (!q->syncing) {
		q->syncing = true;
		q->host = y->started + 1;
	}
	if (s->b.failed || s->corrupt)
		return -WH_EIO;
	if (!y->running && y->done < q->host)
		start(s, q->now, true);
	if (y->done < q->host)
		return BLOCK_PARK;
	return y->result;
}

int qcow2_write_back(struct qcow2 *s)
{
	if (s->b.read_only)
		return 0;
	if (s->b.failed || s->corrupt)
		return -WH_EIO;
	start(s, true, false);
	wh_assert(!s->sync.running);
	return s->sync.error;
}

int qcow2_settle(struct qcow2 *s)
{
	if (s->b.read_only)
		return 0;
	do {
		if (s->b.failed || s->corrupt)
			return -WH_EIO;
		start(s, true, true);
		wh_assert(!s->sync.running);
		if (s->sync.error)
			return s->sync.error;
	} while (!wh_list_empty(&s->dirty[1]) || s->freed_count);
	return s->corrupt ? -WH_EIO : 0;
}
