/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

/* In drv/blk.c; there when the image has disks. */
__attribute__((weak)) struct drv_blk *drv_blk_get(uint32_t index);
__attribute__((weak)) int drv_blk_flush(struct drv_blk *b);

long wh_sys_sync(void)
{
	struct drv_blk *b;
	for (struct fs_super *s = fs_supers; s; s = s->next)
		if (s->sync)
			s->sync(s);
	for (uint32_t i = 0; drv_blk_get && (b = drv_blk_get(i)); i++)
		(void)drv_blk_flush(b); /* sync() reports nothing */
	return 0;
}

long wh_sys_syncfs(int fd)
{
	return fs_fd_get(fd) ? wh_sys_sync() : -WH_EBADF;
}
