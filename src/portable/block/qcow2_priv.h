/* SPDX-License-Identifier: ISC */
#ifndef QCOW2_PRIV_H
#define QCOW2_PRIV_H

/*
 * qcow2, as in QEMU's docs/interop/qcow2.txt. What is where:
 *
 *	qcow2_open.c      header, tables that stay in memory, refusals
 *	qcow2_header.c    header extensions; writing the header
 *	qcow2_create.c    an empty image
 *	qcow2_table.c     cache of L2 tables and refcount blocks, in slices
 *	qcow2_sync.c      the order of writes; clusters that are on their way out
 *	qcow2_refcount.c  which clusters of the file are in use; allocation
 *	qcow2_map.c       L2 entries: where is what; changing it
 *	qcow2_io.c        requests
 *	qcow2_packed.c    compressed clusters
 *	qcow2_snapshot.c  internal snapshots
 *	qcow2_resize.c    resize, other changes of the header
 *	qcow2_check.c     check; qcow2_repair.c repair; qcow2_compact.c compaction
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
#define QCOW2_H_COMPRESSION 104u
#define QCOW2_H_FULL_SIZE 112u

#define QCOW2_INCOMPATIBLE_DIRTY (1ull << 0)
#define QCOW2_INCOMPATIBLE_CORRUPT (1ull << 1)
#define QCOW2_INCOMPATIBLE_DATA_FILE (1ull << 2)
#define QCOW2_INCOMPATIBLE_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPATIBLE_EXTENDED_L2 (1ull << 4)
#define QCOW2_INCOMPATIBLE_KNOWN 0x1full
#define QCOW2_COMPATIBLE_LAZY (1ull << 0)
#define QCOW2_AUTOCLEAR_BITMAPS (1ull << 0)
#define QCOW2_AUTOCLEAR_RAW (1ull << 1)
#define QCOW2_AUTOCLEAR_KNOWN 3ull

/* Header extensions. */
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURES 0x6803f857u
#define QCOW2_EXT_BITMAPS 0x23852875u
#define QCOW2_EXT_LUKS 0x0537be77u
#define QCOW2_EXT_DATA_FILE 0x44415441u

/* Table entries. */
#define QCOW2_COPIED (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO (1ull << 0) /* version 3 */
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull
#define QCOW2_SUBS 32u

/* Limits: those of QEMU, so that what we make it opens, and the reverse. */
#define QCOW2_CLUSTER_BITS_MIN 9u
#define QCOW2_CLUSTER_BITS_MAX 21u
#define QCOW2_L1_BYTES_MAX (32u << 20)
#define QCOW2_RT_BYTES_MAX (8u << 20)
#define QCOW2_SCAN_L2_MAX 64u   /* L2 tables looked at by open for what cannot be unpacked */
#define QCOW2_SLICE_MAX 4096u   /* bytes of a table that are cached together */
#define QCOW2_TABLES_MIN 64u    /* slices of the cache, whatever its size */
#define QCOW2_FREED_MAX 4096u   /* ranges waiting for a flush before one is made */
#define QCOW2_RUN_CLUSTERS 512u /* guest clusters allocated at once */
#define QCOW2_SYNC_OPS_MAX 64u  /* tables being written at the same time */
#define QCOW2_UNPACKED_BYTES (1u << 20)      /* unpacked clusters that are kept; at least two */
#define QCOW2_SNAPSHOT_BYTES_MAX (64u << 20) /* of the snapshot table */
#define QCOW2_BITMAP_BYTES_MAX (64u << 20)   /* of the bitmap directory */

struct qcow2_table {
	struct qcow2_table *chain; /* same bucket */
	struct wh_list dirty_node; /* in s->dirty[refblock] */
	struct qcow2 *s;
	uint64_t host; /* place in the file */
	bool refblock, dirty, used;
	bool loading; /* what it holds is on its way */
	bool writing; /* it goes to the file as it is: may be looked at, stays */
	bool again;   /* and was changed meanwhile (counts that go back) */
	bool orphan;  /* loading, and the cache has another one of this place by now */
	struct wh_block_io io;
	struct wh_iov iov;
	uint8_t data[]; /* one slice, as on disk */
};

struct qcow2_range {
	uint64_t cluster, count;
	uint64_t number; /* requests before this one may still use it */
	bool durable;    /* on disk, nothing refers to it */
	bool data;       /* of the data file */
};

/* Which clusters hold L2 tables and refcount blocks: open addressing, 0 = empty. */
struct qcow2_set {
	uint64_t *slot;
	uint64_t size, used; /* size is a power of two */
};

struct qcow2_unpacked {
	uint64_t entry, used; /* 0 = empty */
	uint8_t *data;
};

/* Each flush that some order depends on has a name: README.md says why it is there, and
 * test_barriers.c leaves it out. */
enum qcow2_barrier {
	QCOW2_BARRIER_LINKED = 1,
	QCOW2_BARRIER_RT,
	QCOW2_BARRIER_FINAL,
	QCOW2_BARRIER_COMPACT_COPY,
	QCOW2_BARRIER_COMPACT_RT,
	QCOW2_BARRIER_CUT,
	QCOW2_BARRIER_DIRTY,
	QCOW2_BARRIER_BITMAPS,
	QCOW2_BARRIER_AUTOCLEAR,
	QCOW2_BARRIER_GROWTH,
	QCOW2_BARRIER_REBUILD,
	QCOW2_BARRIER_CLEAN,
	QCOW2_BARRIER_REPAIR,
	QCOW2_BARRIER_SIZE,
	QCOW2_BARRIER_HEADER_TAIL,
	QCOW2_BARRIER_HEADER,
	QCOW2_BARRIER_CORRUPT,
	QCOW2_BARRIER_COUNT
};

struct qcow2_sync {
	bool running, now, flush, begun;
	unsigned phase;
	uint32_t outstanding;
	int error;
	struct wh_block_io io[2];
	uint64_t started, done; /* with flush */
	int result;
};

struct qcow2_snapshot_head;

struct qcow2 {
	struct wh_block b; /* first: what callers hold */
	uint32_t version, cluster_bits, refcount_order;
	uint32_t sub_bits, subs; /* of a subcluster: the cluster's and 1 without extended L2 */
	uint32_t entry_size, slice_size;
	uint64_t cluster_size, l2_entries, refblock_entries;
	uint64_t incompatible, compatible, autoclear;
	enum wh_block_compression compression;
	bool data_file, data_raw, extended;
	bool corrupt, touched;
	bool linked;  /* data or refcounts must be on disk before the dirty L2 tables */
	bool no_sync; /* tables are half made: nothing may be written back */
	bool was_packed;
	bool tolerant; /* wrong table entries are counted here and taken for absent */
	uint32_t bad_rt, bad_l1;

	uint32_t header_length;
	char *backing_name, *data_name; /* NUL-terminated; NULL = none */
	enum wh_block_format backing_format;
	uint64_t snapshots_offset, snapshots_bytes;
	uint32_t snapshot_count, snapshots_room;
	struct qcow2_snapshot_head *snapshots;
	uint32_t bitmap_count;
	uint64_t bitmap_dir, bitmap_dir_size;

	uint64_t l1_offset, *l1;
	uint32_t l1_size;
	bool *l1_dirty, l1_any; /* by 512 bytes */
	uint64_t rt_offset, *rt;
	uint32_t rt_size, rt_clusters; /* entries, clusters */
	bool *rt_dirty, rt_any;
	uint32_t *rb_hint;   /* by refcount block: no free cluster below */
	uint32_t free_block; /* no free cluster in blocks below */

	struct qcow2_table **bucket, **tables; /* by host; all, for the clock */
	uint32_t bucket_count, table_count, table_max, hand, dirty_count;
	struct wh_list dirty[2]; /* L2 tables, refcount blocks */
	struct qcow2_set meta;
	struct qcow2_sync sync;

	uint64_t file_clusters; /* clusters that exist or were given out */
	uint64_t fresh;         /* clusters from here on never held anything: they read as zeroes */

	/* Clusters that no table refers to any more; to be freed when that is on disk. */
	struct qcow2_range *freed;
	uint32_t freed_count, freed_room;
	struct wh_list holding; /* requests that are changing the place of clusters */
	uint8_t *zeros;         /* a cluster of them, when needed */

	uint64_t packed_at; /* next byte for packed clusters, 0 = none begun */
	struct qcow2_unpacked *unpacked;
	uint32_t unpacked_count;
	uint64_t unpacked_time;
};

static inline struct qcow2 *qcow2_of(struct wh_block *b)
{
	return WH_CONTAINER_OF(b, struct qcow2, b);
}

static inline uint64_t qcow2_clusters(const struct qcow2 *s, uint64_t bytes)
{
	return (bytes >> s->cluster_bits) + !!(bytes & (s->cluster_size - 1));
}

/* ---- qcow2_table.c ---- */

/* The slice at `host` of an L2 table or refcount block; *ret_table stays valid until the next call. With q: 0,
 * BLOCK_SUBMIT or BLOCK_PARK; without it is read at once. */
int qcow2_table_get(struct qcow2 *s, uint64_t host, bool refblock, struct wh_block_request *q,
		    struct qcow2_table **ret_table);
/* The same, when it is known to be all zeroes on disk. */
int qcow2_table_blank(struct qcow2 *s, uint64_t host, bool refblock,
		      struct qcow2_table **ret_table);
int qcow2_after_table(struct wh_block *b, struct wh_block_request *q, int result);
void qcow2_table_dirty(struct qcow2_table *t);
void qcow2_table_clean(struct qcow2_table *t);
/* The cluster is no table any more. */
void qcow2_table_forget(struct qcow2 *s, uint64_t cluster);
int qcow2_caches_init(struct qcow2 *s, uint64_t bytes);
/* Forgets all; none is dirty unless the image is being closed. */
void qcow2_caches_drop(struct qcow2 *s);
void qcow2_caches_free(struct qcow2 *s);

bool qcow2_set_has(const struct qcow2_set *set, uint64_t v);
int qcow2_set_add(struct qcow2 *s, uint64_t v); /* -WH_EEXIST, -WH_ENOMEM */
void qcow2_set_remove(struct qcow2_set *set, uint64_t v);

/* Header, L1 or refcount tables, refcount blocks, L2 tables? */
bool qcow2_is_meta(const struct qcow2 *s, uint64_t cluster);
/* Says so in the header (version 3) and refuses writes from now on. Returns -WH_EIO. */
int qcow2_corrupted(struct qcow2 *s, const char *what, uint64_t where);

/* ---- qcow2_sync.c ---- */

/* Before metadata changes: 0, or BLOCK_PARK while it is being written. */
int qcow2_may_change(struct qcow2 *s, bool now);
/* A flush request's turn. */
int qcow2_next_flush(struct qcow2 *s, struct wh_block_request *q);
/* Writes what is dirty in the order that a crash may interrupt anywhere; at once. */
int qcow2_write_back(struct qcow2 *s);
/* Writes back and flushes until nothing is dirty and nothing waits to be freed; at once. */
int qcow2_settle(struct qcow2 *s);
int qcow2_barrier(struct qcow2 *s, enum qcow2_barrier why);
/* No table refers to these any more. */
void qcow2_free_later(struct qcow2 *s, uint64_t cluster, uint64_t count);
/* The same for clusters of the data file, which have no counts: their space is given back, unless somebody takes them before. */
void qcow2_data_free_later(struct qcow2 *s, uint64_t cluster, uint64_t count);
void qcow2_data_taken(struct qcow2 *s, uint64_t cluster, uint64_t count);
/* Changed sectors of a table that is kept in host order. */
int qcow2_write_sectors(struct qcow2 *s, uint64_t offset, const uint64_t *entries, uint32_t count,
			bool *dirty, bool *any);

/* ---- qcow2_refcount.c ---- */

int qcow2_refcount(struct qcow2 *s, uint64_t cluster, uint64_t *ret_count);
/* The block for them exists. */
int qcow2_refcount_set(struct qcow2 *s, uint64_t cluster, uint64_t count);
uint64_t qcow2_refcount_load(const uint8_t *block, uint32_t order, uint64_t index);
void qcow2_refcount_store(uint8_t *block, uint32_t order, uint64_t index, uint64_t count);
uint64_t qcow2_refcount_max(const struct qcow2 *s);
/* Before an allocation for a request: reads the counts that it begins with. 0, BLOCK_SUBMIT (then again) or BLOCK_PARK. */
int qcow2_alloc_ready(struct qcow2 *s, struct wh_block_request *q);
/* Gives 1..count consecutive clusters, their refcounts set to 1. -WH_ENOSPC, -errno. */
int qcow2_alloc(struct qcow2 *s, uint64_t count, uint64_t *ret_cluster, uint64_t *ret_count);
/* Exactly `count` in a row. */
int qcow2_alloc_row(struct qcow2 *s, uint64_t count, uint64_t *ret_cluster);
/* Lowers the counts of what no table on disk refers to. */
void qcow2_unalloc(struct qcow2 *s, uint64_t cluster, uint64_t count);
/* These were used for something: they do not read as zeroes. */
void qcow2_used(struct qcow2 *s, uint64_t cluster, uint64_t count);

/* ---- qcow2_map.c ---- */

/* Neighbouring bytes of the disk of one kind and, where they have one, in one place; inside one slice. */
struct qcow2_extent {
	enum block_place_kind kind;
	bool owned;     /* has a place of its own: it may be written there */
	bool has_host;  /* has a place */
	uint64_t host;  /* of the first byte */
	uint64_t size;  /* bytes */
	uint64_t entry; /* of the first cluster */
};

int qcow2_locate(struct wh_block *b, uint64_t offset, uint64_t max, struct wh_block_request *q,
		 struct block_place *ret_place);
int qcow2_look_up(struct qcow2 *s, uint64_t offset, uint64_t max, struct wh_block_request *q,
		  bool write, struct qcow2_extent *ret_extent);
/* The slice for the entry of `offset`; the L2 table exists. */
int qcow2_slice(struct qcow2 *s, uint64_t offset, struct wh_block_request *q,
		struct qcow2_table **ret_table, uint32_t *ret_index);
/* Makes the L2 table for `offset` exist and be this image's own. With q: 0, BLOCK_SUBMIT or BLOCK_PARK; without it at once. */
int qcow2_l2_for_write(struct qcow2 *s, uint64_t offset, struct wh_block_request *q);
uint64_t qcow2_entry(const struct qcow2 *s, const struct qcow2_table *t, uint32_t i);
uint64_t qcow2_bits(const struct qcow2 *s, const struct qcow2_table *t, uint32_t i);
void qcow2_entry_set(struct qcow2 *s, struct qcow2_table *t, uint32_t i, uint64_t entry,
		     uint64_t bits);
/* What an entry that is going away referred to is freed later. */
void qcow2_entry_free(struct qcow2 *s, uint64_t entry);
/* The host clusters that a packed entry lies in. */
void qcow2_packed_range(const struct qcow2 *s, uint64_t entry, uint64_t *ret_offset,
			uint64_t *ret_size);

/* ---- qcow2_io.c ---- */

int qcow2_next(struct wh_block *b, struct wh_block_request *q);
int qcow2_after(struct wh_block *b, struct wh_block_request *q, int result);
/* Before the first change of anything. */
int qcow2_touch(struct qcow2 *s);
const uint8_t *qcow2_zeros(struct qcow2 *s);
bool qcow2_hold(struct qcow2 *s, struct wh_block_request *q, uint64_t start, uint64_t end);
void qcow2_unhold(struct qcow2 *s, struct wh_block_request *q);

/* ---- qcow2_packed.c ---- */

int qcow2_read_packed(struct wh_block *b, struct wh_block_request *q,
		      const struct block_place *place, uint64_t offset, uint8_t *to);
int qcow2_after_packed(struct qcow2 *s, struct wh_block_request *q, int result);
int qcow2_next_pack(struct qcow2 *s, struct wh_block_request *q);
/* Room for `size` bytes, behind the last packed ones where that can be; counts are raised. */
int qcow2_packed_room(struct qcow2 *s, uint32_t size, uint64_t *ret_host);
uint64_t qcow2_packed_entry(const struct qcow2 *s, uint64_t host, uint32_t size);
void qcow2_forget_unpacked(struct qcow2 *s, uint64_t entry);
void qcow2_unpacked_free(struct qcow2 *s);

/* ---- qcow2_header.c ---- */

struct qcow2_header {
	uint64_t backing_offset, size, l1_offset, rt_offset, snapshots_offset;
	uint32_t backing_size, cluster_bits, crypt, l1_size, rt_clusters, snapshots, length;
	uint32_t compression;
};
int qcow2_header_store64(struct qcow2 *s, uint32_t at, uint64_t value);
int qcow2_read_extensions(struct qcow2 *s, const struct qcow2_header *h, struct wh_diag *diag);
int qcow2_mark_dirty(struct qcow2 *s, bool dirty); /* flushed; no-op in version 2 */
int qcow2_invalidate_bitmaps(struct qcow2 *s, bool all);
/* One more extension behind `at` of a buffer; the new end, or 0 = no room. */
uint32_t qcow2_put_extension(uint8_t *b, uint32_t at, uint32_t room, uint32_t type,
			     const void *data, uint32_t size);

/* ---- qcow2_snapshot.c ---- */

struct qcow2_snapshot_head {
	uint64_t l1_offset;
	uint32_t l1_size, id_size, name_size, extra_size;
	struct wh_block_snapshot about;
	uint64_t at; /* in the table */
};
int qcow2_snapshots_read(struct qcow2 *s, struct wh_diag *diag);
void qcow2_snapshots_free(struct qcow2 *s);
int qcow2_snapshot_find(const struct qcow2 *s, const char *which, uint32_t *ret_index);

/* Writes `l1` to a new place and switches the header to it, with a new size of the disk; the old one is freed later. */
int qcow2_use_l1(struct qcow2 *s, const uint64_t *l1, uint32_t l1_size, uint64_t size);

/* ---- qcow2_check.c, qcow2_repair.c ---- */

/* References by cluster, as the tables make them. */
struct qcow2_refs {
	struct qcow2 *s;
	struct wh_block_check *c;
	const struct wh_block_progress *progress;
	uint32_t *count;
	uint64_t clusters; /* of the file */
	uint64_t done, total, last_host;
	bool drop;       /* take out what cannot be true while looking */
	bool rebuild;    /* the refcount structure itself is bad */
	uint64_t beyond; /* clusters that are used more often than a count can say */
	uint8_t *slice;
};
__attribute__((format(printf, 2, 3))) void qcow2_found(struct qcow2_refs *r, const char *format,
						       ...);
int qcow2_refs_count(struct qcow2_refs *r);
void qcow2_refs_free(struct qcow2_refs *r);
/* Compares with the counts on disk; repair: WH_BLOCK_REPAIR_*. */
int qcow2_counts_compare(struct qcow2_refs *r, uint32_t repair);
/* A new refcount table and blocks, from the references. */
int qcow2_rebuild(struct qcow2_refs *r);
/* COPIED flags of the active tables against the counts; fix: sets them right. */
int qcow2_copied_compare(struct qcow2 *s, struct wh_block_check *c, bool fix);
/* Counts again from the tables: for an image that was not closed. */
int qcow2_repair_dirty(struct qcow2 *s, struct wh_diag *diag);
/* Sets COPIED in the active tables where, and only where, counts are 1. */
int qcow2_fix_copied(struct qcow2 *s);
/* Reads all that is in memory again, after it was changed on disk. */
int qcow2_reload(struct qcow2 *s);

#endif
