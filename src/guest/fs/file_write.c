/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <fs/linux.h>
#include <wherry/base/errors.h>

int64_t fs_file_write(struct fs_file *f, const struct wh_iov *iov, int count,
		      const uint64_t *offset)
{
	if ((f->flags & LX_O_ACCMODE) == LX_O_RDONLY || (f->flags & LX_O_PATH))
		return -WH_EBADF;
	if (!f->ops->write)
		return -WH_EINVAL;
	if (offset && !f->ops->seekable)
		return -WH_ESPIPE;
	fs_file_ref(f);
	uint64_t at = offset ? *offset : f->position;
	int64_t n = 0;
	if ((f->flags & LX_O_APPEND) && f->ops->seekable) {
		/* Linux appends even with pwrite. */
		n = fs_file_size(f);
		at = (uint64_t)n;
	}
	if (n >= 0)
		n = f->ops->write(f, iov, count, at, f->flags & LX_O_NONBLOCK);
	if (n > 0 && !offset && f->ops->seekable)
		f->position = at + (uint64_t)n;
	fs_file_unref(f);
	return n;
}
