/* SPDX-License-Identifier: ISC */
#include <wherry/base/assert.h>
#include "sock.h"

static long accept_at(struct sock *s, void *ret_address, uint32_t *size, int flags)
{
	struct sock *n;
	struct wh_net_end end;
	int r = s->ops->accept(s, s->file.flags & LX_O_NONBLOCK, &n);
	if (r < 0)
		return r;
	n->file.flags |= (uint32_t)(flags & LX_SOCK_NONBLOCK);
	r = n->named ? 0 : n->ops->name(n, true, &end);
	wh_assert(r >= 0);
	if (ret_address)
		r = n->named ? sock_unix_name(n, true, ret_address, size)
			     : sock_address_out(n, &end, ret_address, size);
	if (r < 0) {
		fs_file_unref(&n->file);
		return r;
	}
	return sock_install(n, flags);
}

long wh_sys_accept4(int fd, void *ret_address, uint32_t *size, int flags)
{
	int r;
	struct sock *s = sock_get(fd, &r);
	if (flags & ~(LX_SOCK_NONBLOCK | LX_SOCK_CLOEXEC))
		return -WH_EINVAL;
	if (!s)
		return r;
	if (!s->ops->accept)
		return -WH_EOPNOTSUPP;
	fs_file_ref(&s->file);
	long result = accept_at(s, ret_address, size, flags);
	fs_file_unref(&s->file);
	return result;
}

long wh_sys_accept(int fd, void *ret_address, uint32_t *size)
{
	return wh_sys_accept4(fd, ret_address, size, 0);
}
