/* SPDX-License-Identifier: ISC */
/* The image's TCP/IP stack: one instance on the first network device. */
#include <drv/net.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include "sock.h"

struct wh_net *posix_net;

static uint64_t net_poll(uint64_t now_ns)
{
	wh_net_time(posix_net, now_ns);
	drv_net_poll();
	uint64_t deadline = wh_net_run(posix_net, now_ns);
	return deadline == WH_NET_NEVER ? KERN_FOREVER : deadline;
}

static uint64_t poll(struct kern_poller *poller, uint64_t now_ns)
{
	return net_poll(now_ns);
}

uint64_t sock_net_poll(void)
{
	return net_poll(kern_time_monotonic());
}

void sock_run(void)
{
	if (wh_net_pending(posix_net))
		(void)wh_net_run(posix_net, kern_time_monotonic()); /* idling asks again */
}

/* What many connections at once may take from a little guest: buffers begin at 4 KiB with
 * 2 MiB of memory, at 16 KiB from 8 MiB on. */
static uint32_t buffer_start(void)
{
	size_t mib = kern_pages_total_count() * KERN_PAGE >> 20;
	return mib < 4 ? 4096 : mib < 8 ? 8192 : WH_NET_TCP_BUFFER_START;
}

static uint32_t half_open_max(void)
{
	size_t part = kern_pages_total_count() * KERN_PAGE >> 16;
	return part < 16 ? 16 : part > 256 ? 256 : (uint32_t)part;
}

/* A sixty-fourth of the memory for each buffer of a connection, from 16 KiB to 1 MiB. */
static uint32_t buffer_max(void)
{
	uint64_t part = kern_pages_total_count() * (uint64_t)KERN_PAGE / 64;
	uint32_t size = WH_NET_TCP_BUFFER_START;
	while (size < WH_NET_TCP_BUFFER_MAX && size * 2ull <= part)
		size *= 2;
	return size;
}

static int addresses_set(const struct wh_boot_net *b)
{
	struct wh_net_ip four = wh_net_ip4(b->ip4), gateway4 = wh_net_ip4(b->gw4);
	struct wh_net_ip six = wh_net_ip6(b->ip6), gateway6 = wh_net_ip6(b->gw6);
	struct wh_net_ip dns4 = wh_net_ip4(b->dns4), dns6 = wh_net_ip6(b->dns6);
	int r = 0;
	if (b->prefix4) {
		r = wh_net_address_add(posix_net, &four, b->prefix4);
		wh_net_gateway_set(posix_net, &gateway4);
		if (r >= 0 && !wh_net_ip_is_any(&gateway4))
			r = wh_net_neighbour_set(posix_net, &gateway4, b->gw_mac);
		/* The gateway is the DNS server, too: the first two questions, which the C
		 * library sends at once, need no address resolution. */
		if (r >= 0 && !wh_net_ip_is_any(&dns4))
			r = wh_net_neighbour_set(posix_net, &dns4, b->gw_mac);
	}
	if (r >= 0 && b->prefix6) {
		r = wh_net_address_add(posix_net, &six, b->prefix6);
		wh_net_gateway_set(posix_net, &gateway6);
		if (r >= 0 && !wh_net_ip_is_any(&gateway6))
			r = wh_net_neighbour_set(posix_net, &gateway6, b->gw_mac);
		if (r >= 0 && !wh_net_ip_is_any(&dns6))
			r = wh_net_neighbour_set(posix_net, &dns6, b->gw_mac);
	}
	return r;
}

int net_guest_init(void)
{
	static struct kern_poller poller = { .poll = poll };
	static const struct wh_net_ops ops;
	const struct wh_boot_info *boot = kern_boot();
	struct wh_net_port *port = drv_net_port();
	struct wh_net_config c = WH_NET_CONFIG_INIT;
	c.alloc = &kern_allocator;
	c.ops = &ops;
	c.cc = &wh_net_cc_cubic;
	c.tcp_receive_max = c.tcp_send_max = buffer_max();
	c.tcp_time_wait_max = 256;
	c.tcp_half_open_max = half_open_max();
	c.tcp_buffer_start = buffer_start();
	c.reassemblies_max = 4;
	kern_random(c.key, sizeof c.key);
	drv_net_mac(c.mac);
	int r = wh_net_new(&c, kern_time_monotonic(), &posix_net);
	if (r < 0)
		return r;
	kern_poller_add(&poller);
	if (!port)
		return 0;
	wh_net_attach(posix_net, port);
	if (boot->flags & WH_BOOT_NET_STATIC)
		return addresses_set(&boot->net);
	return wh_net_autoconf_start(posix_net, boot->hostname);
}
