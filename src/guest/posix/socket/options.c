/* SPDX-License-Identifier: ISC */
/* setsockopt and getsockopt: what all sockets have; the rest goes to the kind. */
#include <kern/mem.h>
#include <posix/time.h>
#include "sock.h"

static int timeout_set(uint64_t *to_ns, const void *value, uint32_t size)
{
	struct lx_timeval tv;
	if (size < sizeof tv)
		return -WH_EINVAL;
	memcpy(&tv, value, sizeof tv);
	if (tv.usec < 0 || tv.usec >= 1000000)
		return -WH_EDOM;
	struct lx_timespec ts = { tv.sec < 0 ? 0 : tv.sec, tv.usec * 1000 };
	uint64_t ns = posix_timespec_ns(&ts);
	*to_ns = ns > KERN_FOREVER / 4 ? 0 : ns;
	return 0;
}

/* Options that are a number in struct sock. NULL: none of those. */
static bool *flag_of(struct sock *s, int level, int option)
{
	if (level == LX_SOL_SOCKET) {
		switch (option) {
		case LX_SO_REUSEADDR:
			return &s->reuse_address;
		case LX_SO_REUSEPORT:
			return &s->reuse_port;
		case LX_SO_BROADCAST:
			return &s->broadcast;
		}
	} else if (level == LX_IPPROTO_IP && option == LX_IP_PKTINFO) {
		return &s->packet_info;
	} else if (level == LX_IPPROTO_IPV6 && option == LX_IPV6_RECVPKTINFO) {
		return &s->packet_info;
	} else if (level == LX_IPPROTO_IPV6 && option == LX_IPV6_V6ONLY) {
		return &s->v6only;
	}
	return NULL;
}

/* Taken and kept without effect: nothing here depends on them. */
static bool harmless(int level, int option)
{
	if (level == LX_SOL_SOCKET)
		return option == LX_SO_DEBUG || option == LX_SO_DONTROUTE ||
		       option == LX_SO_OOBINLINE || option == LX_SO_PRIORITY ||
		       option == LX_SO_RCVLOWAT || option == LX_SO_INCOMING_CPU;
	if (level == LX_IPPROTO_IP)
		return option == LX_IP_RECVERR || option == LX_IP_FREEBIND ||
		       option == LX_IP_BIND_ADDRESS_NO_PORT || option == LX_IP_MULTICAST_TTL ||
		       option == LX_IP_MULTICAST_LOOP || option == LX_IP_MULTICAST_IF;
	if (level == LX_IPPROTO_IPV6)
		return option == LX_IPV6_RECVERR || option == LX_IPV6_MULTICAST_HOPS ||
		       option == LX_IPV6_MULTICAST_LOOP || option == LX_IPV6_MULTICAST_IF;
	return false;
}

static int packet_set(struct sock *s, int level, int option, int value)
{
	if ((level == LX_IPPROTO_IP && option == LX_IP_TOS) ||
	    (level == LX_IPPROTO_IPV6 && option == LX_IPV6_TCLASS)) {
		s->tos = (uint8_t)(value < 0 ? 0 : value);
		return 0;
	}
	if ((level == LX_IPPROTO_IP && option == LX_IP_TTL) ||
	    (level == LX_IPPROTO_IPV6 && option == LX_IPV6_UNICAST_HOPS)) {
		if (value < -1 || value > 255 || (!value && level == LX_IPPROTO_IP))
			return -WH_EINVAL;
		s->hop_limit = (uint8_t)(value < 0 ? 0 : value);
		return 0;
	}
	if ((level == LX_IPPROTO_IP && option == LX_IP_MTU_DISCOVER) ||
	    (level == LX_IPPROTO_IPV6 && option == LX_IPV6_MTU_DISCOVER)) {
		s->dont_fragment = value >= 2; /* IP_PMTUDISC_DO, _PROBE */
		return 0;
	}
	return -WH_ENOPROTOOPT;
}

static int struct_set(struct sock *s, int option, const void *value, uint32_t size)
{
	switch (option) {
	case LX_SO_RCVTIMEO:
		return timeout_set(&s->receive_timeout_ns, value, size);
	case LX_SO_SNDTIMEO:
		return timeout_set(&s->send_timeout_ns, value, size);
	case LX_SO_LINGER:
		if (size < sizeof s->linger)
			return -WH_EINVAL;
		memcpy(&s->linger, value, sizeof s->linger);
		return 0;
	}
	return -WH_ENOPROTOOPT;
}

long wh_sys_setsockopt(int fd, int level, int option, const void *value, uint32_t size)
{
	int r, number = 0;
	struct sock *s = sock_get(fd, &r);
	if (!s)
		return r;
	if (!kern_user_readable(value, size))
		return -WH_EFAULT;
	if (level == LX_SOL_SOCKET) {
		r = struct_set(s, option, value, size);
		if (r != -WH_ENOPROTOOPT)
			return r;
		option = option == LX_SO_RCVBUFFORCE   ? LX_SO_RCVBUF
			 : option == LX_SO_SNDBUFFORCE ? LX_SO_SNDBUF
						       : option;
	}
	r = s->ops->group ? s->ops->group(s, level, option, value, size) : -WH_ENOPROTOOPT;
	if (r != -WH_ENOPROTOOPT)
		return r;
	if (level == LX_IPPROTO_TCP && option == LX_TCP_CONGESTION)
		return size >= 5 && !memcmp(value, "cubic", 5) ? 0 : -WH_ENOENT;
	if (size < sizeof number) { /* IP_TOS and the like may be a byte */
		if (size < 1 || level == LX_SOL_SOCKET || level == LX_IPPROTO_TCP)
			return -WH_EINVAL;
		number = *(const uint8_t *)value;
	} else {
		memcpy(&number, value, sizeof number);
	}
	bool *flag = flag_of(s, level, option);
	if (flag) {
		*flag = number;
		return 0;
	}
	if (harmless(level, option))
		return 0;
	r = packet_set(s, level, option, number);
	int kind = s->ops->set ? s->ops->set(s, level, option, number) : -WH_ENOPROTOOPT;
	return kind != -WH_ENOPROTOOPT ? kind : r;
}

static int number_get(struct sock *s, int level, int option, int *ret_number)
{
	bool *flag = flag_of(s, level, option);
	if (flag) {
		*ret_number = *flag;
		return 0;
	}
	if (level == LX_SOL_SOCKET) {
		switch (option) {
		case LX_SO_TYPE:
			*ret_number = s->type;
			return 0;
		case LX_SO_PROTOCOL:
			*ret_number = s->protocol;
			return 0;
		case LX_SO_DOMAIN:
			*ret_number = s->family;
			return 0;
		case LX_SO_ERROR:
			*ret_number = s->ops->take_error ? s->ops->take_error(s) : 0;
			return 0;
		case LX_SO_ACCEPTCONN: {
			struct wh_net_end end;
			*ret_number = s->ops->name(s, true, &end) < 0 && s->ops->accept &&
				      s->ops->listen && s->file.ops->poll(&s->file) < LX_POLLOUT;
			return 0;
		}
		case LX_SO_SNDLOWAT:
		case LX_SO_RCVLOWAT:
			*ret_number = 1;
			return 0;
		}
	}
	if ((level == LX_IPPROTO_IP && option == LX_IP_MTU) ||
	    (level == LX_IPPROTO_IPV6 && option == LX_IPV6_MTU)) {
		*ret_number = 1500;
		return 0;
	}
	if ((level == LX_IPPROTO_IP && option == LX_IP_TOS) ||
	    (level == LX_IPPROTO_IPV6 && option == LX_IPV6_TCLASS)) {
		*ret_number = s->tos;
		return 0;
	}
	if ((level == LX_IPPROTO_IP && option == LX_IP_TTL) ||
	    (level == LX_IPPROTO_IPV6 && option == LX_IPV6_UNICAST_HOPS)) {
		*ret_number = s->hop_limit ? s->hop_limit : 64;
		return 0;
	}
	if (harmless(level, option)) {
		*ret_number = 0;
		return 0;
	}
	return -WH_ENOPROTOOPT;
}

static int give(void *to, uint32_t *size, const void *from, uint32_t full)
{
	if (*size > full)
		*size = full;
	memcpy(to, from, *size);
	return 0;
}

static int timeout_get(uint64_t ns, void *to, uint32_t *size)
{
	struct lx_timeval tv = posix_timeval_of(ns);
	return give(to, size, &tv, sizeof tv);
}

long wh_sys_getsockopt(int fd, int level, int option, void *ret_value, uint32_t *size)
{
	int r, number;
	struct sock *s = sock_get(fd, &r);
	if (!s)
		return r;
	if (!kern_user_writable(size, sizeof *size))
		return -WH_EFAULT;
	if ((int32_t)*size < 0)
		return -WH_EINVAL;
	if (!kern_user_writable(ret_value, *size))
		return -WH_EFAULT;
	if (level == LX_SOL_SOCKET && option == LX_SO_RCVTIMEO)
		return timeout_get(s->receive_timeout_ns, ret_value, size);
	if (level == LX_SOL_SOCKET && option == LX_SO_SNDTIMEO)
		return timeout_get(s->send_timeout_ns, ret_value, size);
	if (level == LX_SOL_SOCKET && option == LX_SO_LINGER)
		return give(ret_value, size, &s->linger, sizeof s->linger);
	r = s->ops->get ? s->ops->get(s, level, option, ret_value, size) : -WH_ENOPROTOOPT;
	if (r != -WH_ENOPROTOOPT)
		return r;
	r = number_get(s, level, option, &number);
	return r < 0 ? r : give(ret_value, size, &number, sizeof number);
}
