/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include "sock.h"

/* Brings TCP into the image. */
int (*const posix_connect_wants_tcp)(int, struct sock **) = posix_tcp_new;

static int address_or_none(const struct sock *s, const void *address, uint32_t size,
			   struct wh_net_end *ret_end)
{
	uint16_t family;
	if (size >= sizeof family && kern_user_readable(address, sizeof family)) {
		memcpy(&family, address, sizeof family);
		if (family == LX_AF_UNSPEC && s->type == LX_SOCK_DGRAM) {
			*ret_end = (struct wh_net_end){ 0 };
			return 0;
		}
	}
	return sock_address_in(s, address, size, ret_end);
}

long wh_sys_connect(int fd, const void *address, uint32_t size)
{
	struct wh_net_end end;
	int r;
	struct sock *s = sock_get(fd, &r);
	if (!s)
		return r;
	if (s->named) {
		fs_file_ref(&s->file);
		r = sock_unix_connect(s, address, size, s->file.flags & LX_O_NONBLOCK);
		fs_file_unref(&s->file);
		return r;
	}
	if (!s->ops->connect)
		return -WH_EISCONN;
	r = address_or_none(s, address, size, &end);
	if (r < 0)
		return r;
	fs_file_ref(&s->file);
	r = s->ops->connect(s, &end, s->file.flags & LX_O_NONBLOCK);
	fs_file_unref(&s->file);
	return r;
}
