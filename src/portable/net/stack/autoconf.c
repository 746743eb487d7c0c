/* SPDX-License-Identifier: ISC */
/*
 * Configuration without static addresses: a DHCPv4 client (RFC 2131), for guests on a link that is
 * not ours; slaac.c is IPv6's part.
 *
 * DHCP states: SELECTING (DISCOVER is out) -> REQUESTING -> BOUND, and from there
 * RENEWING to the server at T1 and REBINDING to anybody at T2; a refusal or the
 * lease's end goes back to SELECTING. Replies are asked for by broadcast, so
 * nothing special is needed to receive them without an address. The address is announced
 * (RFC 5227, 2.3) but not probed for: the server has checked, a virtual link has few hosts, and a guest
 * would start seconds later.
 */
#include "autoconf_priv.h"

#define RETRY_FIRST_NS (1 * NET_S) /* RFC 2131, 4.1 says 4 s; links here are short */
#define RETRY_MAX_NS (64 * NET_S)
#define LEASE_MIN_S 60u /* shorter ones would only make traffic */

enum state { SELECTING, REQUESTING, BOUND, RENEWING, REBINDING };

void net_dns_add(struct wh_net *net, const struct wh_net_ip *ip)
{
	for (uint32_t i = 0; i < net->dns_count; i++)
		if (wh_net_ip_equal(&net->dns[i], ip))
			return;
	if (net->dns_count == NET_DNS_MAX || wh_net_ip_is_any(ip))
		return;
	net->dns_expires[net->dns_count] = WH_NET_NEVER;
	net->dns[net->dns_count++] = *ip;
}

void net_configured(struct wh_net *net)
{
	if (net->config.ops->configured)
		net->config.ops->configured(net->config.ctx);
}

/* ---- DHCPv4 ---- */

static void message_send(struct net_autoconf *a)
{
	static const uint8_t all[4] = { 255, 255, 255, 255 }, none[4] = { 0 };
	struct wh_net *net = a->net;
	uint8_t buffer[WH_WIRE_DHCP_SIZE_MAX];
	struct wh_wire_dhcp d = { .op = 1,
				  .broadcast = true,
				  .transaction = a->transaction,
				  .seconds = (uint16_t)((net->now - a->began) / NET_S),
				  .type = a->state == SELECTING ? WH_WIRE_DHCP_DISCOVER
								: WH_WIRE_DHCP_REQUEST };
	memcpy(d.mac, net->config.mac, 6);
	memcpy(d.hostname, a->hostname, sizeof d.hostname);
	struct wh_net_tuple t = { .local = { wh_net_ip4(none), WH_WIRE_DHCP_CLIENT_PORT },
				  .remote = { wh_net_ip4(all), WH_WIRE_DHCP_SERVER_PORT } };
	if (a->state == REQUESTING) {
		memcpy(d.requested_ip, a->address.bytes + 12, 4);
		memcpy(d.server_id, a->server, 4);
	} else if (a->state >= RENEWING) {
		memcpy(d.client_ip, a->address.bytes + 12, 4);
		t.local.ip = a->address;
	}
	if (a->state == RENEWING)
		t.remote.ip = wh_net_ip4(a->server);
	size_t size = wh_wire_dhcp_emit(buffer, &d);
	struct wh_iov iov = { buffer, size };
	(void)wh_net_udp_send(net, a->udp, &t, &iov, 1, 0); /* repeated by the timer */
}

static void retry_later(struct net_autoconf *a)
{
	uint64_t wait = RETRY_FIRST_NS << (a->tries > 6 ? 6 : a->tries);
	if (wait > RETRY_MAX_NS)
		wait = RETRY_MAX_NS;
	wait += net_random(a->net) % (wait / 4); /* many guests boot at once */
	a->tries++;
	net_timer_start(a->net, &a->dhcp_timer, a->net->now + wait);
}

static void address_drop(struct net_autoconf *a)
{
	static const uint8_t none[4] = { 0 };
	struct wh_net_ip any = wh_net_ip4(none);
	if (!a->has_address)
		return;
	a->has_address = false;
	(void)wh_net_address_remove(a->net, &a->address); /* it is there */
	wh_net_gateway_set(a->net, &any);
	net_configured(a->net);
}

static void begin(struct net_autoconf *a)
{
	a->state = SELECTING;
	a->transaction = (uint32_t)net_random(a->net);
	a->began = a->net->now;
	a->tries = 0;
	message_send(a);
	retry_later(a);
}

static void on_dhcp_timer(struct wh_net *net, struct net_timer *timer)
{
	struct net_autoconf *a = net->autoconf;
	if (a->has_address && net->now >= a->expire) {
		address_drop(a);
		begin(a);
		return;
	}
	if (a->state == REQUESTING && a->tries > 4) {
		begin(a);
		return;
	}
	if (a->state >= BOUND) {
		if (a->state == BOUND) {
			a->transaction = (uint32_t)net_random(net);
			a->began = net->now;
		}
		a->state = net->now >= a->rebind ? REBINDING : RENEWING;
		message_send(a);
		/* RFC 2131, 4.4.5: half of what is left, not below a minute. */
		uint64_t end = a->state == RENEWING ? a->rebind : a->expire;
		uint64_t wait = (end - net->now) / 2;
		if (wait < 60 * NET_S)
			wait = 60 * NET_S;
		net_timer_start(net, timer, net->now + wait < end ? net->now + wait : end);
		return;
	}
	message_send(a);
	retry_later(a);
}

static uint8_t prefix_of(const uint8_t mask[4])
{
	uint32_t m = wh_load_be32(mask);
	return m ? (uint8_t)__builtin_popcount(m) : 24;
}

static void lease_take(struct net_autoconf *a, const struct wh_wire_dhcp *d)
{
	struct wh_net *net = a->net;
	uint32_t lease_s = d->lease_s < LEASE_MIN_S ? LEASE_MIN_S : d->lease_s;
	struct wh_net_ip address = wh_net_ip4(d->your_ip);
	if (a->has_address && !wh_net_ip_equal(&a->address, &address))
		address_drop(a);
	a->address = address;
	if (!a->has_address &&
	    wh_net_address_add(net, &a->address, prefix_of(d->netmask)) == -WH_ENOSPC)
		return;
	if (!a->has_address)
		net_arp_announce(net, &a->address);
	a->has_address = true;
	if (d->router_count) {
		struct wh_net_ip router = wh_net_ip4(d->router[0]);
		wh_net_gateway_set(net, &router);
	}
	for (uint32_t i = 0; i < d->dns_count; i++) {
		struct wh_net_ip dns = wh_net_ip4(d->dns[i]);
		net_dns_add(net, &dns);
	}
	a->state = BOUND;
	a->bound = net->now;
	a->renew = net->now + lease_s * NET_S / 2;
	a->rebind = net->now + lease_s * NET_S / 8 * 7;
	a->expire = net->now + lease_s * NET_S;
	net_timer_start(net, &a->dhcp_timer, a->renew);
	net_configured(net);
}

static void on_datagram(struct wh_net_udp *u, const struct wh_net_tuple *tuple,
			const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	struct net_autoconf *a = wh_net_udp_ctx(u);
	uint8_t copy[WH_WIRE_DHCP_SIZE_MAX + 256];
	struct wh_wire_dhcp d;
	size_t n = wh_iov_read(iov, count, 0, copy, size < sizeof copy ? size : sizeof copy);
	if (wh_wire_dhcp_parse(copy, n, &d) < 0 || d.op != 2 || d.transaction != a->transaction ||
	    memcmp(d.mac, a->net->config.mac, 6))
		return;
	struct wh_net_ip ip = wh_net_ip4(d.your_ip);
	bool usable = !wh_net_ip_is_any(&ip) && !net_ip_multicast(&ip) && !net_ip_loopback(&ip);
	if (a->state == SELECTING && d.type == WH_WIRE_DHCP_OFFER && usable) {
		a->address = ip;
		memcpy(a->server, d.server_id, 4);
		a->state = REQUESTING;
		a->tries = 0;
		message_send(a);
		retry_later(a);
	} else if (a->state != SELECTING && a->state != BOUND && d.type == WH_WIRE_DHCP_ACK &&
		   usable) {
		lease_take(a, &d);
	} else if (a->state != SELECTING && a->state != BOUND && d.type == WH_WIRE_DHCP_NAK) {
		address_drop(a);
		begin(a);
	}
}

/* ---- Life cycle ---- */

static void autoconf_fini(struct wh_net *net)
{
	struct net_autoconf *a = net->autoconf;
	net_timer_stop(net, &a->dhcp_timer);
	net_slaac_stop(net);
	wh_net_udp_close(a->udp);
	wh_free(net->config.alloc, a, sizeof *a);
	net->autoconf = 0;
}

int wh_net_autoconf_start(struct wh_net *net, const char *hostname)
{
	static const struct wh_net_udp_ops udp_ops = { .datagram = on_datagram };
	static const struct net_protocol ops = { .fini = autoconf_fini };
	static const uint8_t none[4] = { 0 };
	struct wh_net_tuple t = { .local = { wh_net_ip4(none), WH_WIRE_DHCP_CLIENT_PORT } };
	wh_assert(!net->autoconf);
	int error = wh_net_udp_enable(net);
	if (error)
		return error;
	struct net_autoconf *a = wh_alloc_zero(net->config.alloc, sizeof *a);
	if (!a)
		return -WH_ENOMEM;
	a->net = net;
	error = wh_net_udp_open(net, &t, 0, &udp_ops, a, &a->udp);
	if (error) {
		wh_free(net->config.alloc, a, sizeof *a);
		return error;
	}
	size_t length = hostname ? wh_strnlen(hostname, sizeof a->hostname - 1) : 0;
	if (length)
		memcpy(a->hostname, hostname, length);
	net_timer_init(&a->dhcp_timer, on_dhcp_timer);
	net->autoconf = a;
	net->autoconf_ops = &ops;
	begin(a);
	net_slaac_start(net);
	return 0;
}
