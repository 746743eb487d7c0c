/* SPDX-License-Identifier: ISC */
#ifndef FS_STAT_H
#define FS_STAT_H

/* struct stat as x86_64 Linux lays it out. */

#include <fs/linux.h>

struct fs_stat {
	uint64_t dev;
	uint64_t ino;
	uint64_t nlink;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t pad;
	uint64_t rdev;
	int64_t size;
	int64_t blksize;
	int64_t blocks; /* of 512 bytes */
	struct lx_timespec atime;
	struct lx_timespec mtime;
	struct lx_timespec ctime;
	int64_t unused[3];
};
_Static_assert(sizeof(struct fs_stat) == 144, "Linux ABI");

/* Linux's encoding of a device number (small numbers). */
#define FS_MAKEDEV(major, minor) (((uint64_t)(major) << 8) | (uint64_t)(minor))

#endif
