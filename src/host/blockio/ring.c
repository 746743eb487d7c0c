/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#include "ring.h"

#ifndef SYS_io_uring_setup /* the same on all architectures */
#define SYS_io_uring_setup 425
#define SYS_io_uring_enter 426
#define SYS_io_uring_register 427
#endif

/* One mapping for both rings, an iovec that may go once submitted, no lost completions: Linux 5.5. */
#define FEATURES (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_NODROP)

/* Linux 5.10; newer than some headers. */
#define SETUP_DISABLED (1u << 6)
#define REGISTER_RESTRICTIONS 11
#define REGISTER_ENABLE 12
#define RESTRICT_SQE_OP 1

struct restriction {
	uint16_t what;
	uint8_t operation, reserved;
	uint32_t reserved2[3];
};

/* A ring makes calls past any filter of system calls: it gets these operations and no other, for ever. */
static int restrict_operations(int fd)
{
	static const struct restriction r[] = { { RESTRICT_SQE_OP, IORING_OP_READV, 0, { 0 } },
						{ RESTRICT_SQE_OP, IORING_OP_WRITEV, 0, { 0 } },
						{ RESTRICT_SQE_OP, IORING_OP_FSYNC, 0, { 0 } } };
	if (syscall(SYS_io_uring_register, fd, REGISTER_RESTRICTIONS, r, WH_ARRAY_COUNT(r)) ||
	    syscall(SYS_io_uring_register, fd, REGISTER_ENABLE, NULL, 0))
		return -errno;
	return 0;
}

/* Descriptor or -errno. Before Linux 5.10 it can do everything. */
static int make(uint32_t entries, struct io_uring_params *p)
{
	*p = (struct io_uring_params){ .flags = IORING_SETUP_CLAMP | SETUP_DISABLED };
	int fd = (int)syscall(SYS_io_uring_setup, entries, p);
	if (fd < 0 && errno == EINVAL) {
		*p = (struct io_uring_params){ .flags = IORING_SETUP_CLAMP };
		fd = (int)syscall(SYS_io_uring_setup, entries, p);
		return fd < 0 ? -errno : fd;
	}
	int error = fd < 0 ? -errno : restrict_operations(fd);
	if (error < 0 && fd >= 0)
		close(fd);
	return error < 0 ? error : fd;
}

static uint32_t *at(const struct ring *r, uint32_t offset)
{
	return (uint32_t *)(void *)((char *)r->map + offset);
}

int ring_open(struct ring *r, uint32_t entries)
{
	struct io_uring_params p;
	*r = (struct ring){ .fd = -1 };
	int fd = make(entries, &p);
	if (fd < 0)
		return fd;
	if ((p.features & FEATURES) != FEATURES) {
		close(fd);
		return -WH_ENOSYS;
	}
	size_t sq = p.sq_off.array + p.sq_entries * sizeof(uint32_t);
	size_t cq = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	r->map_size = sq > cq ? sq : cq;
	r->sqes_size = p.sq_entries * sizeof(struct io_uring_sqe);
	r->map = mmap(NULL, r->map_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
		      (off_t)IORING_OFF_SQ_RING);
	void *sqes = mmap(NULL, r->sqes_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
			  (off_t)IORING_OFF_SQES);
	if (r->map == MAP_FAILED || sqes == MAP_FAILED) {
		if (r->map != MAP_FAILED)
			munmap(r->map, r->map_size);
		if (sqes != MAP_FAILED)
			munmap(sqes, r->sqes_size);
		close(fd);
		return -WH_ENOMEM;
	}
	r->fd = fd;
	r->sqes = sqes;
	r->entries = p.sq_entries;
	r->sq_head = at(r, p.sq_off.head);
	r->sq_tail = at(r, p.sq_off.tail);
	r->sq_array = at(r, p.sq_off.array);
	r->sq_mask = *at(r, p.sq_off.ring_mask);
	r->cq_head = at(r, p.cq_off.head);
	r->cq_tail = at(r, p.cq_off.tail);
	r->cq_mask = *at(r, p.cq_off.ring_mask);
	r->cq_entries = p.cq_entries;
	r->cqes = (void *)at(r, p.cq_off.cqes);
	return 0;
}

void ring_close(struct ring *r)
{
	if (r->fd < 0)
		return;
	wh_assert(!r->in_flight);
	munmap(r->sqes, r->sqes_size);
	munmap(r->map, r->map_size);
	close(r->fd);
	r->fd = -1;
}

struct io_uring_sqe *ring_get(struct ring *r)
{
	uint32_t tail = *r->sq_tail, head = __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);
	if (r->in_flight == r->cq_entries || tail - head == r->entries)
		return NULL;
	struct io_uring_sqe *sqe = &r->sqes[tail & r->sq_mask];
	memset(sqe, 0, sizeof *sqe);
	r->sq_array[tail & r->sq_mask] = tail & r->sq_mask;
	/* The kernel looks only in ring_submit, when the entry has been filled in. */
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	r->prepared++;
	r->in_flight++;
	return sqe;
}

int ring_submit(struct ring *r)
{
	while (r->prepared) {
		long n = syscall(SYS_io_uring_enter, r->fd, r->prepared, 0, 0, NULL, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -WH_EAGAIN;
		wh_assert((uint32_t)n <= r->prepared);
		r->prepared -= (uint32_t)n;
	}
	return 0;
}

bool ring_reap(struct ring *r, uint64_t *ret_user_data, int *ret_result)
{
	uint32_t head = *r->cq_head;
	if (head == __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE))
		return false;
	const struct io_uring_cqe *c = &r->cqes[head & r->cq_mask];
	*ret_user_data = c->user_data;
	*ret_result = c->res;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	wh_assert(r->in_flight);
	r->in_flight--;
	return true;
}
