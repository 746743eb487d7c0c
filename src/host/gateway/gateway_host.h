/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_GATEWAY_HOST_H
#define WHERRY_GATEWAY_HOST_H

/*
 * The host's sockets as the gateway uses them: every system call of the library, so that
 * tests and the fuzz target put something else in their place. Results are >= 0 or -errno.
 * Sockets are non-blocking and close-on-exec; sends never raise SIGPIPE.
 */

#include <sys/socket.h>
#include <wherry/loop.h>

struct mmsghdr;

struct wh_gateway_host {
	int (*socket)(void *ctx, int domain, int type, int protocol);
	int (*connect)(void *ctx, int fd, const struct sockaddr *to, socklen_t size);
	int (*bind)(void *ctx, int fd, const struct sockaddr *to, socklen_t size);
	int (*listen)(void *ctx, int fd, int backlog);
	int (*accept)(void *ctx, int fd, struct sockaddr *ret_from, socklen_t *size);
	int (*name)(void *ctx, int fd, struct sockaddr *ret_name, socklen_t *size);
	long (*send)(void *ctx, int fd, const struct msghdr *message);
	long (*receive)(void *ctx, int fd, struct msghdr *message, int flags);
	/* Many messages at once, at least one: how many. NULL = one by one. */
	long (*receive_many)(void *ctx, int fd, struct mmsghdr *messages, unsigned count);
	int (*option_set)(void *ctx, int fd, int level, int name, const void *value, socklen_t);
	/* Takes the pending error (SO_ERROR): 0 or a positive errno. */
	int (*error)(void *ctx, int fd);
	void (*shutdown)(void *ctx, int fd); /* of the sending side */
	/* Both ends of a pipe, as large as may be up to size. */
	int (*pipe)(void *ctx, int ret_fds[2], uint32_t size);
	long (*splice)(void *ctx, int from, int to, size_t size);
	long (*write)(void *ctx, int fd, const void *bytes, size_t size);
	/* The descriptor's registration, if any, ends with it. */
	void (*close)(void *ctx, int fd);
	int (*watch)(void *ctx, struct wh_loop *loop, struct wh_loop_fd *watch);
	int (*watch_modify)(void *ctx, struct wh_loop *loop, struct wh_loop_fd *watch,
			    uint32_t events);
	void (*watch_forget)(void *ctx, struct wh_loop *loop, struct wh_loop_fd *watch);
	/* Descriptors that the process may have (RLIMIT_NOFILE). */
	uint32_t (*descriptors_max)(void *ctx);
	/* A small text file; the length, or -errno. *stamp changes when the file does; the file is
	 * not read when the stamp is still the same: -WH_EALREADY. */
	int (*read_text)(void *ctx, const char *path, uint64_t *stamp, char *to, size_t size);
	void (*random)(void *ctx, void *to, size_t size);
	/* Binds a Unix stream socket to a path that its owner only may connect to; replaces a socket that nobody
	 * listens at. The file's identity is for path_remove, which removes it if it is still that one. */
	int (*path_bind)(void *ctx, int fd, const struct sockaddr *to, socklen_t size,
			 uint64_t *ret_device, uint64_t *ret_inode);
	void (*path_remove)(void *ctx, const char *path, uint64_t device, uint64_t inode);
};

extern const struct wh_gateway_host gateway_host_linux;

#endif
