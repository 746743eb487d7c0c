/* SPDX-License-Identifier: ISC */
#include "sock.h"

static long name(int fd, bool remote, void *ret_address, uint32_t *size)
{
	struct wh_net_end end = { 0 };
	int r;
	struct sock *s = sock_get(fd, &r);
	if (!s)
		return r;
	if (s->named)
		return ret_address ? sock_unix_name(s, remote, ret_address, size) : -WH_EFAULT;
	r = s->ops->name(s, remote, &end);
	if (r < 0)
		return r;
	return ret_address ? sock_address_out(s, &end, ret_address, size) : -WH_EFAULT;
}

long wh_sys_getsockname(int fd, void *ret_address, uint32_t *size)
{
	return name(fd, false, ret_address, size);
}

long wh_sys_getpeername(int fd, void *ret_address, uint32_t *size)
{
	return name(fd, true, ret_address, size);
}
