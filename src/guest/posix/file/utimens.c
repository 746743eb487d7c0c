/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <kern/plat.h>
#include <posix/file.h>

#define UTIME_NOW 0x3fffffff
#define UTIME_OMIT 0x3ffffffe
#define NS_PER_S 1000000000

static struct lx_timespec now(void)
{
	uint64_t ns = kern_time_realtime();
	return (struct lx_timespec){ (int64_t)(ns / NS_PER_S), (int64_t)(ns % NS_PER_S) };
}

/* Fills in one of the times; -WH_EINVAL. */
static int take(struct fs_setattr *set, uint32_t bit, struct lx_timespec *to,
		struct lx_timespec from)
{
	if (from.nsec == UTIME_OMIT)
		return 0;
	if (from.nsec == UTIME_NOW)
		from = now();
	if (from.nsec < 0 || from.nsec >= NS_PER_S)
		return -WH_EINVAL;
	set->mask |= bit;
	*to = from;
	return 0;
}

long wh_sys_utimensat(int dirfd, const char *path, const struct lx_timespec *times, int flags)
{
	struct fs_setattr set = { 0 };
	struct lx_timespec both[2] = { { 0, UTIME_NOW }, { 0, UTIME_NOW } };
	if (flags & ~(LX_AT_SYMLINK_NOFOLLOW | LX_AT_EMPTY_PATH))
		return -WH_EINVAL;
	if (times) {
		if (!kern_user_readable(times, sizeof both))
			return -WH_EFAULT;
		memcpy(both, times, sizeof both);
	}
	int r = take(&set, FS_SET_ATIME, &set.atime, both[0]);
	if (r >= 0)
		r = take(&set, FS_SET_MTIME, &set.mtime, both[1]);
	if (r < 0 || !set.mask)
		return r;
	if (!path)
		return posix_setattr_fd(dirfd, &set);
	return posix_setattr_at(dirfd, path, !(flags & LX_AT_SYMLINK_NOFOLLOW),
				flags & LX_AT_EMPTY_PATH, &set);
}

long wh_sys_futimesat(int dirfd, const char *path, const struct lx_timeval *times)
{
	struct lx_timespec both[2];
	if (!times)
		return wh_sys_utimensat(dirfd, path, NULL, 0);
	if (!kern_user_readable(times, 2 * sizeof *times))
		return -WH_EFAULT;
	for (int i = 0; i < 2; i++) {
		if (times[i].usec < 0 || times[i].usec >= 1000000)
			return -WH_EINVAL;
		both[i] = (struct lx_timespec){ times[i].sec, times[i].usec * 1000 };
	}
	return wh_sys_utimensat(dirfd, path, both, 0);
}

long wh_sys_utimes(const char *path, const struct lx_timeval *times)
{
	return wh_sys_futimesat(LX_AT_FDCWD, path, times);
}

long wh_sys_utime(const char *path, const int64_t *times)
{
	if (!times)
		return wh_sys_utimensat(LX_AT_FDCWD, path, NULL, 0);
	if (!kern_user_readable(times, 2 * sizeof *times))
		return -WH_EFAULT;
	struct lx_timespec both[2] = { { times[0], 0 }, { times[1], 0 } };
	return wh_sys_utimensat(LX_AT_FDCWD, path, both, 0);
}
