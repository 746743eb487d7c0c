/* SPDX-License-Identifier: ISC */
#include "user.h"
#include <posix/file.h>

struct lx_statx_time {
	int64_t sec;
	uint32_t nsec;
	int32_t pad;
};

struct lx_statx {
	uint32_t mask, blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, pad0;
	uint64_t ino, size, blocks, attributes_mask;
	struct lx_statx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t mnt_id, spare[13];
};
_Static_assert(sizeof(struct lx_statx) == 256, "Linux ABI");

#define STATX_BASIC_STATS 0x7ffu

static struct lx_statx_time time_of(struct lx_timespec t)
{
	return (struct lx_statx_time){ t.sec, (uint32_t)t.nsec, 0 };
}

long wh_sys_statx(int dirfd, const char *path, int flags, unsigned mask, struct lx_statx *stx)
{
	struct fs_stat st;
	if (!kern_user_writable(stx, sizeof *stx))
		return -WH_EFAULT;
	long r = wh_sys_newfstatat(dirfd, path, &st, flags & ~LX_AT_STATX_SYNC_TYPE);
	if (r < 0)
		return r;
	*stx = (struct lx_statx){
		.mask = STATX_BASIC_STATS,
		.blksize = (uint32_t)st.blksize,
		.nlink = (uint32_t)st.nlink,
		.uid = st.uid,
		.gid = st.gid,
		.mode = (uint16_t)st.mode,
		.ino = st.ino,
		.size = (uint64_t)st.size,
		.blocks = (uint64_t)st.blocks,
		.atime = time_of(st.atime),
		.ctime = time_of(st.ctime),
		.mtime = time_of(st.mtime),
		.rdev_major = (uint32_t)(st.rdev >> 8),
		.rdev_minor = (uint32_t)(st.rdev & 0xff),
		.dev_minor = (uint32_t)st.dev,
	};
	return 0;
}
