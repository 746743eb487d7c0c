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

static int plan_make(const struct wh_block_qcow2_config *c, struct plan *p, struct wh_diag *diag)
{
	uint32_t cluster = c->cluster_size ? c->cluster_size : 65536;
	uint32_t bits = c->refcount_bits ? c->refcount_bits : 16;
	p->version = c->version ? c->version : 3;
	if (c->lazy_refcounts || c->extended_l2 || c->compression || c->preallocation ||
	    c->backing_name || c->data_file_name)
		return wh_diag_set(diag, -WH_EOPNOTSUPP, "this option is not supported yet");
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
	uint64_t per_l1 = (uint64_t)cluster * (cluster / 8);
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

static void header_fill(const struct plan *p, uint8_t *b)
{
	wh_store_be32(b + QCOW2_H_MAGIC, QCOW2_MAGIC);
	wh_store_be32(b + QCOW2_H_VERSION, p->version);
	wh_store_be32(b + QCOW2_H_CLUSTER_BITS, p->cluster_bits);
	wh_store_be64(b + QCOW2_H_SIZE, p->size);
	wh_store_be32(b + QCOW2_H_L1_SIZE, (uint32_t)p->l1_size);
	wh_store_be64(b + QCOW2_H_L1_OFFSET, (1 + p->rt_clusters + p->blocks) << p->cluster_bits);
	wh_store_be64(b + QCOW2_H_RT_OFFSET, 1ull << p->cluster_bits);
	wh_store_be32(b + QCOW2_H_RT_CLUSTERS, (uint32_t)p->rt_clusters);
	if (p->version == 3) {
		wh_store_be32(b + QCOW2_H_REFCOUNT_ORDER, p->refcount_order);
		wh_store_be32(b + QCOW2_H_LENGTH, QCOW2_H_V3_SIZE);
	}
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
	header_fill(&p, o.cluster);
	if (r >= 0)
		r = put(&o, 0);
	if (r >= 0)
		r = flush(&o);
	wh_free(alloc, o.cluster, size);
	return r < 0 ? wh_diag_set(diag, r, "the image cannot be written") : 0;
}
