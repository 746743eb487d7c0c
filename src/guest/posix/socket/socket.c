/* SPDX-License-Identifier: ISC */
#include "sock.h"

/* Strong in listen.c and connect.c: without those a stream socket is of no use. */
__attribute__((weak)) int posix_tcp_new(int family, struct sock **ret_s);

static int new_socket(int family, int kind, int protocol, struct sock **ret_s)
{
	if (family == LX_AF_UNIX)
		return protocol && protocol != LX_AF_UNIX ? -WH_EPROTONOSUPPORT
							  : sock_unix_new(kind, ret_s);
	if (family != LX_AF_INET && family != LX_AF_INET6)
		return -WH_EAFNOSUPPORT;
	if (kind == LX_SOCK_STREAM && (!protocol || protocol == LX_IPPROTO_TCP))
		return posix_tcp_new ? posix_tcp_new(family, ret_s) : -WH_EPROTONOSUPPORT;
	if (kind == LX_SOCK_DGRAM && (!protocol || protocol == LX_IPPROTO_UDP))
		return sock_udp_new(family, ret_s);
	return kind == LX_SOCK_STREAM || kind == LX_SOCK_DGRAM ? -WH_EPROTONOSUPPORT
							       : -WH_ESOCKTNOSUPPORT;
}

long wh_sys_socket(int family, int type, int protocol)
{
	struct sock *s;
	int kind = type & LX_SOCK_TYPE;
	if (type & ~(LX_SOCK_TYPE | LX_SOCK_CLOEXEC | LX_SOCK_NONBLOCK))
		return -WH_EINVAL;
	int r = new_socket(family, kind, protocol, &s);
	if (r < 0)
		return r;
	s->file.flags |= (uint32_t)(type & LX_SOCK_NONBLOCK);
	return sock_install(s, type);
}
