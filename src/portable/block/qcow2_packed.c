/* SPDX-License-Identifier: ISC */
/*
 * Compressed clusters. Packed bytes lie one behind the other, several guest clusters in one
 * cluster of the file, whose count says how many; a packed cluster is never written again:
 * a write puts the whole cluster somewhere else. Unpacked ones are kept for a while, since
 * a guest reads them piece by piece.
 */
#include "qcow2_priv.h"

void qcow2_unpacked_free(struct qcow2 *s)
{
	for (uint32_t i = 0; i < s->unpacked_count; i++)
		wh_free(s->b.alloc, s->unpacked[i].data, s->cluster_size);
	wh_free(s->b.alloc, s->unpacked, s->unpacked_count * sizeof *s->unpacked);
	s->unpacked = 0;
	s->unpacked_count = 0;
}

void qcow2_forget_unpacked(struct qcow2 *s, uint64_t entry)
{
	for (uint32_t i = 0; i < s->unpacked_count; i++)
		if (s->unpacked[i].entry == entry)
			s->unpacked[i].entry = 0;
}

static const uint8_t *unpacked_find(struct qcow2 *s, uint64_t entry)
{
	for (uint32_t i = 0; i < s->unpacked_count; i++)
		if (s->unpacked[i].entry == entry) {
			s->unpacked[i].used = ++s->unpacked_time;
			return s->unpacked[i].data;
		}
	return 0;
}

/* The one that was not used for the longest time, empty now. */
static struct qcow2_unpacked *unpacked_take(struct qcow2 *s)
{
	if (!s->unpacked) {
		uint64_t n = QCOW2_UNPACKED_BYTES >> s->cluster_bits;
		n = n < 2 ? 2 : n > 16 ? 16 : n;
		s->unpacked = wh_alloc_zero(s->b.alloc, n * sizeof *s->unpacked);
		if (!s->unpacked)
			return 0;
		s->unpacked_count = (uint32_t)n;
	}
	struct qcow2_unpacked *u = &s->unpacked[0];
	for (uint32_t i = 1; i < s->unpacked_count; i++)
		if (s->unpacked[i].used < u->used)
			u = &s->unpacked[i];
	if (!u->data)
		u->data = wh_alloc(s->b.alloc, s->cluster_size);
	u->entry = 0;
	return u->data ? u : 0;
}

static void give(struct wh_block_request *q, const uint8_t *from)
{
	if (q->packed_to)
		memcpy(q->packed_to, from + q->packed_skip, q->packed_run);
	else
		block_fill(q, from + q->packed_skip, q->packed_run);
}

int qcow2_read_packed(struct wh_block *b, struct wh_block_request *q,
		      const struct block_place *place, uint64_t offset, uint8_t *to)
{
	struct qcow2 *s = qcow2_of(b);
	uint64_t host, size;
	q->packed_to = to;
	q->packed_skip = offset & (s->cluster_size - 1);
	q->packed_entry = place->entry;
	q->run = q->packed_run = place->size;
	const uint8_t *have = unpacked_find(s, place->entry);
	if (have) {
		give(q, have);
		return BLOCK_AGAIN;
	}
	if (!b->codec || !b->codec->decode)
		return -WH_EOPNOTSUPP;
	qcow2_packed_range(s, place->entry, &host, &size);
	if (host >> s->cluster_bits >= s->file_clusters ||
	    (host + size - 1) >> s->cluster_bits > s->file_clusters)
		return qcow2_corrupted(s, "compressed cluster outside the file", place->entry);
	q->packed = wh_alloc(b->alloc, size);
	if (!q->packed)
		return -WH_ENOMEM;
	q->packed_size = size;
	block_prepare_memory(q, &b->file, WH_BLOCK_IO_READ, host, q->packed, size);
	q->run = place->size;
	q->table_of = b;
	return BLOCK_SUBMIT;
}

/* The packed bytes are there. */
int qcow2_after_packed(struct qcow2 *s, struct wh_block_request *q, int result)
{
	const struct wh_block_codec *codec = s->b.codec;
	wh_assert(q->packed);
	if (result >= 0) {
		struct qcow2_unpacked *u = unpacked_take(s);
		result = u ? codec->decode(codec->ctx, s->compression, q->packed, q->packed_size,
					   u->data, s->cluster_size)
			   : -WH_ENOMEM;
		if (result == -WH_EINVAL)
			result = -WH_EIO; /* damaged: this cluster only */
		if (result >= 0) {
			u->entry = q->packed_entry;
			u->used = ++s->unpacked_time;
			give(q, u->data);
			result = 0;
		}
	}
	wh_free(s->b.alloc, q->packed, q->packed_size);
	q->packed = 0;
	return q->block->ops->after(q->block, q, result);
}

/* ---- writing ---- */

int qcow2_packed_room(struct qcow2 *s, uint32_t size, uint64_t *ret_host)
{
	uint64_t at = s->packed_at, cluster, count, next;
	uint64_t left = at ? s->cluster_size - (at & (s->cluster_size - 1)) : 0;
	int r = 0;
	if (at) {
		r = qcow2_refcount(s, at >> s->cluster_bits, &count);
		if (r < 0)
			return r;
		/* It may have been freed meanwhile, or be in as many uses as can be counted. */
		if (!count || count >= qcow2_refcount_max(s))
			left = 0;
	}
	if (left >= size) {
		r = qcow2_refcount_set(s, at >> s->cluster_bits, count + 1);
		if (r < 0)
			return r;
		*ret_host = at;
		s->packed_at = left == size ? 0 : at + size;
		return 0;
	}
	r = qcow2_alloc(s, 1, &cluster, &next);
	if (r < 0)
		return r;
	qcow2_used(s, cluster, 1);
	*ret_host = cluster << s->cluster_bits;
	if (left && cluster == (at >> s->cluster_bits) + 1) {
		r = qcow2_refcount_set(s, at >> s->cluster_bits, count + 1);
		if (r < 0) {
			qcow2_unalloc(s, cluster, 1);
			return r;
		}
		*ret_host = at;
	}
	s->packed_at = *ret_host + size;
	if (!(s->packed_at & (s->cluster_size - 1)))
		s->packed_at = 0;
	return 0;
}

uint64_t qcow2_packed_entry(const struct qcow2 *s, uint64_t host, uint32_t size)
{
	uint32_t shift = 62 - (s->cluster_bits - 8);
	uint64_t sectors = ((host + size - 1) >> 9) - (host >> 9);
	return QCOW2_COMPRESSED | sectors << shift | host;
}

static void packed_unalloc(struct qcow2 *s, uint64_t host, uint32_t size)
{
	uint64_t first = host >> s->cluster_bits;
	s->packed_at = 0;
	qcow2_unalloc(s, first, ((host + size - 1) >> s->cluster_bits) - first + 1);
}

/* Puts a packed cluster at the end of those and into the table. */
static int pack_store(struct qcow2 *s, uint64_t offset, const void *data, uint32_t size)
{
	struct qcow2_table *t;
	struct qcow2_extent e; /* what is there is checked by looking */
	uint64_t host;
	uint32_t i;
	int r = qcow2_look_up(s, offset, s->cluster_size, 0, true, &e);
	if (r >= 0)
		r = qcow2_l2_for_write(s, offset, 0);
	if (r >= 0)
		r = qcow2_packed_room(s, size, &host);
	if (r < 0)
		return r;
	s->was_packed = true;
	r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, host, (void *)(uintptr_t)data, size);
	if (r >= 0)
		r = qcow2_slice(s, offset, 0, &t, &i);
	if (r < 0) {
		packed_unalloc(s, host, size);
		return r;
	}
	uint64_t old = qcow2_entry(s, t, i), entry = qcow2_packed_entry(s, host, size);
	/* A read that began before the place was freed may have ended after it: what is kept is another's. */
	qcow2_forget_unpacked(s, entry);
	qcow2_entry_set(s, t, i, entry, 0);
	s->linked = true;
	qcow2_entry_free(s, old);
	return 0;
}

/* One cluster of a request that asks for packing. What does not become smaller is written as it is. */
int qcow2_next_pack(struct qcow2 *s, struct wh_block_request *q)
{
	const struct wh_block_codec *codec = s->b.codec;
	uint64_t at = q->offset + q->at, size = q->size - q->at;
	if (!codec || !codec->encode || s->data_file)
		return -WH_EOPNOTSUPP;
	if (size > s->cluster_size)
		size = s->cluster_size;
	if (at & (s->cluster_size - 1) || (size < s->cluster_size && at + size != s->b.size))
		return -WH_EINVAL;
	struct qcow2_extent e;
	int r = qcow2_may_change(s, q->now);
	if (r ==
	    0) /* the table is there when it is changed: it may be on its way for somebody else */
		r = qcow2_look_up(s, at, size, q, true, &e);
	if (r != 0)
		return r;
	uint8_t *plain = wh_alloc(s->b.alloc, s->cluster_size * 2);
	if (!plain)
		return -WH_ENOMEM;
	(void)wh_iov_read(q->iov, q->iov_count, q->at, plain, size);
	memset(plain + size, 0, s->cluster_size - size);
	r = codec->encode(codec->ctx, s->compression, plain, s->cluster_size,
			  plain + s->cluster_size, s->cluster_size - 1);
	if (r > 0)
		r = pack_store(s, at, plain + s->cluster_size, (uint32_t)r);
	wh_free(s->b.alloc, plain, s->cluster_size * 2);
	if (r ==
	    -WH_ENOSPC) { /* does not become smaller (or the disk is full: then this fails too) */
		q->plain_at = at + 1;
		return BLOCK_AGAIN;
	}
	if (r < 0)
		return r;
	q->at += size;
	return BLOCK_AGAIN;
}

int wh_block_write_packed(struct wh_block *block, uint64_t offset, const void *data, uint32_t size)
{
	if (block->format != WH_BLOCK_FORMAT_QCOW2)
		return -WH_EOPNOTSUPP;
	struct qcow2 *s = qcow2_of(block);
	int r = block_idle(block);
	if (r < 0)
		return r;
	if (block->read_only)
		return -WH_EROFS;
	if (s->data_file)
		return -WH_EOPNOTSUPP;
	if (offset & (s->cluster_size - 1) || offset >= block->size || !size ||
	    size >= s->cluster_size || block->check_only)
		return -WH_EINVAL;
	if (block->failed)
		return -WH_EIO;
	r = qcow2_touch(s);
	if (r >= 0)
		r = qcow2_may_change(s, true);
	wh_assert(r <= 0);
	return r < 0 ? r : pack_store(s, offset, data, size);
}
