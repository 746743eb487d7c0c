/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BLOCK_FILE_H
#define WHERRY_BLOCK_FILE_H

/*
 * struct wh_block_file on a host file or block device, with locks that QEMU understands (see this
 * folder's README), so that the two never write one image together.
 *
 * With a struct wh_blockio many operations are under way at once and the loop does not wait for the disk:
 *
 *	struct wh_blockio_config ic = { .size = sizeof ic, .loop = loop };
 *	r = wh_blockio_new(&ic, &io, &diag);
 *	struct wh_block_image_config c = { .size = sizeof c, .path = "disk.qcow2",
 *					   .format = WH_BLOCK_FORMAT_QCOW2, .io = io };
 *	r = wh_block_image_open(&c, &image, &diag);
 *	wh_block_submit(wh_block_image_block(image), &request);
 *	r = wh_block_image_close(image);	  the error of the last flush
 *
 * Without one (io = NULL) each operation is done before submit returns.
 *
 * Threads: a wh_blockio, its files and their images belong to the loop's thread. Threads that it makes
 * touch nothing but the files and the memory of requests.
 */

#include <wherry/base/diag.h>
#include <wherry/block.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_loop;

/* ---- operations in the background ---- */

struct wh_blockio;

enum wh_blockio_kind {
	WH_BLOCKIO_AUTO,   /* io_uring where the system allows it, else threads */
	WH_BLOCKIO_URING,  /* refused where there is none */
	WH_BLOCKIO_THREADS /* also what io_uring does not do: holes, sizes */
};

struct wh_blockio_config {
	size_t size; /* sizeof(struct wh_blockio_config) */
	struct wh_loop *loop;
	enum wh_blockio_kind kind;
	/* Reads that the page cache answers are always done at once. true: writes into the page cache and
	 * quick flushes as well, until one turns out to be slow; then the background takes
	 * them for a while. Less work for each request; the loop may be held up once in such a while. */
	bool eager;
	/* Called first in each thread that is made (wherry/confine.h). Optional. */
	void (*thread_begins)(void *ctx);
	void *ctx;
};

/* -WH_ENOSYS (io_uring was demanded), -WH_ENOMEM, -errno; diag says which. */
int wh_blockio_new(const struct wh_blockio_config *config, struct wh_blockio **ret_io,
		   struct wh_diag *diag);
/* After its files. NULL is allowed. */
void wh_blockio_free(struct wh_blockio *io);
/* "io_uring" or "threads" */
const char *wh_blockio_name(const struct wh_blockio *io);

/* ---- files ---- */

#define WH_BLOCK_FILE_READ_ONLY 1u
#define WH_BLOCK_FILE_CREATE 2u  /* must not exist yet */
#define WH_BLOCK_FILE_NO_LOCK 4u /* just looking: somebody else may be writing (read-only) */

/* QEMU's names. */
enum wh_block_cache {
	WH_BLOCK_CACHE_WRITEBACK, /* the host's page cache; durable after a flush */
	WH_BLOCK_CACHE_NONE,      /* data past the page cache (O_DIRECT); durable after a flush */
	WH_BLOCK_CACHE_UNSAFE     /* flushes do nothing: for what is made again after a crash */
};
/* 0 or -WH_EINVAL */
int wh_block_cache_parse(const char *name, enum wh_block_cache *ret_cache);

struct wh_block_file_config {
	size_t size; /* sizeof(struct wh_block_file_config) */
	const char *path;
	uint32_t flags;
	enum wh_block_cache cache;
	struct wh_blockio *io; /* borrowed until close */
};

/* -errno; -WH_EBUSY = locked by another program; diag says which file and what to do. The file stays
 * valid until _close; it is given to wh_block_config.file. */
int wh_block_file_open(const struct wh_block_file_config *config, struct wh_block_file *ret_file,
		       struct wh_diag *diag);
/* No operation may be under way. */
void wh_block_file_close(struct wh_block_file *file);
/* Makes the file `size` bytes long, with space for [from, size) as asked (METADATA: as
 * OFF). -errno. */
int wh_block_file_preallocate(struct wh_block_file *file, uint64_t from, uint64_t size,
			      enum wh_block_preallocation how, struct wh_diag *diag);

/* ---- images ---- */

struct wh_block_image; /* an image and the files under it */

/* Which files may be opened because an image names them (backing and data files)? An image from somebody else
 * could name any. */
enum wh_block_follow {
	WH_BLOCK_FOLLOW_FOLDER, /* relative names without "..": in the image's folder and below */
	WH_BLOCK_FOLLOW_NOTHING,
	WH_BLOCK_FOLLOW_ANYTHING
};

struct wh_block_image_config {
	size_t size; /* sizeof(struct wh_block_image_config) */
	const char *path;
	enum wh_block_format format; /* NONE: raw, but refused when it looks like another format */
	uint32_t flags;              /* WH_BLOCK_FILE_*, not CREATE */
	enum wh_block_cache cache;
	struct wh_blockio *io;
	uint32_t cache_size; /* bytes of metadata kept; 0 = default */
	struct wh_log log;
	uint32_t open_flags; /* WH_BLOCK_OPEN_* */
	enum wh_block_follow follow;
	const struct wh_block_codec *codec; /* borrowed; NULL = none */
	const char *snapshot;               /* of a read-only image; NULL = none */
};

/* Errors as of wh_block_file_open and wh_block_open; diag begins with the path. */
int wh_block_image_open(const struct wh_block_image_config *config,
			struct wh_block_image **ret_image, struct wh_diag *diag);
struct wh_block *wh_block_image_block(const struct wh_block_image *image);
/* The descriptor of the image's file, borrowed, for somebody who reads and writes a raw image beside it; the lock stays with
 * the image. */
int wh_block_image_descriptor(const struct wh_block_image *image);
/* No request may be in flight. The error of the last flush; the image is gone in any case. NULL is
 * allowed. */
int wh_block_image_close(struct wh_block_image *image);

/* Where a file is that the image at `image_path` names, when `follow` allows it; errors as of open. */
int wh_block_link_path(const char *image_path, const char *name, enum wh_block_follow follow,
		       char *ret_path, size_t path_size, struct wh_diag *diag);

/* malloc and free. */
extern const struct wh_alloc wh_block_malloc;

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
