/* SPDX-License-Identifier: ISC */
/*
 * sendfile through a buffer: one copy more than a program's own loop saves, but
 * one call. The buffer belongs to the call: two threads may send at once.
 */

#include "user.h"
#include <fs/file.h>
#include <posix/file.h>

#define CHUNK (64u << 10)

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

long wh_sys_sendfile(int out_fd, int in_fd, int64_t *offset, size_t count)
{
	struct fs_file *in = fs_fd_get(in_fd), *out = fs_fd_get(out_fd);
	int64_t done = 0, n = 0;
	if (!in || !out)
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
	size_t chunk = count < CHUNK ? (count ? count : 1) : CHUNK;
	void *buffer = kern_alloc(chunk);
	if (!buffer)
		return -WH_ENOMEM;
	fs_file_ref(in);
	fs_file_ref(out);
	while ((uint64_t)done < count) {
		size_t want = count - (size_t)done < chunk ? count - (size_t)done : chunk;
		n = move(out, in, at + (uint64_t)done, buffer, want);
		if (n <= 0)
			break;
		done += n;
	}
	if (offset)
		*offset = (int64_t)at + done;
	else
		in->position = at + (uint64_t)done;
	fs_file_unref(in);
	fs_file_unref(out);
	kern_free(buffer, chunk);
	return done ? done : n;
}
