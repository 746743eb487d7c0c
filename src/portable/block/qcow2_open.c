/* SPDX-License-Identifier: ISC */
#include "qcow2_priv.h"

/* ---- refusals that need nothing but the header ---- */

static int check_features(const struct qcow2 *s, const struct qcow2_header *h,
			  const struct wh_block_config *config, struct wh_diag *diag)
{
	if (h->crypt)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "qcow2: the image is encrypted (%s), which is not supported",
				   h->crypt == 1   ? "AES"
				   : h->crypt == 2 ? "LUKS"
						   : "an unknown method");
	if (s->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN)
		return wh_diag_set(
			diag, -WH_EOPNOTSUPP,
			"qcow2: the image needs features this program does not know (0x%llx)",
			(unsigned long long)(s->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN));
	if (s->compression > WH_BLOCK_COMPRESSION_ZSTD)
		return wh_diag_set(diag, -WH_EOPNOTSUPP, "qcow2: compression type %u is unknown",
				   s->compression);
	uint32_t types = !config->codec         ? 1u << WH_BLOCK_COMPRESSION_ZLIB
			 : config->codec->types ? config->codec->types
						: UINT32_MAX;
	if (!(types >> s->compression & 1) && !s->b.alone && !s->b.check_only)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "qcow2: the image is compressed with zstd, which this program "
				   "was built without; unpack it with: wherry disk convert");
	if (s->extended && s->cluster_bits < 14)
		return wh_diag_set(diag, -WH_EINVAL,
				   "qcow2: extended L2 entries with clusters of %u bytes",
				   1u << s->cluster_bits);
	if (s->data_file && h->snapshots)
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: snapshots with a data file");
	if (s->b.read_only || s->b.check_only)
		return 0;
	if (s->incompatible & QCOW2_INCOMPATIBLE_CORRUPT)
		return wh_diag_set(
			diag, -WH_EINVAL,
			"qcow2: the image is marked corrupt; repair it with: wherry disk "
			"check -r all FILE, or open it read-only");
	if (s->incompatible & QCOW2_INCOMPATIBLE_DIRTY && config->flags & WH_BLOCK_OPEN_NO_REPAIR)
		return wh_diag_set(diag, -WH_EINVAL,
				   "qcow2: the image was not closed and its reference counts are "
				   "stale; repair it with: wherry disk check -r all FILE, or open "
				   "it read-only");
	return 0;
}

/* In a header that somebody else made up, too. */
static int check_geometry(struct qcow2 *s, struct qcow2_header *h, bool tolerant,
			  struct wh_diag *diag)
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
	l1_needed = h->size / per_l1 + !!(h->size % per_l1);
	if (l1_bytes > QCOW2_L1_BYTES_MAX || h->l1_size < l1_needed)
		return wh_diag_set(diag, -WH_EINVAL,
				   "qcow2: L1 table with %u entries, %llu needed, %u allowed",
				   h->l1_size, (unsigned long long)l1_needed,
				   QCOW2_L1_BYTES_MAX / 8);
	uint64_t end = s->file_clusters << s->cluster_bits;
	if (h->l1_size && (h->l1_offset & (s->cluster_size - 1) || !h->l1_offset ||
			   !wh_range_inside(h->l1_offset, l1_bytes, end)))
		return wh_diag_set(diag, -WH_EINVAL,
				   "qcow2: L1 table at 0x%llx is not inside the file",
				   (unsigned long long)h->l1_offset);
	uint64_t l1_end = h->l1_offset + wh_align_up(l1_bytes, s->cluster_size);
	const char *bad = 0;
	if (!h->rt_clusters || rt_bytes > QCOW2_RT_BYTES_MAX)
		bad = "has a wrong size";
	else if (h->rt_offset & (s->cluster_size - 1) || !h->rt_offset ||
		 !wh_range_inside(h->rt_offset, rt_bytes, end))
		bad = "is not inside the file";
	else if (h->l1_size && h->l1_offset < h->rt_offset + rt_bytes && h->rt_offset < l1_end)
		bad = "and the L1 table overlap";
	if (!bad)
		return 0;
	if (!tolerant)
		return wh_diag_set(diag, -WH_EINVAL,
				   "qcow2: the refcount table of %u clusters at 0x%llx %s",
				   h->rt_clusters, (unsigned long long)h->rt_offset, bad);
	h->rt_clusters = 1;
	h->rt_offset = 0; /* nothing is read there; it will be made anew */
	s->bad_rt++;
	return 0;
}

static void take_v3(struct qcow2 *s, const uint8_t *b, struct qcow2_header *h)
{
	s->incompatible = wh_load_be64(b + QCOW2_H_INCOMPATIBLE);
	s->compatible = wh_load_be64(b + QCOW2_H_COMPATIBLE);
	s->autoclear = wh_load_be64(b + QCOW2_H_AUTOCLEAR);
	s->refcount_order = wh_load_be32(b + QCOW2_H_REFCOUNT_ORDER);
	h->length = wh_load_be32(b + QCOW2_H_LENGTH);
	if (h->length >= QCOW2_H_FULL_SIZE)
		s->compression = b[QCOW2_H_COMPRESSION];
	s->data_file = s->incompatible & QCOW2_INCOMPATIBLE_DATA_FILE;
	s->data_raw = s->data_file && s->autoclear & QCOW2_AUTOCLEAR_RAW;
	s->extended = s->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2;
}

static void set_geometry(struct qcow2 *s, uint32_t bits)
{
	s->cluster_bits = bits;
	s->cluster_size = 1ull << bits;
	s->entry_size = s->extended ? 16 : 8;
	s->l2_entries = s->cluster_size / s->entry_size;
	s->subs = s->extended ? QCOW2_SUBS : 1;
	s->sub_bits = s->extended ? bits - 5 : bits;
	s->slice_size =
		s->cluster_size < QCOW2_SLICE_MAX ? (uint32_t)s->cluster_size : QCOW2_SLICE_MAX;
}

static int read_header(struct qcow2 *s, struct qcow2_header *h,
		       const struct wh_block_config *config, struct wh_diag *diag)
{
	uint8_t b[QCOW2_H_FULL_SIZE];
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
	*h = (struct qcow2_header){ .backing_offset = wh_load_be64(b + QCOW2_H_BACKING_OFFSET),
				    .backing_size = wh_load_be32(b + QCOW2_H_BACKING_SIZE),
				    .cluster_bits = wh_load_be32(b + QCOW2_H_CLUSTER_BITS),
				    .size = wh_load_be64(b + QCOW2_H_SIZE),
				    .crypt = wh_load_be32(b + QCOW2_H_CRYPT),
				    .l1_size = wh_load_be32(b + QCOW2_H_L1_SIZE),
				    .l1_offset = wh_load_be64(b + QCOW2_H_L1_OFFSET),
				    .rt_offset = wh_load_be64(b + QCOW2_H_RT_OFFSET),
				    .rt_clusters = wh_load_be32(b + QCOW2_H_RT_CLUSTERS),
				    .snapshots = wh_load_be32(b + QCOW2_H_SNAPSHOTS),
				    .snapshots_offset = wh_load_be64(b + QCOW2_H_SNAPSHOTS_OFFSET),
				    .length = QCOW2_H_V2_SIZE };
	if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN || h->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: clusters of 2^%u bytes",
				   h->cluster_bits);
	s->refcount_order = 4;
	if (s->version == 3)
		take_v3(s, b, h);
	set_geometry(s, h->cluster_bits);
	if (s->version == 3 &&
	    (h->length < QCOW2_H_V3_SIZE || h->length % 8 || h->length > s->cluster_size))
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: header length %u", h->length);
	s->header_length = h->length;
	s->file_clusters = qcow2_clusters(s, file_size);
	s->fresh = s->file_clusters;
	s->snapshot_count = h->snapshots;
	s->snapshots_offset = h->snapshots_offset;
	s->tolerant = s->b.check_only || s->incompatible & QCOW2_INCOMPATIBLE_DIRTY;
	r = check_features(s, h, config, diag);
	if (r >= 0)
		r = check_geometry(s, h, s->tolerant, diag);
	return r < 0 ? r : qcow2_read_extensions(s, h, diag);
}

/* ---- tables that stay in memory ---- */

static int table_read(struct qcow2 *s, uint64_t offset, uint64_t *entries, uint32_t count)
{
	int r = block_io_now(&s->b, WH_BLOCK_IO_READ, offset, entries, 8ull * count);
	for (uint32_t i = 0; r >= 0 && i < count; i++)
		entries[i] = wh_load_be64(&entries[i]);
	return r;
}

/* One table's entry: a cluster of metadata of its own. What is wrong is counted and taken for absent where only
 * check and repair follow. */
static int entry_check(struct qcow2 *s, const char *table, uint32_t index, uint64_t *entry,
		       uint64_t flags, uint32_t *bad, struct wh_diag *diag)
{
	uint64_t offset = *entry & QCOW2_OFFSET_MASK, cluster = offset >> s->cluster_bits;
	const char *wrong = 0;
	if (*entry & ~QCOW2_OFFSET_MASK & ~flags || offset & (s->cluster_size - 1) ||
	    (*entry && !offset) || cluster >= s->file_clusters)
		wrong = "is not valid";
	else if (!offset)
		return 0;
	else if (qcow2_is_meta(s, cluster))
		wrong = "refers to other metadata";
	if (wrong && !s->tolerant)
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: %s entry %u (0x%llx) %s", table, index,
				   (unsigned long long)*entry, wrong);
	if (wrong) {
		*entry = 0;
		++*bad;
		return 0;
	}
	int r = qcow2_set_add(s, cluster);
	return r < 0 ? wh_diag_set(diag, r, "no memory for the tables of the image") : 0;
}

static int tables_new(struct qcow2 *s)
{
	const struct wh_alloc *a = s->b.alloc;
	if (s->l1_size) {
		s->l1 = wh_alloc_zero(a, s->l1_size * sizeof *s->l1);
		s->l1_dirty = wh_alloc_zero(a, (s->l1_size + 63) / 64 * sizeof *s->l1_dirty);
	}
	s->rt = wh_alloc_zero(a, s->rt_size * sizeof *s->rt);
	s->rt_dirty = wh_alloc_zero(a, (s->rt_size + 63) / 64 * sizeof *s->rt_dirty);
	s->rb_hint = wh_alloc_zero(a, s->rt_size * sizeof *s->rb_hint);
	return (s->l1_size && (!s->l1 || !s->l1_dirty)) || !s->rt || !s->rt_dirty || !s->rb_hint
		       ? -WH_ENOMEM
		       : 0;
}

static void tables_free(struct qcow2 *s)
{
	const struct wh_alloc *a = s->b.alloc;
	wh_free(a, s->l1, s->l1_size * sizeof *s->l1);
	wh_free(a, s->l1_dirty, (s->l1_size + 63) / 64 * sizeof *s->l1_dirty);
	wh_free(a, s->rt, s->rt_size * sizeof *s->rt);
	wh_free(a, s->rt_dirty, (s->rt_size + 63) / 64 * sizeof *s->rt_dirty);
	wh_free(a, s->rb_hint, s->rt_size * sizeof *s->rb_hint);
	wh_free(a, s->meta.slot, s->meta.size * sizeof *s->meta.slot);
	s->l1 = s->rt = 0;
	s->l1_dirty = s->rt_dirty = 0;
	s->rb_hint = 0;
	s->meta = (struct qcow2_set){ 0 };
}

static int read_tables(struct qcow2 *s, struct wh_diag *diag)
{
	s->refblock_entries = s->cluster_size * 8 >> s->refcount_order;
	s->rt_size = (uint32_t)(((uint64_t)s->rt_clusters << s->cluster_bits) / 8);
	s->free_block = 0;
	if (tables_new(s) < 0)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the tables of the image");
	int r = s->rt_offset ? table_read(s, s->rt_offset, s->rt, s->rt_size) : 0;
	if (r >= 0 && s->l1_size)
		r = table_read(s, s->l1_offset, s->l1, s->l1_size);
	if (r < 0)
		return wh_diag_set(diag, r, "qcow2: the tables cannot be read");
	for (uint32_t i = 0; i < s->rt_size && r >= 0; i++)
		r = entry_check(s, "refcount table", i, &s->rt[i], 0, &s->bad_rt, diag);
	for (uint32_t i = 0; i < s->l1_size && r >= 0; i++)
		r = entry_check(s, "L1", i, &s->l1[i], QCOW2_COPIED, &s->bad_l1, diag);
	return r;
}

int qcow2_reload(struct qcow2 *s)
{
	uint8_t b[QCOW2_H_V2_SIZE];
	int r = block_io_now(&s->b, WH_BLOCK_IO_READ, 0, b, sizeof b);
	if (r < 0) {
		s->corrupt = true; /* what is in memory may be old */
		return r;
	}
	qcow2_caches_drop(s);
	tables_free(s);
	s->l1_any = s->rt_any = s->linked = false;
	s->bad_rt = s->bad_l1 = 0;
	s->l1_offset = wh_load_be64(b + QCOW2_H_L1_OFFSET);
	s->l1_size = wh_load_be32(b + QCOW2_H_L1_SIZE);
	s->rt_offset = wh_load_be64(b + QCOW2_H_RT_OFFSET);
	s->rt_clusters = wh_load_be32(b + QCOW2_H_RT_CLUSTERS);
	s->b.size = wh_align_down(wh_load_be64(b + QCOW2_H_SIZE), WH_BLOCK_SECTOR);
	s->snapshots_offset = wh_load_be64(b + QCOW2_H_SNAPSHOTS_OFFSET);
	s->snapshot_count = wh_load_be32(b + QCOW2_H_SNAPSHOTS);
	r = qcow2_snapshots_read(s, 0);
	if (r >= 0)
		r = read_tables(s, 0);
	if (r < 0)
		s->corrupt = true;
	return r;
}

/* Without a codec compressed clusters are refused here, as far as looking does not take long. */
static int scan(struct qcow2 *s, struct wh_diag *diag)
{
	uint32_t looked = 0;
	for (uint32_t i = 0; i < s->l1_size && looked < QCOW2_SCAN_L2_MAX; i++) {
		if (!s->l1[i])
			continue;
		looked++;
		for (uint64_t at = 0; at < s->cluster_size; at += s->slice_size) {
			struct qcow2_table *t;
			int r = qcow2_table_get(s, (s->l1[i] & QCOW2_OFFSET_MASK) + at, false, 0,
						&t);
			if (r < 0)
				return wh_diag_set(diag, r, "qcow2: L2 table %u cannot be read", i);
			for (uint32_t k = 0; k < s->slice_size; k += s->entry_size)
				if (t->data[k] & QCOW2_COMPRESSED >> 56)
					return wh_diag_set(
						diag, -WH_EOPNOTSUPP,
						"qcow2: the image has compressed clusters, which "
						"this program was built without");
		}
	}
	return 0;
}

/* ---- closing, info ---- */

static void release(struct qcow2 *s)
{
	const struct wh_alloc *a = s->b.alloc;
	qcow2_caches_free(s);
	tables_free(s);
	qcow2_snapshots_free(s);
	qcow2_unpacked_free(s);
	wh_free(a, s->freed, s->freed_room * sizeof *s->freed);
	wh_free(a, s->zeros, s->cluster_size);
	wh_free(a, s->backing_name, WH_BLOCK_NAME_MAX + 1);
	wh_free(a, s->data_name, WH_BLOCK_NAME_MAX + 1);
}

static int qcow2_close(struct wh_block *b)
{
	struct qcow2 *s = qcow2_of(b);
	uint64_t size, end = s->file_clusters << s->cluster_bits;
	int r = 0;
	if (!b->check_only && !b->read_only) {
		/* Packed clusters are read in whole sectors: let the file have them. */
		if (s->was_packed && !b->failed && b->file.ops->size(b->file.ctx, &size) >= 0 &&
		    size < end)
			r = block_io_now(b, WH_BLOCK_IO_RESIZE, end, 0, 0);
		int settled = qcow2_settle(s);
		r = settled < 0 ? settled : r;
	}
	release(s);
	return r;
}

static void qcow2_info(struct wh_block *b, struct wh_block_info *info)
{
	const struct qcow2 *s = qcow2_of(b);
	info->version = s->version;
	info->cluster_size = (uint32_t)s->cluster_size;
	info->subcluster_size = 1u << s->sub_bits;
	info->refcount_bits = 1u << s->refcount_order;
	info->dirty = s->incompatible & QCOW2_INCOMPATIBLE_DIRTY;
	info->corrupt = s->incompatible & QCOW2_INCOMPATIBLE_CORRUPT;
	info->lazy_refcounts = s->compatible & QCOW2_COMPATIBLE_LAZY;
	info->extended_l2 = s->extended;
	info->data_file_raw = s->data_raw;
	info->compression = s->compression;
	info->snapshot_count = s->snapshot_count;
	info->bitmap_count = s->bitmap_count;
	if (s->backing_name)
		info->backing_name = s->backing_name;
	if (s->data_name)
		info->data_file_name = s->data_name;
	info->backing_format = s->backing_format;
	info->incompatible = s->incompatible;
	info->compatible = s->compatible;
	info->autoclear = s->autoclear;
	info->cache_size = (uint64_t)s->table_max * s->slice_size;
	info->cache_used = (uint64_t)s->table_count * s->slice_size;
}

/* ---- opening ---- */

static int open_data_file(struct qcow2 *s, const struct wh_block_config *config,
			  struct wh_diag *diag)
{
	const struct wh_block_resolver *resolver = config->resolver;
	enum wh_block_format format;
	s->b.data = config->file;
	if (!s->data_file)
		return 0;
	if (s->b.alone || s->b.check_only) {
		s->b.no_data = true;
		return 0;
	}
	if (!s->data_name)
		return wh_diag_set(diag, -WH_EINVAL,
				   "qcow2: the image keeps its data in another file and does not "
				   "say in which");
	if (!resolver)
		return wh_diag_set(diag, -WH_EACCES,
				   "the image keeps its data in another file (%s), which is not "
				   "allowed here",
				   s->data_name);
	int r = resolver->open(resolver->ctx, WH_BLOCK_LINK_DATA, &config->file, s->data_name,
			       WH_BLOCK_FORMAT_RAW, s->b.read_only, &s->b.data, &format, diag);
	s->b.data_is_own = r >= 0;
	return r;
}

/* The tables of a snapshot take the place of the active ones. */
static int use_snapshot(struct qcow2 *s, struct qcow2_header *h, const char *which,
			struct wh_diag *diag)
{
	uint32_t i;
	if (qcow2_snapshot_find(s, which, &i) < 0)
		return wh_diag_set(diag, -WH_ENOENT, "there is no snapshot %s in the image", which);
	const struct qcow2_snapshot_head *head = &s->snapshots[i];
	uint64_t per_l1 = s->cluster_size * s->l2_entries;
	h->l1_offset = head->l1_offset;
	h->l1_size = head->l1_size;
	if (head->about.disk_size)
		h->size = head->about.disk_size;
	if (h->size / per_l1 + !!(h->size % per_l1) > h->l1_size)
		return wh_diag_set(diag, -WH_EINVAL, "qcow2: the snapshot's table is too short");
	return 0;
}

static int finish_open(struct qcow2 *s, struct qcow2_header *h,
		       const struct wh_block_config *config, uint32_t depth, struct wh_diag *diag)
{
	uint64_t cache = config->cache_size ? config->cache_size : WH_BLOCK_CACHE_DEFAULT;
	int r = qcow2_snapshots_read(s, diag);
	if (r >= 0 && config->snapshot)
		r = use_snapshot(s, h, config->snapshot, diag);
	if (r < 0)
		return r;
	s->b.size = wh_align_down(h->size, WH_BLOCK_SECTOR);
	s->l1_offset = h->l1_offset;
	s->l1_size = h->l1_size;
	s->rt_offset = h->rt_offset;
	s->rt_clusters = h->rt_clusters;
	if (qcow2_caches_init(s, cache) < 0)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the image");
	r = read_tables(s, diag);
	if (r >= 0 && !config->codec && !s->b.alone && !s->b.check_only)
		r = scan(s, diag);
	if (r >= 0)
		r = open_data_file(s, config, diag);
	s->b.has_backing = s->backing_name && s->backing_name[0];
	if (r >= 0 && s->b.has_backing && !s->b.alone && !s->b.check_only)
		r = block_backing_open(&s->b, config, s->backing_name, s->backing_format, depth,
				       diag);
	if (r >= 0 && s->incompatible & QCOW2_INCOMPATIBLE_DIRTY && !s->b.read_only &&
	    !s->b.check_only)
		r = qcow2_repair_dirty(s, diag);
	return r;
}

int block_qcow2_open(const struct wh_block_config *config, uint32_t depth,
		     struct wh_block **ret_block, struct wh_diag *diag)
{
	static const struct block_format_ops ops = { .next = qcow2_next,
						     .after = qcow2_after,
						     .close = qcow2_close,
						     .info = qcow2_info,
						     .locate = qcow2_locate,
						     .read_packed = qcow2_read_packed,
						     .after_table = qcow2_after_table };
	struct qcow2_header h = { 0 };
	struct qcow2 *s = wh_alloc_zero(config->alloc, sizeof *s);
	if (!s)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the image");
	s->b.ops = &ops;
	s->b.file = config->file;
	s->b.alloc = config->alloc;
	s->b.alloc_size = sizeof *s;
	s->b.log = config->log;
	s->b.resolver = config->resolver;
	s->b.codec = config->codec;
	s->b.format = WH_BLOCK_FORMAT_QCOW2;
	s->b.read_only = config->read_only;
	s->b.alone = config->flags & WH_BLOCK_OPEN_ALONE;
	s->b.check_only = config->flags & WH_BLOCK_OPEN_CHECK;
	wh_list_init(&s->b.requests);
	wh_list_init(&s->b.waiting);
	wh_list_init(&s->b.parked);
	wh_list_init(&s->holding);
	int r = read_header(s, &h, config, diag);
	if (r >= 0)
		r = finish_open(s, &h, config, depth, diag);
	if (r < 0) {
		struct wh_block *below = s->b.backing;
		release(s);
		if (s->b.data_is_own)
			config->resolver->close(config->resolver->ctx, &s->b.data);
		wh_free(config->alloc, s, sizeof *s);
		(void)wh_block_close(below); /* opened for reading: nothing can be lost */
		return r;
	}
	*ret_block = &s->b;
	return 0;
}
