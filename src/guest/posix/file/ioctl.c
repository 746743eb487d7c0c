/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <kern/mem.h>
#include <posix/file.h>
#include <wherry/base/errors.h>

#define FIONCLEX 0x5450u
#define FIOCLEX 0x5451u
#define FIONBIO 0x5421u

long wh_sys_ioctl(int fd, unsigned long request, unsigned long argument)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f || (f->flags & LX_O_PATH))
		return -WH_EBADF;
	switch ((uint32_t)request) {
	case FIOCLEX:
	case FIONCLEX:
		fs_fd_set_cloexec(fd, (uint32_t)request == FIOCLEX);
		return 0;
	case FIONBIO:
		if (!kern_user_readable((void *)argument, sizeof(int)))
			return -WH_EFAULT;
		if (*(const int *)argument)
			f->flags |= LX_O_NONBLOCK;
		else
			f->flags &= ~LX_O_NONBLOCK;
		return 0;
	default:
		break;
	}
	if (!f->ops->ioctl)
		return -WH_ENOTTY;
	fs_file_ref(f);
	int r = f->ops->ioctl(f, (uint32_t)request, argument);
	fs_file_unref(f);
	return r;
}
