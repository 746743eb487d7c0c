/* SPDX-License-Identifier: ISC */
#ifndef FS_LINUX_H
#define FS_LINUX_H

/*
 * Numbers and structs of the x86_64 Linux ABI that file calls use, under a
 * prefix so that hosted tests can include the C library's headers too.
 */

#include <stdint.h>
#include <kern/poll.h>

#define LX_O_RDONLY 0u
#define LX_O_WRONLY 1u
#define LX_O_RDWR 2u
#define LX_O_ACCMODE 3u
#define LX_O_CREAT 0100u
#define LX_O_EXCL 0200u
#define LX_O_NOCTTY 0400u
#define LX_O_TRUNC 01000u
#define LX_O_APPEND 02000u
#define LX_O_NONBLOCK 04000u
#define LX_O_DSYNC 010000u
#define LX_O_ASYNC 020000u
#define LX_O_DIRECT 040000u
#define LX_O_LARGEFILE 0100000u
#define LX_O_DIRECTORY 0200000u
#define LX_O_NOFOLLOW 0400000u
#define LX_O_NOATIME 01000000u
#define LX_O_CLOEXEC 02000000u
#define LX_O_SYNC 04010000u
#define LX_O_PATH 010000000u
#define LX_O_TMPFILE 020200000u
/* What F_GETFL shows and what F_SETFL may change. */
#define LX_O_STATUS                                                                           \
	(LX_O_ACCMODE | LX_O_APPEND | LX_O_NONBLOCK | LX_O_DSYNC | LX_O_ASYNC | LX_O_DIRECT | \
	 LX_O_LARGEFILE | LX_O_DIRECTORY | LX_O_NOFOLLOW | LX_O_NOATIME | LX_O_SYNC | LX_O_PATH)
#define LX_O_SETTABLE (LX_O_APPEND | LX_O_NONBLOCK | LX_O_ASYNC | LX_O_DIRECT | LX_O_NOATIME)

#define LX_S_IFMT 0170000u
#define LX_S_IFIFO 0010000u
#define LX_S_IFCHR 0020000u
#define LX_S_IFDIR 0040000u
#define LX_S_IFBLK 0060000u
#define LX_S_IFREG 0100000u
#define LX_S_IFLNK 0120000u
#define LX_S_IFSOCK 0140000u

#define LX_DT_OF_MODE(mode) (((mode)&LX_S_IFMT) >> 12)

#define LX_AT_FDCWD (-100)
#define LX_AT_SYMLINK_NOFOLLOW 0x100
#define LX_AT_EACCESS 0x200
#define LX_AT_REMOVEDIR 0x200
#define LX_AT_SYMLINK_FOLLOW 0x400
#define LX_AT_NO_AUTOMOUNT 0x800
#define LX_AT_EMPTY_PATH 0x1000
#define LX_AT_STATX_SYNC_TYPE 0x6000

#define LX_SEEK_SET 0
#define LX_SEEK_CUR 1
#define LX_SEEK_END 2
#define LX_SEEK_DATA 3
#define LX_SEEK_HOLE 4

#define LX_IOV_MAX 1024
#define LX_PATH_MAX 4096u
#define LX_NAME_MAX 255u
#define LX_SYMLINKS_MAX 40u
#define LX_RW_MAX 0x7ffff000u /* bytes of one read or write */

#define LX_SIGPIPE 13

struct lx_timespec {
	int64_t sec;
	int64_t nsec;
};

struct lx_timeval {
	int64_t sec;
	int64_t usec;
};

#endif
