/* SPDX-License-Identifier: ISC */
#include "gateway_host.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

static int linux_socket(void *ctx, int domain, int type, int protocol)
{
	int fd = socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
	return fd < 0 ? -errno : fd;
}

static int linux_connect(void *ctx, int fd, const struct sockaddr *to, socklen_t size)
{
	return connect(fd, to, size) ? -errno : 0;
}

static int linux_bind(void *ctx, int fd, const struct sockaddr *to, socklen_t size)
{
	return bind(fd, to, size) ? -errno : 0;
}

static int linux_listen(void *ctx, int fd, int backlog)
{
	return listen(fd, backlog) ? -errno : 0;
}

static int linux_accept(void *ctx, int fd, struct sockaddr *ret_from, socklen_t *size)
{
	int got = accept4(fd, ret_from, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return got < 0 ? -errno : got;
}

static int linux_name(void *ctx, int fd, struct sockaddr *ret_name, socklen_t *size)
{
	return getsockname(fd, ret_name, size) ? -errno : 0;
}

static long linux_send(void *ctx, int fd, const struct msghdr *message)
{
	ssize_t n = sendmsg(fd, message, MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

static long linux_receive(void *ctx, int fd, struct msghdr *message, int flags)
{
	ssize_t n = recvmsg(fd, message, flags);
	return n < 0 ? -errno : n;
}

/* By number: musl's goes through the headers once more. */
static long linux_receive_many(void *ctx, int fd, struct mmsghdr *messages, unsigned count)
{
	long n = syscall(SYS_recvmmsg, fd, messages, count, MSG_DONTWAIT, NULL);
	return n < 0 ? -errno : n;
}

static int linux_option_set(void *ctx, int fd, int level, int name, const void *value,
			    socklen_t size)
{
	return setsockopt(fd, level, name, value, size) ? -errno : 0;
}

static int linux_error(void *ctx, int fd)
{
	int error = 0;
	socklen_t size = sizeof error;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) ? errno : error;
}

static void linux_shutdown(void *ctx, int fd)
{
	(void)shutdown(fd, SHUT_WR); /* a connection that is gone says so on the next read */
}

static int linux_pipe(void *ctx, int ret_fds[2], uint32_t size)
{
	if (pipe2(ret_fds, O_NONBLOCK | O_CLOEXEC))
		return -errno;
	/* A user's pipes have a common limit: halves, down to what each one is made with. */
	while (size > 65536 && fcntl(ret_fds[1], F_SETPIPE_SZ, (int)size) < 0)
		size /= 2;
	return 0;
}

static long linux_splice(void *ctx, int from, int to, size_t size)
{
	ssize_t n = splice(from, NULL, to, NULL, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	return n < 0 ? -errno : n;
}

static long linux_write(void *ctx, int fd, const void *bytes, size_t size)
{
	ssize_t n = write(fd, bytes, size);
	return n < 0 ? -errno : n;
}

static void linux_close(void *ctx, int fd)
{
	(void)close(fd);
}

static int linux_watch(void *ctx, struct wh_loop *loop, struct wh_loop_fd *watch)
{
	return wh_loop_add(loop, watch);
}

static int linux_watch_modify(void *ctx, struct wh_loop *loop, struct wh_loop_fd *watch,
			      uint32_t events)
{
	return wh_loop_modify(loop, watch, events);
}

static void linux_watch_forget(void *ctx, struct wh_loop *loop, struct wh_loop_fd *watch)
{
	wh_loop_forget(loop, watch);
}

static uint32_t linux_descriptors_max(void *ctx)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 1024;
	return limit.rlim_cur > UINT32_MAX ? UINT32_MAX : (uint32_t)limit.rlim_cur;
}

static int linux_read_text(void *ctx, const char *path, uint64_t *stamp, char *to, size_t size)
{
	struct stat st;
	if (stat(path, &st))
		return -errno;
	/* Editors write in place or rename: time, inode or size changes. */
	uint64_t now = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
	now ^= (uint64_t)st.st_ino << 40 ^ (uint64_t)st.st_size << 8 ^ 1;
	if (now == *stamp)
		return -WH_EALREADY;
	int n = wh_os_read_text(path, to, size);
	if (n >= 0)
		*stamp = now;
	return n;
}

static void linux_random(void *ctx, void *to, size_t size)
{
	wh_os_random(to, size);
}

/* A socket whose listener has ended without removing it. */
static bool is_stale(const struct sockaddr_un *address)
{
	struct stat st;
	if (lstat(address->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool stale = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) &&
		     errno == ECONNREFUSED;
	wh_os_close(&fd);
	return stale;
}

static int linux_path_bind(void *ctx, int fd, const struct sockaddr *to, socklen_t size,
			   uint64_t *ret_device, uint64_t *ret_inode)
{
	const struct sockaddr_un *name = (const struct sockaddr_un *)to;
	struct stat st;
	/* The file gets the socket's mode, so it is nobody else's at any moment. */
	int error = fchmod(fd, 0600) || bind(fd, to, size) ? -errno : 0;
	if (error == -WH_EADDRINUSE && is_stale(name))
		error = unlink(name->sun_path) || bind(fd, to, size) ? -errno : 0;
	if (!error && stat(name->sun_path, &st)) {
		error = -errno;
		(void)unlink(name->sun_path); /* ours, since a moment */
	}
	if (error)
		return error;
	*ret_device = st.st_dev;
	*ret_inode = st.st_ino;
	return 0;
}

static void linux_path_remove(void *ctx, const char *path, uint64_t device, uint64_t inode)
{
	struct stat st;
	if (!lstat(path, &st) && st.st_dev == device && st.st_ino == inode)
		(void)unlink(path); /* somebody may have done it */
}

const struct wh_gateway_host gateway_host_linux = {
	.socket = linux_socket,
	.connect = linux_connect,
	.bind = linux_bind,
	.listen = linux_listen,
	.accept = linux_accept,
	.name = linux_name,
	.send = linux_send,
	.receive = linux_receive,
	.receive_many = linux_receive_many,
	.option_set = linux_option_set,
	.error = linux_error,
	.shutdown = linux_shutdown,
	.pipe = linux_pipe,
	.splice = linux_splice,
	.write = linux_write,
	.close = linux_close,
	.watch = linux_watch,
	.watch_modify = linux_watch_modify,
	.watch_forget = linux_watch_forget,
	.descriptors_max = linux_descriptors_max,
	.read_text = linux_read_text,
	.random = linux_random,
	.path_bind = linux_path_bind,
	.path_remove = linux_path_remove,
};
