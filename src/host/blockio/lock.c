/* SPDX-License-Identifier: ISC */
/*
 * Locks as QEMU's file driver makes them (block/file-posix.c): byte 100+n of the file is locked
 * (shared, open file description) by whoever uses permission n, byte 200+n by whoever does not let
 * others use it. Having locked, one looks whether the opposite byte of anything conflicts.
 */
#include <errno.h>
#include <fcntl.h>

#include "blockio_priv.h"

#define LOCK_USED 100
#define LOCK_NOT_SHARED 200
#define PERM_READ 0
#define PERM_WRITE 1
#define PERM_RESIZE 3
#define PERM_COUNT 4

static int lock_byte(int fd, int byte)
{
	struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	return fcntl(fd, F_OFD_SETLK, &l) ? -errno : 0;
}

/* Has somebody else locked it? */
static bool locked_by_others(int fd, int byte)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	return !fcntl(fd, F_OFD_GETLK, &l) && l.l_type != F_UNLCK;
}

/* A reader reads and lets nobody write; a writer also writes and may grow the file. */
int blockio_lock(int fd, bool writer)
{
	unsigned used = 1u << PERM_READ, not_shared = 1u << PERM_WRITE | 1u << PERM_RESIZE;
	if (writer)
		used |= not_shared;
	for (int i = 0; i < PERM_COUNT; i++) {
		int r = used & 1u << i ? lock_byte(fd, LOCK_USED + i) : 0;
		if (r >= 0 && not_shared & 1u << i)
			r = lock_byte(fd, LOCK_NOT_SHARED + i);
		if (r == -EAGAIN || r == -EACCES)
			return -WH_EBUSY;
		if (r < 0)
			return 0; /* a file system without locks */
	}
	for (int i = 0; i < PERM_COUNT; i++) {
		if ((used & 1u << i && locked_by_others(fd, LOCK_NOT_SHARED + i)) ||
		    (not_shared & 1u << i && locked_by_others(fd, LOCK_USED + i)))
			return -WH_EBUSY;
	}
	return 0;
}
