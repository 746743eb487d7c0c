/* SPDX-License-Identifier: ISC */
#include "sock.h"

/* Brings TCP into the image. */
int (*const posix_listen_wants_tcp)(int, struct sock **) = posix_tcp_new;

long wh_sys_listen(int fd, int backlog)
{
	int r;
	struct sock *s = sock_get(fd, &r);
	if (!s)
		return r;
	return s->ops->listen ? s->ops->listen(s, backlog) : -WH_EOPNOTSUPP;
}
