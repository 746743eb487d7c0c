/* SPDX-License-Identifier: ISC */
#ifndef BLOCKIO_PRIV_H
#define BLOCKIO_PRIV_H

#include <wherry/base/assert.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/block_file.h>

struct blockio_file {
	int fd;        /* through the page cache; holds the locks */
	int direct_fd; /* past it, for operations that are aligned; -1 = none */
	uint32_t direct_memory, direct_offset; /* alignment that direct_fd asks for */
	bool device, memory;                   /* memory: a file system that never waits */
	bool unsafe;
	bool no_nowait;         /* the file system cannot say whether a read would wait */
	bool no_punch, no_zero; /* it cannot make holes, or zeroes; also set by threads */
	int flush_error;        /* of the first failed flush: the kernel tells it only once */
	uint64_t data_start, data_end; /* no hole in between, the last time that it was asked */
	struct wh_blockio *io;
	char *path; /* for names relative to it */
};

/* sys.c: one operation, done when it returns. 0 or -errno. Any thread. */
int blockio_do(struct blockio_file *f, const struct wh_block_io *io);
/* The rest of a read or write of which `done` bytes are moved. */
int blockio_transfer(struct blockio_file *f, const struct wh_block_io *io, uint64_t done);
/* As much of a read as the page cache has: bytes, 0 = nothing. */
uint64_t blockio_read_cached(struct blockio_file *f, const struct wh_block_io *io);
/* The descriptor that is right for an operation: aligned enough for direct_fd? */
int blockio_fd(const struct blockio_file *f, uint64_t offset, const struct wh_iov *v, int count);
/* Writes zeroes. */
int blockio_write_zeros(struct blockio_file *f, uint64_t offset, uint64_t size);

/* dio.c: what direct I/O on fd asks for; never more than the kernel does. */
void blockio_direct_align(int fd, uint32_t *ret_memory, uint32_t *ret_offset);

/* lock.c: 0 or -WH_EBUSY */
int blockio_lock(int fd, bool writer);

/* After an operation that may have made holes. */
static inline void blockio_forget_data(struct blockio_file *f, enum wh_block_io_kind kind)
{
	if (kind > WH_BLOCK_IO_FLUSH)
		f->data_start = f->data_end = 0;
}

/* engine.c: 0, -errno or WH_BLOCK_LATER */
int blockio_submit(struct blockio_file *f, struct wh_block_io *io);

#endif
