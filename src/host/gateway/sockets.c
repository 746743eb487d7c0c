/* SPDX-License-Identifier: ISC */
/*
 * Descriptors. The gateway never takes the last ones: WH_GATEWAY_DESCRIPTORS_RESERVE of the
 * process's limit stay free for others (disks, folders, the machine). When there are none
 * left, flows of the guest are refused and the listeners of published ports pause (their
 * clients wait in the kernel's backlog) until a descriptor is closed.
 */
#include "gateway_priv.h"

#include <wherry/base/assert.h>

socklen_t address_from_end(const struct wh_net_end *end, union host_address *ret_address)
{
	memset(ret_address, 0, sizeof *ret_address);
	if (wh_net_ip_is4(&end->ip)) {
		ret_address->ip4.sin_family = AF_INET;
		ret_address->ip4.sin_port = htons(end->port);
		memcpy(&ret_address->ip4.sin_addr, end->ip.bytes + 12, 4);
		return sizeof ret_address->ip4;
	}
	ret_address->ip6.sin6_family = AF_INET6;
	ret_address->ip6.sin6_port = htons(end->port);
	memcpy(&ret_address->ip6.sin6_addr, end->ip.bytes, 16);
	return sizeof ret_address->ip6;
}

bool address_to_end(const union host_address *address, struct wh_net_end *ret_end)
{
	if (address->any.sa_family == AF_INET) {
		uint8_t ip[4];
		memcpy(ip, &address->ip4.sin_addr, 4);
		*ret_end = (struct wh_net_end){ wh_net_ip4(ip), ntohs(address->ip4.sin_port) };
		return true;
	}
	if (address->any.sa_family == AF_INET6) {
		/* ::ffff:a.b.c.d of a dual-stack socket is our form of an IPv4 address. */
		memcpy(ret_end->ip.bytes, &address->ip6.sin6_addr, 16);
		ret_end->port = ntohs(address->ip6.sin6_port);
		return true;
	}
	return false;
}

bool socket_available(struct wh_gateway *gateway)
{
	if (!gateway->descriptors_max) {
		uint32_t max = gateway->host->descriptors_max(gateway->host_ctx);
		uint32_t reserve = gateway->descriptors_reserve;
		gateway->descriptors_max = max > 2 * reserve ? max - reserve : max / 2;
	}
	if (gateway->descriptors < gateway->descriptors_max)
		return true;
	gateway->stats.descriptors_refused++;
	return false;
}

int socket_open(struct wh_gateway *gateway, int domain, int type, int protocol)
{
	if (!socket_available(gateway))
		return -WH_EMFILE;
	int fd = gateway->host->socket(gateway->host_ctx, domain, type, protocol);
	if (fd >= 0)
		gateway->descriptors++;
	else if (fd == -WH_EMFILE || fd == -WH_ENFILE)
		gateway->stats.descriptors_refused++;
	return fd;
}

int socket_accept(struct wh_gateway *gateway, int fd, union host_address *ret_from)
{
	if (!socket_available(gateway))
		return -WH_EMFILE;
	socklen_t size = sizeof *ret_from;
	int got = gateway->host->accept(gateway->host_ctx, fd, &ret_from->any, &size);
	if (got >= 0)
		gateway->descriptors++;
	else if (got == -WH_EMFILE || got == -WH_ENFILE)
		gateway->stats.descriptors_refused++;
	return got;
}

void socket_close(struct wh_gateway *gateway, struct wh_loop_fd *watch)
{
	if (watch->fd < 0)
		return;
	wh_assert(gateway->descriptors > 0);
	gateway->descriptors--;
	gateway->host->watch_forget(gateway->host_ctx, gateway->loop, watch);
	gateway->host->close(gateway->host_ctx, watch->fd);
	watch->fd = -1;
	if (gateway->listeners_paused)
		rules_resume(gateway);
}

int socket_set(struct wh_gateway *gateway, int fd, int level, int name, int value)
{
	return gateway->host->option_set(gateway->host_ctx, fd, level, name, &value, sizeof value);
}

int socket_watch(struct wh_gateway *gateway, struct wh_loop_fd *watch, uint32_t events)
{
	watch->events = events;
	return gateway->host->watch(gateway->host_ctx, gateway->loop, watch);
}

int socket_watch_modify(struct wh_gateway *gateway, struct wh_loop_fd *watch, uint32_t events)
{
	return gateway->host->watch_modify(gateway->host_ctx, gateway->loop, watch, events);
}

long socket_send(struct wh_gateway *gateway, int fd, const struct wh_net_end *to,
		 const struct wh_iov *iov, uint32_t count)
{
	union host_address address;
	struct msghdr message = { .msg_iov = (struct iovec *)(void *)(uintptr_t)iov,
				  .msg_iovlen = count };
	if (to) {
		message.msg_namelen = address_from_end(to, &address);
		message.msg_name = &address;
	}
	return gateway->host->send(gateway->host_ctx, fd, &message);
}

long socket_receive(struct wh_gateway *gateway, int fd, const struct wh_iov *iov, uint32_t count,
		    struct wh_net_end *ret_from)
{
	union host_address address = { .any = { .sa_family = AF_UNSPEC } };
	struct msghdr message = { .msg_iov = (struct iovec *)(void *)(uintptr_t)iov,
				  .msg_iovlen = count };
	if (ret_from) {
		message.msg_name = &address;
		message.msg_namelen = sizeof address;
	}
	long n = gateway->host->receive(gateway->host_ctx, fd, &message, 0);
	if (n >= 0 && ret_from && !address_to_end(&address, ret_from))
		return -WH_EAFNOSUPPORT;
	return n;
}

long socket_receive_many(struct wh_gateway *gateway, int fd, struct mmsghdr *messages,
			 uint32_t count)
{
	const struct wh_gateway_host *host = gateway->host;
	if (host->receive_many)
		return host->receive_many(gateway->host_ctx, fd, messages, count);
	for (uint32_t i = 0; i < count; i++) {
		long n = host->receive(gateway->host_ctx, fd, &messages[i].msg_hdr, 0);
		if (n < 0)
			return i ? (long)i : n;
		messages[i].msg_len = (unsigned)n;
	}
	return count;
}

_Static_assert(sizeof(struct wh_iov) == sizeof(struct iovec) &&
		       offsetof(struct wh_iov, size) == offsetof(struct iovec, iov_len),
	       "a list of ours is handed to the kernel as it is");
