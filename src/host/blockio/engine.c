/* SPDX-License-Identifier: ISC */
/*
 * Operations in the background.
 *
 * What the page cache can answer is answered at once (RWF_NOWAIT): a copy of 4 KiB takes less time
 * than telling somebody else to do it. All else goes to the ring, which is told of everything that
 * one round of the loop prepared by one system call before the loop sleeps; or, where there is no
 * io_uring (containers commonly forbid it), to threads. What io_uring does in part only (holes, sizes,
 * the rest of a short transfer) goes to threads as well.
 *
 * eager: writes into the page cache and flushes are done at once too. They can wait for the disk: when
 * one took SLOW_NS, the background does them for PENALTY_NS.
 */
#include <stdlib.h>
#include <time.h>
#include <wherry/loop.h>
#include <wherry/pool.h>

#include "blockio_priv.h"
#include "ring.h"

#define RING_ENTRIES 256u /* more requests in one round wait for the next system call */
#define THREADS 8u /* enough to keep a disk busy; writes to one file queue up in the kernel */
#define SLOW_NS 1000000u
#define PENALTY_NS 100000000u
#define FLUSH_QUICK_NS 500000u /* a flush of this length is no worse than a long copy */

struct op {
	struct wh_pool_job job;
	struct wh_list node; /* free, or waiting for room in the ring */
	struct blockio_file *file;
	struct wh_block_io *io;
	uint64_t done;
	int result;
};

struct wh_blockio {
	struct wh_loop *loop;
	struct wh_pool *pool;
	struct ring ring;
	struct wh_loop_fd watch;
	struct wh_loop_hook hook;
	struct wh_list free, waiting;
	uint32_t busy;
	bool eager;
	uint64_t lazy_until_ns;   /* eager writes rest */
	uint64_t flush_ns;        /* how long the last one took */
	uint64_t flush_probed_ns; /* when that was */
};

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct op *op_get(struct wh_blockio *e, struct blockio_file *f, struct wh_block_io *io)
{
	struct wh_list *n = wh_list_pop_front(&e->free);
	struct op *o = n ? WH_LIST_ENTRY(n, struct op, node) : malloc(sizeof *o);
	if (!o)
		return NULL;
	wh_list_init(&o->node);
	wh_list_init(&o->job.node);
	o->file = f;
	o->io = io;
	o->done = 0;
	o->result = 0;
	e->busy++;
	return o;
}

/* A flush that failed has lost what it was to write; the next one would succeed and mean nothing. */
static int remember(struct blockio_file *f, const struct wh_block_io *io, int result)
{
	if (io->kind != WH_BLOCK_IO_FLUSH)
		return result;
	if (result < 0 && !f->flush_error)
		f->flush_error = result;
	return f->flush_error;
}

static void op_end(struct op *o, int result)
{
	struct wh_blockio *e = o->file->io;
	struct wh_block_io *io = o->io;
	result = remember(o->file, io, result);
	blockio_forget_data(o->file, io->kind);
	wh_list_push_front(&e->free, &o->node);
	wh_assert(e->busy);
	e->busy--;
	io->done(io, result);
}

/* ---- threads ---- */

static void work(struct wh_pool_job *job)
{
	struct op *o = WH_CONTAINER_OF(job, struct op, job);
	o->result =
		o->done ? blockio_transfer(o->file, o->io, o->done) : blockio_do(o->file, o->io);
}

static void worked(struct wh_pool_job *job)
{
	struct op *o = WH_CONTAINER_OF(job, struct op, job);
	op_end(o, o->result);
}

static void to_thread(struct op *o)
{
	o->job.work = work;
	o->job.done = worked;
	wh_pool_submit(o->file->io->pool, &o->job);
}

/* ---- ring ---- */

static bool prepare(struct op *o)
{
	const struct wh_block_io *io = o->io;
	struct io_uring_sqe *s = ring_get(&o->file->io->ring);
	if (!s)
		return false;
	s->user_data = (uintptr_t)o;
	if (io->kind == WH_BLOCK_IO_FLUSH) {
		s->opcode = IORING_OP_FSYNC;
		s->fsync_flags = IORING_FSYNC_DATASYNC;
		s->fd = o->file->fd;
		return true;
	}
	s->opcode = io->kind == WH_BLOCK_IO_READ ? IORING_OP_READV : IORING_OP_WRITEV;
	s->fd = blockio_fd(o->file, io->offset, io->iov, (int)io->iov_count);
	s->addr = (uintptr_t)io->iov;
	s->len = io->iov_count;
	s->off = io->offset;
	return true;
}

static void ring_result(struct op *o, int result)
{
	const struct wh_block_io *io = o->io;
	if (result == -WH_EINTR || result == -WH_EAGAIN) {
		to_thread(o);
		return;
	}
	if (result >= 0 && io->kind != WH_BLOCK_IO_FLUSH && (uint64_t)result < io->size) {
		o->done = (uint64_t)result; /* 0: at the end of the file, or no space; told there */
		to_thread(o);
		return;
	}
	op_end(o, result < 0 ? result : 0);
}

static bool reap(struct wh_blockio *e)
{
	uint64_t data;
	int result;
	bool any = false;
	while (ring_reap(&e->ring, &data, &result)) {
		ring_result((struct op *)(uintptr_t)data, result);
		any = true;
	}
	return any;
}

static bool before_sleep(struct wh_loop_hook *hook)
{
	struct wh_blockio *e = hook->ctx;
	if (e->ring.fd < 0)
		return false;
	while (!wh_list_empty(&e->waiting)) {
		struct op *o = WH_LIST_ENTRY(e->waiting.next, struct op, node);
		if (!prepare(o))
			break;
		wh_list_remove(&o->node);
	}
	if (!e->ring.prepared)
		return false;
	int r = ring_submit(&e->ring);
	/* Not taken (out of memory, completions not fetched): fetch and come back. */
	return reap(e) || r < 0;
}

static void ring_ready(struct wh_loop_fd *watch, uint32_t events)
{
	(void)reap(watch->ctx);
}

static void to_ring(struct op *o)
{
	struct wh_blockio *e = o->file->io;
	if (!wh_list_empty(&e->waiting) || !prepare(o))
		wh_list_push_back(&e->waiting, &o->node);
}

/* ---- at once or not ---- */

/* Writes into the page cache, unless they lately had to wait. */
static bool write_now(struct wh_blockio *e, struct blockio_file *f, const struct wh_block_io *io,
		      int *ret_result)
{
	if (!f->memory) {
		if (!e->eager || blockio_fd(f, io->offset, io->iov, (int)io->iov_count) != f->fd)
			return false;
		if (e->lazy_until_ns && wh_loop_now(e->loop) < e->lazy_until_ns)
			return false;
	}
	uint64_t begin = now_ns();
	*ret_result = blockio_transfer(f, io, 0);
	uint64_t end = now_ns();
	e->lazy_until_ns = end - begin > SLOW_NS + io->size ? end + PENALTY_NS : 0;
	return true;
}

/* Handing a flush over costs two wake-ups, which is much of a quick one. Nobody waits behind it when
 * nothing else is under way. */
static bool flush_now(struct wh_blockio *e, struct blockio_file *f, const struct wh_block_io *io,
		      int *ret_result)
{
	if (f->unsafe || f->memory) {
		*ret_result = 0;
		return true;
	}
	if (!e->eager || e->busy)
		return false;
	if (e->flush_ns > FLUSH_QUICK_NS && wh_loop_now(e->loop) < e->flush_probed_ns + PENALTY_NS)
		return false;
	uint64_t begin = now_ns();
	*ret_result = blockio_do(f, io);
	e->flush_probed_ns = now_ns();
	e->flush_ns = e->flush_probed_ns - begin;
	return true;
}

int blockio_submit(struct blockio_file *f, struct wh_block_io *io)
{
	struct wh_blockio *e = f->io;
	uint64_t have = 0;
	int r;
	blockio_forget_data(f, io->kind);
	if (io->kind == WH_BLOCK_IO_FLUSH && f->flush_error)
		return f->flush_error;
	if (!e || io->flags & WH_BLOCK_IO_NOW)
		return remember(f, io, blockio_do(f, io));
	if (io->kind == WH_BLOCK_IO_READ &&
	    blockio_fd(f, io->offset, io->iov, (int)io->iov_count) == f->fd) {
		have = blockio_read_cached(f, io);
		if (have == io->size)
			return 0;
	}
	if (io->kind == WH_BLOCK_IO_WRITE && write_now(e, f, io, &r))
		return r;
	if (io->kind == WH_BLOCK_IO_FLUSH && flush_now(e, f, io, &r))
		return remember(f, io, r);
	struct op *o = op_get(e, f, io);
	if (!o)
		return remember(f, io, blockio_do(f, io)); /* no memory: wait for it */
	o->done = have;
	bool plain = io->kind <= WH_BLOCK_IO_FLUSH;
	_Static_assert(WH_BLOCK_IO_READ < WH_BLOCK_IO_FLUSH &&
			       WH_BLOCK_IO_WRITE < WH_BLOCK_IO_FLUSH,
		       "what the ring does comes first");
	if (e->ring.fd >= 0 && plain && !have)
		to_ring(o);
	else
		to_thread(o);
	return WH_BLOCK_LATER;
}

/* ---- making one ---- */

const char *wh_blockio_name(const struct wh_blockio *io)
{
	return io->ring.fd >= 0 ? "io_uring" : "threads";
}

static int ring_start(struct wh_blockio *e, enum wh_blockio_kind kind, struct wh_diag *diag)
{
	int r = kind == WH_BLOCKIO_THREADS ? -WH_ENOSYS : ring_open(&e->ring, RING_ENTRIES);
	if (r >= 0) {
		e->watch = (struct wh_loop_fd){
			.fd = e->ring.fd, .events = WH_LOOP_READ, .fn = ring_ready, .ctx = e
		};
		r = wh_loop_add(e->loop, &e->watch);
		if (r < 0)
			ring_close(&e->ring);
	}
	if (r < 0 && kind == WH_BLOCKIO_URING)
		return wh_diag_set(
			diag, r,
			"io_uring is not to be had here (error %d): the kernel, a container "
			"or the sysctl kernel.io_uring_disabled forbids it; use threads",
			-r);
	return 0;
}

int wh_blockio_new(const struct wh_blockio_config *config, struct wh_blockio **ret_io,
		   struct wh_diag *diag)
{
	wh_assert(config->size == sizeof *config);
	struct wh_blockio *e = calloc(1, sizeof *e);
	if (!e)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory");
	e->loop = config->loop;
	e->eager = config->eager;
	e->ring.fd = -1;
	wh_list_init(&e->free);
	wh_list_init(&e->waiting);
	int r = wh_pool_new(e->loop, THREADS, &e->pool);
	if (r < 0) {
		free(e);
		return wh_diag_set(diag, r, "no threads for disks (error %d)", -r);
	}
	wh_pool_thread_begins(e->pool, config->thread_begins, config->ctx);
	r = ring_start(e, config->kind, diag);
	if (r < 0) {
		wh_pool_free(e->pool);
		free(e);
		return r;
	}
	e->hook = (struct wh_loop_hook){ .before_sleep = before_sleep, .ctx = e };
	wh_loop_hook_add(e->loop, &e->hook);
	*ret_io = e;
	return 0;
}

void wh_blockio_free(struct wh_blockio *io)
{
	if (!io)
		return;
	wh_assert(!io->busy);
	wh_loop_hook_remove(io->loop, &io->hook);
	if (io->ring.fd >= 0) {
		wh_loop_remove(io->loop, &io->watch);
		ring_close(&io->ring);
	}
	wh_pool_free(io->pool);
	for (struct wh_list *n; (n = wh_list_pop_front(&io->free));)
		free(WH_LIST_ENTRY(n, struct op, node));
	free(io);
}
