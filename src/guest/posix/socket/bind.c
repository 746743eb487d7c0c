/* SPDX-License-Identifier: ISC */
#include "sock.h"

long wh_sys_bind(int fd, const void *address, uint32_t size)
{
	struct wh_net_end end;
	int r;
	struct sock *s = sock_get(fd, &r);
	if (!s)
		return r;
	if (s->named)
		return sock_unix_bind(s, address, size);
	if (!s->ops->bind)
		return -WH_EINVAL;
	r = sock_address_in(s, address, size, &end);
	return r < 0 ? r : s->ops->bind(s, &end);
}
