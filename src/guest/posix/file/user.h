/* SPDX-License-Identifier: ISC */
#ifndef POSIX_FILE_USER_H
#define POSIX_FILE_USER_H

/* What the program passed, checked; and what several calls share. */

#include <fs/linux.h>
#include <kern/mem.h>
#include <wherry/base/errors.h>
#include <wherry/base/iov.h>

struct fs_setattr;

/* Checks an iovec array and its buffers: 0, -WH_EINVAL or -WH_EFAULT. */
int posix_iov_check(const struct wh_iov *iov, int count, bool write_to);

int posix_setattr_at(int dirfd, const char *path, bool follow, bool empty,
		     const struct fs_setattr *set);
int posix_setattr_fd(int fd, const struct fs_setattr *set);

#endif
