/* SPDX-License-Identifier: ISC */
#include "qcow2_priv.h"

/*
 * The layout of an empty image:
 *
 *	cluster 0           header
 *	1 .. T              refcount table, long enough for a full disk
 *	T+1 .. T+B          refcount blocks for what is here
 *	T+B+1 .. T+B+L      L1 table
 */
struct plan {
	uint32_t cluster_bits, refcount_order, version;
	uint64_t size, l1_size;
	uint64_t rt_clusters, blocks, l1_clusters, used;
};

static int check_options(const struct wh_block_qcow2_config *c, const struct plan *p,
			 struct wh_diag *diag)
{
	bool old = p->version == 2;
	if (old && (c->lazy_refcounts || c->extended_l2 || c->compression || c->data_file_name))
		return wh_diag_set(diag, -WH_EINVAL,
				   "version 2 has no lazy refcounts, extended L2 entries, zstd or "
				   "data file");
	if (c->compression > WH_BLOCK_COMPRESSION_ZSTD)
		return wh_diag_set(diag, -WH_EINVAL, "compression type %u", c->compression);
	if (c->extended_l2 && p->cluster_bits < 14)
		return wh_diag_set(diag, -WH_EINVAL,
				   "extended L2 entries need clusters of 16384 bytes or more");
	if (c->backing_name && c->backing_format == WH_BLOCK_FORMAT_NONE)
		return wh_diag_set(diag, -WH_EINVAL, "the format of the backing file is not said");
	if (c->backing_name && c->preallocation)
		return wh_diag_set(diag, -WH_EINVAL,
				   "preallocation would hide all of the backing file");
	if (c->data_file_raw && (!c->data_file_name || c->backing_name))
		return wh_diag_set(diag, -WH_EINVAL,
				   "a raw data file is a data file, and without a backing file");
	if (c->data_file_name && c->preallocation && !c->data_file)
		return wh_diag_set(diag, -WH_EINVAL, "the data file was not opened");
	if ((c->backing_name && wh_strlen(c->backing_name) > WH_BLOCK_NAME_MAX) ||
	    (c->data_file_name && wh_strlen(c->data_file_name) > WH_BLOCK_NAME_MAX))
		return wh_diag_set(diag, -WH_ENAMETOOLONG, "a name has more than %u bytes",
				   WH_BLOCK_NAME_MAX);
	return 0;
}

static int plan_make(const struct wh_block_qcow2_config *c, struct plan *p, struct wh_diag *diag)
{
	uint32_t cluster = c->cluster_size ? c->cluster_size : 65536;
	uint32_t bits = c->refcount_bits ? c->refcount_bits : 16;
	p->version = c->version ? c->version : 3;
	if (!wh_is_power_of_two(cluster) || cluster < 512 || cluster > 2u << 20)
		return wh_diag_set(diag, -WH_EINVAL,
				   "cluster size %u is not a power of two from 512 to 2097152",
				   cluster);
	if (!wh_is_power_of_two(bits) || bits > 64 || (p->version == 2 && bits != 16))
		return wh_diag_set(diag, -WH_EINVAL, "refcounts of %u bits", bits);
	if (p->version != 2 && p->version != 3)
		return wh_diag_set(diag, -WH_EINVAL, "version %u", p->version);
	if (c->disk_size > WH_BLOCK_SIZE_MAX - WH_BLOCK_SECTOR)
		return wh_diag_set(diag, -WH_EFBIG, "the disk is too large");
	p->cluster_bits = (uint32_t)__builtin_ctz(cluster);
	p->refcount_order = (uint32_t)__builtin_ctz(bits);
	p->size = wh_align_up(c->disk_size, WH_BLOCK_SECTOR);
	int r = check_options(c, p, diag);
	if (r < 0)
		return r;
	uint64_t per_l1 = (uint64_t)cluster * (cluster / (c->extended_l2 ? 16 : 8));
	p->l1_size = p->size / per_l1 + !!(p->size % per_l1);
	if (p->l1_size * 8 > QCOW2_L1_BYTES_MAX)
		return wh_diag_set(
			diag, -WH_EFBIG,
			"the disk is too large for clusters of %u bytes: use larger ones", cluster);
	if (!p->l1_size)
		p->l1_size = 1;
	p->l1_clusters = wh_align_up(p->l1_size * 8, cluster) >> p->cluster_bits;
	/* Enough table for the disk, its L2 tables and the refcounts themselves, up to the limit; an
	 * image that needs more grows it. */
	uint64_t per_block = ((uint64_t)cluster * 8) >> p->refcount_order;
	uint64_t clusters = (p->size >> p->cluster_bits) + p->l1_size + p->l1_clusters + 16;
	uint64_t entries = clusters / per_block + 1;
	entries += (entries + entries * 8 / cluster) / per_block + 1;
	if (entries * 8 > QCOW2_RT_BYTES_MAX)
		entries = QCOW2_RT_BYTES_MAX / 8;
	p->rt_clusters = wh_align_up(entries * 8, cluster) >> p->cluster_bits;
	p->blocks = 1;
	for (;;) {
		p->used = 1 + p->rt_clusters + p->blocks + p->l1_clusters;
		uint64_t need = (p->used + per_block - 1) / per_block;
		if (need <= p->blocks)
			return 0;
		p->blocks = need;
	}
}

static void v3_fields(const struct plan *p, const struct wh_block_qcow2_config *c, uint8_t *b)
{
	uint64_t incompatible = 0;
	if (c->data_file_name)
		incompatible |= QCOW2_INCOMPATIBLE_DATA_FILE;
	if (c->compression)
		incompatible |= QCOW2_INCOMPATIBLE_COMPRESSION;
	if (c->extended_l2)
		incompatible |= QCOW2_INCOMPATIBLE_EXTENDED_L2;
	wh_store_be64(b + QCOW2_H_INCOMPATIBLE, incompatible);
	wh_store_be64(b + QCOW2_H_COMPATIBLE, c->lazy_refcounts ? QCOW2_COMPATIBLE_LAZY : 0);
	wh_store_be64(b + QCOW2_H_AUTOCLEAR, c->data_file_raw ? QCOW2_AUTOCLEAR_RAW : 0);
	wh_store_be32(b + QCOW2_H_REFCOUNT_ORDER, p->refcount_order);
	wh_store_be32(b + QCOW2_H_LENGTH, c->compression ? QCOW2_H_FULL_SIZE : QCOW2_H_V3_SIZE);
	if (c->compression)
		b[QCOW2_H_COMPRESSION] = (uint8_t)c->compression;
}

static int header_fill(const struct plan *p, const struct wh_block_qcow2_config *c, uint8_t *b)
{
	uint32_t size = 1u << p->cluster_bits, at = QCOW2_H_V2_SIZE;
	wh_store_be32(b + QCOW2_H_MAGIC, QCOW2_MAGIC);
	wh_store_be32(b + QCOW2_H_VERSION, p->version);
	wh_store_be32(b + QCOW2_H_CLUSTER_BITS, p->cluster_bits);
	wh_store_be64(b + QCOW2_H_SIZE, p->size);
	wh_store_be32(b + QCOW2_H_L1_SIZE, (uint32_t)p->l1_size);
	wh_store_be64(b + QCOW2_H_L1_OFFSET, (1 + p->rt_clusters + p->blocks) << p->cluster_bits);
	wh_store_be64(b + QCOW2_H_RT_OFFSET, 1ull << p->cluster_bits);
	wh_store_be32(b + QCOW2_H_RT_CLUSTERS, (uint32_t)p->rt_clusters);
	if (p->version == 3) {
		v3_fields(p, c, b);
		at = wh_load_be32(b + QCOW2_H_LENGTH);
	}
	if (c->backing_name) {
		const char *format = wh_block_format_name(c->backing_format);
		at = qcow2_put_extension(b, at, size, QCOW2_EXT_BACKING_FORMAT, format,
					 (uint32_t)wh_strlen(format));
	}
	if (at && c->data_file_name)
		at = qcow2_put_extension(b, at, size, QCOW2_EXT_DATA_FILE, c->data_file_name,
					 (uint32_t)wh_strlen(c->data_file_name));
	if (at)
		at = qcow2_put_extension(b, at, size, 0, 0, 0);
	if (!at)
		return -WH_ENAMETOOLONG;
	if (c->backing_name) {
		uint32_t n = (uint32_t)wh_strlen(c->backing_name);
		if (at + n > size)
			return -WH_ENAMETOOLONG;
		memcpy(b + at, c->backing_name, n);
		wh_store_be64(b + QCOW2_H_BACKING_OFFSET, at);
		wh_store_be32(b + QCOW2_H_BACKING_SIZE, n);
	}
	return 0;
}

struct out {
	const struct wh_block_file *file;
	uint8_t *cluster;
	uint32_t bits;
};

static int put(const struct out *o, uint64_t cluster)
{
	struct wh_iov v = { o->cluster, 1ull << o->bits };
	struct wh_block_io io = { .kind = WH_BLOCK_IO_WRITE,
				  .flags = WH_BLOCK_IO_NOW,
				  .offset = cluster << o->bits,
				  .size = v.size,
				  .iov = &v,
				  .iov_count = 1 };
	return o->file->ops->submit(o->file->ctx, &io);
}

static int flush(const struct out *o)
{
	struct wh_block_io io = { .kind = WH_BLOCK_IO_FLUSH, .flags = WH_BLOCK_IO_NOW };
	return o->file->ops->submit(o->file->ctx, &io);
}

/* Everything but the header. */
static int put_tables(const struct out *o, const struct plan *p)
{
	uint64_t size = 1ull << o->bits, per_block = size * 8 >> p->refcount_order;
	int r = 0;
	for (uint64_t i = 0; i < p->rt_clusters && r >= 0; i++) {
		memset(o->cluster, 0, size);
		for (uint64_t k = 0; k < size / 8 && i * size / 8 + k < p->blocks; k++)
			wh_store_be64(o->cluster + 8 * k, (1 + p->rt_clusters + i * size / 8 + k)
								  << o->bits);
		r = put(o, 1 + i);
	}
	for (uint64_t i = 0; i < p->blocks && r >= 0; i++) {
		memset(o->cluster, 0, size);
		for (uint64_t k = 0; k < per_block && i * per_block + k < p->used; k++)
			qcow2_refcount_store(o->cluster, p->refcount_order, k, 1);
		r = put(o, 1 + p->rt_clusters + i);
	}
	memset(o->cluster, 0, size);
	for (uint64_t i = 0; i < p->l1_clusters && r >= 0; i++)
		r = put(o, 1 + p->rt_clusters + p->blocks + i);
	return r;
}

/* ---- preallocation ---- */

struct data_link {
	const struct wh_block_file *file;
};

static int link_open(void *ctx, enum wh_block_link what, const struct wh_block_file *parent,
		     const char *name, enum wh_block_format format, bool read_only,
		     struct wh_block_file *ret_file, enum wh_block_format *ret_format,
		     struct wh_diag *diag)
{
	const struct data_link *l = ctx;
	if (what != WH_BLOCK_LINK_DATA || !l->file)
		return wh_diag_set(diag, -WH_EACCES, "%s is not opened now", name);
	*ret_file = *l->file;
	*ret_format = WH_BLOCK_FORMAT_RAW;
	return 0;
}

static void link_close(void *ctx, struct wh_block_file *file)
{
}

/* Places for all clusters, in order. */
static int allocate_all(struct qcow2 *s)
{
	uint64_t at = 0, slice_clusters = s->slice_size / s->entry_size;
	int r = 0;
	while (at < s->b.size && r >= 0) {
		struct qcow2_table *t;
		uint32_t i;
		uint64_t left = qcow2_clusters(s, s->b.size - at), cluster = 0, count;
		uint64_t in_slice = (at >> s->cluster_bits) % slice_clusters;
		count = left < slice_clusters - in_slice ? left : slice_clusters - in_slice;
		r = qcow2_may_change(s, true);
		if (r >= 0)
			r = qcow2_l2_for_write(s, at, 0);
		if (r >= 0 && !s->data_file) {
			r = qcow2_alloc(s, count, &cluster, &count);
			if (r >= 0)
				qcow2_used(s, cluster, count);
		}
		if (r >= 0)
			r = qcow2_slice(s, at, 0, &t, &i);
		for (uint64_t k = 0; k < count && r >= 0; k++, at += s->cluster_size) {
			uint64_t host = s->data_file ? at : (cluster + k) << s->cluster_bits;
			/* Subclusters stay absent, as QEMU has it: they have a place and no data. */
			qcow2_entry_set(s, t, i + (uint32_t)k, host | QCOW2_COPIED, 0);
		}
		s->linked = true;
	}
	return r;
}

/* Zeroes or just space for [at, end) of the data. */
static int fill_range(struct qcow2 *s, enum wh_block_preallocation how, uint8_t *zeros,
		      uint64_t zeros_size, uint64_t at, uint64_t end)
{
	int r = 0;
	if (how == WH_BLOCK_PREALLOCATION_FALLOC)
		return block_file_now(&s->b, &s->b.data, WH_BLOCK_IO_ZERO, 0, at, 0, end - at);
	for (; at < end && r >= 0; at += zeros_size)
		r = block_file_now(&s->b, &s->b.data, WH_BLOCK_IO_WRITE, 0, at, zeros,
				   end - at < zeros_size ? end - at : zeros_size);
	return r;
}

/* The space behind the places, around the tables that lie between. */
static int fill_space(struct qcow2 *s, enum wh_block_preallocation how, uint64_t first)
{
	uint64_t end = s->data_file ? s->b.size : s->file_clusters << s->cluster_bits;
	uint64_t zeros_size = 1u << 20, last = s->file_clusters;
	int r = block_file_now(&s->b, &s->b.data, WH_BLOCK_IO_RESIZE, 0, end, 0, 0);
	if (how == WH_BLOCK_PREALLOCATION_METADATA || r < 0)
		return r;
	uint8_t *zeros = wh_alloc_zero(s->b.alloc, zeros_size);
	if (!zeros)
		return -WH_ENOMEM;
	if (s->data_file)
		r = fill_range(s, how, zeros, zeros_size, 0, end);
	for (uint64_t c = first, n; !s->data_file && c < last && r >= 0; c += n + 1) {
		for (n = 0; c + n < last && !qcow2_is_meta(s, c + n); n++)
			;
		if (n)
			r = fill_range(s, how, zeros, zeros_size, c << s->cluster_bits,
				       (c + n) << s->cluster_bits);
	}
	wh_free(s->b.alloc, zeros, zeros_size);
	return r;
}

static int preallocate(const struct wh_block_file *file, const struct wh_block_qcow2_config *c,
		       uint64_t used, const struct wh_alloc *alloc, struct wh_diag *diag)
{
	struct data_link link = { c->data_file };
	struct wh_block_resolver resolver = { .open = link_open,
					      .close = link_close,
					      .ctx = &link };
	struct wh_block_config config = { .size = sizeof config,
					  .file = *file,
					  .format = WH_BLOCK_FORMAT_QCOW2,
					  .alloc = alloc,
					  .resolver = &resolver };
	struct wh_block_codec none = { 0 };
	struct wh_block *b;
	enum wh_block_preallocation how = c->preallocation;
	config.codec = &none; /* there is nothing to unpack */
	if (c->data_file_raw && !how)
		how = WH_BLOCK_PREALLOCATION_METADATA; /* the data file is all there is */
	if (!how)
		return 0;
	if (c->data_file_name && !c->data_file)
		return wh_diag_set(diag, -WH_EINVAL, "the data file was not opened");
	int r = wh_block_open(&config, &b, diag);
	if (r < 0)
		return r;
	struct qcow2 *s = qcow2_of(b);
	r = allocate_all(s);
	if (r >= 0)
		r = fill_space(s, how, used);
	int closed = wh_block_close(b);
	r = r < 0 ? r : closed;
	return r < 0 ? wh_diag_set(diag, r, "the space cannot be allocated") : 0;
}

int wh_block_qcow2_create(const struct wh_block_file *file,
			  const struct wh_block_qcow2_config *config, const struct wh_alloc *alloc,
			  struct wh_diag *diag)
{
	struct plan p = { 0 };
	wh_assert(config->size == sizeof *config);
	int r = plan_make(config, &p, diag);
	if (r < 0)
		return r;
	size_t size = (size_t)1 << p.cluster_bits;
	struct out o = { file, wh_alloc_zero(alloc, size), p.cluster_bits };
	if (!o.cluster)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the image");
	/* The header comes last: half an image is not taken for one. */
	r = put_tables(&o, &p);
	if (r >= 0)
		r = flush(&o);
	memset(o.cluster, 0, size);
	int fits = header_fill(&p, config, o.cluster);
	if (r >= 0 && fits < 0)
		r = fits;
	if (r >= 0)
		r = put(&o, 0);
	if (r >= 0)
		r = flush(&o);
	wh_free(alloc, o.cluster, size);
	if (r < 0)
		return wh_diag_set(
			diag, r,
			r == -WH_ENAMETOOLONG
				? "the names do not fit into the header: use larger clusters"
				: "the image cannot be written");
	return preallocate(file, config, p.used, alloc, diag);
}

int wh_block_qcow2_measure(const struct wh_block_qcow2_config *config, uint64_t allocated,
			   uint64_t *ret_required, uint64_t *ret_full, struct wh_diag *diag)
{
	struct plan p = { 0 };
	int r = plan_make(config, &p, diag);
	if (r < 0)
		return r;
	/* As qemu-img measure counts, so that the numbers can be compared. */
	uint64_t cluster = 1ull << p.cluster_bits, entry = config->extended_l2 ? 16 : 8;
	uint64_t total = wh_align_up(p.size, cluster);
	uint64_t l2 = wh_align_up(total / cluster, cluster / entry) * entry;
	uint64_t l1 = wh_align_up(l2 / cluster, cluster / 8) * 8;
	uint64_t clusters = (cluster + l2 + l1 + total) / cluster, blocks = 0, table = 0, last,
		 n = 0;
	uint64_t per_block = cluster * 8 >> p.refcount_order;
	do {
		last = n;
		blocks = (clusters + table + blocks + per_block - 1) / per_block;
		table = (blocks + cluster / 8 - 1) / (cluster / 8);
		n = clusters + blocks + table;
	} while (n != last);
	uint64_t meta = cluster + l2 + l1 + (blocks + table) * cluster;
	uint64_t data = wh_align_up(allocated < p.size ? allocated : p.size, cluster);
	if (config->data_file_name)
		total = data = 0;
	*ret_full = meta + total;
	*ret_required = meta + (config->preallocation ? total : data);
	return 0;
}
