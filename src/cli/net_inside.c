/* SPDX-License-Identifier: ISC */
/*
 * Sockets of the namespace: a process that has entered it makes them when it is asked, and hands them over in
 * batches. It does nothing else, holds nothing else, and ends with the gateway's side of its socket.
 *
 * One request is one byte, the domain; one answer a byte and up to BATCH descriptors.
 */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>
#include <wherry/os.h>

#define BATCH 16
#define LOW 4 /* so many are left: ask for more */

struct pool {
	int fds[BATCH];
	int count;
	bool asked;
};

struct net_inside {
	int socket; /* -1 = the helper is gone */
	struct pool pools[2];
};

static struct net_inside the_inside = { .socket = -1 }; /* one per process */

/* ---- the helper ---- */

static int batch_send(int socket, const int *fds, int count)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(BATCH * sizeof(int))];
	} control = { .space = { 0 } };
	char byte = (char)count;
	struct iovec iov = { &byte, 1 };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (count) {
		h.msg_control = control.space;
		h.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)count * sizeof(int));
	}
	return sendmsg(socket, &h, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static _Noreturn void helper_serve(int peer)
{
	uint8_t domain;
	while (recv(peer, &domain, 1, 0) == 1) {
		int fds[BATCH], count = 0, one = 1;
		while (count < BATCH) {
			int fd = socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
			if (fd < 0)
				break;
			(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
			fds[count++] = fd;
		}
		int error = batch_send(peer, fds, count);
		while (count)
			close(fds[--count]);
		if (error)
			break;
	}
	_exit(0);
}

int net_namespace_enter(int net)
{
	struct stat a, b;
	/* The user namespace that owns it is where its privileges are. */
	int user = ioctl(net, NS_GET_USERNS);
	bool own = user >= 0 && !fstat(user, &a) && !stat("/proc/self/ns/user", &b) &&
		   a.st_ino == b.st_ino && a.st_dev == b.st_dev;
	int error = user >= 0 && !own && setns(user, CLONE_NEWUSER) ? -errno : 0;
	if (!error && setns(net, CLONE_NEWNET))
		error = -errno;
	wh_os_close(&user);
	return error;
}

static _Noreturn void helper(int net, int socket, pid_t parent)
{
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all,
		    NULL); /* the terminal's are for others; the socket ends us */
	if (net_namespace_enter(net))
		_exit(1);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* cannot fail */
	if (getppid() != parent || dup2(socket, 3) < 0 || syscall(SYS_close_range, 4, ~0u, 0))
		_exit(1);
	close(0);
	close(1);
	close(2);
	helper_serve(3);
}

/* ---- the gateway ---- */

static void pool_fill(struct net_inside *s, struct pool *p, int flags)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(BATCH * sizeof(int))];
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr h = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.space,
			    .msg_controllen = sizeof control.space };
	ssize_t n = recvmsg(s->socket, &h, MSG_CMSG_CLOEXEC | flags);
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && flags)
		return;
	p->asked = false;
	struct cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&h) : NULL;
	if (!c || c->cmsg_type != SCM_RIGHTS) {
		wh_os_close(&s->socket); /* it is gone, or the namespace gives nothing */
		return;
	}
	int fds[BATCH], count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(fds, CMSG_DATA(c), (size_t)count * sizeof(int));
	for (int i = 0; i < count; i++) {
		if (p->count < BATCH)
			p->fds[p->count++] = fds[i];
		else
			close(fds[i]);
	}
}

static void pool_ask(struct net_inside *s, struct pool *p, uint8_t domain)
{
	/* Answers come in the order of the requests: one is under way at a time. */
	if (s->pools[0].asked || s->pools[1].asked || s->socket < 0)
		return;
	p->asked = send(s->socket, &domain, 1, MSG_NOSIGNAL) == 1;
}

int net_inside_socket(void *ctx, int domain)
{
	struct net_inside *s = ctx;
	struct pool *p = &s->pools[domain == AF_INET6], *other = &s->pools[domain != AF_INET6];
	if (!p->count && other->asked)
		pool_fill(s, other, 0);
	if (!p->count) {
		pool_ask(s, p, (uint8_t)domain);
		if (p->asked)
			pool_fill(s, p, 0);
	} else if (p->asked && p->count < LOW) {
		pool_fill(s, p, MSG_DONTWAIT);
	}
	if (!p->count)
		return -WH_ENETDOWN;
	int fd = p->fds[--p->count];
	if (p->count < LOW)
		pool_ask(s, p, (uint8_t)domain);
	return fd;
}

struct net_inside *net_inside_start(int net)
{
	struct net_inside *s = &the_inside;
	int pair[2];
	pid_t parent = getpid();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return NULL;
	pid_t pid = fork();
	if (!pid)
		helper(net, pair[1], parent);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return NULL;
	}
	/* A helper that does not answer costs this much once. */
	struct timeval limit = { .tv_sec = 1 };
	(void)setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	s->socket = pair[0];
	return s;
}
