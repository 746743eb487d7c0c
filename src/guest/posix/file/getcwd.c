/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <fs/vfs.h>
#include <posix/file.h>

/* Like the system call, not the function: returns the length with its NUL. */
long wh_sys_getcwd(char *to, size_t size)
{
	if (!kern_user_writable(to, size))
		return -WH_EFAULT;
	struct fs_node *n = fs_cwd();
	int r = fs_node_path(n, to, size > LX_PATH_MAX ? LX_PATH_MAX : (uint32_t)size);
	fs_node_unref(n);
	return r < 0 ? r : r + 1;
}
