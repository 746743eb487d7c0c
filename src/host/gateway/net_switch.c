/* SPDX-License-Identifier: ISC */
/* The switch between guests and their gateway: who may send what, and to whom it goes. */
#include <wherry/net_switch.h>

#include <stddef.h>
#include <string.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "segment.h"

/* Ethernet, IPv6, and a neighbour advertisement's target; or IPv4 with options, and DHCP's chaddr */
#define HEAD_SIZE 116u
#define PATIENCE_NS (WH_SWITCH_PATIENCE_MS * 1000000ull)

enum { TYPE_IP4 = 0x0800, TYPE_ARP = 0x0806, TYPE_IP6 = 0x86dd };
enum { UDP = 17, DHCP_SERVER = 67, DHCP_CLIENT = 68, DHCP6_CLIENT = 546 };
enum { ICMP6 = 58, ROUTER_ADVERT = 134, NEIGHBOUR_ADVERT = 136 };

struct wh_net_guest {
	struct wh_net_switch *net_switch;
	struct wh_net_port *port; /* NULL = this place is free */
	uint8_t mac[6];
	bool has_mac, sent, held;
	uint64_t blocked_ns; /* since when nothing goes there; 0 = it does */
	uint32_t address_next;
	struct wh_net_ip addresses[WH_SWITCH_ADDRESSES_MAX]; /* zero = none */
};

struct wh_net_switch {
	struct wh_net_port port; /* its user is the gateway */
	struct wh_gateway *gateway;
	struct wh_gateway_addresses addresses;
	struct wh_loop *loop;
	const struct wh_alloc *alloc;
	struct wh_loop_timer patience;
	bool blocked; /* the gateway was told to wait */
	uint32_t count;
	struct wh_net_switch_stats stats;
	struct wh_net_guest guests[WH_SWITCH_GUESTS_MAX];
	uint8_t scratch[WH_NET_FRAME_SIZE_MAX]; /* of frames to finish */
};

#define FOR_EACH_GUEST(g, sw)                                                                     \
	for (struct wh_net_guest *g = (sw)->guests; g < (sw)->guests + WH_SWITCH_GUESTS_MAX; g++) \
		if (g->port)

static struct wh_net_guest *by_mac(struct wh_net_switch *sw, const uint8_t mac[6])
{
	FOR_EACH_GUEST(g, sw)
	if (g->has_mac && !memcmp(g->mac, mac, 6))
		return g;
	return NULL;
}

/* ---- who may send what ---- */

static bool mac_may(struct wh_net_guest *g, const uint8_t mac[6])
{
	struct wh_net_switch *sw = g->net_switch;
	if (g->has_mac)
		return !memcmp(g->mac, mac, 6);
	if (mac[0] & 1 || !memcmp(mac, sw->addresses.gateway_mac, 6) || by_mac(sw, mac))
		return false;
	memcpy(g->mac, mac, 6);
	g->has_mac = true;
	return true;
}

static bool same_net(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;
	return !memcmp(a, b, whole) && (!rest || !((a[whole] ^ b[whole]) >> (8 - rest)));
}

static bool of_link(const struct wh_net_switch *sw, const struct wh_net_ip *ip)
{
	const struct wh_gateway_addresses *a = &sw->addresses;
	if (wh_net_ip_is4(ip))
		return same_net(ip->bytes + 12, a->gateway_ip4, a->prefix4) &&
		       memcmp(ip->bytes + 12, a->gateway_ip4, 4) &&
		       memcmp(ip->bytes + 12, a->dns_ip4, 4);
	if (ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80)
		return true;
	return a->prefix6 && same_net(ip->bytes, a->gateway_ip6, a->prefix6) &&
	       memcmp(ip->bytes, a->gateway_ip6, 16) && memcmp(ip->bytes, a->dns_ip6, 16);
}

static bool ip_may(struct wh_net_guest *g, const struct wh_net_ip *ip)
{
	struct wh_net_switch *sw = g->net_switch;
	if (wh_net_ip_is_any(ip) || (wh_net_ip_is4(ip) && !wh_load_be32(ip->bytes + 12)))
		return true; /* it has none yet */
	for (uint32_t i = 0; i < WH_SWITCH_ADDRESSES_MAX; i++)
		if (wh_net_ip_equal(&g->addresses[i], ip))
			return true;
	if (!of_link(sw, ip))
		return false;
	FOR_EACH_GUEST(other, sw)
	for (uint32_t i = 0; i < WH_SWITCH_ADDRESSES_MAX; i++)
		if (wh_net_ip_equal(&other->addresses[i], ip))
			return false;
	g->addresses[g->address_next++ % WH_SWITCH_ADDRESSES_MAX] = *ip;
	if (wh_net_ip_is4(ip) && !memcmp(ip->bytes + 12, sw->addresses.guest_ip4, 4))
		wh_gateway_guest_mac(sw->gateway, g->mac);
	return true;
}

static bool ip4_may(struct wh_net_guest *g, const uint8_t ip4[4])
{
	struct wh_net_ip ip = wh_net_ip4(ip4);
	return ip_may(g, &ip);
}

static bool ip6_may(struct wh_net_guest *g, const uint8_t *head, size_t size)
{
	struct wh_net_ip ip;
	if (size < 54)
		return false;
	ip = wh_net_ip6(head + 22);
	if (wh_net_ip_is4(&ip) || !ip_may(g, &ip)) /* ::ffff:0:0/96 is on no wire */
		return false;
	if (head[20] == UDP)
		return size < 58 || wh_load_be16(head + 56) != DHCP6_CLIENT; /* a server's */
	if (head[20] != ICMP6 || size < 78)
		return true;
	if (head[54] == NEIGHBOUR_ADVERT) {
		ip = wh_net_ip6(head + 62);
		return !wh_net_ip_is4(&ip) && ip_may(g, &ip);
	}
	return true;
}

/* A lease is the MAC's that the request names: a guest asks for its own only. The one server is the
 * gateway. */
static bool dhcp_may(struct wh_net_guest *g, const uint8_t *head, size_t size)
{
	if (head[23] != UDP || wh_load_be16(head + 20) & 0x1fff)
		return true;
	unsigned at = 14 + 4u * (head[14] & 15);
	if (at + 8 > size)
		return false;
	if (wh_load_be16(head + at + 2) == DHCP_CLIENT)
		return wh_load_be16(head + at) != DHCP_SERVER;
	return wh_load_be16(head + at + 2) != DHCP_SERVER ||
	       (at + 8 + 34 <= size && !memcmp(head + at + 8 + 28, g->mac, 6));
}

static bool source_may(struct wh_net_guest *g, const uint8_t *head, size_t size)
{
	switch (wh_load_be16(head + 12)) {
	case TYPE_IP4:
		return size >= 34 && ip4_may(g, head + 26) && dhcp_may(g, head, size);
	case TYPE_ARP:
		return size >= 42 && !memcmp(head + 22, g->mac, 6) && ip4_may(g, head + 28);
	case TYPE_IP6:
		/* The shortest router advertisement is 16 bytes. */
		return !(size > 54 && head[20] == ICMP6 && head[54] == ROUTER_ADVERT) &&
		       ip6_may(g, head, size);
	default:
		return true; /* nobody here understands it */
	}
}

/* ---- frames to guests ---- */

static int guest_send(struct wh_net_guest *g, const struct wh_net_frame *frame, bool may_wait)
{
	struct wh_net_switch *sw = g->net_switch;
	int error = g->port->send(g->port, frame);
	if (error != -WH_EAGAIN) {
		g->blocked_ns = 0;
		g->sent = true;
		return 0; /* what it has lost, it has counted */
	}
	uint64_t now = wh_loop_now(sw->loop);
	if (!g->blocked_ns)
		g->blocked_ns = now;
	if (may_wait && (sw->count == 1 || now - g->blocked_ns < PATIENCE_NS)) {
		sw->blocked = true;
		if (sw->count > 1 && !wh_loop_timer_running(&sw->patience))
			wh_loop_timer_start(sw->loop, &sw->patience, g->blocked_ns + PATIENCE_NS);
		return -WH_EAGAIN;
	}
	sw->stats.late++;
	return 0;
}

static uint32_t features_needed(const struct wh_net_frame *frame)
{
	static const uint32_t gso[] = { [WH_NET_GSO_TCPV4] = WH_NET_LINK_TSO4,
					[WH_NET_GSO_TCPV6] = WH_NET_LINK_TSO6,
					[WH_NET_GSO_UDP_L4] = WH_NET_LINK_USO };
	uint32_t need = frame->flags & WH_NET_NEEDS_CSUM ? WH_NET_LINK_CSUM : 0;
	return frame->gso_type < WH_ARRAY_COUNT(gso) ? need | gso[frame->gso_type] : UINT32_MAX;
}

static void finished(void *ctx, const struct wh_net_frame *frame)
{
	(void)guest_send(ctx, frame, false);
}

/* From one guest to another, which may take less than the first one leaves undone. */
static void guest_pass(struct wh_net_guest *g, const struct wh_net_frame *frame)
{
	struct wh_net_switch *sw = g->net_switch;
	if (!(features_needed(frame) & ~g->port->link_features))
		(void)guest_send(g, frame, false);
	else if (segment_finish(frame, sw->scratch, finished, g))
		sw->stats.unfinished++;
}

static void unblock(struct wh_net_switch *sw)
{
	if (!sw->blocked)
		return;
	sw->blocked = false;
	if (sw->port.writable)
		sw->port.writable(&sw->port);
}

static void patience_over(struct wh_loop_timer *timer)
{
	unblock(timer->ctx);
}

static int switch_send(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	struct wh_net_switch *sw = port->provider;
	uint8_t to[6];
	if (wh_iov_read(frame->iov, frame->iov_count, 0, to, 6) < 6)
		return -WH_EINVAL;
	sw->stats.to_guests++;
	if (to[0] & 1) {
		FOR_EACH_GUEST(g, sw)
		(void)guest_send(g, frame, false);
		return 0;
	}
	struct wh_net_guest *g = by_mac(sw, to);
	if (g)
		return guest_send(g, frame, true);
	/* One that has not sent anything yet may still have it. */
	FOR_EACH_GUEST(silent, sw)
	if (!silent->has_mac)
		(void)guest_send(silent, frame, false);
	sw->stats.unknown++;
	return 0;
}

static void switch_flush(struct wh_net_port *port)
{
	struct wh_net_switch *sw = port->provider;
	FOR_EACH_GUEST(g, sw)
	{
		if (!g->sent)
			continue;
		g->sent = false;
		if (g->port->flush)
			g->port->flush(g->port);
	}
}

/* ---- frames from guests ---- */

static int guest_receive(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	struct wh_net_guest *g = port->user;
	struct wh_net_switch *sw = g->net_switch;
	uint8_t head[HEAD_SIZE] = { 0 };
	size_t size = wh_iov_read(frame->iov, frame->iov_count, 0, head, sizeof head);
	if (size < 14)
		return 0;
	if (!mac_may(g, head + 6)) {
		sw->stats.spoofed_mac++;
		return 0;
	}
	if (!source_may(g, head, size)) {
		sw->stats.spoofed_ip++;
		return 0;
	}
	bool group = head[0] & 1, own = !memcmp(head, sw->addresses.gateway_mac, 6);
	if (group || own) {
		if (sw->port.receive(&sw->port, frame) == -WH_EAGAIN) {
			g->held = true;
			return -WH_EAGAIN;
		}
		sw->stats.to_gateway++;
	}
	struct wh_net_guest *other = group || own ? NULL : by_mac(sw, head);
	if (group) {
		FOR_EACH_GUEST(each, sw)
		if (each != g)
			guest_pass(each, frame);
	} else if (other && other != g) {
		sw->stats.between++;
		guest_pass(other, frame);
	} else if (!own) {
		sw->stats.unknown++;
	}
	return 0;
}

static void guest_receive_done(struct wh_net_port *port)
{
	struct wh_net_guest *g = port->user;
	struct wh_net_switch *sw = g->net_switch;
	if (sw->port.receive_done)
		sw->port.receive_done(&sw->port);
	if (sw->count > 1)
		switch_flush(&sw->port);
}

static void switch_resume(struct wh_net_port *port)
{
	struct wh_net_switch *sw = port->provider;
	FOR_EACH_GUEST(g, sw)
	{
		if (!g->held)
			continue;
		g->held = false;
		if (g->port->resume)
			g->port->resume(g->port);
	}
}

/* ---- what the links take ---- */

/* The gateway sends what the least of the links takes. */
static void limits_set(struct wh_net_switch *sw)
{
	uint32_t mtu = 65535, features = UINT32_MAX;
	FOR_EACH_GUEST(g, sw)
	{
		mtu = g->port->mtu < mtu ? g->port->mtu : mtu;
		features &= g->port->link_features;
	}
	sw->port.mtu = mtu;
	sw->port.link_features = features;
}

/* Also when a guest's driver has begun, which says what it takes. */
static void guest_writable(struct wh_net_port *port)
{
	struct wh_net_guest *g = port->user;
	struct wh_net_switch *sw = g->net_switch;
	g->blocked_ns = 0;
	limits_set(sw);
	sw->blocked = true;
	unblock(sw);
}

/* ---- life ---- */

int wh_net_switch_new(struct wh_gateway *gateway, struct wh_loop *loop,
		      const struct wh_alloc *alloc, struct wh_net_switch **ret_switch)
{
	alloc = alloc ? alloc : &wh_os_allocator;
	struct wh_net_switch *sw = wh_alloc(alloc, sizeof *sw);
	if (!sw)
		return -WH_ENOMEM;
	memset(sw, 0, offsetof(struct wh_net_switch, scratch));
	sw->gateway = gateway;
	sw->loop = loop;
	sw->alloc = alloc;
	wh_gateway_addresses(gateway, &sw->addresses);
	wh_loop_timer_init(&sw->patience, patience_over, sw);
	sw->port = (struct wh_net_port){ .send = switch_send,
					 .flush = switch_flush,
					 .resume = switch_resume,
					 .mtu = 1500,
					 .provider = sw };
	*ret_switch = sw;
	return 0;
}

void wh_net_switch_free(struct wh_net_switch *sw)
{
	if (!sw)
		return;
	FOR_EACH_GUEST(g, sw)
	wh_net_switch_remove(sw, g);
	wh_loop_timer_stop(sw->loop, &sw->patience);
	wh_free(sw->alloc, sw, sizeof *sw);
}

int wh_net_switch_add(struct wh_net_switch *sw, struct wh_net_port *port, const uint8_t mac[6],
		      struct wh_net_guest **ret_guest)
{
	struct wh_net_guest *g = sw->guests;
	if (sw->count == WH_SWITCH_GUESTS_MAX)
		return -WH_ENOSPC;
	if (mac && (by_mac(sw, mac) || !memcmp(mac, sw->addresses.gateway_mac, 6)))
		return -WH_EADDRINUSE;
	while (g->port)
		g++;
	*g = (struct wh_net_guest){ .net_switch = sw, .port = port, .has_mac = mac };
	if (mac)
		memcpy(g->mac, mac, 6);
	port->user = g;
	port->receive = guest_receive;
	port->receive_done = guest_receive_done;
	port->writable = guest_writable;
	sw->count++;
	limits_set(sw);
	if (sw->count == 1) {
		int error = wh_gateway_attach(sw->gateway, &sw->port);
		if (error) {
			sw->count = 0;
			g->port = NULL;
			return error;
		}
	}
	*ret_guest = g;
	return 0;
}

void wh_net_switch_remove(struct wh_net_switch *sw, struct wh_net_guest *g)
{
	g->port->receive = NULL;
	g->port->receive_done = NULL;
	g->port->writable = NULL;
	g->port->user = NULL;
	if (sw->count == 1)
		wh_gateway_detach(sw->gateway);
	g->port = NULL;
	sw->count--;
	limits_set(sw);
	if (sw->count)
		unblock(sw);
}

void wh_net_switch_changed(struct wh_net_switch *sw, struct wh_net_guest *g)
{
	g->has_mac = false;
	memset(g->addresses, 0, sizeof g->addresses);
}

uint32_t wh_net_switch_guests(const struct wh_net_switch *sw)
{
	return sw->count;
}

void wh_net_switch_stats(const struct wh_net_switch *sw, struct wh_net_switch_stats *ret_stats)
{
	*ret_stats = sw->stats;
}
