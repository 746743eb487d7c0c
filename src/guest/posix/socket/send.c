/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include "../file/user.h"
#include "sock.h"

static int64_t send(struct sock *s, struct sock_message *m, const void *address,
		    uint32_t address_size)
{
	m->nonblock = (s->file.flags & LX_O_NONBLOCK) || (m->flags & LX_MSG_DONTWAIT);
	if (m->size > LX_RW_MAX)
		return -WH_EMSGSIZE;
	fs_file_ref(&s->file);
	bool to_name = s->named && address && s->type == LX_SOCK_DGRAM;
	int64_t r = to_name ? sock_unix_send_to(s, m, address, address_size) : s->ops->send(s, m);
	fs_file_unref(&s->file);
	return r;
}

static int address_in(struct sock *s, struct sock_message *m, const void *address, uint32_t size)
{
	/* A connected stream takes no address and does not mind one (Linux). */
	if (!address || s->type != LX_SOCK_DGRAM || s->family == LX_AF_UNIX)
		return 0;
	m->has_address = true;
	return sock_address_in(s, address, size, &m->address);
}

long wh_sys_sendto(int fd, const void *data, size_t size, int flags, const void *address,
		   uint32_t address_size)
{
	struct wh_iov iov = { (void *)data, size };
	struct sock_message m = { .iov = &iov, .iov_count = 1, .size = size, .flags = flags };
	int r;
	struct sock *s = sock_get(fd, &r);
	if (!s)
		return r;
	if (size && !kern_user_readable(data, size))
		return -WH_EFAULT;
	r = address_in(s, &m, address, address_size);
	return r < 0 ? r : send(s, &m, address, address_size);
}

static long sendmsg_at(struct sock *s, const struct lx_msghdr *h, int flags)
{
	if (!kern_user_readable(h, sizeof *h))
		return -WH_EFAULT;
	int count = (int)h->iov_count;
	int r = posix_iov_check(h->iov, count, false);
	if (r < 0)
		return r == -WH_EINVAL ? -WH_EMSGSIZE : r;
	/* Ancillary data (descriptors, credentials, packet information) is not sent. */
	struct sock_message m = { .iov = h->iov,
				  .iov_count = count,
				  .size = wh_iov_size(h->iov, (size_t)count),
				  .flags = flags };
	r = address_in(s, &m, h->name, h->name_size);
	return r < 0 ? r : send(s, &m, h->name, h->name_size);
}

long wh_sys_sendmsg(int fd, const struct lx_msghdr *message, int flags)
{
	int r;
	struct sock *s = sock_get(fd, &r);
	return s ? sendmsg_at(s, message, flags) : r;
}

long wh_sys_sendmmsg(int fd, struct lx_mmsghdr *messages, unsigned count, int flags)
{
	int r;
	unsigned done = 0;
	struct sock *s = sock_get(fd, &r);
	if (!s)
		return r;
	if (count > LX_IOV_MAX)
		count = LX_IOV_MAX;
	if (!kern_user_writable(messages, count * sizeof *messages))
		return -WH_EFAULT;
	for (; done < count; done++) {
		long n = sendmsg_at(s, &messages[done].header, flags);
		if (n < 0)
			return done ? (long)done : n;
		messages[done].size = (uint32_t)n;
	}
	return done;
}
