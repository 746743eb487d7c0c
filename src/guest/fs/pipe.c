/* SPDX-License-Identifier: ISC */

/*
 * Pipes: one ring of bytes between two files. The ring starts with a page and
 * doubles up to its limit when a writer finds it full, so idle pipes are small.
 * A write of up to PIPE_BUF bytes goes in whole or not at all.
 */

#include <fs/pipe.h>
#include <fs/stat.h>
#include <kern/mem.h>
#include <kern/signal.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

#define PIPE_BUF 4096u
#define SIZE_FIRST 4096u
#define SIZE_DEFAULT (64u << 10)
#define SIZE_MAX_PIPE (1u << 20)
#define F_SETPIPE_SZ 1031
#define F_GETPIPE_SZ 1032

struct end {
	struct fs_file file;
	struct pipe *pipe;
};

struct pipe {
	struct end reader, writer; /* an end that is closed has no references */
	uint8_t *ring;
	uint32_t size;       /* of the ring, power of two */
	uint32_t limit;      /* it may grow to this */
	uint64_t head, tail; /* bytes written and read since the beginning */
};

static struct pipe *pipe_of(struct fs_file *f)
{
	return WH_CONTAINER_OF(f, struct end, file)->pipe;
}

static bool is_open(const struct end *e)
{
	return e->pipe;
}

static uint32_t used(const struct pipe *p)
{
	return (uint32_t)(p->head - p->tail);
}

/* Copies between the ring at `at` and memory; the range is known to fit. */
static void ring_copy(struct pipe *p, uint64_t at, void *memory, size_t size, bool into_ring)
{
	uint32_t offset = (uint32_t)(at & (p->size - 1));
	size_t first = size < p->size - offset ? size : p->size - offset;
	uint8_t *m = memory;
	if (into_ring) {
		memcpy(p->ring + offset, m, first);
		memcpy(p->ring, m + first, size - first);
	} else {
		memcpy(m, p->ring + offset, first);
		memcpy(m + first, p->ring, size - first);
	}
}

static int resize(struct pipe *p, uint32_t size)
{
	uint32_t n = used(p);
	if (size < n)
		return -WH_EBUSY;
	uint8_t *ring = kern_alloc(size);
	if (!ring)
		return -WH_ENOMEM;
	if (p->ring)
		ring_copy(p, p->tail, ring, n, false);
	kern_free(p->ring, p->size);
	p->ring = ring;
	p->size = size;
	p->tail = 0;
	p->head = n;
	return 0;
}

/* Room for `want` bytes, growing for it as far as the limit goes. */
static uint32_t room_for(struct pipe *p, size_t want)
{
	while (p->size - used(p) < want && p->size < p->limit)
		if (resize(p, p->size ? p->size * 2 : SIZE_FIRST) < 0)
			break;
	return p->size - used(p);
}

static int64_t pipe_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			 bool nonblock)
{
	struct pipe *p = pipe_of(f);
	int64_t done = 0;
	if (!wh_iov_size(iov, (size_t)count))
		return 0;
	while (!used(p)) {
		if (!is_open(&p->writer))
			return 0;
		int r = fs_file_wait(f, nonblock);
		if (r < 0)
			return r;
	}
	for (int i = 0; i < count && used(p); i++) {
		size_t n = iov[i].size < used(p) ? iov[i].size : used(p);
		ring_copy(p, p->tail, iov[i].base, n, false);
		p->tail += n;
		done += (int64_t)n;
	}
	if (is_open(&p->writer))
		kern_waitq_wake(&p->writer.file.waitq, LX_POLLOUT | LX_POLLWRNORM, UINT32_MAX);
	return done;
}

/* What fits of the list behind `offset`. */
static size_t put(struct pipe *p, const struct wh_iov *iov, int count, size_t offset, size_t size)
{
	size_t done = 0;
	for (int i = 0; i < count && done < size; i++) {
		if (offset >= iov[i].size) {
			offset -= iov[i].size;
			continue;
		}
		size_t n = iov[i].size - offset;
		if (n > size - done)
			n = size - done;
		ring_copy(p, p->head, (uint8_t *)iov[i].base + offset, n, true);
		p->head += n;
		done += n;
		offset = 0;
	}
	return done;
}

static int64_t pipe_write(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			  bool nonblock)
{
	struct pipe *p = pipe_of(f);
	size_t size = wh_iov_size(iov, (size_t)count), done = 0;
	if (!size)
		return 0;
	while (done < size) {
		if (!is_open(&p->reader)) {
			if (done)
				break;
			kern_signal_raise(LX_SIGPIPE);
			return -WH_EPIPE;
		}
		size_t left = size - done, room = room_for(p, left);
		if (room && (room >= left || size > PIPE_BUF)) {
			done += put(p, iov, count, done, room < left ? room : left);
			kern_waitq_wake(&p->reader.file.waitq, LX_POLLIN | LX_POLLRDNORM,
					UINT32_MAX);
			continue;
		}
		int r = fs_file_wait(f, nonblock);
		if (r < 0)
			return done ? (int64_t)done : r;
	}
	return (int64_t)done;
}

static uint32_t reader_poll(struct fs_file *f)
{
	struct pipe *p = pipe_of(f);
	return (used(p) ? LX_POLLIN | LX_POLLRDNORM : 0) | (is_open(&p->writer) ? 0 : LX_POLLHUP);
}

static uint32_t writer_poll(struct fs_file *f)
{
	struct pipe *p = pipe_of(f);
	if (!is_open(&p->reader))
		return LX_POLLOUT | LX_POLLWRNORM | LX_POLLERR;
	return p->limit - used(p) >= PIPE_BUF ? LX_POLLOUT | LX_POLLWRNORM : 0;
}

static int pipe_ioctl(struct fs_file *f, unsigned long request, unsigned long argument)
{
	if (request != 0x541b) /* FIONREAD */
		return -WH_ENOTTY;
	if (!kern_user_writable((void *)argument, sizeof(int)))
		return -WH_EFAULT;
	*(int *)argument = (int)used(pipe_of(f));
	return 0;
}

static void pipe_release(struct fs_file *f)
{
	struct end *e = WH_CONTAINER_OF(f, struct end, file);
	struct pipe *p = e->pipe;
	struct end *other = e == &p->reader ? &p->writer : &p->reader;
	e->pipe = NULL;
	if (is_open(other)) {
		kern_waitq_wake(&other->file.waitq,
				LX_POLLHUP | LX_POLLERR | LX_POLLIN | LX_POLLOUT, UINT32_MAX);
		return;
	}
	kern_free(p->ring, p->size);
	kern_free(p, sizeof *p);
}

static const struct fs_file_ops reader_ops = {
	.read = pipe_read,
	.poll = reader_poll,
	.ioctl = pipe_ioctl,
	.release = pipe_release,
	.kind = FS_KIND_PIPE,
};

static const struct fs_file_ops writer_ops = {
	.write = pipe_write,
	.poll = writer_poll,
	.ioctl = pipe_ioctl,
	.release = pipe_release,
	.kind = FS_KIND_PIPE,
};

int fs_pipe_new(uint32_t flags, struct fs_file **ret_reader, struct fs_file **ret_writer)
{
	struct pipe *p = kern_alloc_zero(sizeof *p);
	if (!p)
		return -WH_ENOMEM;
	p->limit = SIZE_DEFAULT;
	p->reader.pipe = p->writer.pipe = p;
	fs_file_init(&p->reader.file, &reader_ops, LX_O_RDONLY | flags);
	fs_file_init(&p->writer.file, &writer_ops, LX_O_WRONLY | flags);
	*ret_reader = &p->reader.file;
	*ret_writer = &p->writer.file;
	return 0;
}

/* fcntl's two pipe commands. */
long fs_pipe_fcntl(struct fs_file *f, int command, unsigned long argument)
{
	if (f->ops != &reader_ops && f->ops != &writer_ops)
		return -WH_EBADF;
	struct pipe *p = pipe_of(f);
	if (command == F_GETPIPE_SZ)
		return p->limit;
	wh_assert(command == F_SETPIPE_SZ);
	uint32_t limit = SIZE_FIRST;
	if (argument > SIZE_MAX_PIPE)
		return -WH_EPERM;
	while (limit < argument)
		limit *= 2;
	if (limit < used(p))
		return -WH_EBUSY;
	if (p->size > limit && resize(p, limit) < 0)
		return -WH_ENOMEM;
	p->limit = limit;
	return limit;
}
