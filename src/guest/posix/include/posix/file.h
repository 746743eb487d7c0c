/* SPDX-License-Identifier: ISC */
#ifndef POSIX_FILE_H
#define POSIX_FILE_H

/* System calls on descriptors and files. Each returns >= 0 or -errno as Linux does;
 * see its manual page, section 2. */

#include <stddef.h>
#include <stdint.h>
#include <fs/linux.h>
#include <fs/stat.h>
#include <fs/vfs.h>
#include <wherry/base/iov.h>
#include <kern/trace.h>

KERN_CALL long wh_sys_close(int fd);
KERN_CALL long wh_sys_close_range(unsigned first, unsigned last, unsigned flags);
KERN_CALL long wh_sys_dup(int fd);
KERN_CALL long wh_sys_dup2(int fd, int to);
KERN_CALL long wh_sys_dup3(int fd, int to, int flags);
KERN_CALL long wh_sys_fcntl(int fd, int command, unsigned long argument);
KERN_CALL long wh_sys_flock(int fd, int operation);
KERN_CALL long wh_sys_ioctl(int fd, unsigned long request, unsigned long argument);
KERN_CALL long wh_sys_lseek(int fd, int64_t offset, int whence);

KERN_CALL long wh_sys_read(int fd, void *buffer, size_t size);
KERN_CALL long wh_sys_pread64(int fd, void *buffer, size_t size, int64_t offset);
KERN_CALL long wh_sys_readv(int fd, const struct wh_iov *iov, int count);
KERN_CALL long wh_sys_preadv(int fd, const struct wh_iov *iov, int count, int64_t offset);
KERN_CALL long wh_sys_preadv2(int fd, const struct wh_iov *iov, int count, int64_t offset,
			      long high, int flags);
KERN_CALL long wh_sys_write(int fd, const void *buffer, size_t size);
KERN_CALL long wh_sys_pwrite64(int fd, const void *buffer, size_t size, int64_t offset);
KERN_CALL long wh_sys_writev(int fd, const struct wh_iov *iov, int count);
KERN_CALL long wh_sys_pwritev(int fd, const struct wh_iov *iov, int count, int64_t offset);
KERN_CALL long wh_sys_pwritev2(int fd, const struct wh_iov *iov, int count, int64_t offset,
			       long high, int flags);

KERN_CALL long wh_sys_fstat(int fd, struct fs_stat *st);

KERN_CALL long wh_sys_open(const char *path, int flags, uint32_t mode);
KERN_CALL long wh_sys_openat(int dirfd, const char *path, int flags, uint32_t mode);
KERN_CALL long wh_sys_creat(const char *path, uint32_t mode);
KERN_CALL long wh_sys_stat(const char *path, struct fs_stat *st);
KERN_CALL long wh_sys_lstat(const char *path, struct fs_stat *st);
KERN_CALL long wh_sys_newfstatat(int dirfd, const char *path, struct fs_stat *st, int flags);
struct lx_statx;
KERN_CALL long wh_sys_statx(int dirfd, const char *path, int flags, unsigned mask,
			    struct lx_statx *stx);
KERN_CALL long wh_sys_statfs(const char *path, struct fs_statfs *st);
KERN_CALL long wh_sys_fstatfs(int fd, struct fs_statfs *st);
KERN_CALL long wh_sys_getdents64(int fd, void *buffer, unsigned size);
KERN_CALL long wh_sys_mkdir(const char *path, uint32_t mode);
KERN_CALL long wh_sys_mkdirat(int dirfd, const char *path, uint32_t mode);
KERN_CALL long wh_sys_mknod(const char *path, uint32_t mode, uint64_t device);
KERN_CALL long wh_sys_mknodat(int dirfd, const char *path, uint32_t mode, uint64_t device);
KERN_CALL long wh_sys_rmdir(const char *path);
KERN_CALL long wh_sys_unlink(const char *path);
KERN_CALL long wh_sys_unlinkat(int dirfd, const char *path, int flags);
KERN_CALL long wh_sys_rename(const char *from, const char *to);
KERN_CALL long wh_sys_renameat(int from_dirfd, const char *from, int to_dirfd, const char *to);
KERN_CALL long wh_sys_renameat2(int from_dirfd, const char *from, int to_dirfd, const char *to,
				unsigned flags);
KERN_CALL long wh_sys_link(const char *from, const char *to);
KERN_CALL long wh_sys_linkat(int from_dirfd, const char *from, int to_dirfd, const char *to,
			     int flags);
KERN_CALL long wh_sys_symlink(const char *target, const char *path);
KERN_CALL long wh_sys_symlinkat(const char *target, int dirfd, const char *path);
KERN_CALL long wh_sys_readlink(const char *path, char *to, int size);
KERN_CALL long wh_sys_readlinkat(int dirfd, const char *path, char *to, int size);
KERN_CALL long wh_sys_chmod(const char *path, uint32_t mode);
KERN_CALL long wh_sys_fchmodat(int dirfd, const char *path, uint32_t mode);
KERN_CALL long wh_sys_fchmodat2(int dirfd, const char *path, uint32_t mode, int flags);
KERN_CALL long wh_sys_fchmod(int fd, uint32_t mode);
KERN_CALL long wh_sys_chown(const char *path, uint32_t uid, uint32_t gid);
KERN_CALL long wh_sys_lchown(const char *path, uint32_t uid, uint32_t gid);
KERN_CALL long wh_sys_fchown(int fd, uint32_t uid, uint32_t gid);
KERN_CALL long wh_sys_fchownat(int dirfd, const char *path, uint32_t uid, uint32_t gid, int flags);
KERN_CALL long wh_sys_utimensat(int dirfd, const char *path, const struct lx_timespec *times,
				int flags);
KERN_CALL long wh_sys_futimesat(int dirfd, const char *path, const struct lx_timeval *times);
KERN_CALL long wh_sys_utimes(const char *path, const struct lx_timeval *times);
KERN_CALL long wh_sys_utime(const char *path, const int64_t *times);
KERN_CALL long wh_sys_truncate(const char *path, int64_t size);
KERN_CALL long wh_sys_ftruncate(int fd, int64_t size);
KERN_CALL long wh_sys_fallocate(int fd, int mode, int64_t offset, int64_t size);
KERN_CALL long wh_sys_fadvise64(int fd, int64_t offset, int64_t size, int advice);
KERN_CALL long wh_sys_readahead(int fd, int64_t offset, size_t size);
KERN_CALL long wh_sys_fsync(int fd);
KERN_CALL long wh_sys_fdatasync(int fd);
KERN_CALL long wh_sys_sync_file_range(int fd, int64_t offset, int64_t size, unsigned flags);
KERN_CALL long wh_sys_sync(void);
KERN_CALL long wh_sys_syncfs(int fd);
KERN_CALL long wh_sys_access(const char *path, int mode);
KERN_CALL long wh_sys_faccessat(int dirfd, const char *path, int mode);
KERN_CALL long wh_sys_faccessat2(int dirfd, const char *path, int mode, int flags);
KERN_CALL long wh_sys_chdir(const char *path);
KERN_CALL long wh_sys_fchdir(int fd);
KERN_CALL long wh_sys_getcwd(char *to, size_t size);
KERN_CALL long wh_sys_umask(uint32_t mask);
KERN_CALL long wh_sys_memfd_create(const char *name, unsigned flags);
KERN_CALL long wh_sys_sendfile(int out_fd, int in_fd, int64_t *offset, size_t count);

KERN_CALL long wh_sys_setxattr(void);
KERN_CALL long wh_sys_lsetxattr(void);
KERN_CALL long wh_sys_fsetxattr(void);
KERN_CALL long wh_sys_getxattr(void);
KERN_CALL long wh_sys_lgetxattr(void);
KERN_CALL long wh_sys_fgetxattr(void);
KERN_CALL long wh_sys_listxattr(void);
KERN_CALL long wh_sys_llistxattr(void);
KERN_CALL long wh_sys_flistxattr(void);
KERN_CALL long wh_sys_removexattr(void);
KERN_CALL long wh_sys_lremovexattr(void);
KERN_CALL long wh_sys_fremovexattr(void);

#endif
