/* SPDX-License-Identifier: ISC */
#ifndef BLOCK_PRIV_H
#define BLOCK_PRIV_H

#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/block.h>

/* Answers of block_format_ops.next and of what it calls. */
#define BLOCK_DONE 0
#define BLOCK_SUBMIT 1 /* q->io is an operation for q->file; `after` gets its result */
#define BLOCK_AGAIN 2  /* a piece was done without the file */
#define BLOCK_PARK 3   /* run again after block_unpark */

/* Where a part of a disk is. */
enum block_place_kind { BLOCK_NOWHERE, BLOCK_ZERO, BLOCK_DATA, BLOCK_PACKED };
struct block_place {
	enum block_place_kind kind;
	uint64_t size;          /* bytes of the disk */
	uint64_t host;          /* DATA: of the first byte; ZERO: of space kept for it, 0 = none */
	uint64_t entry;         /* PACKED: the descriptor */
	struct wh_block *image; /* whose it is */
	uint32_t depth;
};

/* What a format does with a request that has been checked and holds its range. */
struct block_format_ops {
	int (*next)(struct wh_block *b, struct wh_block_request *q); /* BLOCK_* or -errno */
	int (*after)(struct wh_block *b, struct wh_block_request *q, int result); /* 0 or -errno */
	int (*close)(struct wh_block *b); /* flushes; frees what the format has */
	void (*info)(struct wh_block *b, struct wh_block_info *info);
	/* What this image alone says about [offset, offset + max); max > 0, inside the disk. With q, 0, SUBMIT or
	 * PARK (to look again when a table was read); without, the table is read at once. */
	int (*locate)(struct wh_block *b, uint64_t offset, uint64_t max, struct wh_block_request *q,
		      struct block_place *ret_place);
	/* Reads a PACKED place from `offset` of the disk on, q->run bytes of it; to = NULL: to q's memory. */
	int (*read_packed)(struct wh_block *b, struct wh_block_request *q,
			   const struct block_place *place, uint64_t offset, uint8_t *to);
	/* The operation q->io was read_packed's or locate's of this image. */
	int (*after_table)(struct wh_block *b, struct wh_block_request *q, int result);
};

struct wh_block {
	const struct block_format_ops *ops;
	struct wh_block_file file, data; /* data: where the disk's bytes are */
	const struct wh_alloc *alloc;
	size_t alloc_size;
	struct wh_log log;
	const struct wh_block_resolver *resolver;
	const struct wh_block_codec *codec;
	struct wh_block *backing; /* its file is ours to close */
	bool has_backing;         /* also when it was not opened */
	bool data_is_own, file_is_own;
	enum wh_block_format format;
	uint64_t size; /* bytes of the disk */
	uint64_t next_number;
	bool read_only, alone, check_only;
	bool no_data;    /* the data file was not opened */
	bool failed;     /* a flush failed: nothing is promised any more */
	bool background; /* the format has operations of its own in flight */
	bool pumping, changed, quiesced;
	struct wh_list requests; /* in order of submission */
	struct wh_list waiting;  /* of them: for others, in order (by `parked`) */
	struct wh_list parked;   /* of them: for the format */
	uint32_t bounces;        /* memory that requests hold */
};

/* One operation of a file that must not wait. FLUSH failures set b->failed. */
int block_file_now(struct wh_block *b, const struct wh_block_file *file, enum wh_block_io_kind kind,
		   uint32_t flags, uint64_t offset, void *data, uint64_t size);
static inline int block_io_now(struct wh_block *b, enum wh_block_io_kind kind, uint64_t offset,
			       void *data, uint64_t size)
{
	return block_file_now(b, &b->file, kind, 0, offset, data, size);
}

/* Runs what waits for the format, soon (from the loop in block.c). */
void block_unpark(struct wh_block *b);
/* After something that is no request of this image changed: runs what can run now. */
void block_pump(struct wh_block *b);
/* No request in flight that a maintenance function would disturb? 0 or -WH_EBUSY. */
int block_idle(const struct wh_block *b);
/* The number of the oldest request in flight that may use places in the file; none = the next number. */
uint64_t block_oldest(const struct wh_block *b);

/* Prepares q->io for `size` bytes of q's memory at q->at and file offset `host`; less when the memory is in
 * too many pieces. Sets q->run. */
void block_prepare(struct wh_block_request *q, const struct wh_block_file *file,
		   enum wh_block_io_kind kind, uint64_t host, uint64_t size);
/* The same, with one piece of other memory. */
void block_prepare_memory(struct wh_block_request *q, const struct wh_block_file *file,
			  enum wh_block_io_kind kind, uint64_t host, void *memory, uint64_t size);
/* Fills q's memory from q->at on: zeroes, or a copy. */
void block_fill(struct wh_block_request *q, const uint8_t *from, uint64_t size);

/* ---- chain.c ---- */

/* What the whole chain says. */
int block_chain_locate(struct wh_block *b, uint64_t offset, uint64_t max, uint32_t depth_max,
		       struct wh_block_request *q, struct block_place *ret_place);
/* A piece of [offset, offset + size) into `to`, or (NULL) into q's memory at q->at: AGAIN or SUBMIT with q->run
 * set, PARK, -errno. */
int block_chain_read(struct wh_block *b, struct wh_block_request *q, uint64_t offset, uint64_t size,
		     uint8_t *to);
/* Opens what a name in b's image refers to. */
int block_backing_open(struct wh_block *b, const struct wh_block_config *config, const char *name,
		       enum wh_block_format format, uint32_t depth, struct wh_diag *diag);

int block_raw_open(const struct wh_block_config *config, struct wh_block **ret_block,
		   struct wh_diag *diag);
int block_qcow2_open(const struct wh_block_config *config, uint32_t depth,
		     struct wh_block **ret_block, struct wh_diag *diag);
int block_open(const struct wh_block_config *config, uint32_t depth, struct wh_block **ret_block,
	       struct wh_diag *diag);

#endif
