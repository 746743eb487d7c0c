/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <posix/time.h>
#include "../file/user.h"
#include "sock.h"

static int64_t receive(struct sock *s, struct sock_message *m)
{
	m->nonblock = (s->file.flags & LX_O_NONBLOCK) || (m->flags & LX_MSG_DONTWAIT);
	fs_file_ref(&s->file);
	int64_t r = s->ops->receive(s, m);
	fs_file_unref(&s->file);
	return r;
}

long wh_sys_recvfrom(int fd, void *to, size_t size, int flags, void *ret_address,
		     uint32_t *address_size)
{
	struct wh_iov iov = { to, size };
	struct sock_message m = { .iov = &iov, .iov_count = 1, .size = size, .flags = flags };
	int r;
	struct sock *s = sock_get(fd, &r);
	if (!s)
		return r;
	if (size > LX_RW_MAX)
		iov.size = m.size = LX_RW_MAX;
	if (size && !kern_user_writable(to, iov.size))
		return -WH_EFAULT;
	if (s->named && ret_address)
		m.name = ret_address, m.name_size = address_size;
	int64_t n = receive(s, &m);
	if (n < 0 || !ret_address || (m.name && s->type == LX_SOCK_DGRAM))
		return n;
	if (m.has_address)
		r = sock_address_out(s, &m.address, ret_address, address_size);
	else if (kern_user_writable(address_size, sizeof *address_size))
		*address_size = 0;
	return r < 0 && r != -WH_ENOTSOCK ? r : n;
}

struct cmsg {
	uint64_t size;
	int32_t level, type;
};

/* Destination address of a datagram, for those who asked (IP_PKTINFO). */
static void packet_info(const struct sock *s, const struct sock_message *m, struct lx_msghdr *h)
{
	struct {
		struct cmsg head;
		uint8_t body[24];
	} c = { 0 };
	bool is4 = s->family == LX_AF_INET;
	uint32_t body = is4 ? 12 : 20, size = (uint32_t)sizeof c.head + body;
	uint64_t room = h->control_size;
	h->control_size = 0;
	if (!s->packet_info || s->type != LX_SOCK_DGRAM || !m->has_address)
		return;
	if (room < size || !kern_user_writable(h->control, room)) {
		h->flags |= LX_MSG_CTRUNC;
		return;
	}
	c.head = (struct cmsg){ size, is4 ? LX_IPPROTO_IP : LX_IPPROTO_IPV6,
				is4 ? LX_IP_PKTINFO : LX_IPV6_PKTINFO };
	/* interface index (2: the device), addresses */
	c.body[is4 ? 0 : 16] = 2;
	memcpy(c.body + (is4 ? 8 : 0), m->to.bytes + (is4 ? 12 : 0), is4 ? 4 : 16);
	if (is4)
		memcpy(c.body + 4, m->to.bytes + 12, 4);
	memcpy(h->control, &c, size);
	h->control_size = (size + 7u) & ~7u;
	if (h->control_size > room)
		h->control_size = size;
}

static long recvmsg_at(struct sock *s, struct lx_msghdr *h, int flags)
{
	if (!kern_user_writable(h, sizeof *h))
		return -WH_EFAULT;
	int count = (int)h->iov_count;
	int r = posix_iov_check(h->iov, count, true);
	if (r < 0)
		return r == -WH_EINVAL ? -WH_EMSGSIZE : r;
	struct sock_message m = { .iov = h->iov,
				  .iov_count = count,
				  .size = wh_iov_size(h->iov, (size_t)count),
				  .flags = flags };
	if (s->named && h->name)
		m.name = h->name, m.name_size = &h->name_size;
	int64_t n = receive(s, &m);
	if (n < 0)
		return n;
	h->flags = m.flags & LX_MSG_TRUNC && s->type != LX_SOCK_STREAM ? LX_MSG_TRUNC : 0;
	if (m.name && s->type == LX_SOCK_DGRAM)
		r = 0; /* written already */
	else if (h->name && m.has_address)
		r = sock_address_out(s, &m.address, h->name, &h->name_size);
	else
		h->name_size = 0;
	packet_info(s, &m, h);
	return r < 0 ? r : n;
}

long wh_sys_recvmsg(int fd, struct lx_msghdr *message, int flags)
{
	int r;
	struct sock *s = sock_get(fd, &r);
	return s ? recvmsg_at(s, message, flags) : r;
}

long wh_sys_recvmmsg(int fd, struct lx_mmsghdr *messages, unsigned count, int flags,
		     const struct lx_timespec *timeout)
{
	int r;
	unsigned done = 0;
	uint64_t deadline = KERN_FOREVER;
	struct sock *s = sock_get(fd, &r);
	if (!s)
		return r;
	if (timeout && (!kern_user_readable(timeout, sizeof *timeout) ||
			posix_deadline(timeout, &deadline) < 0))
		return -WH_EINVAL;
	if (count > LX_IOV_MAX)
		count = LX_IOV_MAX;
	if (!kern_user_writable(messages, count * sizeof *messages))
		return -WH_EFAULT;
	while (done < count) {
		long n = recvmsg_at(s, &messages[done].header, flags & ~LX_MSG_WAITFORONE);
		if (n < 0)
			return done ? (long)done : n;
		messages[done++].size = (uint32_t)n;
		if (flags & LX_MSG_WAITFORONE)
			flags |= LX_MSG_DONTWAIT;
		if (kern_time_monotonic() >= deadline) /* as on Linux: only looked at here */
			break;
	}
	return done;
}
