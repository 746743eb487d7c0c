/* SPDX-License-Identifier: ISC */
/*
 * A host file below an image. Operations are done at once, with p*v system calls.
 *
 * Locks as QEMU's file driver makes them (block/file-posix.c): byte 100+n of the file is locked
 * (shared, open file description) by whoever uses permission n, byte 200+n by whoever does not let
 * others use it. Having locked, one looks whether the opposite byte of anything conflicts.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/fs.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/block_file.h>

#define LOCK_USED 100
#define LOCK_NOT_SHARED 200
#define PERM_READ 0
#define PERM_WRITE 1
#define PERM_RESIZE 3
#define PERM_COUNT 4
#define ZEROS_SIZE (64u << 10)

struct file {
	int fd;
	bool device;
	bool no_punch, no_zero; /* the file system cannot */
};

static void *malloc_alloc(void *ctx, size_t size, size_t align)
{
	return malloc(size);
}

static void malloc_free(void *ctx, void *memory, size_t size)
{
	free(memory);
}

const struct wh_alloc wh_block_malloc = { .alloc = malloc_alloc, .free = malloc_free };

/* ---- operations ---- */

/* Moves all of io; a file that ends early reads as zeroes. */
static int transfer(struct file *f, const struct wh_block_io *io)
{
	struct wh_iov v[WH_BLOCK_IOV_SLICE];
	uint64_t done = 0;
	wh_assert(io->iov_count <= WH_BLOCK_IOV_SLICE &&
		  wh_iov_size(io->iov, io->iov_count) == io->size);
	while (done < io->size) {
		int n = wh_iov_slice(io->iov, io->iov_count, done, io->size - done, v,
				     WH_BLOCK_IOV_SLICE);
		off_t at = (off_t)(io->offset + done);
		ssize_t r = io->kind == WH_BLOCK_IO_READ ? preadv(f->fd, (struct iovec *)v, n, at)
							 : pwritev(f->fd, (struct iovec *)v, n, at);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0 && io->kind == WH_BLOCK_IO_WRITE)
			return -WH_ENOSPC;
		if (r == 0) {
			for (int i = 0; i < n; i++)
				memset(v[i].base, 0, v[i].size);
			return 0;
		}
		done += (uint64_t)r;
	}
	return 0;
}

static int write_zeros(struct file *f, uint64_t offset, uint64_t size)
{
	static const uint8_t zeros[ZEROS_SIZE];
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

static int try_fallocate(struct file *f, int mode, uint64_t offset, uint64_t size, bool *cannot)
{
	if (*cannot)
		return -WH_EOPNOTSUPP;
	while (fallocate(f->fd, mode, (off_t)offset, (off_t)size))
		if (errno != EINTR) {
			*cannot = errno == EOPNOTSUPP || errno == ENOSYS || errno == ENODEV;
			return -errno;
		}
	return 0;
}

/* The range reads as zeroes afterwards, and the file is at least that long. */
static int zero(struct file *f, const struct wh_block_io *io)
{
	struct stat st;
	uint64_t end = io->offset + io->size;
	int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, r = -WH_EOPNOTSUPP;
	if (io->flags & WH_BLOCK_IO_UNMAP && !f->device)
		r = try_fallocate(f, punch, io->offset, io->size, &f->no_punch);
	if (r < 0)
		r = try_fallocate(f, FALLOC_FL_ZERO_RANGE, io->offset, io->size, &f->no_zero);
	if (r < 0)
		return write_zeros(f, io->offset, io->size);
	if (f->device || fstat(f->fd, &st) || (uint64_t)st.st_size >= end)
		return 0;
	return ftruncate(f->fd, (off_t)end) ? -errno : 0;
}

static int discard(struct file *f, const struct wh_block_io *io)
{
	/* Only a hint: a file system without holes is no error. */
	(void)try_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, io->offset, io->size,
			    &f->no_punch);
	return 0;
}

static int file_submit(void *ctx, struct wh_block_io *io)
{
	struct file *f = ctx;
	switch (io->kind) {
	case WH_BLOCK_IO_READ:
	case WH_BLOCK_IO_WRITE:
		return transfer(f, io);
	case WH_BLOCK_IO_FLUSH:
		return fdatasync(f->fd) ? -errno : 0;
	case WH_BLOCK_IO_ZERO:
		return zero(f, io);
	case WH_BLOCK_IO_DISCARD:
		return discard(f, io);
	default:
		wh_assert(io->kind == WH_BLOCK_IO_RESIZE);
		return ftruncate(f->fd, (off_t)io->offset) ? -errno : 0;
	}
}

static int file_size(void *ctx, uint64_t *ret_size)
{
	struct file *f = ctx;
	struct stat st;
	if (f->device)
		return ioctl(f->fd, BLKGETSIZE64, ret_size) ? -errno : 0;
	if (fstat(f->fd, &st))
		return -errno;
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

/* ---- locks ---- */

static int lock_byte(int fd, int byte)
{
	struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	return fcntl(fd, F_OFD_SETLK, &l) ? -errno : 0;
}

/* Has somebody else locked it? */
static bool locked_by_others(int fd, int byte)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	return !fcntl(fd, F_OFD_GETLK, &l) && l.l_type != F_UNLCK;
}

/* A reader reads and lets nobody write; a writer also writes and may grow the file. */
static int lock(int fd, bool writer)
{
	unsigned used = 1u << PERM_READ, not_shared = 1u << PERM_WRITE | 1u << PERM_RESIZE;
	if (writer)
		used |= not_shared;
	for (int i = 0; i < PERM_COUNT; i++) {
		int r = used & 1u << i ? lock_byte(fd, LOCK_USED + i) : 0;
		if (r >= 0 && not_shared & 1u << i)
			r = lock_byte(fd, LOCK_NOT_SHARED + i);
		if (r == -EAGAIN || r == -EACCES)
			return -WH_EBUSY;
		if (r < 0)
			return 0; /* a file system without locks */
	}
	for (int i = 0; i < PERM_COUNT; i++) {
		if ((used & 1u << i && locked_by_others(fd, LOCK_NOT_SHARED + i)) ||
		    (not_shared & 1u << i && locked_by_others(fd, LOCK_USED + i)))
			return -WH_EBUSY;
	}
	return 0;
}

/* ---- opening ---- */

static int open_failed(const char *path, int error, bool read_only, struct wh_diag *diag)
{
	switch (error) {
	case ENOENT:
		return wh_diag_set(diag, -error,
				   "%s: no such file (make one with: wherry disk create)", path);
	case EACCES:
	case EPERM:
	case EROFS:
		return wh_diag_set(diag, -error, "%s: no permission to %s%s", path,
				   read_only ? "read it" : "write it",
				   read_only ? "" : " (open it read-only with ,ro)");
	case EEXIST:
		return wh_diag_set(diag, -error, "%s: exists already", path);
	default:
		return wh_diag_set(diag, -error, "%s: cannot be opened (error %d)", path, error);
	}
}

int wh_block_file_open(const char *path, uint32_t flags, struct wh_block_file *ret_file,
		       struct wh_diag *diag)
{
	static const struct wh_block_file_ops ops = { .submit = file_submit, .size = file_size };
	bool read_only = flags & WH_BLOCK_FILE_READ_ONLY;
	int mode = read_only ? O_RDONLY : O_RDWR, r = 0;
	struct stat st;
	if (flags & WH_BLOCK_FILE_CREATE)
		mode |= O_CREAT | O_EXCL;
	/* Not blocking: a pipe or a terminal is refused below instead of waited for. */
	int fd = open(path, mode | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
	if (fd < 0)
		return open_failed(path, errno, read_only, diag);
	struct file *f = calloc(1, sizeof *f);
	if (!f || fstat(fd, &st))
		r = wh_diag_set(diag, -WH_ENOMEM, "%s: no memory", path);
	else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		r = wh_diag_set(diag, S_ISDIR(st.st_mode) ? -WH_EISDIR : -WH_EINVAL,
				"%s: neither a file nor a block device", path);
	else if (!(flags & WH_BLOCK_FILE_NO_LOCK) && lock(fd, !read_only) < 0)
		r = wh_diag_set(
			diag, -WH_EBUSY,
			"%s: in use by another program (a running machine, QEMU or qemu-img)",
			path);
	if (r < 0) {
		free(f);
		close(fd);
		return r;
	}
	*f = (struct file){ .fd = fd, .device = S_ISBLK(st.st_mode) };
	*ret_file = (struct wh_block_file){ .ops = &ops, .ctx = f, .read_only = read_only };
	return 0;
}

void wh_block_file_close(struct wh_block_file *file)
{
	struct file *f = file->ctx;
	if (!f)
		return;
	close(f->fd); /* what counts was flushed; locks go with it */
	free(f);
	*file = (struct wh_block_file){ 0 };
}

/* Puts the file's name in front of what went wrong. */
static void diag_prefix(struct wh_diag *diag, const char *path)
{
	struct wh_diag old;
	if (!diag)
		return;
	old = *diag;
	wh_format(diag->text, sizeof diag->text, "%s: %s", path, old.text);
}

int wh_block_image_open(const char *path, enum wh_block_format format, bool read_only,
			const struct wh_log *log, struct wh_block_file *ret_file,
			struct wh_block **ret_block, struct wh_diag *diag)
{
	struct wh_block_file file;
	enum wh_block_format looks = WH_BLOCK_FORMAT_NONE;
	int r = wh_block_file_open(path, read_only ? WH_BLOCK_FILE_READ_ONLY : 0, &file, diag);
	if (r < 0)
		return r;
	struct wh_block_config c = { .size = sizeof c,
				     .file = file,
				     .format = format == WH_BLOCK_FORMAT_NONE ? WH_BLOCK_FORMAT_RAW
									      : format,
				     .read_only = read_only,
				     .alloc = &wh_block_malloc };
	if (log)
		c.log = *log;
	if (format == WH_BLOCK_FORMAT_NONE)
		r = wh_block_looks_like(&file, &looks);
	if (r < 0)
		wh_diag_set(diag, r, "cannot be read");
	else if (looks != WH_BLOCK_FORMAT_NONE)
		r = wh_diag_set(diag, -WH_EINVAL,
				"looks like a %s image, but formats are not guessed: say format=%s "
				"(or format=raw)",
				wh_block_format_name(looks), wh_block_format_name(looks));
	else
		r = wh_block_open(&c, ret_block, diag);
	if (r < 0) {
		diag_prefix(diag, path);
		wh_block_file_close(&file);
		return r;
	}
	*ret_file = file;
	return 0;
}
