/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BLOCK_H
#define WHERRY_BLOCK_H

/*
 * libwherry-block: disk images. An image sits on a struct wh_block_file, which the
 * caller provides (wherry/block_file.h does for host files; tests use memory): the
 * library makes no system calls, keeps no globals, starts no threads and never exits.
 *
 * Requests are asynchronous: many may be in flight, each tells its end through `done`, possibly
 * before wh_block_submit returns. Requests in flight at the same time that overlap take
 * effect in the order in which they were submitted.
 *
 * Threads: an image, its file and its requests belong to one thread.
 *
 * Durability: what was written before a flush was submitted, and answered, is on stable storage when the
 * flush succeeds. Without a flush a crash may lose it, sector by sector, but never anything else. When
 * the file fails to flush, the image answers -WH_EIO to every write and flush from then on.
 *
 * Formats are never guessed: the caller says which one it is.
 *
 *	struct wh_block_config c = { .size = sizeof c, .file = file, .format = WH_BLOCK_FORMAT_QCOW2,
 *				     .alloc = &alloc };
 *	r = wh_block_open(&c, &block, &diag);
 *	wh_block_submit(block, &request);
 *	r = wh_block_close(block);	  the error of the last flush
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/diag.h>
#include <wherry/base/iov.h>
#include <wherry/base/list.h>
#include <wherry/base/log.h>
#include <wherry/base/mem.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WH_BLOCK_SECTOR 512u            /* unit of requests and sizes */
#define WH_BLOCK_SIZE_MAX (1ull << 62)  /* bytes of a disk: offsets stay positive */
#define WH_BLOCK_REQUEST_MAX (1u << 30) /* bytes read or written by one request */
#define WH_BLOCK_IOV_SLICE 32u          /* entries that one file operation is given */

enum wh_block_format { WH_BLOCK_FORMAT_NONE, WH_BLOCK_FORMAT_RAW, WH_BLOCK_FORMAT_QCOW2 };
const char *wh_block_format_name(enum wh_block_format format);
/* "raw", "qcow2"; FORMAT_NONE = unknown */
enum wh_block_format wh_block_format_parse(const char *name);

/* ---- the file below ---- */

enum wh_block_io_kind {
	WH_BLOCK_IO_READ,
	WH_BLOCK_IO_WRITE,
	WH_BLOCK_IO_FLUSH,
	WH_BLOCK_IO_ZERO,    /* the range reads as zeroes and keeps its space where possible */
	WH_BLOCK_IO_DISCARD, /* the content is of no use any more: give space back where possible */
	WH_BLOCK_IO_RESIZE   /* the file has `offset` bytes from now on */
};

/* The caller must not wait: io->done is not called and submit returns the result. */
#define WH_BLOCK_IO_NOW 1u
#define WH_BLOCK_IO_UNMAP 2u /* zero: space may be given back */
#define WH_BLOCK_IO_FAST 4u  /* zero: -WH_EOPNOTSUPP rather than writing zeroes out */
/* Bits 8-15: which of the format's barriers a flush is, for traces and tests; 0 = not said. */
#define WH_BLOCK_IO_WHY(why) ((uint32_t)(why) << 8)

struct wh_block_io {
	enum wh_block_io_kind kind;
	uint32_t flags; /* WH_BLOCK_IO_NOW */
	uint64_t offset, size;
	const struct wh_iov
		*iov; /* read, write: `size` bytes in all, at most WH_BLOCK_IOV_SLICE entries */
	uint32_t iov_count;
	void (*done)(struct wh_block_io *io, int result);
	void *ctx;
	void *file_private[2];
};

#define WH_BLOCK_LATER 1

struct wh_block_file_ops {
	/* 0 = done, -errno = failed, WH_BLOCK_LATER = io->done follows from the loop. Reads behind the end
	 * give zeroes; writes there make the file longer; short transfers do not exist. */
	int (*submit)(void *ctx, struct wh_block_io *io);
	int (*size)(void *ctx, uint64_t *ret_size);
	/* NULL = unknown, all is data. Where does data begin or end? [offset, offset + *ret_size) is all
	 * data or all hole (*ret_data false: reads as zeroes); 0 or -errno. offset is inside the file. */
	int (*map)(void *ctx, uint64_t offset, uint64_t size, bool *ret_data, uint64_t *ret_size);
};

struct wh_block_file {
	const struct wh_block_file_ops *ops;
	void *ctx;
	bool read_only;
};

/* ---- images ---- */

struct wh_block;

/* Compression is the caller's: portable code links no library. Types as in qcow2. */
enum wh_block_compression { WH_BLOCK_COMPRESSION_ZLIB, WH_BLOCK_COMPRESSION_ZSTD };

struct wh_block_codec {
	/* Unpacks one cluster: exactly to_size bytes must come out of it. `from` may be followed by bytes of
	 * no meaning (qcow2 counts sectors). zlib: raw deflate without header, window 2^12 when made by QEMU,
	 * up to 2^15; zstd: frames. 0, -WH_EINVAL (damaged), -WH_EOPNOTSUPP (not this type), -WH_ENOMEM. */
	int (*decode)(void *ctx, enum wh_block_compression type, const void *from, size_t from_size,
		      void *to, size_t to_size);
	/* Packs one cluster: the bytes used, or -WH_ENOSPC when it does not fit. NULL = cannot. zlib: window
	 * of at most 2^12, as QEMU reads no more. */
	int (*encode)(void *ctx, enum wh_block_compression type, const void *from, size_t from_size,
		      void *to, size_t to_size);
	void *ctx;
	uint32_t
		types; /* 1 << type: those that decode knows; 0 = all. Images of others are not opened */
};

/* A codec without a library: unpacks zlib, nothing else. For small programs; wherry/block_codec.h does more, faster. */
const struct wh_block_codec *wh_block_inflate_codec(void);
/* Its work: to_size bytes must come out of a raw deflate stream; -WH_EINVAL. */
int wh_block_inflate(const void *from, size_t from_size, void *to, size_t to_size);

/* Other files that an image names. */
enum wh_block_link { WH_BLOCK_LINK_BACKING, WH_BLOCK_LINK_DATA };

/* Opens what an image names, where the caller allows that. Called by wh_block_open only. */
struct wh_block_resolver {
	/* `parent` is the file whose image has the name, so that relative names find their folder. `format` is
	 * what the image records (FORMAT_NONE: nothing); the answer's format is used and never guessed.
	 * Backing files are opened for reading only. -errno, diag says why. */
	int (*open)(void *ctx, enum wh_block_link what, const struct wh_block_file *parent,
		    const char *name, enum wh_block_format format, bool read_only,
		    struct wh_block_file *ret_file, enum wh_block_format *ret_format,
		    struct wh_diag *diag);
	void (*close)(void *ctx, struct wh_block_file *file);
	void *ctx;
};

/* Open flags. */
#define WH_BLOCK_OPEN_ALONE 1u
/* Backing and data files stay closed: for looking at the image's own tables. Reads of what is not in this
 * file answer -WH_ENXIO, writes are refused. */
#define WH_BLOCK_OPEN_CHECK 2u
/* For wh_block_check: accepts images that are dirty, corrupt or have bad tables; only check, repair, info and
 * close are allowed. */
#define WH_BLOCK_OPEN_NO_REPAIR 4u
/* A dirty image opened for writing is refused instead of repaired. */

#define WH_BLOCK_NAME_MAX 1023u /* bytes of a backing or data file's name */
#define WH_BLOCK_CHAIN_MAX 64u  /* images on top of each other */

struct wh_block_config {
	size_t size;               /* sizeof(struct wh_block_config) */
	struct wh_block_file file; /* borrowed until close */
	enum wh_block_format format;
	bool read_only;
	const struct wh_alloc *alloc; /* open, copy on write, metadata caches up to their limit */
	uint32_t cache_size;          /* bytes of metadata kept; 0 = WH_BLOCK_CACHE_DEFAULT */
	struct wh_log log;
	uint32_t flags; /* WH_BLOCK_OPEN_* */
	const struct wh_block_resolver
		*resolver;                  /* borrowed until close; NULL = nothing is allowed */
	const struct wh_block_codec *codec; /* borrowed until close; NULL = none */
	const char *snapshot; /* id or name of the internal snapshot to read (read_only) */
};
#define WH_BLOCK_CACHE_DEFAULT (32u << 20)

/* Checks the image completely enough to refuse here what it would refuse later. -WH_EINVAL
 * (damaged or not of this format), -WH_EOPNOTSUPP (a feature we do not have), -errno; diag says what
 * and what to do. */
int wh_block_open(const struct wh_block_config *config, struct wh_block **ret_block,
		  struct wh_diag *diag);
/* No request may be in flight. Flushes; the error of that. The block is gone in any case. */
int wh_block_close(struct wh_block *block);

enum wh_block_op {
	WH_BLOCK_READ,
	WH_BLOCK_WRITE,
	WH_BLOCK_FLUSH,
	WH_BLOCK_DISCARD,
	WH_BLOCK_WRITE_ZEROES,
	/* Nothing of the image: when it is done, all earlier requests are, and no later one has begun until
	 * `done` has returned. Inside `done` the functions under "maintenance" may be called. */
	WH_BLOCK_QUIESCE
};

#define WH_BLOCK_UNMAP 1u /* write zeroes: space may be given back */
#define WH_BLOCK_FUA 2u   /* write, write zeroes: on stable storage when done */
#define WH_BLOCK_FAST 4u  /* write zeroes: -WH_EOPNOTSUPP rather than writing zeroes out */
#define WH_BLOCK_COMPRESS \
	8u /* write: whole clusters (the last may be cut by the end of the disk), packed */

struct wh_block_request {
	enum wh_block_op op;
	uint32_t flags;           /* WH_BLOCK_UNMAP, _FUA, _FAST, _COMPRESS */
	uint64_t offset, size;    /* multiples of WH_BLOCK_SECTOR, inside the disk */
	const struct wh_iov *iov; /* read, write: at least `size` bytes; any number of entries */
	uint32_t iov_count;
	/* result: 0, or -WH_EINVAL (range), -WH_EROFS, -WH_EIO, -WH_ENOSPC, -errno of the file */
	void (*done)(struct wh_block_request *q, int result);
	void *ctx;
	/* Private. */
	struct wh_list node, parked, holding;
	struct wh_block *block, *table_of;
	const struct wh_block_file *file;
	struct wh_block_io io;
	struct wh_iov slice[WH_BLOCK_IOV_SLICE];
	uint64_t number;
	uint64_t at, run; /* bytes done; bytes of the operation under way */
	uint64_t host;    /* where the operation under way goes */
	void *bounce, *packed, *table;
	uint64_t bounce_size, bounce_at, head, tail;
	uint64_t packed_size, packed_entry, packed_skip, packed_run, plain_at;
	uint8_t *packed_to;
	uint64_t hold_start, hold_end; /* clusters whose place this request changes */
	uint32_t step, new_count;
	bool now, syncing, holds;
};

/* The request and its memory stay the library's until done. */
void wh_block_submit(struct wh_block *block, struct wh_block_request *q);

struct wh_block_info {
	enum wh_block_format format;
	bool read_only;
	uint64_t size;      /* bytes of the disk */
	uint64_t file_size; /* bytes of the file, holes included */
	/* qcow2 */
	uint32_t version, cluster_size, refcount_bits;
	bool dirty, corrupt, lazy_refcounts, extended_l2, data_file_raw;
	enum wh_block_compression compression;
	uint32_t subcluster_size; /* = cluster_size without extended L2 */
	uint32_t snapshot_count, bitmap_count;
	/* Borrowed, "" = none. */
	const char *backing_name, *data_file_name;
	enum wh_block_format backing_format;          /* recorded; FORMAT_NONE = not recorded */
	uint64_t incompatible, compatible, autoclear; /* feature bits */
	uint64_t cache_size, cache_used;              /* bytes of metadata, limit and now */
};
void wh_block_info(struct wh_block *block, struct wh_block_info *ret_info);
uint64_t wh_block_size(const struct wh_block *block);
bool wh_block_read_only(const struct wh_block *block);
/* The image below; NULL = none or not opened. Borrowed; for info and map only. */
struct wh_block *wh_block_backing(struct wh_block *block);
/* The file that holds the data (the data file, else the image's own). */
const struct wh_block_file *wh_block_data_file(const struct wh_block *block);

/* One request at a time for tools and tests: no other may be in flight, and the file is asked with
 * WH_BLOCK_IO_NOW, so that it answers at once. */
int wh_block_do(struct wh_block *block, enum wh_block_op op, uint64_t offset, void *data,
		uint64_t size, uint32_t flags);

/* ---- what is where ---- */

#define WH_BLOCK_MAP_PRESENT 1u    /* some image of the chain (see depth) says what is here */
#define WH_BLOCK_MAP_DATA 2u       /* bytes of a file; otherwise it reads as zeroes */
#define WH_BLOCK_MAP_ZERO 4u       /* known to read as zeroes */
#define WH_BLOCK_MAP_COMPRESSED 8u /* host is where the packed bytes begin */
#define WH_BLOCK_MAP_HOST 16u      /* host is a place in image's data file */

struct wh_block_extent {
	uint64_t offset, size; /* bytes of the disk */
	uint32_t flags;        /* WH_BLOCK_MAP_* */
	uint32_t depth;        /* 0 = this image, 1 = its backing image ... */
	uint64_t host;
	struct wh_block *image; /* that depth's; borrowed */
};
/* What is at `offset`, for at most `size` bytes (ret_extent->size is > 0 and may be less than what follows is
 * alike). depth_max: how far to look, 0 = this image only; what is in none has no PRESENT and, when nothing
 * is below that, ZERO. Reads metadata at once. -WH_EINVAL, -WH_EIO, -errno. */
int wh_block_map(struct wh_block *block, uint64_t offset, uint64_t size, uint32_t depth_max,
		 struct wh_block_extent *ret_extent);

/* ---- maintenance ----
 *
 * These need the image to themselves: -WH_EBUSY while requests are in flight. While somebody uses the disk, submit
 * WH_BLOCK_QUIESCE and call them in its `done`. They use the file with WH_BLOCK_IO_NOW and return when
 * they are done; what they changed is on stable storage then. After a crash in the middle the image is as before
 * or as after, with leaked clusters at worst, or (version 3) marked dirty and repaired by the next open.
 */

/* Called now and then; another answer than 0 ends the work with -WH_ECANCELED, the image is consistent. */
struct wh_block_progress {
	int (*fn)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

#define WH_BLOCK_SHRINK 1u /* really: what is behind the new end is lost */
/* The disk has `size` bytes (a multiple of WH_BLOCK_SECTOR) from now on; what is new reads as zeroes. -WH_EINVAL
 * (shrinking without the flag), -WH_EROFS, -WH_EOPNOTSUPP, -WH_EFBIG, -errno. */
int wh_block_resize(struct wh_block *block, uint64_t size, uint32_t flags, struct wh_diag *diag);

#define WH_BLOCK_REPAIR_LEAKS 1u
#define WH_BLOCK_REPAIR_ALL 2u
struct wh_block_check {
	uint64_t leaks, corruptions, errors; /* found; errors: what could not be looked at */
	uint64_t leaks_fixed, corruptions_fixed;
	uint64_t clusters_total, clusters_allocated, clusters_compressed,
		clusters_fragmented; /* of the disk */
	uint64_t image_end;          /* bytes of the file that are in use */
	char first[160];             /* the first thing found, in words; "" = clean */
};
/* Every table and reference count; with repair flags it then mends what it found. 0 = looked at everything (see the
 * counts), -WH_EOPNOTSUPP (raw), -errno. */
int wh_block_check(struct wh_block *block, uint32_t repair,
		   const struct wh_block_progress *progress, struct wh_block_check *ret_check,
		   struct wh_diag *diag);

/* Moves clusters from the end of the file into holes and cuts the file, step by step: each step takes the image to itself
 * (as above) for about `bytes` of copying, so a machine may use the disk between steps. Ending early leaves a
 * consistent image, only longer. */
struct wh_block_compaction;
int wh_block_compact_begin(struct wh_block *block, struct wh_block_compaction **ret_compaction,
			   struct wh_diag *diag);
/* 1 = there is more to do, 0 = done, -errno. */
int wh_block_compact_step(struct wh_block_compaction *compaction, uint64_t bytes,
			  uint64_t *ret_done, uint64_t *ret_total);
void wh_block_compact_end(struct wh_block_compaction *compaction);

struct wh_block_snapshot {
	char id[64], name[256]; /* cut when longer */
	uint64_t disk_size, vm_state_size;
	uint64_t date_s, vm_clock_ns; /* seconds since 1970; time of the machine */
	uint32_t date_ns;
};
#define WH_BLOCK_SNAPSHOT_MAX 65536u
/* The index-th; -WH_ENOENT behind the last. */
int wh_block_snapshot_get(struct wh_block *block, uint32_t index,
			  struct wh_block_snapshot *ret_snapshot);
/* Takes name and date_* from `snapshot`; the id is chosen. Names may repeat; ids do not. */
int wh_block_snapshot_create(struct wh_block *block, const struct wh_block_snapshot *snapshot,
			     struct wh_diag *diag);
/* The disk is again as it was then. `which` is an id or else a name. -WH_ENOENT. */
int wh_block_snapshot_apply(struct wh_block *block, const char *which, struct wh_diag *diag);
int wh_block_snapshot_delete(struct wh_block *block, const char *which, struct wh_diag *diag);

/* Records another backing file, or (name NULL or "") none, and nothing else: the caller has made the content fit
 * (rebase) or says it does. Takes effect at the next open. */
int wh_block_set_backing(struct wh_block *block, const char *name, enum wh_block_format format,
			 struct wh_diag *diag);
/* Drops all clusters of this image, so that the disk is what is below (after commit). */
int wh_block_empty(struct wh_block *block, struct wh_diag *diag);

#define WH_BLOCK_AMEND_VERSION 1u /* to 3; from 2 */
#define WH_BLOCK_AMEND_LAZY 2u
struct wh_block_amend {
	uint32_t fields; /* WH_BLOCK_AMEND_*: those to change */
	uint32_t version;
	bool lazy_refcounts;
};
int wh_block_amend(struct wh_block *block, const struct wh_block_amend *amend,
		   struct wh_diag *diag);

/* Writes a cluster that the caller has packed (several threads can), as WH_BLOCK_COMPRESS does. offset: a multiple of the
 * cluster size; the cluster must not be in use. -WH_EOPNOTSUPP where the image takes no packed clusters. */
int wh_block_write_packed(struct wh_block *block, uint64_t offset, const void *data, uint32_t size);

/* ---- making images ---- */

enum wh_block_preallocation {
	WH_BLOCK_PREALLOCATION_OFF,
	WH_BLOCK_PREALLOCATION_METADATA, /* tables are made; the file is as long as it will be, with holes */
	WH_BLOCK_PREALLOCATION_FALLOC, /* and has its space (WH_BLOCK_IO_ZERO without UNMAP) */
	WH_BLOCK_PREALLOCATION_FULL    /* and zeroes were written */
};

struct wh_block_qcow2_config {
	size_t size;                      /* sizeof(struct wh_block_qcow2_config) */
	uint64_t disk_size;               /* bytes; rounded up to a sector */
	uint32_t version;                 /* 2 or 3; 0 = 3 */
	uint32_t cluster_size;            /* 512 .. 2 MiB, a power of two; 0 = 64 KiB */
	uint32_t refcount_bits;           /* 1 .. 64, a power of two; 0 = 16; version 2: 16 */
	bool lazy_refcounts, extended_l2; /* version 3; extended: clusters of 16 KiB or more */
	enum wh_block_compression compression;
	enum wh_block_preallocation preallocation; /* not with a backing file */
	const char *backing_name;                  /* NULL = none; not opened here */
	enum wh_block_format backing_format;       /* must be said */
	const char *data_file_name;                /* NULL = none; version 3 */
	const struct wh_block_file
		*data_file; /* that file, empty, for preallocation and its length */
	bool data_file_raw; /* the data file alone is a raw disk, always */
};

/* Writes an empty image over the (empty) file and flushes it. -WH_EINVAL or -errno, diag says what. */
int wh_block_qcow2_create(const struct wh_block_file *file,
			  const struct wh_block_qcow2_config *config, const struct wh_alloc *alloc,
			  struct wh_diag *diag);

/* Bytes that an image of this kind needs for a disk with `allocated` bytes of data, and when it is full. */
int wh_block_qcow2_measure(const struct wh_block_qcow2_config *config, uint64_t allocated,
			   uint64_t *ret_required, uint64_t *ret_full, struct wh_diag *diag);

/* Does the file begin like a known format? For refusing what was not asked for, never for choosing. */
int wh_block_looks_like(const struct wh_block_file *file, enum wh_block_format *ret_format);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
