/* SPDX-License-Identifier: ISC */
/* Two connected ends with a ring each: socketpair(AF_UNIX) and the connections of unix.c. Datagrams are records
 * with their size in front. Descriptors cannot be passed: there is nobody to pass them to. */
#include <kern/mem.h>
#include <kern/signal.h>
#include "pair.h"

static struct pair_end *end_of(struct sock *s)
{
	return pair_end_of(s);
}

static bool is_stream(const struct pair_end *e)
{
	return e->sock.type == LX_SOCK_STREAM;
}

static bool at_end(const struct pair_end *e)
{
	return e->read_shut || !e->peer || e->peer->write_shut;
}

int64_t pair_send(struct sock *s, struct sock_message *m)
{
	struct pair_end *e = end_of(s);
	uint64_t deadline = sock_deadline(s->send_timeout_ns);
	size_t done = 0;
	uint32_t tries = 0;
	bool stream = is_stream(e);
	if (!stream && m->size > PAIR_RING_LIMIT / 2)
		return -WH_EMSGSIZE;
	while (done < m->size || (!stream && !done)) {
		struct pair_end *peer = e->peer;
		if (e->write_shut || !peer || peer->read_shut) {
			if (done)
				return (int64_t)done;
			if (!(m->flags & LX_MSG_NOSIGNAL))
				kern_signal_raise(LX_SIGPIPE);
			return -WH_EPIPE;
		}
		uint32_t n = stream ? 1 : (uint32_t)m->size + 4;
		if (sock_ring_room(&peer->ring, n)) {
			uint32_t room = peer->ring.size - peer->ring.used;
			uint32_t size = (uint32_t)m->size;
			if (stream)
				n = m->size - done < room ? (uint32_t)(m->size - done) : room;
			else
				sock_ring_put(&peer->ring, &size, 4), n = size;
			sock_ring_put_iov(&peer->ring, m->iov, (uint32_t)m->iov_count,
					  (uint32_t)done, n);
			done += n;
			kern_waitq_wake(&peer->sock.file.waitq, LX_POLLIN | LX_POLLRDNORM,
					UINT32_MAX);
			if (!stream)
				break;
			continue;
		}
		int r = sock_wait(s, m->nonblock, deadline, &tries);
		if (r < 0)
			return done ? (int64_t)done : r;
	}
	return (int64_t)done;
}

int64_t pair_receive(struct sock *s, struct sock_message *m)
{
	struct pair_end *e = end_of(s);
	uint64_t deadline = sock_deadline(s->receive_timeout_ns);
	uint32_t tries = 0, record;
	while (!e->ring.used) {
		if (at_end(e))
			return 0;
		int r = sock_wait(s, m->nonblock, deadline, &tries);
		if (r < 0)
			return r;
	}
	bool stream = is_stream(e);
	record = e->ring.used;
	if (!stream)
		sock_ring_peek(&e->ring, 0, &record, 4);
	uint32_t n = record < m->size ? record : (uint32_t)m->size;
	sock_ring_peek_iov(&e->ring, stream ? 0 : 4, m->iov, m->iov_count, n);
	if (!(m->flags & LX_MSG_PEEK)) {
		sock_ring_skip(&e->ring, stream ? n : record + 4);
		if (e->peer)
			kern_waitq_wake(&e->peer->sock.file.waitq, LX_POLLOUT | LX_POLLWRNORM,
					UINT32_MAX);
	}
	bool truncate = !stream && (m->flags & LX_MSG_TRUNC);
	m->flags = !stream && n < record ? LX_MSG_TRUNC : 0;
	return truncate ? record : n;
}

static int pair_name(struct sock *s, bool remote, struct wh_net_end *ret_end)
{
	return remote && !end_of(s)->peer ? -WH_ENOTCONN : 0;
}

int pair_shutdown(struct sock *s, bool read, bool write)
{
	struct pair_end *e = end_of(s);
	e->read_shut |= read;
	e->write_shut |= write;
	const uint32_t all = LX_POLLIN | LX_POLLOUT | LX_POLLHUP | LX_POLLRDHUP;
	kern_waitq_wake(&s->file.waitq, all, UINT32_MAX);
	if (e->peer)
		kern_waitq_wake(&e->peer->sock.file.waitq, all, UINT32_MAX);
	return 0;
}

uint32_t pair_poll(struct fs_file *f)
{
	struct pair_end *e = end_of(sock_of_file(f));
	uint32_t mask = 0;
	if (e->ring.used || at_end(e))
		mask |= LX_POLLIN | LX_POLLRDNORM;
	if (at_end(e))
		mask |= LX_POLLRDHUP | (!e->peer || e->write_shut ? LX_POLLHUP : 0);
	if (!e->peer || PAIR_RING_LIMIT - e->peer->ring.used >= PAIR_RING_LIMIT / 4)
		mask |= LX_POLLOUT | LX_POLLWRNORM;
	return mask;
}

int pair_ioctl(struct fs_file *f, unsigned long request, unsigned long argument)
{
	struct pair_end *e = end_of(sock_of_file(f));
	int value = (int)e->ring.used;
	if (request != LX_FIONREAD)
		return -WH_ENOTTY;
	if (!kern_user_writable((void *)argument, sizeof value))
		return -WH_EFAULT;
	if (!is_stream(e) && value)
		sock_ring_peek(&e->ring, 0, &value, 4);
	memcpy((void *)argument, &value, sizeof value);
	return 0;
}

void pair_end_fini(struct pair_end *e)
{
	if (e->peer) {
		e->peer->peer = NULL;
		kern_waitq_wake(&e->peer->sock.file.waitq,
				LX_POLLIN | LX_POLLOUT | LX_POLLHUP | LX_POLLRDHUP, UINT32_MAX);
	}
	sock_ring_fini(&e->ring);
}

static void pair_release(struct fs_file *f)
{
	struct pair_end *e = end_of(sock_of_file(f));
	pair_end_fini(e);
	kern_free(e, sizeof *e);
}

static const struct sock_ops pair_ops = {
	.name = pair_name, .send = pair_send, .receive = pair_receive, .shutdown = pair_shutdown
};

static const struct fs_file_ops file_ops = { .read = sock_read,
					     .write = sock_write,
					     .poll = pair_poll,
					     .ioctl = pair_ioctl,
					     .release = pair_release,
					     .kind = FS_KIND_SOCKET };

static struct pair_end *end_new(int type)
{
	struct pair_end *e = kern_alloc_zero(sizeof *e);
	if (!e)
		return NULL;
	sock_init(&e->sock, &pair_ops, &file_ops, LX_AF_UNIX, type & LX_SOCK_TYPE, 0);
	e->sock.file.flags |= (uint32_t)(type & LX_SOCK_NONBLOCK);
	e->ring.limit = PAIR_RING_LIMIT;
	return e;
}

long wh_sys_socketpair(int family, int type, int protocol, int *ret_fds)
{
	int kind = type & LX_SOCK_TYPE, fd[2];
	if (family != LX_AF_UNIX)
		return family == LX_AF_INET || family == LX_AF_INET6 ? -WH_EOPNOTSUPP
								     : -WH_EAFNOSUPPORT;
	if (protocol && protocol != LX_AF_UNIX)
		return -WH_EPROTONOSUPPORT;
	if (kind != LX_SOCK_STREAM && kind != LX_SOCK_DGRAM && kind != LX_SOCK_SEQPACKET)
		return -WH_ESOCKTNOSUPPORT;
	if (!kern_user_writable(ret_fds, sizeof fd))
		return -WH_EFAULT;
	struct pair_end *a = end_new(type), *b = a ? end_new(type) : NULL;
	if (!b) {
		kern_free(a, sizeof *a);
		return -WH_ENOMEM;
	}
	a->peer = b;
	b->peer = a;
	fd[0] = sock_install(&a->sock, type);
	if (fd[0] < 0) {
		fs_file_unref(&b->sock.file);
		return fd[0];
	}
	fd[1] = sock_install(&b->sock, type);
	if (fd[1] < 0) {
		(void)fs_fd_close(fd[0]); /* just opened */
		return fd[1];
	}
	memcpy(ret_fds, fd, sizeof fd);
	return 0;
}
