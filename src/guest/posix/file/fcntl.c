/* SPDX-License-Identifier: ISC */

/*
 * fcntl. One process holds every lock: advisory locks are granted, and a test
 * for a lock finds none.
 */

#include <fs/file.h>
#include <kern/mem.h>
#include <posix/file.h>
#include <wherry/base/errors.h>

enum {
	F_DUPFD = 0,
	F_GETFD = 1,
	F_SETFD = 2,
	F_GETFL = 3,
	F_SETFL = 4,
	F_GETLK = 5,
	F_SETLK = 6,
	F_SETLKW = 7,
	F_SETOWN = 8,
	F_GETOWN = 9,
	F_SETSIG = 10,
	F_GETSIG = 11,
	F_OFD_GETLK = 36,
	F_OFD_SETLK = 37,
	F_OFD_SETLKW = 38,
	F_DUPFD_CLOEXEC = 1030,
	F_SETPIPE_SZ = 1031,
	F_GETPIPE_SZ = 1032,
	F_ADD_SEALS = 1033,
	F_GET_SEALS = 1034,
};

#define FD_CLOEXEC 1u
#define F_UNLCK 2

struct flock {
	int16_t type, whence;
	int64_t start, len;
	int32_t pid;
};

/* In fs/pipe.c and fs/memfd.c; there when the program makes such files. */
__attribute__((weak)) long fs_pipe_fcntl(struct fs_file *f, int command, unsigned long argument);
__attribute__((weak)) long fs_memfd_fcntl(struct fs_file *f, int command, unsigned long argument);

static long dup_from(struct fs_file *f, unsigned long lowest, bool cloexec)
{
	if (lowest >= FS_FDS_MAX)
		return -WH_EINVAL;
	fs_file_ref(f);
	int r = fs_fd_install(f, (int)lowest, cloexec);
	if (r < 0)
		fs_file_unref(f);
	return r;
}

static long lock(int command, struct flock *l)
{
	if (!kern_user_readable(l, sizeof *l))
		return -WH_EFAULT;
	if (l->type < 0 || l->type > F_UNLCK)
		return -WH_EINVAL;
	if (command == F_GETLK || command == F_OFD_GETLK)
		l->type = F_UNLCK;
	return 0;
}

long wh_sys_fcntl(int fd, int command, unsigned long argument)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	switch (command) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return dup_from(f, (uint32_t)argument, command == F_DUPFD_CLOEXEC);
	case F_GETFD:
		return fs_fd_cloexec(fd) ? FD_CLOEXEC : 0;
	case F_SETFD:
		fs_fd_set_cloexec(fd, argument & FD_CLOEXEC);
		return 0;
	case F_GETFL:
		return f->flags;
	case F_SETFL:
		f->flags = (f->flags & ~LX_O_SETTABLE) | ((uint32_t)argument & LX_O_SETTABLE);
		return 0;
	case F_GETLK:
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_GETLK:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		return lock(command, (struct flock *)argument);
	case F_GETOWN:
	case F_SETOWN:
	case F_GETSIG:
	case F_SETSIG:
		return 0;
	case F_SETPIPE_SZ:
	case F_GETPIPE_SZ:
		return fs_pipe_fcntl ? fs_pipe_fcntl(f, command, argument) : -WH_EBADF;
	case F_ADD_SEALS:
	case F_GET_SEALS:
		return fs_memfd_fcntl ? fs_memfd_fcntl(f, command, argument) : -WH_EINVAL;
	default:
		return -WH_EINVAL;
	}
}
