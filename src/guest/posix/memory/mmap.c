/* SPDX-License-Identifier: ISC */
/*
 * mmap: anonymous memory, and private copies of files. The file side is a weak
 * reference: a program without descriptors does not link it.
 */
#include <fs/file.h>
#include <fs/linux.h>
#include <kern/pages.h>
#include <posix/memory.h>
#include <wherry/base/errors.h>

__attribute__((weak)) struct fs_file *fs_fd_get(int fd);
__attribute__((weak)) void fs_file_ref(struct fs_file *f);
__attribute__((weak)) void fs_file_unref(struct fs_file *f);

#define PROT_WRITE 2

/* Can this descriptor be copied into memory? */
static int check_file(int fd, int protection, int flags, struct fs_file **ret_file)
{
	struct fs_file *f = fs_fd_get ? fs_fd_get(fd) : 0;
	if (!f)
		return -WH_EBADF;
	if ((f->flags & LX_O_ACCMODE) == LX_O_WRONLY)
		return -WH_EACCES;
	/* Writes would have to reach the file; only a copy is offered. */
	if ((flags & LX_MAP_TYPE) == LX_MAP_SHARED && (protection & PROT_WRITE))
		return -WH_ENODEV;
	if (!f->ops->seekable || !f->ops->read)
		return -WH_ENODEV;
	*ret_file = f;
	return 0;
}

static int64_t copy_file(struct fs_file *f, uint64_t address, size_t size, uint64_t offset)
{
	int64_t r = 0;
	fs_file_ref(f); /* reading may wait, and another thread close it */
	while (size) {
		struct wh_iov iov = { (void *)(uintptr_t)address, size };
		r = f->ops->read(f, &iov, 1, offset, false);
		if (r <= 0)
			break; /* behind the end of the file there are zeros */
		address += (uint64_t)r;
		offset += (uint64_t)r;
		size -= (size_t)r;
	}
	fs_file_unref(f);
	return r < 0 ? r : 0;
}

/* Address of `count` zero pages, or 0. */
static uint64_t place(uint64_t address, size_t count, int flags)
{
	if (flags & (LX_MAP_FIXED | LX_MAP_FIXED_NOREPLACE)) {
		if (!(flags & LX_MAP_FIXED_NOREPLACE))
			kern_pages_release_user(address, count);
		return kern_pages_take_at(address, count, KERN_PAGES_USER) ? address : 0;
	}
	return (uint64_t)(uintptr_t)kern_pages_take(count, KERN_PAGES_USER);
}

long wh_sys_mmap(uint64_t address, size_t size, int protection, int flags, int fd, uint64_t offset)
{
	struct fs_file *f = 0;
	if (!size || offset % KERN_PAGE || !(flags & LX_MAP_TYPE))
		return -WH_EINVAL;
	if ((flags & (LX_MAP_FIXED | LX_MAP_FIXED_NOREPLACE)) && address % KERN_PAGE)
		return -WH_EINVAL;
	if (size > SIZE_MAX - KERN_PAGE)
		return -WH_ENOMEM;
	if (protection & LX_PROT_EXEC)
		return -WH_EACCES;
	if (!(flags & LX_MAP_ANONYMOUS)) {
		int r = check_file(fd, protection, flags, &f);
		if (r < 0)
			return r;
	}
	size_t count = (size + KERN_PAGE - 1) / KERN_PAGE;
	uint64_t at = place(address, count, flags);
	if (!at)
		return flags & LX_MAP_FIXED_NOREPLACE ? -WH_EEXIST : -WH_ENOMEM;
	if (f) {
		int64_t r = copy_file(f, at, size, offset);
		if (r < 0) {
			kern_pages_release_user(at, count);
			return (long)r;
		}
	}
	return (long)at;
}
