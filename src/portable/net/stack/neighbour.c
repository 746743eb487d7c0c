/* SPDX-License-Identifier: ISC */
/*
 * Neighbour table of both versions, a short form of RFC 1122 2.3.2 and RFC 4861 7.3:
 * an entry is incomplete (asked of all, up to three times a second apart), known, or permanent. A known one that was not
 * confirmed within REACHABLE is asked by unicast when it is used (RFC 4861 7.3.3; RFC 1122 2.3.2.1 (2)), up to three times a
 * second apart, and used meanwhile; one that does not answer is incomplete again, so that all are asked where it is now.
 */
#include "net_priv.h"

#define ASK_NS (1 * NET_S)
#define TRIES_MAX 3
#define REACHABLE_NS (45 * NET_S)
#define FAILED_NS (3 * NET_S) /* how long "nobody answers" is remembered */

static struct net_neighbour *find(const struct wh_net *net, const struct wh_net_ip *ip)
{
	for (uint32_t i = 0; i < WH_NET_NEIGHBOURS_MAX; i++) {
		const struct net_neighbour *n = &net->neighbour[i];
		if (n->state != NET_NEIGHBOUR_FREE && wh_net_ip_equal(&n->ip, ip))
			return (struct net_neighbour *)n;
	}
	return 0;
}

static void drop_waiting(struct wh_net *net, struct net_neighbour *n)
{
	wh_free(net->config.alloc, n->waiting, n->waiting_size);
	n->waiting = 0;
	n->waiting_size = 0;
}

/* A free entry, or the least recently used one that is not permanent. */
static struct net_neighbour *take(struct wh_net *net, const struct wh_net_ip *ip)
{
	struct net_neighbour *best = 0;
	for (uint32_t i = 0; i < WH_NET_NEIGHBOURS_MAX; i++) {
		struct net_neighbour *n = &net->neighbour[i];
		if (n->state == NET_NEIGHBOUR_FREE) {
			best = n;
			break;
		}
		if (n->state != NET_NEIGHBOUR_PERMANENT && (!best || n->used < best->used))
			best = n;
	}
	if (!best)
		return 0;
	drop_waiting(net, best);
	*best = (struct net_neighbour){ .ip = *ip, .used = net->now };
	return best;
}

static void ask(struct wh_net *net, struct net_neighbour *n)
{
	n->asked = net->now;
	if (n->tries < 255)
		n->tries++;
	const uint8_t *mac = n->state == NET_NEIGHBOUR_KNOWN ? n->mac : 0;
	if (wh_net_ip_is4(&n->ip))
		net_arp_ask(net, &n->ip, mac);
	else
		net_ndp_ask(net, &n->ip, mac);
}

static void unblock(struct wh_net *net)
{
	if (net->tcp)
		net->tcp->unblock(net);
}

static void on_timer(struct wh_net *net, struct net_timer *timer)
{
	uint64_t next = WH_NET_NEVER;
	for (uint32_t i = 0; i < WH_NET_NEIGHBOURS_MAX; i++) {
		struct net_neighbour *n = &net->neighbour[i];
		if (n->state != NET_NEIGHBOUR_INCOMPLETE || n->tries > TRIES_MAX)
			continue;
		if (n->asked + ASK_NS > net->now) {
			/* not yet */
		} else if (n->tries == TRIES_MAX) {
			n->tries++;
			n->asked = net->now;
			drop_waiting(net, n);
			unblock(net);
			continue;
		} else {
			ask(net, n);
		}
		if (n->asked + ASK_NS < next)
			next = n->asked + ASK_NS;
	}
	net_timer_start(net, timer, next);
}

int net_neighbour_resolve(struct wh_net *net, const struct wh_net_ip *ip, uint8_t mac[6])
{
	struct net_neighbour *n = find(net, ip);
	if (n && n->state >= NET_NEIGHBOUR_KNOWN) {
		n->used = net->now;
		memcpy(mac, n->mac, 6);
		if (n->state == NET_NEIGHBOUR_PERMANENT)
			return 0;
		bool due = net->now - n->confirmed > REACHABLE_NS && net->now - n->asked >= ASK_NS;
		if (due && n->tries < TRIES_MAX)
			ask(net, n);
		else if (due)
			n->state = NET_NEIGHBOUR_INCOMPLETE;
		if (n->state == NET_NEIGHBOUR_KNOWN)
			return 0;
		n->tries = 0;
	}
	if (n && n->tries > TRIES_MAX) {
		if (net->now - n->asked < FAILED_NS)
			return -WH_EHOSTUNREACH;
		n->tries = 0;
	}
	if (!n) {
		n = take(net, ip);
		if (!n)
			return -WH_EHOSTUNREACH;
		n->state = NET_NEIGHBOUR_INCOMPLETE;
	}
	n->used = net->now;
	if (!n->tries)
		ask(net, n);
	if (!net->neighbour_timer.fn)
		net_timer_init(&net->neighbour_timer, on_timer);
	if (net->neighbour_timer.deadline > net->now + ASK_NS)
		net_timer_start(net, &net->neighbour_timer, net->now + ASK_NS);
	return -WH_EAGAIN;
}

static void send_waiting(struct wh_net *net, struct net_neighbour *n)
{
	if (!n->waiting)
		return;
	uint8_t head[16];
	struct wh_iov payload = { n->waiting, n->waiting_size };
	uint16_t type = wh_net_ip_is4(&n->ip) ? WH_WIRE_ETH_IP4 : WH_WIRE_ETH_IP6;
	/* Lost when the link is full just now: it was one datagram. */
	(void)net_eth_output(net, n->mac, type, head + 14, 0, &payload, 1, 0);
	drop_waiting(net, n);
}

void net_neighbour_learn(struct wh_net *net, const struct wh_net_ip *ip, const uint8_t mac[6],
			 bool create)
{
	struct net_neighbour *n = find(net, ip);
	if (!n && create)
		n = take(net, ip);
	if (!n || n->state == NET_NEIGHBOUR_PERMANENT || (mac[0] & 1))
		return;
	bool news = n->state != NET_NEIGHBOUR_KNOWN;
	n->state = NET_NEIGHBOUR_KNOWN;
	n->confirmed = net->now;
	n->tries = 0;
	memcpy(n->mac, mac, 6);
	if (!news)
		return;
	send_waiting(net, n);
	unblock(net);
}

void net_neighbour_keep(struct wh_net *net, const struct wh_net_ip *ip, const struct wh_iov *iov,
			uint32_t count, uint32_t size)
{
	struct net_neighbour *n = find(net, ip);
	if (!n || n->state != NET_NEIGHBOUR_INCOMPLETE || n->waiting)
		return;
	n->waiting = wh_alloc(net->config.alloc, size);
	if (!n->waiting)
		return;
	n->waiting_size = size;
	size_t copied = wh_iov_read(iov, count, 0, n->waiting, size);
	wh_assert(copied == size);
}

int wh_net_neighbour_set(struct wh_net *net, const struct wh_net_ip *ip, const uint8_t mac[6])
{
	struct net_neighbour *n = find(net, ip);
	if (!n)
		n = take(net, ip);
	if (!n)
		return -WH_ENOSPC;
	memcpy(n->mac, mac, 6);
	n->state = NET_NEIGHBOUR_PERMANENT;
	send_waiting(net, n);
	unblock(net);
	return 0;
}

int wh_net_neighbour_get(const struct wh_net *net, const struct wh_net_ip *ip, uint8_t ret_mac[6])
{
	const struct net_neighbour *n = find(net, ip);
	if (!n || n->state < NET_NEIGHBOUR_KNOWN)
		return -WH_ENOENT;
	memcpy(ret_mac, n->mac, 6);
	return 0;
}

void net_neighbours_fini(struct wh_net *net)
{
	for (uint32_t i = 0; i < WH_NET_NEIGHBOURS_MAX; i++)
		drop_waiting(net, &net->neighbour[i]);
}
