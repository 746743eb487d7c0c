/* SPDX-License-Identifier: ISC */
#ifndef BLOCKIO_RING_H
#define BLOCKIO_RING_H

/*
 * io_uring by its three system calls: no library, so that the static `wherry` has it as well.
 * One thread. See io_uring(7) and io_uring_setup(2).
 */

#include <linux/io_uring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring {
	int fd;                                /* readable when completions wait; -1 = closed */
	uint32_t entries, prepared, in_flight; /* prepared: not told to the kernel yet */
	uint32_t *sq_head, *sq_tail, *sq_array, sq_mask;
	uint32_t *cq_head, *cq_tail, cq_mask, cq_entries;
	struct io_uring_cqe *cqes;
	struct io_uring_sqe *sqes;
	void *map;
	size_t map_size, sqes_size;
};

/* -WH_ENOSYS, -WH_EPERM...: not to be had here. */
int ring_open(struct ring *ring, uint32_t entries);
void ring_close(struct ring *ring);
/* The next free entry, zeroed; NULL = so many are in flight that no completion may be lost. */
struct io_uring_sqe *ring_get(struct ring *ring);
/* Tells the kernel of what was prepared. 0 or -errno (what was not taken stays prepared). */
int ring_submit(struct ring *ring);
/* Takes one completion; false = none. */
bool ring_reap(struct ring *ring, uint64_t *ret_user_data, int *ret_result);

#endif
