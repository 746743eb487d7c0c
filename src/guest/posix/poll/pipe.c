/* SPDX-License-Identifier: ISC */
#include <fs/pipe.h>
#include <kern/mem.h>
#include <posix/poll.h>
#include <wherry/base/errors.h>

long wh_sys_pipe2(int *ret_fds, int flags)
{
	struct fs_file *reader, *writer;
	bool cloexec = (uint32_t)flags & LX_O_CLOEXEC;
	if ((uint32_t)flags & ~(LX_O_CLOEXEC | LX_O_NONBLOCK | LX_O_DIRECT))
		return -WH_EINVAL;
	if (!kern_user_writable(ret_fds, 2 * sizeof *ret_fds))
		return -WH_EFAULT;
	int r = fs_pipe_new((uint32_t)flags & LX_O_NONBLOCK, &reader, &writer);
	if (r < 0)
		return r;
	int in = fs_fd_install(reader, 0, cloexec);
	int out = in < 0 ? in : fs_fd_install(writer, 0, cloexec);
	if (out < 0) {
		if (in < 0)
			fs_file_unref(reader);
		else
			(void)fs_fd_close(in);
		fs_file_unref(writer);
		return out;
	}
	ret_fds[0] = in;
	ret_fds[1] = out;
	return 0;
}

long wh_sys_pipe(int *ret_fds)
{
	return wh_sys_pipe2(ret_fds, 0);
}
