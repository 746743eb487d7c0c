/* SPDX-License-Identifier: ISC */
/*
 * sendfile. What lies in memory (tmpfs, the embedded archive) goes to a socket
 * without a copy in between, when the socket will not wait: nobody can change
 * the file meanwhile. The rest goes through a buffer, which belongs to the call.
 */

#include "user.h"
#include <fs/file.h>
#include <posix/file.h>

#define CHUNK (64u << 10)
#define IOVS 16

/* One chunk; > 0 bytes moved, 0 at the end of the input. */
static int64_t move(struct fs_file *out, struct fs_file *in, uint64_t at, void *buffer, size_t size)
{
	struct wh_iov iov = { buffer, size };
	int64_t n = fs_file_read(in, &iov, 1, &at);
	if (n <= 0)
		return n;
	iov.size = (size_t)n;
	return fs_file_write(out, &iov, 1, NULL);
}

/* Straight from the file's memory; bytes moved, or an error. */
static int64_t send_borrowed(struct fs_file *out, struct fs_file *in, uint64_t at, size_t count)
{
	struct wh_iov iov[IOVS];
	int64_t done = 0;
	while ((uint64_t)done < count) {
		size_t size = 0, left = count - (size_t)done;
		int n = 0;
		for (; n < IOVS && size < left; n++) {
			const void *bytes;
			int64_t got = in->ops->peek(in, at + (uint64_t)done + size, &bytes);
			if (got <= 0)
				break;
			iov[n].base = (void *)(uintptr_t)bytes;
			iov[n].size = (size_t)got < left - size ? (size_t)got : left - size;
			size += iov[n].size;
		}
		int64_t moved = n ? fs_file_write(out, iov, n, NULL) : 0;
		if (moved <= 0)
			return done ? done : moved;
		done += moved;
		if ((size_t)moved < size)
			break;
	}
	return done;
}

static int64_t send_copied(struct fs_file *out, struct fs_file *in, uint64_t at, size_t count)
{
	size_t chunk = count < CHUNK ? (count ? count : 1) : CHUNK;
	int64_t done = 0, n = 0;
	void *buffer = kern_alloc(chunk);
	if (!buffer)
		return -WH_ENOMEM;
	while ((uint64_t)done < count) {
		size_t want = count - (size_t)done < chunk ? count - (size_t)done : chunk;
		n = move(out, in, at + (uint64_t)done, buffer, want);
		if (n <= 0)
			break;
		done += n;
	}
	kern_free(buffer, chunk);
	return done ? done : n;
}

long wh_sys_sendfile(int out_fd, int in_fd, int64_t *offset, size_t count)
{
	struct fs_file *in = fs_fd_get(in_fd), *out = fs_fd_get(out_fd);
	if (!in || !out || (in->flags & LX_O_ACCMODE) == LX_O_WRONLY)
		return -WH_EBADF;
	if (!in->ops->seekable || (out->flags & LX_O_APPEND))
		return -WH_EINVAL;
	if (offset && !kern_user_writable(offset, sizeof *offset))
		return -WH_EFAULT;
	uint64_t at = offset ? (uint64_t)*offset : in->position;
	if ((int64_t)at < 0)
		return -WH_EINVAL;
	if (count > LX_RW_MAX)
		count = LX_RW_MAX;
	fs_file_ref(in);
	fs_file_ref(out);
	int64_t n = in->ops->peek && (out->flags & LX_O_NONBLOCK)
			    ? send_borrowed(out, in, at, count)
			    : send_copied(out, in, at, count);
	if (n > 0 && offset)
		*offset = (int64_t)at + n;
	else if (n > 0)
		in->position = at + (uint64_t)n;
	fs_file_unref(in);
	fs_file_unref(out);
	return n;
}
