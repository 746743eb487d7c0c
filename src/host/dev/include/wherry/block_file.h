/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BLOCK_FILE_H
#define WHERRY_BLOCK_FILE_H

/*
 * struct wh_block_file on a host file or block device, with locks that QEMU understands
 * (docs in README.md), so that the two never write one image together.
 * Threads: one file, one thread.
 */

#include <wherry/base/diag.h>
#include <wherry/block.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WH_BLOCK_FILE_READ_ONLY 1u
#define WH_BLOCK_FILE_CREATE 2u  /* must not exist yet */
#define WH_BLOCK_FILE_NO_LOCK 4u /* just looking: somebody else may be writing (read-only) */

/* -errno; -WH_EBUSY = locked by another program; diag says which file and what to do. The file stays valid until
 * _close; it is given to wh_block_config.file. */
int wh_block_file_open(const char *path, uint32_t flags, struct wh_block_file *ret_file,
		       struct wh_diag *diag);
void wh_block_file_close(struct wh_block_file *file);

/* All of it: opens file and image. A raw open of a file that begins like another format is refused,
 * with the hint to say format=; name is used in messages. */
int wh_block_image_open(const char *path, enum wh_block_format format, bool read_only,
			const struct wh_log *log, struct wh_block_file *ret_file,
			struct wh_block **ret_block, struct wh_diag *diag);

/* malloc and free. */
extern const struct wh_alloc wh_block_malloc;

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
