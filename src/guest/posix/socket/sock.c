/* SPDX-License-Identifier: ISC */
/* What all sockets share: descriptors, waiting, addresses, read and write. */
#include <kern/mem.h>
#include <kern/observe.h>
#include <kern/plat.h>
#include <wherry/base/bytes.h>
#include "sock.h"

struct sock *sock_get(int fd, int *ret_error)
{
	struct fs_file *f = fs_fd_get(fd);
	*ret_error = !f ? -WH_EBADF : -WH_ENOTSOCK;
	return f && f->ops->kind == FS_KIND_SOCKET ? sock_of_file(f) : NULL;
}

int sock_install(struct sock *s, int flags)
{
	int fd = fs_fd_install(&s->file, 0, flags & LX_SOCK_CLOEXEC);
	if (fd < 0)
		fs_file_unref(&s->file);
	return fd;
}

void sock_init(struct sock *s, const struct sock_ops *ops, const struct fs_file_ops *file_ops,
	       int family, int type, int protocol)
{
	fs_file_init(&s->file, file_ops, LX_O_RDWR);
	s->ops = ops;
	s->family = (uint16_t)family;
	s->type = (uint16_t)type;
	s->protocol = (uint16_t)protocol;
}

static void tell_end(const char *name, const struct wh_net_end *end)
{
	const uint8_t *a = end->ip.bytes;
	if (wh_net_ip_is4(&end->ip))
		kern_observe_put(" %s=%u.%u.%u.%u:%u", name, a[12], a[13], a[14], a[15], end->port);
	else {
		kern_observe_put(" %s=[", name);
		for (unsigned i = 0; i < 16; i += 2)
			kern_observe_put("%s%x", i ? ":" : "", a[i] << 8 | a[i + 1]);
		kern_observe_put("]:%u", end->port);
	}
}

void sock_tell(struct fs_file *f)
{
	struct sock *s = sock_of_file(f);
	struct wh_net_end end;
	kern_observe_put(" socket=%s%s", s->type == LX_SOCK_STREAM ? "tcp" : "udp",
			 s->family == LX_AF_INET6 ? "6" : "");
	if (s->ops->name && s->ops->name(s, false, &end) >= 0)
		tell_end("local", &end);
	if (s->ops->name && s->ops->name(s, true, &end) >= 0)
		tell_end("remote", &end);
}

uint64_t sock_deadline(uint64_t timeout_ns)
{
	return timeout_ns ? kern_time_monotonic() + timeout_ns : KERN_FOREVER;
}

int sock_wait(struct sock *s, bool nonblock, uint64_t deadline_ns, uint32_t *tries)
{
	if (nonblock) {
		/* A program that only ever polls its sockets must see the network move. */
		if ((*tries)++)
			return -WH_EAGAIN;
		(void)kern_poll(); /* its deadline matters to sleepers only */
		return 0;
	}
	int r = kern_wait(&s->file.waitq, deadline_ns);
	return r == -WH_ETIMEDOUT ? -WH_EAGAIN : r;
}

int sock_address_in(const struct sock *s, const void *address, uint32_t size,
		    struct wh_net_end *ret_end)
{
	uint16_t family;
	if (size > 128)
		return -WH_EINVAL;
	if (!kern_user_readable(address, size))
		return -WH_EFAULT;
	if (size < sizeof family)
		return -WH_EINVAL;
	memcpy(&family, address, sizeof family);
	if (family == LX_AF_INET && s->family == LX_AF_INET) {
		struct lx_sockaddr_in in;
		if (size < sizeof in)
			return -WH_EINVAL;
		memcpy(&in, address, sizeof in);
		ret_end->ip = wh_net_ip4(in.address);
		ret_end->port = wh_load_be16(in.port);
		return 0;
	}
	if (family == LX_AF_INET6 && s->family == LX_AF_INET6) {
		struct lx_sockaddr_in6 in6;
		if (size < sizeof in6 - sizeof in6.scope)
			return -WH_EINVAL;
		memcpy(&in6, address, sizeof in6 - sizeof in6.scope);
		ret_end->ip = wh_net_ip6(in6.address);
		ret_end->port = wh_load_be16(in6.port);
		return 0;
	}
	return -WH_EAFNOSUPPORT;
}

int sock_address_out(const struct sock *s, const struct wh_net_end *end, void *address,
		     uint32_t *size)
{
	union {
		struct lx_sockaddr_in in;
		struct lx_sockaddr_in6 in6;
	} u = { 0 };
	uint32_t full = s->family == LX_AF_INET    ? sizeof u.in
			: s->family == LX_AF_INET6 ? sizeof u.in6
						   : sizeof u.in.family;
	if (!address)
		return 0;
	if (!kern_user_writable(size, sizeof *size))
		return -WH_EFAULT;
	uint32_t n = *size < full ? *size : full;
	if ((int32_t)*size < 0)
		return -WH_EINVAL;
	if (!kern_user_writable(address, n))
		return -WH_EFAULT;
	u.in.family = s->family;
	wh_store_be16(u.in.port, s->family == LX_AF_UNIX ? 0 : end->port);
	if (s->family == LX_AF_INET)
		memcpy(u.in.address, end->ip.bytes + 12, 4);
	else if (s->family == LX_AF_INET6)
		memcpy(u.in6.address, end->ip.bytes, 16);
	memcpy(address, &u, n);
	*size = full;
	return 0;
}

int64_t sock_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
		  bool nonblock)
{
	struct sock *s = sock_of_file(f);
	struct sock_message m = { .iov = iov,
				  .iov_count = count,
				  .size = wh_iov_size(iov, (size_t)count),
				  .nonblock = nonblock };
	if (!m.size)
		return 0;
	fs_file_ref(f); /* another thread may close it while this one waits */
	int64_t r = s->ops->receive(s, &m);
	fs_file_unref(f);
	return r;
}

int64_t sock_write(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
		   bool nonblock)
{
	struct sock *s = sock_of_file(f);
	struct sock_message m = { .iov = iov,
				  .iov_count = count,
				  .size = wh_iov_size(iov, (size_t)count),
				  .nonblock = nonblock };
	fs_file_ref(f);
	int64_t r = s->ops->send(s, &m);
	fs_file_unref(f);
	return r;
}
