/* SPDX-License-Identifier: ISC */
#include "sock.h"

long wh_sys_shutdown(int fd, int how)
{
	int r;
	struct sock *s = sock_get(fd, &r);
	if (!s)
		return r;
	if (how < LX_SHUT_RD || how > LX_SHUT_RDWR)
		return -WH_EINVAL;
	return s->ops->shutdown(s, how != LX_SHUT_WR, how != LX_SHUT_RD);
}
