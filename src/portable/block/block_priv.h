/* SPDX-License-Identifier: ISC */
#ifndef BLOCK_PRIV_H
#define BLOCK_PRIV_H

#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/block.h>

/* Answers of block_format_ops.next. */
#define BLOCK_DONE 0
#define BLOCK_SUBMIT 1 /* q->io is an operation for the file; `after` gets its result */
#define BLOCK_AGAIN 2  /* a piece was done without the file */

/* What a format does with a request that has been checked and holds its lock range. */
struct block_format_ops {
	int (*next)(struct wh_block *b, struct wh_block_request *q); /* BLOCK_* or -errno */
	int (*after)(struct wh_block *b, struct wh_block_request *q, int result); /* 0 or -errno */
	int (*close)(struct wh_block *b); /* flushes; frees what the format has */
	void (*info)(struct wh_block *b, struct wh_block_info *info);
};

struct wh_block {
	const struct block_format_ops *ops;
	struct wh_block_file file;
	const struct wh_alloc *alloc;
	size_t alloc_size;
	struct wh_log log;
	enum wh_block_format format;
	uint64_t size;      /* bytes of the disk */
	uint64_t lock_unit; /* requests in flight exclude each other by ranges of this */
	bool read_only;
	bool failed; /* a flush failed: nothing is promised any more */
	bool pumping, changed;
	struct wh_list requests; /* in order of submission */
};

/* One operation of the file that must not wait. FLUSH failures set b->failed. */
int block_io_now(struct wh_block *b, enum wh_block_io_kind kind, uint64_t offset, void *data,
		 uint64_t size);

/* Prepares q->io for `size` bytes of q's memory at q->at and file offset `host`; less when the memory is in
 * too many pieces. Sets q->run. */
void block_prepare(struct wh_block_request *q, enum wh_block_io_kind kind, uint64_t host,
		   uint64_t size);
/* Fills [q->at, q->at + size) of q's memory with zeroes. */
void block_fill_zero(struct wh_block_request *q, uint64_t size);

int block_raw_open(const struct wh_block_config *config, struct wh_block **ret_block,
		   struct wh_diag *diag);
int block_qcow2_open(const struct wh_block_config *config, struct wh_block **ret_block,
		     struct wh_diag *diag);

#endif
