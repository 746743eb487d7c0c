/* SPDX-License-Identifier: ISC */
/*
 * Opening host files and the images in them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "blockio_priv.h"

static void *malloc_alloc(void *ctx, size_t size, size_t align)
{
	return malloc(size);
}

static void malloc_free(void *ctx, void *memory, size_t size)
{
	free(memory);
}

const struct wh_alloc wh_block_malloc = { .alloc = malloc_alloc, .free = malloc_free };

int wh_block_cache_parse(const char *name, enum wh_block_cache *ret_cache)
{
	static const char *const names[] = { "writeback", "none", "unsafe" };
	_Static_assert(WH_ARRAY_COUNT(names) == WH_BLOCK_CACHE_UNSAFE + 1, "one name a mode");
	for (unsigned i = 0; i < WH_ARRAY_COUNT(names); i++)
		if (wh_streq(name, names[i])) {
			*ret_cache = (enum wh_block_cache)i;
			return 0;
		}
	return -WH_EINVAL;
}

static int file_submit(void *ctx, struct wh_block_io *io)
{
	return blockio_submit(ctx, io);
}

/* Some file systems look through all that follows for the next hole, so whoever goes through a file in pieces asks once for
 * each stretch of data. Holes are asked for each time: one may be filled by then. */
static int file_map(void *ctx, uint64_t offset, uint64_t size, bool *ret_data, uint64_t *ret_size)
{
	struct blockio_file *f = ctx;
	uint64_t n = size;
	bool is_data = f->data_start <= offset && offset < f->data_end;
	if (!is_data) {
		off_t data = lseek(f->fd, (off_t)offset, SEEK_DATA), end = 0;
		if (data < 0 && errno != ENXIO)
			return -errno;
		is_data = data == (off_t)offset;
		if (is_data)
			end = lseek(f->fd, (off_t)offset, SEEK_HOLE);
		if (end < 0)
			return -errno;
		if (is_data) {
			f->data_start = offset;
			f->data_end = (uint64_t)end;
		} else if (data >= 0) {
			n = (uint64_t)data - offset;
		} /* else no data follows */
	}
	if (is_data)
		n = f->data_end - offset;
	*ret_data = is_data;
	*ret_size = n < size ? n : size;
	return 0;
}

static int file_size(void *ctx, uint64_t *ret_size)
{
	struct blockio_file *f = ctx;
	struct stat st;
	if (f->device)
		return ioctl(f->fd, BLKGETSIZE64, ret_size) ? -errno : 0;
	if (fstat(f->fd, &st))
		return -errno;
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

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

/* A second descriptor of the same file, past the page cache. */
static int open_direct(struct blockio_file *f, const char *path, int mode, struct wh_diag *diag)
{
	char name[40];
	wh_format(name, sizeof name, "/proc/self/fd/%d", f->fd);
	f->direct_fd = open(name, mode | O_DIRECT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (f->direct_fd < 0)
		return wh_diag_set(
			diag, -errno,
			"%s: cache=none is not possible there (error %d): the file system "
			"has no direct I/O; use cache=writeback",
			path, errno);
	blockio_direct_align(f->direct_fd, &f->direct_memory, &f->direct_offset);
	return 0;
}

static int settle(struct blockio_file *f, const struct wh_block_file_config *c,
		  struct wh_diag *diag)
{
	bool read_only = c->flags & WH_BLOCK_FILE_READ_ONLY;
	struct statfs fs;
	struct stat st;
	if (fstat(f->fd, &st))
		return wh_diag_set(diag, -errno, "%s: cannot be looked at (error %d)", c->path,
				   errno);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return wh_diag_set(diag, S_ISDIR(st.st_mode) ? -WH_EISDIR : -WH_EINVAL,
				   "%s: neither a file nor a block device", c->path);
	if (!(c->flags & WH_BLOCK_FILE_NO_LOCK) && blockio_lock(f->fd, !read_only) < 0)
		return wh_diag_set(
			diag, -WH_EBUSY,
			"%s: in use by another program (a running machine, QEMU or qemu-img)",
			c->path);
	f->device = S_ISBLK(st.st_mode);
	f->memory = !f->device && !fstatfs(f->fd, &fs) &&
		    (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
	f->unsafe = c->cache == WH_BLOCK_CACHE_UNSAFE;
	if (c->cache == WH_BLOCK_CACHE_NONE && !f->memory)
		return open_direct(f, c->path, read_only ? O_RDONLY : O_RDWR, diag);
	return 0;
}

static void file_free(struct blockio_file *f)
{
	if (f->direct_fd >= 0)
		close(f->direct_fd);
	if (f->fd >= 0)
		close(f->fd); /* what counts was flushed; locks go with it */
	free(f->path);
	free(f);
}

int wh_block_file_open(const struct wh_block_file_config *config, struct wh_block_file *ret_file,
		       struct wh_diag *diag)
{
	static const struct wh_block_file_ops ops = { .submit = file_submit,
						      .size = file_size,
						      .map = file_map };
	wh_assert(config->size == sizeof *config);
	bool read_only = config->flags & WH_BLOCK_FILE_READ_ONLY;
	int mode = read_only ? O_RDONLY : O_RDWR;
	if (config->flags & WH_BLOCK_FILE_CREATE)
		mode |= O_CREAT | O_EXCL;
	struct blockio_file *f = calloc(1, sizeof *f);
	if (!f)
		return wh_diag_set(diag, -WH_ENOMEM, "%s: no memory", config->path);
	*f = (struct blockio_file){ .direct_fd = -1, .io = config->io };
	/* Not blocking: a pipe or a terminal is refused below instead of waited for. */
	f->fd = open(config->path, mode | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
	f->path = strdup(config->path);
	int r = !f->path    ? wh_diag_set(diag, -WH_ENOMEM, "%s: no memory", config->path)
		: f->fd < 0 ? open_failed(config->path, errno, read_only, diag)
			    : settle(f, config, diag);
	if (r < 0) {
		file_free(f);
		return r;
	}
	*ret_file = (struct wh_block_file){ .ops = &ops, .ctx = f, .read_only = read_only };
	return 0;
}

void wh_block_file_close(struct wh_block_file *file)
{
	if (file->ctx)
		file_free(file->ctx);
	*file = (struct wh_block_file){ 0 };
}

int wh_block_file_preallocate(struct wh_block_file *file, uint64_t from, uint64_t size,
			      enum wh_block_preallocation how, struct wh_diag *diag)
{
	struct blockio_file *f = file->ctx;
	int r = 0;
	if (f->device)
		return 0;
	if (how > WH_BLOCK_PREALLOCATION_METADATA && size > from) {
		r = fallocate(f->fd, 0, (off_t)from, (off_t)(size - from)) ? -errno : 0;
		if (how == WH_BLOCK_PREALLOCATION_FULL && (!r || r == -WH_EOPNOTSUPP))
			r = blockio_write_zeros(f, from, size - from);
	}
	if (r >= 0 && ftruncate(f->fd, (off_t)size))
		r = -errno;
	if (r == -WH_EOPNOTSUPP)
		return wh_diag_set(diag, r,
				   "this file system cannot reserve space "
				   "(use preallocation=full or off)");
	if (r == -WH_ENOSPC)
		return wh_diag_set(diag, r, "no space for %llu bytes", (unsigned long long)size);
	return r < 0 ? wh_diag_set(diag, r, "cannot make it %llu bytes long (error %d)",
				   (unsigned long long)size, -r)
		     : 0;
}
