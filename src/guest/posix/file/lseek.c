/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <posix/file.h>
#include <wherry/base/errors.h>

static long seek(struct fs_file *f, int64_t offset, int whence)
{
	int64_t base = 0, to;
	if (whence == LX_SEEK_CUR)
		base = (int64_t)f->position;
	else if (whence == LX_SEEK_END || whence == LX_SEEK_DATA || whence == LX_SEEK_HOLE)
		base = fs_file_size(f);
	else if (whence != LX_SEEK_SET)
		return -WH_EINVAL;
	if (base < 0)
		return base;
	if (whence == LX_SEEK_DATA || whence == LX_SEEK_HOLE) {
		/* Every file is one piece of data with the hole behind it. */
		if (offset < 0 || offset >= base)
			return -WH_ENXIO;
		to = whence == LX_SEEK_DATA ? offset : base;
	} else if (__builtin_add_overflow(base, offset, &to) || to < 0) {
		return -WH_EINVAL;
	}
	f->position = (uint64_t)to;
	return to;
}

long wh_sys_lseek(int fd, int64_t offset, int whence)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f || (f->flags & LX_O_PATH))
		return -WH_EBADF;
	if (!f->ops->seekable)
		return -WH_ESPIPE;
	fs_file_ref(f);
	long r = seek(f, offset, whence);
	fs_file_unref(f);
	return r;
}
