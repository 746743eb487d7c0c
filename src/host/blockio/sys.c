/* SPDX-License-Identifier: ISC */
/*
 * Operations of a file by system calls that wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "blockio_priv.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

#define ZEROS_SIZE (64u << 10)

int blockio_fd(const struct blockio_file *f, uint64_t offset, const struct wh_iov *v, int count)
{
	uint64_t bits = 0, memory = 0;
	if (f->direct_fd < 0)
		return f->fd;
	for (int i = 0; i < count; i++) {
		bits |= v[i].size;
		memory |= (uintptr_t)v[i].base;
	}
	if ((offset | bits) & (f->direct_offset - 1) || memory & (f->direct_memory - 1))
		return f->fd; /* the kernel keeps both views of the file the same */
	return f->direct_fd;
}

int blockio_transfer(struct blockio_file *f, const struct wh_block_io *io, uint64_t done)
{
	struct wh_iov v[WH_BLOCK_IOV_SLICE];
	wh_assert(io->iov_count <= WH_BLOCK_IOV_SLICE &&
		  wh_iov_size(io->iov, io->iov_count) == io->size);
	while (done < io->size) {
		int n = wh_iov_slice(io->iov, io->iov_count, done, io->size - done, v,
				     WH_BLOCK_IOV_SLICE);
		int fd = blockio_fd(f, io->offset + done, v, n);
		off_t at = (off_t)(io->offset + done);
		ssize_t r = io->kind == WH_BLOCK_IO_READ ? preadv(fd, (struct iovec *)v, n, at)
							 : pwritev(fd, (struct iovec *)v, n, at);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0 && io->kind == WH_BLOCK_IO_WRITE)
			return -WH_ENOSPC;
		if (r == 0) { /* the file's end: zeroes follow */
			for (int i = 0; i < n; i++)
				memset(v[i].base, 0, v[i].size);
			return 0;
		}
		done += (uint64_t)r;
	}
	return 0;
}

uint64_t blockio_read_cached(struct blockio_file *f, const struct wh_block_io *io)
{
	if (f->no_nowait && !f->memory)
		return 0;
	/* By number: older musl has no preadv2. The offset's upper half is for 32-bit systems. */
	ssize_t r = syscall(SYS_preadv2, f->fd, io->iov, (long)io->iov_count, (long)io->offset,
			    (long)(io->offset >> 16 >> 16), f->no_nowait ? 0 : RWF_NOWAIT);
	if (r < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
		f->no_nowait = true;
		return f->memory ? blockio_read_cached(f, io) : 0;
	}
	return r < 0 ? 0 : (uint64_t)r;
}

int blockio_write_zeros(struct blockio_file *f, uint64_t offset, uint64_t size)
{
	/* Not in the file: it is as large as a quarter of a small program. */
	static const uint8_t zeros[ZEROS_SIZE] __attribute__((section(".bss.zeros")));
	while (size) {
		size_t n = size < sizeof zeros ? (size_t)size : sizeof zeros;
		ssize_t r = pwrite(f->fd, zeros, n, (off_t)offset);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		offset += (uint64_t)r;
		size -= (uint64_t)r;
	}
	return 0;
}

static int try_fallocate(struct blockio_file *f, int mode, uint64_t offset, uint64_t size,
			 bool *cannot)
{
	if (__atomic_load_n(cannot, __ATOMIC_RELAXED))
		return -WH_EOPNOTSUPP;
	while (fallocate(f->fd, mode, (off_t)offset, (off_t)size)) {
		int error = errno;
		if (error == EOPNOTSUPP || error == ENOSYS || error == ENODEV)
			__atomic_store_n(cannot, true, __ATOMIC_RELAXED);
		if (error != EINTR)
			return -error;
	}
	return 0;
}

/* The range reads as zeroes afterwards, and the file is at least that long. */
static int zero(struct blockio_file *f, const struct wh_block_io *io)
{
	struct stat st;
	uint64_t end = io->offset + io->size;
	int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, r = -WH_EOPNOTSUPP;
	if (io->flags & WH_BLOCK_IO_UNMAP && !f->device)
		r = try_fallocate(f, punch, io->offset, io->size, &f->no_punch);
	if (r < 0)
		r = try_fallocate(f, FALLOC_FL_ZERO_RANGE, io->offset, io->size, &f->no_zero);
	if (r < 0 && io->flags & WH_BLOCK_IO_FAST)
		return -WH_EOPNOTSUPP;
	if (r < 0)
		return blockio_write_zeros(f, io->offset, io->size);
	if (f->device || fstat(f->fd, &st) || (uint64_t)st.st_size >= end)
		return 0;
	/* Not ftruncate: another thread may have made the file longer meanwhile. The byte is ours. */
	return blockio_write_zeros(f, end - 1, 1);
}

static int discard(struct blockio_file *f, const struct wh_block_io *io)
{
	/* Only a hint: a file system without holes is no error. */
	(void)try_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, io->offset, io->size,
			    &f->no_punch);
	return 0;
}

int blockio_do(struct blockio_file *f, const struct wh_block_io *io)
{
	switch (io->kind) {
	case WH_BLOCK_IO_READ:
	case WH_BLOCK_IO_WRITE:
		return blockio_transfer(f, io, 0);
	case WH_BLOCK_IO_FLUSH:
		return f->unsafe ? 0 : fdatasync(f->fd) ? -errno : 0;
	case WH_BLOCK_IO_ZERO:
		return zero(f, io);
	case WH_BLOCK_IO_DISCARD:
		return discard(f, io);
	case WH_BLOCK_IO_RESIZE:
		return ftruncate(f->fd, (off_t)io->offset) ? -errno : 0;
	default:
		return -WH_EOPNOTSUPP;
	}
}
