/* SPDX-License-Identifier: ISC */
/* UDP sockets: the stack hands datagrams over, a ring of records keeps them. */
#include <kern/mem.h>
#include <kern/plat.h>
#include "sock.h"

#define RECEIVE_DEFAULT (128u << 10)
#define RECEIVE_MAX (1u << 20)

struct record {
	struct wh_net_tuple tuple;
	uint32_t size;
};

struct udp {
	struct sock sock;
	struct wh_net_udp *u; /* NULL: no port yet */
	struct sock_ring ring;
	uint32_t dropped;
	bool read_shut, write_shut;
	int error;
	struct sock_groups groups;
};

static struct udp *udp_of(struct sock *s)
{
	return WH_CONTAINER_OF(s, struct udp, sock);
}

static void on_datagram(struct wh_net_udp *u, const struct wh_net_tuple *tuple,
			const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	struct udp *s = wh_net_udp_ctx(u);
	struct record r = { .tuple = *tuple, .size = size };
	if (s->read_shut || !sock_ring_room(&s->ring, (uint32_t)sizeof r + size)) {
		s->dropped++;
		return;
	}
	sock_ring_put(&s->ring, &r, sizeof r);
	sock_ring_put_iov(&s->ring, iov, count, 0, size);
	kern_waitq_wake(&s->sock.file.waitq, LX_POLLIN | LX_POLLRDNORM, UINT32_MAX);
}

static void on_error(struct wh_net_udp *u, const struct wh_net_tuple *tuple, int error)
{
	struct udp *s = wh_net_udp_ctx(u);
	s->error = error;
	kern_waitq_wake(&s->sock.file.waitq, LX_POLLERR | LX_POLLIN | LX_POLLOUT, UINT32_MAX);
}

static void on_writable(struct wh_net_udp *u)
{
	struct udp *s = wh_net_udp_ctx(u);
	kern_waitq_wake(&s->sock.file.waitq, LX_POLLOUT | LX_POLLWRNORM, UINT32_MAX);
}

static const struct wh_net_udp_ops stack_ops = { .datagram = on_datagram,
						 .error = on_error,
						 .writable = on_writable };

static int open_at(struct udp *s, const struct wh_net_end *local)
{
	struct wh_net_tuple t = { .local = *local };
	uint32_t flags = (s->sock.v6only ? WH_NET_UDP_V6ONLY : 0) |
			 (s->sock.reuse_address || s->sock.reuse_port ? WH_NET_UDP_REUSE : 0);
	return wh_net_udp_open(posix_net, &t, flags, &stack_ops, s, &s->u);
}

/* A port of its own for a socket that sends without bind. */
static int open_any(struct udp *s)
{
	static const uint8_t zero[4] = { 0 };
	struct wh_net_end any = { 0 };
	if (s->u)
		return 0;
	if (s->sock.family == LX_AF_INET)
		any.ip = wh_net_ip4(zero);
	return open_at(s, &any);
}

static int udp_bind(struct sock *s, const struct wh_net_end *local)
{
	struct udp *u = udp_of(s);
	return u->u ? -WH_EINVAL : open_at(u, local);
}

static void loopback_for_any(struct wh_net_ip *ip)
{
	static const uint8_t one4[4] = { 127, 0, 0, 1 };
	static const uint8_t one6[16] = { [15] = 1 };
	if (wh_net_ip_is_any(ip))
		*ip = wh_net_ip_is4(ip) ? wh_net_ip4(one4) : wh_net_ip6(one6);
}

static int udp_connect(struct sock *s, const struct wh_net_end *remote, bool nonblock)
{
	struct udp *u = udp_of(s);
	struct wh_net_end end = *remote;
	int r = open_any(u);
	if (end.port)
		loopback_for_any(&end.ip);
	return r < 0 ? r : wh_net_udp_connect(u->u, &end);
}

static int udp_name(struct sock *s, bool remote, struct wh_net_end *ret_end)
{
	struct udp *u = udp_of(s);
	static const uint8_t zero[4] = { 0 };
	*ret_end = (struct wh_net_end){ 0 };
	if (s->family == LX_AF_INET)
		ret_end->ip = wh_net_ip4(zero);
	if (remote) {
		if (!u->u || !wh_net_udp_tuple(u->u)->remote.port)
			return -WH_ENOTCONN;
		*ret_end = wh_net_udp_tuple(u->u)->remote;
	} else if (u->u) {
		*ret_end = wh_net_udp_tuple(u->u)->local;
	}
	return 0;
}

static int take_error(struct sock *s)
{
	struct udp *u = udp_of(s);
	int error = u->error;
	u->error = 0;
	return error;
}

/* Gathers a long list into what a frame takes. */
static int flatten(struct sock_message *m, struct wh_iov *ret_iov)
{
	uint8_t *copy = kern_alloc(m->size);
	if (!copy)
		return -WH_ENOBUFS;
	size_t n = wh_iov_read(m->iov, (size_t)m->iov_count, 0, copy, m->size);
	*ret_iov = (struct wh_iov){ copy, n };
	return 0;
}

static int64_t udp_send(struct sock *s, struct sock_message *m)
{
	struct udp *u = udp_of(s);
	uint64_t deadline = sock_deadline(s->send_timeout_ns);
	uint32_t tries = 0;
	int r = take_error(s);
	if (r)
		return -r;
	if (m->flags & LX_MSG_OOB)
		return -WH_EOPNOTSUPP;
	if (m->size > 65507)
		return -WH_EMSGSIZE;
	r = open_any(u);
	if (r < 0)
		return r;
	struct wh_net_tuple t = *wh_net_udp_tuple(u->u);
	if (m->has_address) {
		t.remote = m->address;
		loopback_for_any(&t.remote.ip);
	}
	if (!t.remote.port)
		return m->has_address ? -WH_EINVAL : -WH_EDESTADDRREQ;
	struct wh_iov one, *iov = (struct wh_iov *)m->iov;
	uint32_t count = (uint32_t)m->iov_count;
	if (count > 4) {
		r = flatten(m, &one);
		if (r < 0)
			return r;
		iov = &one;
		count = 1;
	}
	struct wh_net_send_options o = { .hop_limit = s->hop_limit,
					 .tos = s->tos,
					 .dont_fragment = s->dont_fragment };
	do
		r = wh_net_udp_send(posix_net, u->u, &t, iov, count, &o);
	while (r == -WH_EAGAIN && (r = sock_wait(s, m->nonblock, deadline, &tries)) >= 0);
	if (iov == &one)
		kern_free(one.base, m->size);
	sock_run();
	return r;
}

static int64_t udp_receive(struct sock *s, struct sock_message *m)
{
	struct udp *u = udp_of(s);
	uint64_t deadline = sock_deadline(s->receive_timeout_ns);
	uint32_t tries = 0;
	struct record rec;
	if (m->flags & LX_MSG_ERRQUEUE)
		return -WH_EAGAIN;
	while (!u->ring.used) {
		int r = -take_error(s);
		if (!r && u->read_shut)
			return 0;
		if (!r)
			r = sock_wait(s, m->nonblock, deadline, &tries);
		if (r < 0)
			return r;
	}
	sock_ring_peek(&u->ring, 0, &rec, sizeof rec);
	uint32_t n = rec.size < m->size ? rec.size : (uint32_t)m->size;
	sock_ring_peek_iov(&u->ring, sizeof rec, m->iov, m->iov_count, n);
	if (!(m->flags & LX_MSG_PEEK))
		sock_ring_skip(&u->ring, (uint32_t)sizeof rec + rec.size);
	bool truncate = m->flags & LX_MSG_TRUNC;
	m->flags = n < rec.size ? LX_MSG_TRUNC : 0;
	m->has_address = true;
	m->address = rec.tuple.remote;
	m->to = rec.tuple.local.ip;
	return truncate ? rec.size : n;
}

static uint32_t udp_poll(struct fs_file *f)
{
	struct udp *u = udp_of(sock_of_file(f));
	uint32_t mask = LX_POLLOUT | LX_POLLWRNORM;
	if (u->ring.used || u->read_shut || u->error)
		mask |= LX_POLLIN | LX_POLLRDNORM;
	if (u->error)
		mask |= LX_POLLERR;
	if (u->read_shut)
		mask |= LX_POLLRDHUP | (u->write_shut ? LX_POLLHUP : 0);
	return mask;
}

static int udp_shutdown(struct sock *s, bool read, bool write)
{
	struct udp *u = udp_of(s);
	if (!u->u || !wh_net_udp_tuple(u->u)->remote.port)
		return -WH_ENOTCONN;
	u->read_shut |= read;
	u->write_shut |= write;
	kern_waitq_wake(&s->file.waitq, LX_POLLIN | LX_POLLHUP | LX_POLLRDHUP, UINT32_MAX);
	return 0;
}

static int udp_set(struct sock *s, int level, int option, int value)
{
	struct udp *u = udp_of(s);
	if (level == LX_SOL_SOCKET && option == LX_SO_RCVBUF) {
		uint32_t limit = 4096;
		while (limit < (uint32_t)value && limit < RECEIVE_MAX)
			limit *= 2;
		if (limit >= u->ring.size)
			u->ring.limit = limit;
		return 0;
	}
	return -WH_ENOPROTOOPT;
}

static int udp_get(struct sock *s, int level, int option, void *ret_value, uint32_t *size)
{
	struct udp *u = udp_of(s);
	uint32_t value = 0;
	if (level != LX_SOL_SOCKET || (option != LX_SO_RCVBUF && option != LX_SO_SNDBUF))
		return -WH_ENOPROTOOPT;
	value = option == LX_SO_RCVBUF ? u->ring.limit : RECEIVE_DEFAULT;
	*size = *size < sizeof value ? *size : (uint32_t)sizeof value;
	memcpy(ret_value, &value, *size);
	return 0;
}

static int udp_ioctl(struct fs_file *f, unsigned long request, unsigned long argument)
{
	struct udp *u = udp_of(sock_of_file(f));
	int value = 0;
	if (request != LX_FIONREAD && request != LX_TIOCOUTQ)
		return -WH_ENOTTY;
	if (!kern_user_writable((void *)argument, sizeof value))
		return -WH_EFAULT;
	if (request == LX_FIONREAD && u->ring.used) {
		struct record rec;
		sock_ring_peek(&u->ring, 0, &rec, sizeof rec);
		value = (int)rec.size;
	}
	memcpy((void *)argument, &value, sizeof value);
	return 0;
}

static void udp_release(struct fs_file *f)
{
	struct udp *u = udp_of(sock_of_file(f));
	sock_groups_leave(&u->groups);
	wh_net_udp_close(u->u);
	sock_ring_fini(&u->ring);
	kern_free(u, sizeof *u);
}

static int udp_group(struct sock *s, int level, int option, const void *value, uint32_t size)
{
	return sock_group_set(&udp_of(s)->groups, level, option, value, size);
}

static const struct sock_ops udp_ops = {
	.group = udp_group,
	.bind = udp_bind,
	.connect = udp_connect,
	.name = udp_name,
	.send = udp_send,
	.receive = udp_receive,
	.shutdown = udp_shutdown,
	.set = udp_set,
	.get = udp_get,
	.take_error = take_error,
};

static const struct fs_file_ops file_ops = {
	.read = sock_read,
	.write = sock_write,
	.poll = udp_poll,
	.ioctl = udp_ioctl,
	.release = udp_release,
	.kind = FS_KIND_SOCKET,
	.tell = sock_tell,
};

int sock_udp_new(int family, struct sock **ret_s)
{
	int r = wh_net_udp_enable(posix_net);
	struct udp *u = r < 0 ? NULL : kern_alloc_zero(sizeof *u);
	if (!u)
		return -WH_ENOMEM;
	sock_init(&u->sock, &udp_ops, &file_ops, family, LX_SOCK_DGRAM, LX_IPPROTO_UDP);
	u->ring.limit = RECEIVE_DEFAULT;
	*ret_s = &u->sock;
	return 0;
}
