/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/os.h>

#include "store_priv.h"

static int write_all(int fd, const void *data, size_t size, uint64_t at)
{
	const uint8_t *p = data;
	while (size) {
		ssize_t n = pwrite(fd, p, size, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -WH_EIO;
		p += n;
		at += (size_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int parent_sync(const char *path)
{
	char dir[4200];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	if (!slash || n >= sizeof dir)
		return 0;
	memcpy(dir, path, n);
	dir[n] = 0;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	if (fd < 0)
		return -errno;
	if (fsync(fd))
		r = -errno;
	close(fd);
	return r;
}

static int io_create(void *ctx, const char *path, const void *data, size_t size, bool sync)
{
	static unsigned counter;
	char temporary[4300];
	const char *slash = strrchr(path, '/');
	int dir_size = slash ? (int)(slash - path) : 0, fd, r = 0;
	for (int try = 0;; try++) {
		snprintf(temporary, sizeof temporary, "%.*s/tmp_obj_w%d_%u", dir_size, path,
			 (int)getpid(), __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED));
		fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
		if (fd >= 0)
			break;
		if (errno == ENOENT && !try) {
			char dir[4200];
			snprintf(dir, sizeof dir, "%.*s", dir_size, path);
			if (mkdir(dir, 0777) && errno != EEXIST)
				return -errno;
		} else if (errno != EEXIST || try > 100) {
			return -errno;
		}
	}
	r = write_all(fd, data, size, 0);
	if (r >= 0 && sync && fdatasync(fd))
		r = -errno;
	if (close(fd) && r >= 0)
		r = -errno;
	if (r >= 0 && rename(temporary, path))
		r = -errno;
	if (r < 0)
		unlink(temporary);
	else if (sync)
		r = parent_sync(path);
	return r;
}

static int io_pwrite(void *ctx, int fd, const char *path, const void *data, size_t size,
		     uint64_t at)
{
	return write_all(fd, data, size, at);
}

static int io_datasync(void *ctx, int fd, const char *path)
{
	return fdatasync(fd) ? -errno : 0;
}

static int io_rename(void *ctx, const char *from, const char *to)
{
	return rename(from, to) ? -errno : 0;
}

static int io_link(void *ctx, const char *from, const char *to)
{
	return link(from, to) ? -errno : 0;
}

static int io_unlink(void *ctx, const char *path)
{
	return unlink(path) ? -errno : 0;
}

static int io_open_new(void *ctx, const char *path, int flags)
{
	int fd = open(path, flags | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	return fd < 0 ? -errno : fd;
}

static int io_syncfs(void *ctx, int fd)
{
	return syncfs(fd) ? -errno : 0;
}

static int io_exchange(void *ctx, const char *a, const char *b)
{
	return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) ? -errno : 0;
}

static int io_sync_path(void *ctx, const char *path, bool folder)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | (folder ? O_DIRECTORY : 0)), r = 0;
	if (fd < 0)
		return -errno;
	if (fsync(fd))
		r = -errno;
	close(fd);
	return r;
}

const struct store_io store_io_linux = { .create = io_create,
					 .pwrite = io_pwrite,
					 .datasync = io_datasync,
					 .rename = io_rename,
					 .link = io_link,
					 .unlink = io_unlink,
					 .open_new = io_open_new,
					 .syncfs = io_syncfs,
					 .exchange = io_exchange,
					 .sync_path = io_sync_path,
					 .threads = true };
const struct store_io *store_io_default = &store_io_linux;
