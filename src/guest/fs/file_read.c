/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <fs/linux.h>
#include <wherry/base/errors.h>

int64_t fs_file_read(struct fs_file *f, const struct wh_iov *iov, int count, const uint64_t *offset)
{
	if ((f->flags & LX_O_ACCMODE) == LX_O_WRONLY || (f->flags & LX_O_PATH))
		return -WH_EBADF;
	if (!f->ops->read)
		return -WH_EINVAL;
	if (offset && !f->ops->seekable)
		return -WH_ESPIPE;
	fs_file_ref(f);
	int64_t n = f->ops->read(f, iov, count, offset ? *offset : f->position,
				 f->flags & LX_O_NONBLOCK);
	if (n > 0 && !offset && f->ops->seekable)
		f->position += (uint64_t)n;
	fs_file_unref(f);
	return n;
}
