/* SPDX-License-Identifier: ISC */
#ifndef POSIX_FILE_H
#define POSIX_FILE_H

/* System calls on descriptors and files. Each returns >= 0 or -errno as Linux does;
 * see its manual page, section 2. */

#include <stddef.h>
#include <stdint.h>
#include <fs/linux.h>
#include <fs/stat.h>
#include <wherry/base/iov.h>

long wh_sys_close(int fd);
long wh_sys_close_range(unsigned first, unsigned last, unsigned flags);
long wh_sys_dup(int fd);
long wh_sys_dup2(int fd, int to);
long wh_sys_dup3(int fd, int to, int flags);
long wh_sys_fcntl(int fd, int command, unsigned long argument);
long wh_sys_flock(int fd, int operation);
long wh_sys_ioctl(int fd, unsigned long request, unsigned long argument);
long wh_sys_lseek(int fd, int64_t offset, int whence);

long wh_sys_read(int fd, void *buffer, size_t size);
long wh_sys_pread64(int fd, void *buffer, size_t size, int64_t offset);
long wh_sys_readv(int fd, const struct wh_iov *iov, int count);
long wh_sys_preadv(int fd, const struct wh_iov *iov, int count, int64_t offset);
long wh_sys_preadv2(int fd, const struct wh_iov *iov, int count, int64_t offset, long high,
		    int flags);
long wh_sys_write(int fd, const void *buffer, size_t size);
long wh_sys_pwrite64(int fd, const void *buffer, size_t size, int64_t offset);
long wh_sys_writev(int fd, const struct wh_iov *iov, int count);
long wh_sys_pwritev(int fd, const struct wh_iov *iov, int count, int64_t offset);
long wh_sys_pwritev2(int fd, const struct wh_iov *iov, int count, int64_t offset, long high,
		     int flags);

long wh_sys_fstat(int fd, struct fs_stat *st);

#endif
