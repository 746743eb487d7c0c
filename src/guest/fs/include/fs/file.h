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
#define FS_FDS_MAX 1024u           /* RLIMIT_NOFILE's hard limit; table grows in steps */
struct fs_file *fs_fd_get(int fd); /* NULL: -EBADF */
int fs_fd_install(struct fs_file *f, int lowest,
		  bool cloexec); /* takes the caller's reference; -EMFILE (reference stays) */
int fs_fd_close(int fd);

#endif
