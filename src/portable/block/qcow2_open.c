/* SPDX-License-Identifier: ISC */
#include "qcow2_priv.h"

struct header {
	uint64_t backing_offset, size, l1_offset, rt_offset;
	uint32_t cluster_bits, crypt, l1_size, rt_clusters, snapshots, length;
};

/* ---- refusals that need nothing but the header ---- */

static int check_features(const struct qcow2 *s, const struct header *h, struct wh_diag *diag)
{
	uint64_t known = QCOW2_INCOMPATIBLE_DIRTY | QCOW2_INCOMPATIBLE_CORRUPT;
	if (h->backing_offset)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "qcow2: the image has a backing file, which is not supported; "
				   "make it whole "
				   "with: qemu-img convert -O qcow2 OLD NEW");
	if (h->crypt)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "qcow2: the image is encrypted (method %u)", h->crypt);
	if (s->incompatible & QCOW2_INCOMPATIBLE_DATA_FILE)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "qcow2: the image keeps its data in another file");
	if (s->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "qcow2: the image has extended L2 entries");
	if (s->incompatible & QCOW2_INCOMPATIBLE_COMPRESSION)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "qcow2: the image is made for another compression than zlib");
	if (s->incompatible & ~known)
		return wh_diag_set(
			diag, -WH_EOPNOTSUPP,
			"qcow2: the image needs features this program does not know (0x%llx)",
			(unsigned long long)(s->incompatible & ~known));
	if (s->b.read_only)
		return 0;
	if (s->incompatible & QCOW2_INCOMPATIBLE_CORRUPT)
		return wh_diag_set(
			diag, -WH_EINVAL,
			"qcow2: the image is marked corrupt; repair it with: qemu-img check -r all "
			"FILE, or open it read-only");
	if (s->incompatible & QCOW2_INCOMPATIBLE_DIRTY)
		return wh_diag_set(diag, -WH_EINVAL,
				   "qcow2: the image was not closed and its reference counts are "
				   "stale; repair it "
				   "with: qemu-img check -r all FILE, or open it read-only");
	if (h->snapshots)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "qcow2: the image has %u internal snapshots, it can only be "
				   "opened read-only",
				   h->snapshots);
	return 0;
}

static int check_geometry(const struct qcow2 *s, const struct header *h, struct wh_diag *diag)
{
	uint64_t l1_needed, per_l1 = s->cluster_size * s->l2_entries;
	uint64_t l1_bytes = 8ull * h->l1_size,
		 rt_bytes = (uint64_t)h->rt_clusters << s->cluster_bits;
	if (s->refcount_order > 6)
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: refcount order %u is over 6",
				   s->refcount_order);
	if (h->size > WH_BLOCK_SIZE_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: disk size %llu is too large",
				   (unsigned long long)h->size);
	l1_needed = (h->size + per_l1 - 1) / per_l1;
	if (l1_bytes > QCOW2_L1_BYTES_MAX || h->l1_size < l1_needed)
		return wh_diag_set(diag, -WH_EINVAL,
				   "qcow2: L1 table with %u entries, %llu needed, %u allowed",
				   h->l1_size, (unsigned long long)l1_needed,
				   QCOW2_L1_BYTES_MAX / 8);
	if (!h->rt_clusters || rt_bytes > QCOW2_RT_BYTES_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: refcount table of %u clusters",
				   h->rt_clusters);
	uint64_t end = s->file_clusters << s->cluster_bits;
	if (h->l1_size && (h->l1_offset & (s->cluster_size - 1) || !h->l1_offset ||
			   !wh_range_inside(h->l1_offset, l1_bytes, end)))
		return wh_diag_set(diag, -WH_EINVAL,
				   "qcow2: L1 table at 0x%llx is not inside the file",
				   (unsigned long long)h->l1_offset);
	if (h->rt_offset & (s->cluster_size - 1) || !h->rt_offset ||
	    !wh_range_inside(h->rt_offset, rt_bytes, end))
		return wh_diag_set(diag, -WH_EINVAL,
				   "qcow2: refcount table at 0x%llx is not inside the file",
				   (unsigned long long)h->rt_offset);
	uint64_t l1_end = h->l1_offset + wh_align_up(l1_bytes, s->cluster_size);
	if (h->l1_size && h->l1_offset < h->rt_offset + rt_bytes && h->rt_offset < l1_end)
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: L1 table and refcount table overlap");
	return 0;
}

/* Header extensions: only their lengths are looked at; all kinds may be ignored. */
static int check_extensions(struct qcow2 *s, const struct header *h, struct wh_diag *diag)
{
	uint64_t at = h->length, end = s->cluster_size;
	while (at + 8 <= end) {
		uint8_t b[8];
		int r = block_io_now(&s->b, WH_BLOCK_IO_READ, at, b, sizeof b);
		if (r < 0)
			return wh_diag_set(diag, r, "qcow2: the header cannot be read");
		uint32_t type = wh_load_be32(b), size = wh_load_be32(b + 4);
		if (!type)
			return 0;
		at += 8;
		if (size > end - at)
			return wh_diag_set(diag, -WH_EINVAL,
					   "qcow2: header extension 0x%x has %u bytes", type, size);
		at += wh_align_up(size, 8);
	}
	return 0;
}

static int read_header(struct qcow2 *s, struct header *h, struct wh_diag *diag)
{
	uint8_t b[QCOW2_H_V3_SIZE];
	uint64_t file_size;
	int r = s->b.file.ops->size(s->b.file.ctx, &file_size);
	if (r >= 0)
		r = block_io_now(&s->b, WH_BLOCK_IO_READ, 0, b, sizeof b);
	if (r < 0)
		return wh_diag_set(diag, r, "qcow2: the header cannot be read");
	if (file_size < QCOW2_H_V2_SIZE || wh_load_be32(b + QCOW2_H_MAGIC) != QCOW2_MAGIC)
		return wh_diag_set(diag, -WH_EINVAL,
				   "not a qcow2 image (use format=raw if it is a raw disk)");
	s->version = wh_load_be32(b + QCOW2_H_VERSION);
	if (s->version != 2 && s->version != 3)
		return wh_diag_set(diag, -WH_EOPNOTSUPP, "qcow2: version %u is not supported",
				   s->version);
	*h = (struct header){ .backing_offset = wh_load_be64(b + QCOW2_H_BACKING_OFFSET),
			      .cluster_bits = wh_load_be32(b + QCOW2_H_CLUSTER_BITS),
			      .size = wh_load_be64(b + QCOW2_H_SIZE),
			      .crypt = wh_load_be32(b + QCOW2_H_CRYPT),
			      .l1_size = wh_load_be32(b + QCOW2_H_L1_SIZE),
			      .l1_offset = wh_load_be64(b + QCOW2_H_L1_OFFSET),
			      .rt_offset = wh_load_be64(b + QCOW2_H_RT_OFFSET),
			      .rt_clusters = wh_load_be32(b + QCOW2_H_RT_CLUSTERS),
			      .snapshots = wh_load_be32(b + QCOW2_H_SNAPSHOTS),
			      .length = QCOW2_H_V2_SIZE };
	if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN || h->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: clusters of 2^%u bytes",
				   h->cluster_bits);
	s->cluster_bits = h->cluster_bits;
	s->cluster_size = 1ull << s->cluster_bits;
	s->l2_entries = s->cluster_size / 8;
	s->refcount_order = 4;
	if (s->version == 3) {
		s->incompatible = wh_load_be64(b + QCOW2_H_INCOMPATIBLE);
		s->compatible = wh_load_be64(b + QCOW2_H_COMPATIBLE);
		s->autoclear = wh_load_be64(b + QCOW2_H_AUTOCLEAR);
		s->refcount_order = wh_load_be32(b + QCOW2_H_REFCOUNT_ORDER);
		h->length = wh_load_be32(b + QCOW2_H_LENGTH);
		if (h->length < QCOW2_H_V3_SIZE || h->length % 8 || h->length > s->cluster_size)
			return wh_diag_set(diag, -WH_EINVAL, "qcow2: header length %u", h->length);
	}
	s->file_clusters = file_size / s->cluster_size + !!(file_size % s->cluster_size);
	s->fresh = s->file_clusters;
	r = check_features(s, h, diag);
	if (r >= 0)
		r = check_geometry(s, h, diag);
	return r < 0 ? r : check_extensions(s, h, diag);
}

/* ---- tables that stay in memory ---- */

static int table_read(struct qcow2 *s, uint64_t offset, uint64_t *entries, uint32_t count)
{
	int r = block_io_now(&s->b, WH_BLOCK_IO_READ, offset, entries, 8ull * count);
	for (uint32_t i = 0; r >= 0 && i < count; i++)
		entries[i] = wh_load_be64(&entries[i]);
	return r;
}

/* One table's entry: a cluster of metadata of its own. */
static int entry_check(struct qcow2 *s, const char *table, uint32_t index, uint64_t entry,
		       uint64_t flags, struct wh_diag *diag)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK, cluster = offset >> s->cluster_bits;
	if (entry & ~QCOW2_OFFSET_MASK & ~flags || offset & (s->cluster_size - 1) ||
	    (entry && !offset) || cluster >= s->file_clusters)
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: %s entry %u is 0x%llx", table, index,
				   (unsigned long long)entry);
	if (!offset)
		return 0;
	if (qcow2_is_meta(s, cluster))
		return wh_diag_set(diag, -WH_EINVAL,
				   "qcow2: %s entry %u refers to other metadata (0x%llx)", table,
				   index, (unsigned long long)entry);
	int r = qcow2_set_add(s, cluster);
	return r < 0 ? wh_diag_set(diag, r, "no memory for the tables of the image") : 0;
}

static int read_tables(struct qcow2 *s, const struct header *h, struct wh_diag *diag)
{
	const struct wh_alloc *a = s->b.alloc;
	s->l1_offset = h->l1_offset;
	s->l1_size = h->l1_size;
	s->rt_offset = h->rt_offset;
	s->rt_clusters = h->rt_clusters;
	s->rt_size = (uint32_t)(((uint64_t)h->rt_clusters << s->cluster_bits) / 8);
	s->refblock_entries = s->cluster_size * 8 >> s->refcount_order;
	if (s->l1_size) {
		s->l1 = wh_alloc_zero(a, s->l1_size * sizeof *s->l1);
		s->l1_dirty = wh_alloc_zero(a, (s->l1_size + 63) / 64 * sizeof *s->l1_dirty);
		s->l2 = wh_alloc_zero(a, s->l1_size * sizeof *s->l2);
	}
	s->rt = wh_alloc_zero(a, s->rt_size * sizeof *s->rt);
	s->rt_dirty = wh_alloc_zero(a, (s->rt_size + 63) / 64 * sizeof *s->rt_dirty);
	s->refblock = wh_alloc_zero(a, s->rt_size * sizeof *s->refblock);
	if ((s->l1_size && (!s->l1 || !s->l1_dirty || !s->l2)) || !s->rt || !s->rt_dirty ||
	    !s->refblock)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the tables of the image");
	int r = table_read(s, s->rt_offset, s->rt, s->rt_size);
	if (r >= 0 && s->l1_size)
		r = table_read(s, s->l1_offset, s->l1, s->l1_size);
	if (r < 0)
		return wh_diag_set(diag, r, "qcow2: the tables cannot be read");
	for (uint32_t i = 0; i < s->rt_size && r >= 0; i++)
		r = entry_check(s, "refcount table", i, s->rt[i], 0, diag);
	for (uint32_t i = 0; i < s->l1_size && r >= 0; i++)
		r = entry_check(s, "L1", i, s->l1[i], QCOW2_COPIED, diag);
	return r;
}

/* Compressed clusters are refused here, as far as looking does not take long. */
static int scan(struct qcow2 *s, struct wh_diag *diag)
{
	uint32_t looked = 0;
	for (uint32_t i = 0; i < s->l1_size && looked < QCOW2_SCAN_L2_MAX; i++) {
		struct qcow2_table *t;
		if (!s->l1[i])
			continue;
		looked++;
		int r = qcow2_l2_get(s, i, &t);
		if (r < 0)
			return wh_diag_set(diag, r, "qcow2: L2 table %u cannot be read", i);
		for (uint64_t k = 0; k < s->l2_entries; k++)
			if (t->data[8 * k] & QCOW2_COMPRESSED >> 56)
				return wh_diag_set(
					diag, -WH_EOPNOTSUPP,
					"qcow2: the image has compressed clusters, which are not "
					"supported; unpack it with: qemu-img convert -O qcow2 OLD "
					"NEW");
	}
	return 0;
}

static void tables_free(struct qcow2 *s)
{
	const struct wh_alloc *a = s->b.alloc;
	qcow2_caches_free(s);
	wh_free(a, s->l1, s->l1_size * sizeof *s->l1);
	wh_free(a, s->l1_dirty, (s->l1_size + 63) / 64 * sizeof *s->l1_dirty);
	wh_free(a, s->l2, s->l1_size * sizeof *s->l2);
	wh_free(a, s->rt, s->rt_size * sizeof *s->rt);
	wh_free(a, s->rt_dirty, (s->rt_size + 63) / 64 * sizeof *s->rt_dirty);
	wh_free(a, s->refblock, s->rt_size * sizeof *s->refblock);
	wh_free(a, s->meta.slot, s->meta.size * sizeof *s->meta.slot);
}

static int qcow2_close(struct wh_block *b)
{
	struct qcow2 *s = qcow2_of(b);
	int r = qcow2_settle(s);
	tables_free(s);
	return r;
}

static void qcow2_info(struct wh_block *b, struct wh_block_info *info)
{
	const struct qcow2 *s = qcow2_of(b);
	info->version = s->version;
	info->cluster_size = (uint32_t)s->cluster_size;
	info->refcount_bits = 1u << s->refcount_order;
	info->dirty = s->incompatible & QCOW2_INCOMPATIBLE_DIRTY;
	info->corrupt = s->incompatible & QCOW2_INCOMPATIBLE_CORRUPT;
	info->lazy_refcounts = s->compatible & QCOW2_COMPATIBLE_LAZY;
}

int block_qcow2_open(const struct wh_block_config *config, struct wh_block **ret_block,
		     struct wh_diag *diag)
{
	static const struct block_format_ops ops = {
		.next = qcow2_next, .after = qcow2_after, .close = qcow2_close, .info = qcow2_info
	};
	struct header h = { 0 };
	uint64_t cache = config->cache_size ? config->cache_size : WH_BLOCK_CACHE_DEFAULT;
	struct qcow2 *s = wh_alloc_zero(config->alloc, sizeof *s);
	if (!s)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the image");
	s->b.ops = &ops;
	s->b.file = config->file;
	s->b.alloc = config->alloc;
	s->b.alloc_size = sizeof *s;
	s->b.log = config->log;
	s->b.format = WH_BLOCK_FORMAT_QCOW2;
	s->b.read_only = config->read_only;
	wh_list_init(&s->b.requests);
	wh_list_init(&s->lru);
	int r = read_header(s, &h, diag);
	if (r >= 0) {
		uint64_t tables = cache >> s->cluster_bits;
		s->table_max = (uint32_t)(tables < QCOW2_TABLES_MIN ? QCOW2_TABLES_MIN : tables);
		s->b.size = wh_align_down(h.size, WH_BLOCK_SECTOR);
		s->b.lock_unit = s->cluster_size;
		r = read_tables(s, &h, diag);
	}
	if (r >= 0)
		r = scan(s, diag);
	if (r < 0) {
		tables_free(s);
		wh_free(config->alloc, s, sizeof *s);
		return r;
	}
	*ret_block = &s->b;
	return 0;
}
