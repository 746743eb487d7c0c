/* SPDX-License-Identifier: ISC */
#ifndef QCOW2_PRIV_H
#define QCOW2_PRIV_H

/*
 * qcow2, as in QEMU's docs/interop/qcow2.txt. What is where:
 *
 *	qcow2_open.c      header, tables that stay in memory, refusals
 *	qcow2_create.c    an empty image
 *	qcow2_refcount.c  which clusters of the file are in use; allocation
 *	qcow2_meta.c      cache of L2 tables and refcount blocks; the order of writes
 *	qcow2_io.c        requests
 *
 * "Cluster" with a number is a place in the file; guest clusters are called so.
 */

#include "block_priv.h"

#define QCOW2_MAGIC 0x514649fbu

/* Header fields (big-endian). */
#define QCOW2_H_MAGIC 0u
#define QCOW2_H_VERSION 4u
#define QCOW2_H_BACKING_OFFSET 8u
#define QCOW2_H_BACKING_SIZE 16u
#define QCOW2_H_CLUSTER_BITS 20u
#define QCOW2_H_SIZE 24u
#define QCOW2_H_CRYPT 32u
#define QCOW2_H_L1_SIZE 36u
#define QCOW2_H_L1_OFFSET 40u
#define QCOW2_H_RT_OFFSET 48u
#define QCOW2_H_RT_CLUSTERS 56u
#define QCOW2_H_SNAPSHOTS 60u
#define QCOW2_H_SNAPSHOTS_OFFSET 64u
#define QCOW2_H_V2_SIZE 72u
#define QCOW2_H_INCOMPATIBLE 72u
#define QCOW2_H_COMPATIBLE 80u
#define QCOW2_H_AUTOCLEAR 88u
#define QCOW2_H_REFCOUNT_ORDER 96u
#define QCOW2_H_LENGTH 100u
#define QCOW2_H_V3_SIZE 104u

#define QCOW2_INCOMPATIBLE_DIRTY (1ull << 0)
#define QCOW2_INCOMPATIBLE_CORRUPT (1ull << 1)
#define QCOW2_INCOMPATIBLE_DATA_FILE (1ull << 2)
#define QCOW2_INCOMPATIBLE_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPATIBLE_EXTENDED_L2 (1ull << 4)
#define QCOW2_COMPATIBLE_LAZY (1ull << 0)

/* Table entries. */
#define QCOW2_COPIED (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO (1ull << 0) /* version 3 */
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull

/* Limits: those of QEMU, so that what we make it opens, and the reverse. */
#define QCOW2_CLUSTER_BITS_MIN 9u
#define QCOW2_CLUSTER_BITS_MAX 21u
#define QCOW2_L1_BYTES_MAX (32u << 20)
#define QCOW2_RT_BYTES_MAX (8u << 20)
#define QCOW2_SCAN_L2_MAX 64u   /* L2 tables looked at by open for what we cannot read */
#define QCOW2_TABLES_MIN 8u     /* of the cache, whatever its size */
#define QCOW2_FREED_MAX 512u    /* ranges waiting for a flush before one is made */
#define QCOW2_RUN_CLUSTERS 512u /* guest clusters allocated at once */

struct qcow2_table {
	struct wh_list node; /* in lru, least recently used first */
	uint64_t host;       /* place in the file */
	uint32_t index;      /* in l1 or rt */
	bool refblock, dirty;
	uint8_t data[]; /* one cluster, as on disk */
};

struct qcow2_range {
	uint64_t cluster, count;
};

/* Which clusters hold L2 tables and refcount blocks: open addressing, 0 = empty. */
struct qcow2_set {
	uint64_t *slot;
	uint64_t size, used; /* size is a power of two */
};

struct qcow2 {
	struct wh_block b; /* first: what callers hold */
	uint32_t version, cluster_bits, refcount_order;
	uint64_t cluster_size, l2_entries, refblock_entries;
	uint64_t incompatible, compatible, autoclear;
	bool corrupt, touched, in_sync;
	bool linked; /* data or refcounts must be on disk before the dirty L2 tables */

	uint64_t l1_offset, *l1;
	uint32_t l1_size;
	bool *l1_dirty, l1_any; /* by 512 bytes */
	uint64_t rt_offset, *rt;
	uint32_t rt_size, rt_clusters; /* entries, clusters */
	bool *rt_dirty, rt_any;

	struct qcow2_table **l2, **refblock; /* cached ones by index */
	struct wh_list lru;
	uint32_t table_count, table_max;
	struct qcow2_set meta;

	uint64_t file_clusters; /* clusters that exist or were given out */
	uint64_t fresh;         /* clusters from here on never held anything: they read as zeroes */
	uint64_t free_hint;     /* no free cluster below */

	/* Clusters that no table refers to any more; to be freed when that is on disk. */
	struct qcow2_range freed[QCOW2_FREED_MAX];
	uint32_t freed_count;
	uint64_t freed_done; /* ranges released since open; freed[0] has this number */
};

static inline struct qcow2 *qcow2_of(struct wh_block *b)
{
	return WH_CONTAINER_OF(b, struct qcow2, b);
}

/* ---- qcow2_meta.c ---- */

/* A table in the cache, read if need be; *ret_table stays valid until the next _get or _new. */
int qcow2_l2_get(struct qcow2 *s, uint32_t index, struct qcow2_table **ret_table);
int qcow2_refblock_get(struct qcow2 *s, uint32_t index, struct qcow2_table **ret_table);
/* A zeroed, dirty one at a place that has been allocated for it; sets l1[index] or rt[index]. */
int qcow2_table_new(struct qcow2 *s, bool refblock, uint32_t index, uint64_t host,
		    struct qcow2_table **ret_table);
void qcow2_table_drop(struct qcow2 *s, struct qcow2_table *t);
int qcow2_table_write(struct qcow2 *s, struct qcow2_table *t);
/* Writes what is dirty in the order that a crash may interrupt anywhere. Not yet flushed at the end. */
int qcow2_write_back(struct qcow2 *s);
/* Writes back and flushes until nothing is dirty. */
int qcow2_settle(struct qcow2 *s);
/* No table refers to these any more. */
int qcow2_free_later(struct qcow2 *s, uint64_t cluster, uint64_t count);
/* Everything up to this number was dropped durably: free it. */
int qcow2_free_now(struct qcow2 *s, uint64_t number);
void qcow2_caches_free(struct qcow2 *s);

bool qcow2_set_has(const struct qcow2_set *set, uint64_t v);
int qcow2_set_add(struct qcow2 *s, uint64_t v); /* -WH_EEXIST, -WH_ENOMEM */
void qcow2_set_remove(struct qcow2_set *set, uint64_t v);

/* Header, L1 or refcount tables, refcount blocks, L2 tables? */
bool qcow2_is_meta(const struct qcow2 *s, uint64_t cluster);
/* Says so in the header (version 3) and refuses writes from now on. Returns -WH_EIO. */
int qcow2_corrupted(struct qcow2 *s, const char *what, uint64_t where);
int qcow2_header_store64(struct qcow2 *s, uint32_t at, uint64_t value);

/* ---- qcow2_refcount.c ---- */

int qcow2_refcount(struct qcow2 *s, uint64_t cluster, uint64_t *ret_count);
/* The block for it exists. */
int qcow2_refcount_set(struct qcow2 *s, uint64_t cluster, uint64_t count);
uint64_t qcow2_refcount_load(const uint8_t *block, uint32_t order, uint64_t index);
void qcow2_refcount_store(uint8_t *block, uint32_t order, uint64_t index, uint64_t count);
/* Gives 1..count consecutive clusters, their refcounts set to 1. -WH_ENOSPC, -errno. */
int qcow2_alloc(struct qcow2 *s, uint64_t count, uint64_t *ret_cluster, uint64_t *ret_count);
/* Takes back what no table ever referred to. */
void qcow2_unalloc(struct qcow2 *s, uint64_t cluster, uint64_t count);

/* ---- qcow2_io.c ---- */

int qcow2_next(struct wh_block *b, struct wh_block_request *q);
int qcow2_after(struct wh_block *b, struct wh_block_request *q, int result);

#endif
