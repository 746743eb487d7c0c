/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <posix/file.h>

long wh_sys_truncate(const char *path, int64_t size)
{
	struct fs_setattr set = { .mask = FS_SET_SIZE, .size = (uint64_t)size };
	if (size < 0)
		return -WH_EINVAL;
	return posix_setattr_at(LX_AT_FDCWD, path, true, false, &set);
}
