/* SPDX-License-Identifier: ISC */
#include <fs/vfs.h>
#include <posix/file.h>

long wh_sys_umask(uint32_t mask)
{
	uint32_t old = fs_umask;
	fs_umask = mask & 0777;
	return old;
}
