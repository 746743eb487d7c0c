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
};

struct wh_block_file {
	const struct wh_block_file_ops *ops;
	void *ctx;
	bool read_only;
};

/* ---- images ---- */

struct wh_block;

struct wh_block_config {
	size_t size;               /* sizeof(struct wh_block_config) */
	struct wh_block_file file; /* borrowed until close */
	enum wh_block_format format;
	bool read_only;
	const struct wh_alloc *alloc; /* open; then only metadata caches, up to their limit */
	uint32_t cache_size;          /* bytes of metadata kept; 0 = WH_BLOCK_CACHE_DEFAULT */
	struct wh_log log;
};
#define WH_BLOCK_CACHE_DEFAULT (16u << 20)

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
	WH_BLOCK_WRITE_ZEROES
};

#define WH_BLOCK_UNMAP 1u /* write zeroes: space may be given back */

struct wh_block_request {
	enum wh_block_op op;
	uint32_t flags;           /* WH_BLOCK_UNMAP */
	uint64_t offset, size;    /* multiples of WH_BLOCK_SECTOR, inside the disk */
	const struct wh_iov *iov; /* read, write: at least `size` bytes; any number of entries */
	uint32_t iov_count;
	/* result: 0, or -WH_EINVAL (range), -WH_EROFS, -WH_EIO, -WH_ENOSPC, -errno of the file */
	void (*done)(struct wh_block_request *q, int result);
	void *ctx;
	/* Private. */
	struct wh_list node;
	struct wh_block *block;
	struct wh_block_io io;
	struct wh_iov slice[WH_BLOCK_IOV_SLICE];
	uint64_t at, run; /* bytes done; bytes of the operation under way */
	uint64_t lock_start, lock_end;
	uint64_t host; /* where the operation under way goes */
	uint32_t step, new_count;
	bool waiting;
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
	bool dirty, corrupt, lazy_refcounts;
};
void wh_block_info(struct wh_block *block, struct wh_block_info *ret_info);
uint64_t wh_block_size(const struct wh_block *block);
bool wh_block_read_only(const struct wh_block *block);

/* One request at a time for tools and tests: submits and expects the file to answer at once. */
int wh_block_do(struct wh_block *block, enum wh_block_op op, uint64_t offset, void *data,
		uint64_t size, uint32_t flags);

/* ---- making images ---- */

struct wh_block_qcow2_config {
	size_t size;            /* sizeof(struct wh_block_qcow2_config) */
	uint64_t disk_size;     /* bytes; rounded up to a sector */
	uint32_t version;       /* 2 or 3; 0 = 3 */
	uint32_t cluster_size;  /* 512 .. 2 MiB, a power of two; 0 = 64 KiB */
	uint32_t refcount_bits; /* 1 .. 64, a power of two; 0 = 16; version 2: 16 */
};

/* Writes an empty image over the (empty) file and flushes it. -WH_EINVAL or -errno, diag says what. */
int wh_block_qcow2_create(const struct wh_block_file *file,
			  const struct wh_block_qcow2_config *config, const struct wh_alloc *alloc,
			  struct wh_diag *diag);

/* Does the file begin like a known format? For refusing what was not asked for, never for choosing. */
int wh_block_looks_like(const struct wh_block_file *file, enum wh_block_format *ret_format);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
