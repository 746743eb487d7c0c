/* SPDX-License-Identifier: ISC */
/* The instance: configuration, the cycle, addresses and routes. */
#include "net_priv.h"

#define RUN_ROUNDS_MAX 64 /* two ends in one instance could go on for ever */

static int config_fill(struct wh_net_config *c)
{
#define DEFAULT(field, value) c->field = c->field ? c->field : (value)
	DEFAULT(tcp_sockets_max, WH_NET_TCP_SOCKETS_MAX);
	DEFAULT(tcp_time_wait_max, WH_NET_TCP_TIME_WAIT_MAX);
	DEFAULT(tcp_half_open_max, WH_NET_TCP_HALF_OPEN_MAX);
	DEFAULT(udp_sockets_max, WH_NET_UDP_SOCKETS_MAX);
	DEFAULT(reassemblies_max, WH_NET_REASSEMBLIES_MAX);
	DEFAULT(tcp_buffer_start, WH_NET_TCP_BUFFER_START);
	DEFAULT(tcp_receive_max, WH_NET_TCP_BUFFER_MAX);
	DEFAULT(tcp_send_max, WH_NET_TCP_BUFFER_MAX);
	DEFAULT(time_wait_ns, 60 * NET_S);
	/* Long enough for an answer to carry the acknowledgement, short enough that a peer with
	 * Nagle's algorithm hardly notices; real links get the customary order. */
	DEFAULT(delayed_ack_ns, c->lossless ? 2 * NET_MS : 20 * NET_MS);
	DEFAULT(hop_limit, 64);
#undef DEFAULT
	const uint32_t sizes[] = { c->tcp_buffer_start, c->tcp_receive_max, c->tcp_send_max };
	for (size_t i = 0; i < WH_ARRAY_COUNT(sizes); i++)
		if (!wh_is_power_of_two(sizes[i]) || sizes[i] < 2048 || sizes[i] > 1u << 30)
			return -WH_EINVAL;
	if (c->tcp_receive_max < c->tcp_buffer_start || c->tcp_send_max < c->tcp_buffer_start)
		return -WH_EINVAL;
	return 0;
}

int wh_net_new(const struct wh_net_config *config, uint64_t now, struct wh_net **ret_net)
{
	struct wh_net_config c = WH_NET_CONFIG_INIT;
	static const struct wh_net_ops no_ops;
	if (!config->size || config->size > sizeof c || !config->alloc)
		return -WH_EINVAL;
	memcpy(&c, config, config->size);
	int error = config_fill(&c);
	if (error)
		return error;
	struct wh_net *net = wh_alloc_zero(c.alloc, sizeof *net);
	if (!net)
		return -WH_ENOMEM;
	net->config = c;
	if (!net->config.ops)
		net->config.ops = &no_ops;
	net->now = now;
	net->icmp_time = now;
	net->icmp_tokens = NET_ICMP_BURST;
	net->random = c.key[0] ^ now;
	net->ip4_id = (uint16_t)net_random(net);
	net->ip6_id = (uint32_t)net_random(net);
	*ret_net = net;
	return 0;
}

void wh_net_free(struct wh_net *net)
{
	if (!net)
		return;
	const struct net_protocol *protocols[] = { net->autoconf_ops, net->tcp, net->udp };
	for (size_t i = 0; i < WH_ARRAY_COUNT(protocols); i++)
		if (protocols[i] && protocols[i]->fini)
			protocols[i]->fini(net);
	wh_net_detach(net);
	net_neighbours_fini(net);
	net_reassembly_fini(net);
	wh_free(net->config.alloc, net->router_advert, net->router_advert_size);
	wh_free(net->config.alloc, net->loop.buffer, NET_LOOP_SIZE);
	wh_free(net->config.alloc, net, sizeof *net);
}

static int port_receive(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	wh_net_input(port->user, frame);
	return 0;
}

static void port_writable(struct wh_net_port *port)
{
	struct wh_net *net = port->user;
	if (net->tcp)
		net->tcp->unblock(net);
	if (net->udp)
		net->udp->unblock(net);
}

void wh_net_attach(struct wh_net *net, struct wh_net_port *port)
{
	wh_assert(!net->port && port->send);
	net->port = port;
	port->user = net;
	port->receive = port_receive;
	port->writable = port_writable;
}

void wh_net_detach(struct wh_net *net)
{
	if (!net->port)
		return;
	net->port->user = 0;
	net->port->receive = 0;
	net->port->writable = 0;
	net->port = 0;
}

void wh_net_input(struct wh_net *net, const struct wh_net_frame *frame)
{
	net->stats.frames_in++;
	net->stats.bytes_in += frame->size;
	if (net->config.ops->tap)
		net->config.ops->tap(net->config.ctx, false, frame);
	net_eth_input(net, frame);
}

void wh_net_time(struct wh_net *net, uint64_t now)
{
	if (now > net->now)
		net->now = now;
}

static bool run_once(struct wh_net *net)
{
	bool worked = false;
	for (struct net_timer *t; (t = net_timer_due(net, net->now)); worked = true)
		t->fn(net, t);
	worked |= net_loop_run(net);
	if (net->tcp)
		worked |= net->tcp->run(net);
	return worked;
}

uint64_t wh_net_run(struct wh_net *net, uint64_t now)
{
	wh_net_time(net, now);
	if (net->running) /* from inside an event: the outer call goes on anyway */
		return net->now;
	net->running = true;
	bool worked = true;
	for (int round = 0; worked && round < RUN_ROUNDS_MAX; round++)
		worked = run_once(net);
	net->running = false;
	if (net->sent && net->port && net->port->flush)
		net->port->flush(net->port);
	net->sent = false;
	if (worked)
		return net->now;
	return net->timers ? net->timers->deadline : WH_NET_NEVER;
}

bool wh_net_pending(const struct wh_net *net)
{
	return net->sent || net->loop.used ||
	       (net->tcp && net->tcp->pending && net->tcp->pending(net));
}

/* ---- Addresses ---- */

int wh_net_address_add(struct wh_net *net, const struct wh_net_ip *ip, uint8_t prefix)
{
	if (wh_net_ip_is4(ip))
		prefix = (uint8_t)(prefix > 32 ? 128 : prefix + 96);
	for (uint32_t i = 0; i < net->address_count; i++)
		if (wh_net_ip_equal(&net->address[i].ip, ip))
			return -WH_EEXIST;
	if (net->address_count == WH_NET_ADDRESSES_MAX)
		return -WH_ENOSPC;
	net->address[net->address_count++] = (struct net_address){ .ip = *ip, .prefix = prefix };
	return 0;
}

int wh_net_address_remove(struct wh_net *net, const struct wh_net_ip *ip)
{
	for (uint32_t i = 0; i < net->address_count; i++) {
		if (wh_net_ip_equal(&net->address[i].ip, ip)) {
			net->address[i] = net->address[--net->address_count];
			return 0;
		}
	}
	return -WH_ENOENT;
}

bool net_ip_loopback(const struct wh_net_ip *ip)
{
	static const uint8_t one[16] = { [15] = 1 };
	return wh_net_ip_is4(ip) ? ip->bytes[12] == 127 : !memcmp(ip->bytes, one, 16);
}

bool wh_net_address_own(const struct wh_net *net, const struct wh_net_ip *ip)
{
	for (uint32_t i = 0; i < net->address_count; i++)
		if (wh_net_ip_equal(&net->address[i].ip, ip))
			return true;
	if (!net->config.no_loopback && net_ip_loopback(ip))
		return true;
	if (ip->bytes[0] != 0xfe)
		return false;
	struct wh_net_ip local = net_link_local(net);
	return wh_net_ip_equal(&local, ip);
}

uint32_t wh_net_address_list(const struct wh_net *net, struct wh_net_ip *ips, uint8_t *prefixes,
			     uint32_t max)
{
	for (uint32_t i = 0; i < net->address_count && i < max; i++) {
		const struct net_address *a = &net->address[i];
		ips[i] = a->ip;
		prefixes[i] = (uint8_t)(wh_net_ip_is4(&a->ip) ? a->prefix - 96 : a->prefix);
	}
	return net->address_count;
}

void wh_net_gateway_set(struct wh_net *net, const struct wh_net_ip *gateway)
{
	bool any = wh_net_ip_is_any(gateway);
	if (wh_net_ip_is4(gateway)) {
		net->gateway4 = *gateway;
		net->has_gateway4 = !any;
	} else {
		net->gateway6 = *gateway;
		net->has_gateway6 = !any;
	}
}

static bool prefix_equal(const struct wh_net_ip *a, const struct wh_net_ip *b, uint32_t bits)
{
	uint32_t bytes = bits / 8, rest = bits % 8;
	if (memcmp(a->bytes, b->bytes, bytes))
		return false;
	return !rest || !((a->bytes[bytes] ^ b->bytes[bytes]) >> (8 - rest));
}

bool net_ip_multicast(const struct wh_net_ip *ip)
{
	return wh_net_ip_is4(ip) ? ip->bytes[12] >> 4 == 14 : ip->bytes[0] == 0xff;
}

bool net_ip_broadcast(const struct wh_net *net, const struct wh_net_ip *ip)
{
	if (!wh_net_ip_is4(ip))
		return false;
	uint32_t v = wh_load_be32(ip->bytes + 12);
	if (v == 0xffffffff)
		return true;
	for (uint32_t i = 0; i < net->address_count; i++) {
		const struct net_address *a = &net->address[i];
		if (!wh_net_ip_is4(&a->ip) || a->prefix > 96 + 30)
			continue;
		uint32_t host = 0xffffffffu >> (a->prefix - 96);
		if ((v & host) == host && prefix_equal(ip, &a->ip, a->prefix))
			return true;
	}
	return false;
}

bool net_ip_on_link(const struct wh_net *net, const struct wh_net_ip *ip)
{
	bool is4 = wh_net_ip_is4(ip);
	if (!is4 && ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80)
		return true;
	for (uint32_t i = 0; i < net->address_count; i++) {
		const struct net_address *a = &net->address[i];
		if (wh_net_ip_is4(&a->ip) == is4 && prefix_equal(ip, &a->ip, a->prefix))
			return true;
	}
	return false;
}

uint32_t net_pmtu(const struct wh_net *net, const struct wh_net_ip *to, uint32_t mtu)
{
	if (net->pmtu_expires <= net->now) /* nearly always */
		return mtu;
	for (uint32_t i = 0; i < NET_PMTU_MAX; i++) {
		const struct net_pmtu_entry *e = &net->pmtu[i];
		if (e->expires > net->now && e->mtu < mtu && wh_net_ip_equal(&e->ip, to))
			return e->mtu;
	}
	return mtu;
}

struct net_pmtu_entry *net_pmtu_find(struct wh_net *net, const struct wh_net_ip *to)
{
	for (uint32_t i = 0; i < NET_PMTU_MAX; i++)
		if (net->pmtu[i].expires > net->now && wh_net_ip_equal(&net->pmtu[i].ip, to))
			return &net->pmtu[i];
	return 0;
}

void net_pmtu_keep(struct wh_net *net, struct net_pmtu_entry *entry, uint64_t ns)
{
	entry->expires = net->now + ns;
	if (net->pmtu_expires < entry->expires)
		net->pmtu_expires = entry->expires;
}

struct net_pmtu_entry *net_pmtu_set(struct wh_net *net, const struct wh_net_ip *to, uint32_t mtu)
{
	struct net_pmtu_entry *slot = &net->pmtu[0];
	for (uint32_t i = 0; i < NET_PMTU_MAX; i++) {
		struct net_pmtu_entry *e = &net->pmtu[i];
		if (wh_net_ip_equal(&e->ip, to)) {
			slot = e;
			break;
		}
		if (e->expires < slot->expires)
			slot = e;
	}
	*slot = (struct net_pmtu_entry){ .ip = *to, .mtu = mtu };
	net_pmtu_keep(net, slot, NET_PMTU_NS);
	return slot;
}

int net_route(const struct wh_net *net, const struct wh_net_ip *to, struct net_route *ret)
{
	if (!net->config.no_loopback && wh_net_address_own(net, to)) {
		*ret = (struct net_route){ .loop = true, .hop = *to, .mtu = NET_LOOP_MTU };
		return 0;
	}
	if (!net->port || net_ip_loopback(to) || wh_net_ip_is_any(to))
		return -WH_ENETUNREACH;
	struct net_route r = { .hop = *to,
			       .mtu = net_pmtu(net, to, net->port->mtu),
			       .features = net->port->link_features };
	if (net->link_mtu && net->link_mtu < r.mtu && !wh_net_ip_is4(to))
		r.mtu = net->link_mtu;
	if (!net_ip_on_link(net, to) && !net_ip_multicast(to) && !net_ip_broadcast(net, to)) {
		bool is4 = wh_net_ip_is4(to);
		if (is4 ? !net->has_gateway4 : !net->has_gateway6)
			return -WH_ENETUNREACH;
		r.hop = is4 ? net->gateway4 : net->gateway6;
	}
	*ret = r;
	return 0;
}

/* A short form of RFC 6724: loopback to itself, the address on the destination's
 * link, link-local to link-local, else the first one of the version. */
int wh_net_source(const struct wh_net *net, const struct wh_net_ip *remote,
		  struct wh_net_ip *ret_local)
{
	bool is4 = wh_net_ip_is4(remote);
	const struct wh_net_ip *best = 0;
	if (!net->config.no_loopback && wh_net_address_own(net, remote)) {
		*ret_local = *remote;
		return 0;
	}
	if (!is4 && (remote->bytes[0] == 0xfe || net_ip_multicast(remote))) {
		*ret_local = net_link_local(net);
		return 0;
	}
	for (uint32_t i = 0; i < net->address_count; i++) {
		const struct net_address *a = &net->address[i];
		if (wh_net_ip_is4(&a->ip) != is4)
			continue;
		if (prefix_equal(&a->ip, remote, a->prefix)) {
			best = &a->ip;
			break;
		}
		if (!best)
			best = &a->ip;
	}
	if (!best)
		return -WH_ENETUNREACH;
	*ret_local = *best;
	return 0;
}

uint32_t wh_net_dns_servers(const struct wh_net *net, struct wh_net_ip *ips, uint32_t max)
{
	for (uint32_t i = 0; i < net->dns_count && i < max; i++)
		ips[i] = net->dns[i];
	return net->dns_count;
}

void wh_net_stats_get(const struct wh_net *net, struct wh_net_stats *ret_stats)
{
	*ret_stats = net->stats;
}
