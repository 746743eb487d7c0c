/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <fs/stat.h>
#include <wherry/base/mem.h>

static uint32_t mode_of(const struct fs_file *f)
{
	switch (f->ops->kind) {
	case FS_KIND_PIPE:
		return LX_S_IFIFO | 0600;
	case FS_KIND_SOCKET:
		return LX_S_IFSOCK | 0777;
	case FS_KIND_CONSOLE:
		return LX_S_IFCHR | 0620;
	case FS_KIND_DEVICE:
		return LX_S_IFCHR | 0666;
	default:
		return 0600; /* as Linux's anonymous inodes: no type */
	}
}

int fs_file_stat(struct fs_file *f, struct fs_stat *ret_stat)
{
	memset(ret_stat, 0, sizeof *ret_stat);
	ret_stat->mode = mode_of(f);
	ret_stat->nlink = 1;
	ret_stat->blksize = 4096;
	ret_stat->ino = (uintptr_t)f >> 4;
	if (!f->ops->stat)
		return 0;
	fs_file_ref(f); /* it may ask a server, and another thread may close meanwhile */
	int r = f->ops->stat(f, ret_stat);
	fs_file_unref(f);
	return r;
}

int64_t fs_file_size(struct fs_file *f)
{
	if (f->ops->size)
		return f->ops->size(f);
	struct fs_stat st;
	int r = fs_file_stat(f, &st);
	return r < 0 ? r : st.size;
}
