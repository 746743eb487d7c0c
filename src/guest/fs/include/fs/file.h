/* SPDX-License-Identifier: ISC */
#ifndef FS_FILE_H
#define FS_FILE_H

/*
 * Open files and descriptors. Everything that a descriptor can name is a
 * struct fs_file with a table of operations; sockets, pipes, eventfds and nodes of
 * the file system implement it alike.
 *
 * Operations return >= 0 or -WH_E*; NULL operations mean the error named beside
 * them. `nonblock` is the file's O_NONBLOCK or the call's MSG_DONTWAIT; a blocking
 * operation waits with kern_wait and returns -WH_EINTR on a signal.
 */

#include <stdbool.h>
#include <stdint.h>
#include <kern/sched.h>
#include <wherry/base/iov.h>

struct fs_file;
struct fs_node;
struct fs_stat; /* struct kstat of the Linux ABI: fs/stat.h */

struct fs_file_ops {
	/* offset: byte position for seekable files; streams ignore it. Both
	 * transfer up to the iov's size. NULL: -EINVAL. */
	int64_t (*read)(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			bool nonblock);
	int64_t (*write)(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			 bool nonblock);
	/* Current readiness as POLL* mask. NULL: always POLLIN|POLLOUT. */
	uint32_t (*poll)(struct fs_file *f);
	int (*stat)(struct fs_file *f,
		    struct fs_stat *ret_stat); /* NULL: a plain S_IFIFO-less zero node */
	int (*ioctl)(struct fs_file *f, unsigned long request,
		     unsigned long argument);                            /* NULL: -ENOTTY */
	int (*truncate)(struct fs_file *f, uint64_t size);               /* NULL: -EINVAL */
	int (*sync)(struct fs_file *f, bool data_only);                  /* NULL: -EINVAL */
	int (*getdents)(struct fs_file *f, void *buffer, uint32_t size); /* NULL: -ENOTDIR */
	/* Last reference gone; frees the file. Never NULL. */
	void (*release)(struct fs_file *f);
	bool seekable; /* lseek and p{read,write} work, position advances */
	uint8_t kind;  /* enum fs_kind */
	/* Seekable files: size in bytes, for SEEK_END. NULL: the size in stat. */
	int64_t (*size)(struct fs_file *f);
	/* fallocate. NULL: -EOPNOTSUPP. */
	int (*allocate)(struct fs_file *f, int mode, uint64_t offset, uint64_t size);
	/* Borrows contents that lie in memory: how many bytes from `offset` on are contiguous, 0 =
	 * end of file. Valid until the next wait. NULL: read is the only way. */
	int64_t (*peek)(struct fs_file *f, uint64_t offset, const void **ret_bytes);
	/* Tells the host more, as NAME=VALUE words with a blank before each (kern/observe.h). NULL: nothing. */
	void (*tell)(struct fs_file *f);
};

enum fs_kind {
	FS_KIND_NODE,
	FS_KIND_PIPE,
	FS_KIND_SOCKET,
	FS_KIND_EVENT,
	FS_KIND_TIMER,
	FS_KIND_EPOLL,
	FS_KIND_SIGNAL,
	FS_KIND_CONSOLE,
	FS_KIND_DEVICE
};

/* Embedded at the start of each implementation's own struct. */
struct fs_file {
	const struct fs_file_ops *ops;
	uint32_t refs;
	uint32_t flags;          /* O_ACCMODE | O_NONBLOCK | O_APPEND ... (Linux values) */
	uint64_t position;       /* seekable files */
	struct kern_waitq waitq; /* woken with POLL* whenever readiness may have changed */
	struct fs_node *node;    /* for files of the file system, else NULL */
};

void fs_file_init(struct fs_file *f, const struct fs_file_ops *ops, uint32_t flags);
void fs_file_ref(struct fs_file *f);
void fs_file_unref(struct fs_file *f); /* calls release at zero */

/* Descriptor table. fs_fd_get borrows: no reference is taken; a handler that may
 * wait takes one around the wait. */
#define FS_FDS_MAX 16384u          /* RLIMIT_NOFILE's hard limit; table grows in steps */
struct fs_file *fs_fd_get(int fd); /* NULL: -EBADF */
int fs_fd_install(struct fs_file *f, int lowest,
		  bool cloexec); /* takes the caller's reference; -EMFILE (reference stays) */
int fs_fd_close(int fd);

/* dup2: puts f (the caller's reference goes in) at fd and closes what was there. */
int fs_fd_replace(struct fs_file *f, int fd, bool cloexec);
bool fs_fd_cloexec(int fd); /* of an open descriptor */
void fs_fd_set_cloexec(int fd, bool cloexec);
int fs_fd_next(int fd); /* lowest open descriptor >= fd, or -1 */

/* Start-up: descriptors 0, 1 and 2 are the console. Called by the kernel when linked. */
int fs_init(void);

/* Reads or writes at the file's position (offset NULL) or at *offset, with all the
 * checks: access mode, EFAULT, lengths, O_APPEND. What read(2) and write(2) are made of. */
int64_t fs_file_read(struct fs_file *f, const struct wh_iov *iov, int count,
		     const uint64_t *offset);
int64_t fs_file_write(struct fs_file *f, const struct wh_iov *iov, int count,
		      const uint64_t *offset);

/* Waits once at the file's queue after an operation found nothing to do: 0 = try
 * again, -WH_EAGAIN with nonblock, -WH_EINTR. Keeps the file alive meanwhile. */
int fs_file_wait(struct fs_file *f, bool nonblock);

/* stat for a file without an operation of its own, by kind. */
int fs_file_stat(struct fs_file *f, struct fs_stat *ret_stat);

/* Size for SEEK_END; negative: error. */
int64_t fs_file_size(struct fs_file *f);

#endif
