/* SPDX-License-Identifier: ISC */
/*
 * L2 entries. A guest cluster has one: a place in the file (or in the data file, then at the
 * same offset as in the disk), the flags, and with extended L2 a bitmap of 32 subclusters:
 * the low half says which are there, the high half which read as zeroes.
 */
#include "qcow2_priv.h"

static uint32_t l1_index(const struct qcow2 *s, uint64_t offset)
{
	return (uint32_t)((offset >> s->cluster_bits) / s->l2_entries);
}

static uint32_t l2_index(const struct qcow2 *s, uint64_t offset)
{
	return (uint32_t)((offset >> s->cluster_bits) & (s->l2_entries - 1));
}

uint64_t qcow2_entry(const struct qcow2 *s, const struct qcow2_table *t, uint32_t i)
{
	return wh_load_be64(t->data + (size_t)i * s->entry_size);
}

uint64_t qcow2_bits(const struct qcow2 *s, const struct qcow2_table *t, uint32_t i)
{
	return s->extended ? wh_load_be64(t->data + (size_t)i * s->entry_size + 8) : 0;
}

void qcow2_entry_set(struct qcow2 *s, struct qcow2_table *t, uint32_t i, uint64_t entry,
		     uint64_t bits)
{
	wh_store_be64(t->data + (size_t)i * s->entry_size, entry);
	if (s->extended)
		wh_store_be64(t->data + (size_t)i * s->entry_size + 8, bits);
	qcow2_table_dirty(t);
}

void qcow2_packed_range(const struct qcow2 *s, uint64_t entry, uint64_t *ret_offset,
			uint64_t *ret_size)
{
	uint32_t shift = 62 - (s->cluster_bits - 8);
	uint64_t offset = entry & ((1ull << shift) - 1);
	uint64_t sectors = (entry >> shift & ((1ull << (s->cluster_bits - 8)) - 1)) + 1;
	*ret_offset = offset;
	*ret_size = sectors * 512 - (offset & 511);
}

static bool packed_valid(const struct qcow2 *s, uint64_t entry)
{
	uint64_t host, size;
	qcow2_packed_range(s, entry, &host, &size);
	uint64_t last = (host + size - 1) >> s->cluster_bits;
	for (uint64_t c = host >> s->cluster_bits; c <= last; c++)
		if (c >= s->file_clusters || qcow2_is_meta(s, c))
			return false;
	return !(entry & QCOW2_COPIED);
}

/* One unit: a cluster or subcluster. */
struct unit {
	enum block_place_kind kind;
	bool owned, has_host;
	uint64_t host; /* of the cluster */
};

/* Refused when it cannot be true. For a write, places that hold tables are refused too. */
static int classify(struct qcow2 *s, uint64_t offset, uint64_t entry, uint64_t bits, uint32_t sub,
		    bool write, struct unit *ret)
{
	uint64_t host = entry & QCOW2_OFFSET_MASK;
	bool zero = s->version >= 3 && !s->extended && entry & QCOW2_ZERO, present = !zero;
	*ret = (struct unit){ .kind = BLOCK_NOWHERE };
	if (entry & QCOW2_COMPRESSED) { /* bit 0 means something else there: first of all */
		if (s->data_file)
			return qcow2_corrupted(s, "compressed cluster with a data file", entry);
		if (write && !packed_valid(s, entry))
			return qcow2_corrupted(s, "compressed cluster outside the data", entry);
		ret->kind = BLOCK_PACKED;
		return 0;
	}
	if (s->extended) {
		present = bits >> sub & 1;
		zero = bits >> (32 + sub) & 1;
		if (present && zero)
			return qcow2_corrupted(s, "subcluster with both bits", bits);
	}
	if (entry & ~(QCOW2_OFFSET_MASK | QCOW2_COPIED | (zero && !s->extended ? QCOW2_ZERO : 0)))
		return qcow2_corrupted(s, "reserved bits in an L2 entry", entry);
	ret->has_host = host || (s->data_file && entry & QCOW2_COPIED);
	ret->host = host;
	if (!ret->has_host) {
		if (s->extended && present)
			return qcow2_corrupted(s, "subcluster without a place", bits);
		ret->kind = zero ? BLOCK_ZERO : BLOCK_NOWHERE;
		return 0;
	}
	if (host & (s->cluster_size - 1))
		return qcow2_corrupted(s, "unaligned L2 entry", entry);
	if (s->data_file ? host != (offset & ~(s->cluster_size - 1))
			 : host >> s->cluster_bits >= s->file_clusters)
		return qcow2_corrupted(s, "L2 entry outside the data", entry);
	if (write && !s->data_file && qcow2_is_meta(s, host >> s->cluster_bits))
		return qcow2_corrupted(s, "L2 entry refers to metadata", entry);
	ret->owned = entry & QCOW2_COPIED;
	ret->kind = zero ? BLOCK_ZERO : present ? BLOCK_DATA : BLOCK_NOWHERE;
	return 0;
}

int qcow2_slice(struct qcow2 *s, uint64_t offset, struct wh_block_request *q,
		struct qcow2_table **ret_table, uint32_t *ret_index)
{
	uint32_t l1 = l1_index(s, offset), i = l2_index(s, offset);
	uint64_t at = (uint64_t)i * s->entry_size;
	wh_assert(l1 < s->l1_size && s->l1[l1] & QCOW2_OFFSET_MASK);
	*ret_index = (uint32_t)(at & (s->slice_size - 1)) / s->entry_size;
	return qcow2_table_get(s, (s->l1[l1] & QCOW2_OFFSET_MASK) + (at & ~(s->slice_size - 1ull)),
			       false, q, ret_table);
}

int qcow2_look_up(struct qcow2 *s, uint64_t offset, uint64_t max, struct wh_block_request *q,
		  bool write, struct qcow2_extent *ret_extent)
{
	uint64_t in_cluster = offset & (s->cluster_size - 1);
	uint64_t sub_size = 1ull << s->sub_bits;
	uint32_t l1 = l1_index(s, offset), i, end = s->slice_size / s->entry_size;
	struct qcow2_table *t;
	struct unit first, u;
	wh_assert(max && l1 < s->l1_size);
	if (!(s->l1[l1] & QCOW2_OFFSET_MASK)) {
		uint64_t rest = (uint64_t)end << s->cluster_bits; /* of the disk, by a slice */
		rest -= offset & (rest - 1);
		*ret_extent = (struct qcow2_extent){ .size = max < rest ? max : rest };
		return 0;
	}
	int r = qcow2_slice(s, offset, q, &t, &i);
	if (r != 0)
		return r;
	uint64_t entry = qcow2_entry(s, t, i), bits = qcow2_bits(s, t, i);
	uint32_t sub = (uint32_t)(in_cluster >> s->sub_bits);
	r = classify(s, offset, entry, bits, sub, write, &first);
	if (r < 0)
		return r;
	*ret_extent = (struct qcow2_extent){ .kind = first.kind,
					     .owned = first.owned,
					     .has_host = first.has_host,
					     .host = first.has_host ? first.host + in_cluster : 0,
					     .entry = entry };
	uint64_t size = sub_size - (offset & (sub_size - 1));
	if (first.kind == BLOCK_PACKED) {
		size = s->cluster_size - in_cluster;
		ret_extent->size = size < max ? size : max;
		return 0;
	}
	uint64_t expect = first.host;
	while (size < max) {
		if (++sub == s->subs) {
			sub = 0;
			if (++i == end)
				break;
			entry = qcow2_entry(s, t, i);
			bits = qcow2_bits(s, t, i);
			expect += first.has_host ? s->cluster_size : 0;
		}
		r = classify(s, offset + size, entry, bits, sub, write, &u);
		if (r < 0 || u.kind != first.kind || u.owned != first.owned ||
		    u.has_host != first.has_host || u.host != expect)
			break; /* an error will be met when its turn comes */
		size += sub_size;
	}
	ret_extent->size = size < max ? size : max;
	return 0;
}

int qcow2_locate(struct wh_block *b, uint64_t offset, uint64_t max, struct wh_block_request *q,
		 struct block_place *ret_place)
{
	struct qcow2_extent e;
	int r = qcow2_look_up(qcow2_of(b), offset, max, q, false, &e);
	if (r == 0)
		*ret_place = (struct block_place){
			.kind = e.kind, .size = e.size, .host = e.host, .entry = e.entry
		};
	return r;
}

/* A copy of the shared table at `old`, or (0) an empty one, at `cluster`. */
static int l2_fill(struct qcow2 *s, uint64_t cluster, uint64_t old)
{
	uint64_t host = cluster << s->cluster_bits;
	int r = 0;
	if (!old) /* also where it reads as zeroes: a flush must not find the disk full */
		return block_io_now(&s->b, WH_BLOCK_IO_ZERO, host, 0, s->cluster_size);
	uint8_t *copy = wh_alloc(s->b.alloc, s->cluster_size);
	if (!copy)
		return -WH_ENOMEM;
	r = block_io_now(&s->b, WH_BLOCK_IO_READ, old, copy, s->cluster_size);
	if (r >= 0)
		r = block_io_now(&s->b, WH_BLOCK_IO_WRITE, host, copy, s->cluster_size);
	wh_free(s->b.alloc, copy, s->cluster_size);
	return r;
}

int qcow2_l2_for_write(struct qcow2 *s, uint64_t offset, struct wh_block_request *q)
{
	uint32_t l1 = l1_index(s, offset), i = l2_index(s, offset);
	uint64_t cluster, count, old = s->l1[l1] & QCOW2_OFFSET_MASK;
	struct qcow2_table *t;
	if (old && s->l1[l1] & QCOW2_COPIED)
		return 0;
	int r = q ? qcow2_alloc_ready(s, q) : 0;
	if (r == 0)
		r = qcow2_alloc(s, 1, &cluster, &count);
	if (r != 0)
		return r;
	/* Shared tables are never dirty: this is the only way to change one. */
	r = l2_fill(s, cluster, old);
	qcow2_used(s, cluster, 1);
	if (r >= 0)
		r = qcow2_set_add(s, cluster);
	if (r >= 0 && !old) {
		uint64_t slice = (uint64_t)i * s->entry_size & ~(s->slice_size - 1ull);
		r = qcow2_table_blank(s, (cluster << s->cluster_bits) + slice, false, &t);
		if (r >= 0)
			qcow2_table_dirty(t); /* so that the file becomes long enough */
	}
	if (r < 0) {
		qcow2_table_forget(s, cluster);
		qcow2_unalloc(s, cluster, 1);
		return r;
	}
	s->l1[l1] = cluster << s->cluster_bits | QCOW2_COPIED;
	s->l1_dirty[l1 / 64] = s->l1_any = true;
	s->linked = true;
	if (old)
		qcow2_free_later(s, old >> s->cluster_bits, 1);
	return 0;
}

void qcow2_entry_free(struct qcow2 *s, uint64_t entry)
{
	uint64_t host = entry & QCOW2_OFFSET_MASK, size;
	if (entry & QCOW2_COMPRESSED) {
		qcow2_packed_range(s, entry, &host, &size);
		uint64_t first = host >> s->cluster_bits;
		qcow2_free_later(s, first, ((host + size - 1) >> s->cluster_bits) - first + 1);
		qcow2_forget_unpacked(s, entry);
	} else if (s->data_file && (host || entry & QCOW2_COPIED)) {
		qcow2_data_free_later(s, host >> s->cluster_bits, 1);
	} else if (host && !s->data_file) {
		qcow2_free_later(s, host >> s->cluster_bits, 1);
	}
}
