/* SPDX-License-Identifier: ISC */
#ifndef MEM_FILE_H
#define MEM_FILE_H

/*
 * A block file in memory that can record what is done to it, fail its n-th operation, and
 * complete requests late. From a record, the states that a crash may leave are built: an operation may be there from
 * the moment it was begun, and must be there when a flush that was begun after its end has ended. Moments
 * are ticks of the record.
 */

#include <wherry/block.h>
#include <wherry/test.h>

struct mem_op {
	enum wh_block_io_kind kind;
	uint64_t offset, size;
	uint8_t *data; /* writes */
	struct mem_file *of;
	size_t begun, ended;
};

struct mem_file {
	struct wh_block_file file;
	uint8_t *data;
	uint64_t size, room;
	struct mem_file *log; /* who records what is done here; may be this one */
	unsigned leave_out;   /* flushes of this name (WH_BLOCK_IO_WHY) do nothing */
	struct mem_op *op;    /* in the order of their ends */
	size_t op_count, op_room, ticks;
	unsigned long ops;     /* operations that change or flush, done so far */
	unsigned long fail_at; /* the n-th of them fails, 0 = none */
	int fail_error;
	bool fail_rest; /* and all after it */
	/* Operations that may wait do; mem_file_step ends one of them. */
	bool late;
	unsigned long waits; /* reads that could not do that, although it was late */
	struct wh_block_io *waiting[512];
	size_t waiting_since[512];
	unsigned waiting_count;
};

void mem_file_init(struct mem_file *m);
void mem_file_fini(struct mem_file *m);
void mem_file_copy(struct mem_file *to, const struct mem_file *from); /* content only */
void mem_file_record(struct mem_file *m, struct mem_file *log);       /* from now on, in log */
/* Does one recorded operation to `to`, whole or (torn) only its first `sectors` sectors. */
void mem_file_replay(struct mem_file *to, const struct mem_op *op, uint64_t sectors);
/* Ends the n-th waiting operation. */
void mem_file_step(struct mem_file *m, unsigned n);
/* Content into a file; for looking at with other tools. */
int mem_file_save(const struct mem_file *m, const char *path);
int mem_file_load(struct mem_file *m, const char *path);

/* What qemu-img check would say of a qcow2 image: leaks are counted, errors are described. */
struct image_check {
	unsigned leaks, errors;
	char first[160];
};
void image_check(const struct mem_file *m, struct image_check *ret);

#endif
