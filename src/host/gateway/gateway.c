/* SPDX-License-Identifier: ISC */
/* The instance: configuration, the link, the loop's hook, addresses. */
#include "gateway_priv.h"

#include <wherry/base/assert.h>
#include <wherry/base/hash.h>
#include <wherry/os.h>

#define TCP_FLOWS_PER_BLOCK 32u

static bool all_zero(const uint8_t *bytes, size_t size)
{
	uint8_t any = 0;
	for (size_t i = 0; i < size; i++)
		any |= bytes[i];
	return !any;
}

static void take(uint8_t *to, const uint8_t *given, const uint8_t *otherwise, size_t size)
{
	memcpy(to, all_zero(given, size) ? otherwise : given, size);
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;
	if (memcmp(a, b, whole))
		return false;
	return !rest || !((a[whole] ^ b[whole]) >> (8 - rest));
}

int wh_gateway_config_addresses(const struct wh_gateway_config *config,
				struct wh_gateway_addresses *ret_addresses, struct wh_diag *diag)
{
	static const uint8_t guest4[4] = { 10, 0, 2, 15 }, self4[4] = { 10, 0, 2, 2 };
	static const uint8_t dns4[4] = { 10, 0, 2, 3 };
	static const uint8_t self_mac[6] = { 0x52, 0x55, 0x0a, 0x00, 0x02, 0x02 };
	static const uint8_t guest_mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
	static const uint8_t net6[16] = { 0xfd, 0x77, 0x68, 0x65, 0x72, 0x72, 0x79 };
	uint8_t guest6[16], self6[16], dns6[16];
	memcpy(guest6, net6, 16);
	memcpy(self6, net6, 16);
	memcpy(dns6, net6, 16);
	guest6[15] = 0x15;
	self6[15] = 2;
	dns6[15] = 3;

	struct wh_gateway_addresses a = { .prefix4 = config->prefix4 ? config->prefix4 : 24,
					  .prefix6 = config->prefix6 ? config->prefix6 : 64 };
	take(a.guest_ip4, config->guest_ip4, guest4, 4);
	take(a.gateway_ip4, config->gateway_ip4, self4, 4);
	take(a.dns_ip4, config->dns_ip4, dns4, 4);
	take(a.gateway_mac, config->gateway_mac, self_mac, 6);
	take(a.guest_mac, config->guest_mac, guest_mac, 6);
	if (a.prefix4 > 30 || !same_prefix(a.guest_ip4, a.gateway_ip4, a.prefix4) ||
	    !same_prefix(a.dns_ip4, a.gateway_ip4, a.prefix4))
		return wh_diag_set(diag, -WH_EINVAL,
				   "the guest's IPv4 addresses are not in one /%u network",
				   a.prefix4);
	if (config->no_ip6) {
		a.prefix6 = 0;
	} else {
		take(a.guest_ip6, config->guest_ip6, guest6, 16);
		take(a.gateway_ip6, config->gateway_ip6, self6, 16);
		take(a.dns_ip6, config->dns_ip6, dns6, 16);
		if (a.prefix6 > 126 || !same_prefix(a.guest_ip6, a.gateway_ip6, a.prefix6) ||
		    !same_prefix(a.dns_ip6, a.gateway_ip6, a.prefix6))
			return wh_diag_set(diag, -WH_EINVAL,
					   "the guest's IPv6 addresses are not in one /%u network",
					   a.prefix6);
	}
	if ((a.gateway_mac[0] | a.guest_mac[0]) & 1)
		return wh_diag_set(diag, -WH_EINVAL, "a MAC address is a group address");
	*ret_addresses = a;
	return 0;
}

void wh_gateway_addresses(const struct wh_gateway *gateway,
			  struct wh_gateway_addresses *ret_addresses)
{
	*ret_addresses = gateway->addresses;
}

void wh_gateway_guest_mac(struct wh_gateway *gateway, const uint8_t mac[6])
{
	if (!memcmp(gateway->addresses.guest_mac, mac, 6))
		return;
	memcpy(gateway->addresses.guest_mac, mac, 6);
	for (int v = 0; v < (gateway->ip6 ? 2 : 1); v++) /* the entries exist already */
		(void)wh_net_neighbour_set(gateway->net, &gateway->guest[v], mac);
	gateway->touched = true;
}

/* ---- the link ---- */

static int inner_send(struct wh_net_port *inner, const struct wh_net_frame *frame)
{
	struct wh_gateway *gateway = inner->provider;
	if (!gateway->port)
		return -WH_EAGAIN;
	enum guests_verdict verdict = guests_may_get(gateway, frame);
	if (verdict != GUESTS_PASS)
		return verdict == GUESTS_WAIT ? -WH_EAGAIN : 0;
	int error = gateway->port->send(gateway->port, frame);
	if (!error && pcap_wanted(gateway))
		pcap_frame(gateway, frame);
	return error;
}

static void inner_flush(struct wh_net_port *inner)
{
	struct wh_gateway *gateway = inner->provider;
	if (gateway->port && gateway->port->flush)
		gateway->port->flush(gateway->port);
}

/* The provider learns what its guest accepts only when the guest's driver starts. */
static void link_refresh(struct wh_gateway *gateway)
{
	gateway->inner.link_features = gateway->port->link_features;
	gateway->inner.mtu = gateway->port->mtu;
}

/* A RST or "unreachable" is no news about the guest's readiness: it only answers our own SYN. */
static bool is_refusal(const struct wh_net_frame *frame)
{
	uint8_t h[54];
	if (wh_iov_read(frame->iov, frame->iov_count, 0, h, sizeof h) < sizeof h)
		return false;
	if (h[12] == 0x08 && h[13] == 0x00 && h[14] == 0x45)
		return h[23] == WH_WIRE_PROTO_TCP ? h[14 + 20 + 13] & WH_WIRE_TCP_RST
						  : h[23] == WH_WIRE_PROTO_ICMP && h[14 + 20] == 3;
	uint8_t flags = 0;
	if (h[12] != 0x86 || h[13] != 0xdd)
		return false;
	if (h[20] == WH_WIRE_PROTO_ICMP6)
		return wh_iov_read(frame->iov, frame->iov_count, 14 + 40, &flags, 1) && flags == 1;
	return h[20] == WH_WIRE_PROTO_TCP &&
	       wh_iov_read(frame->iov, frame->iov_count, 14 + 40 + 13, &flags, 1) &&
	       (flags & WH_WIRE_TCP_RST);
}

static int gateway_receive(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	struct wh_gateway *gateway = port->user;
	link_refresh(gateway);
	if (!guests_may_send(gateway, frame))
		return -WH_EAGAIN;
	if (pcap_wanted(gateway))
		pcap_frame(gateway, frame);
	if (!wh_list_empty(&gateway->tcp_refused) && !is_refusal(frame))
		gateway->guest_spoke = true;
	gateway->touched = true;
	gateway->frame = frame;
	wh_net_input(gateway->net, frame);
	gateway->frame = NULL;
	return 0;
}

bool gateway_source_mac(const struct wh_gateway *gateway, uint8_t ret_mac[6])
{
	const struct wh_net_frame *frame = gateway->frame;
	return frame && wh_iov_read(frame->iov, frame->iov_count, 6, ret_mac, 6) == 6;
}

void gateway_writable(struct wh_net_port *port)
{
	struct wh_gateway *gateway = port->user;
	link_refresh(gateway);
	gateway->touched = gateway->guest_spoke = true;
	if (gateway->inner.writable)
		gateway->inner.writable(&gateway->inner);
	udp_writable(gateway);
}

int wh_gateway_attach(struct wh_gateway *gateway, struct wh_net_port *port)
{
	if (gateway->port)
		return -WH_EBUSY;
	port->user = gateway;
	port->receive = gateway_receive;
	port->writable = gateway_writable;
	gateway->port = port;
	gateway->boot_end_ns = wh_loop_now(gateway->loop) + gateway->boot_window_ms * GATEWAY_MS;
	gateway_writable(port);
	advert_send(gateway);
	return 0;
}

void wh_gateway_detach(struct wh_gateway *gateway)
{
	if (!gateway->port)
		return;
	tcp_fini(gateway);
	splices_end(gateway);
	pages_fini(gateway);
	udp_flows_end(gateway);
	echo_fini(gateway);
	dns_fini(gateway);
	wh_loop_timer_stop(gateway->loop, &gateway->advert_timer);
	wh_loop_timer_stop(gateway->loop, &gateway->rate_timer);
	gateway->port->receive = NULL;
	gateway->port->writable = NULL;
	gateway->port->user = NULL;
	gateway->port = NULL;
	gateway->boot_end_ns = 0;
}

/* One pass of the stack per round of the loop, whatever came in. */
static bool gateway_before_sleep(struct wh_loop_hook *hook)
{
	struct wh_gateway *gateway = hook->ctx;
	if (gateway->guest_spoke) {
		gateway->guest_spoke = false;
		tcp_retry_refused(gateway);
	}
	bool more = splice_continue(gateway);
	if (!gateway->touched)
		return more;
	gateway->touched = false;
	udp_flush(gateway);
	uint64_t deadline = wh_net_run(gateway->net, wh_loop_now(gateway->loop));
	if (deadline == WH_NET_NEVER)
		wh_loop_timer_stop(gateway->loop, &gateway->timer);
	else
		wh_loop_timer_start(gateway->loop, &gateway->timer, deadline);
	return more;
}

int wh_gateway_finish(struct wh_gateway *gateway, uint32_t timeout_ms)
{
	uint64_t end = wh_os_now() + timeout_ms * GATEWAY_MS, now;
	rules_fini(gateway);
	gateway->touched = true;
	(void)gateway_before_sleep(&gateway->hook);
	while (tcp_finish(gateway) && (now = wh_os_now()) < end)
		if (wh_loop_step(gateway->loop, (int)((end - now) / GATEWAY_MS) + 1) < 0)
			break;
	int left = (int)tcp_finish(gateway);
	tcp_fini(gateway);
	return left;
}

/* Round-trip times need the time at which the frames of this round came. */
static void gateway_after_sleep(struct wh_loop_hook *hook)
{
	struct wh_gateway *gateway = hook->ctx;
	wh_net_time(gateway->net, wh_loop_now(gateway->loop));
}

static void gateway_deadline(struct wh_loop_timer *timer)
{
	struct wh_gateway *gateway = timer->ctx;
	gateway->touched = true;
}

/* ---- addresses ---- */

bool gateway_is_loopback(const struct wh_net_ip *ip)
{
	static const struct wh_net_ip loopback6 = { { [15] = 1 } };
	if (wh_net_ip_is4(ip))
		return ip->bytes[12] == 127;
	return wh_net_ip_equal(ip, &loopback6);
}

bool gateway_is_multicast(const struct wh_net_ip *ip)
{
	if (wh_net_ip_is4(ip))
		return ip->bytes[12] >= 224; /* multicast, reserved, broadcast */
	return ip->bytes[0] == 0xff;
}

bool gateway_in_subnet(const struct wh_gateway *gateway, const struct wh_net_ip *ip)
{
	const struct wh_gateway_addresses *a = &gateway->addresses;
	if (wh_net_ip_is4(ip))
		return same_prefix(ip->bytes + 12, a->gateway_ip4, a->prefix4);
	return a->prefix6 && same_prefix(ip->bytes, a->gateway_ip6, a->prefix6);
}

static bool is_link_local6(const struct wh_net_ip *ip)
{
	return ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
}

enum destination gateway_destination(const struct wh_gateway *gateway,
				     const struct wh_net_end *meant, struct wh_net_end *ret_end)
{
	static const uint8_t loopback4[4] = { 127, 0, 0, 1 };
	static const uint8_t loopback6[16] = { [15] = 1 };
	const struct wh_net_ip *ip = &meant->ip;
	if (wh_net_ip_equal(ip, &gateway->dns_ip[0]) || wh_net_ip_equal(ip, &gateway->dns_ip[1]))
		return DESTINATION_DNS;
	if (gateway_is_own(gateway, ip)) {
		if (!gateway->host_loopback)
			return DESTINATION_REFUSED;
		ret_end->ip = wh_net_ip_is4(ip) ? wh_net_ip4(loopback4) : wh_net_ip6(loopback6);
		ret_end->port = meant->port;
		return DESTINATION_HOST;
	}
	if (gateway_in_subnet(gateway, ip) || gateway_is_multicast(ip) || is_link_local6(ip))
		return DESTINATION_UNREACHABLE;
	/* 0.0.0.0/8 and :: mean the host itself to its kernel. */
	bool zero_net = wh_net_ip_is4(ip) ? ip->bytes[12] == 0 : wh_net_ip_is_any(ip);
	if (gateway_is_loopback(ip) || zero_net || gateway->no_outbound)
		return DESTINATION_FORBIDDEN;
	*ret_end = *meant;
	return DESTINATION_HOST;
}

bool gateway_shown(const struct wh_gateway *gateway, const struct wh_net_end *peer,
		   struct wh_net_end *ret_shown)
{
	bool is4 = wh_net_ip_is4(&peer->ip);
	*ret_shown = *peer;
	if (peer->port && !gateway_is_loopback(&peer->ip) &&
	    !gateway_in_subnet(gateway, &peer->ip) && !gateway_is_multicast(&peer->ip) &&
	    !wh_net_ip_is_any(&peer->ip) && (is4 || (gateway->ip6 && !is_link_local6(&peer->ip))))
		return true;
	ret_shown->ip = gateway->self[0];
	return false;
}

uint16_t gateway_random_port(struct wh_gateway *gateway)
{
	return (uint16_t)(49152 + wh_random_next(&gateway->random) % 16384);
}

/* ---- life ---- */

static const char *keep_text(char **at, const char *text)
{
	if (!text)
		return NULL;
	char *copy = *at;
	size_t size = wh_strlen(text) + 1;
	memcpy(copy, text, size);
	*at += size;
	return copy;
}

static size_t text_size(const char *text)
{
	return text ? wh_strlen(text) + 1 : 0;
}

static uint32_t or_default(uint32_t given, uint32_t otherwise)
{
	return given ? given : otherwise;
}

static int stack_new(struct wh_gateway *gateway, const struct wh_gateway_config *config)
{
	static const struct wh_net_ops ops = { .tcp_request = tcp_request,
					       .udp_datagram = udp_datagram,
					       .udp_segments = udp_segments,
					       .icmp_echo = echo_request,
					       .udp_error = udp_error };
	const struct wh_gateway_addresses *a = &gateway->addresses;
	struct wh_net_config net = WH_NET_CONFIG_INIT;
	net.alloc = &gateway->cache.alloc;
	net.log = &gateway->log;
	net.ops = &ops;
	net.ctx = gateway;
	memcpy(net.key, gateway->key, sizeof net.key);
	memcpy(net.mac, a->gateway_mac, 6);
	net.transparent = net.lossless = net.no_loopback = true;
	net.tcp_sockets_max = 2 * gateway->tcp_flows_max;
	net.tcp_half_open_max = 2 * gateway->tcp_pending_max;
	net.tcp_receive_max = net.tcp_send_max = config->tcp_buffer_max;
	int error = wh_net_new(&net, wh_loop_now(gateway->loop), &gateway->net);
	if (error)
		return error;
	if ((error = wh_net_tcp_enable(gateway->net)) || (error = wh_net_udp_enable(gateway->net)))
		return error;
	for (int v = 0; v < (gateway->ip6 ? 2 : 1); v++) {
		uint8_t prefix = v ? a->prefix6 : a->prefix4;
		if ((error = wh_net_address_add(gateway->net, &gateway->self[v], prefix)) ||
		    (error = wh_net_address_add(gateway->net, &gateway->dns_ip[v], prefix)) ||
		    (error = wh_net_neighbour_set(gateway->net, &gateway->guest[v], a->guest_mac)))
			return error;
		/* Everything else is behind the guest, too: there is one neighbour. */
		wh_net_gateway_set(gateway->net, &gateway->guest[v]);
	}
	gateway->inner = (struct wh_net_port){
		.send = inner_send, .flush = inner_flush, .mtu = 1500, .provider = gateway
	};
	wh_net_attach(gateway->net, &gateway->inner);
	return 0;
}

static void settings_take(struct wh_gateway *gateway, const struct wh_gateway_config *config)
{
	const struct wh_gateway_addresses *a = &gateway->addresses;
	char *text = gateway->text;
	gateway->log = config->log;
	gateway->host = config->host ? config->host : &gateway_host_linux;
	gateway->host_ctx = config->host_ctx;
	gateway->guest_socket = config->guest_socket;
	gateway->guest_socket_ctx = config->guest_socket_ctx;
	gateway->ip6 = a->prefix6 > 0;
	gateway->guest[0] = wh_net_ip4(a->guest_ip4);
	gateway->self[0] = wh_net_ip4(a->gateway_ip4);
	gateway->dns_ip[0] = wh_net_ip4(a->dns_ip4);
	/* Without IPv6 these stay all zero, which no packet has as its destination. */
	gateway->guest[1] = wh_net_ip6(a->guest_ip6);
	gateway->self[1] = wh_net_ip6(a->gateway_ip6);
	gateway->dns_ip[1] = wh_net_ip6(a->dns_ip6);
	gateway->host_loopback = config->host_loopback;
	gateway->no_outbound = config->no_outbound;
	gateway->boot_window_ms = or_default(config->boot_window_ms, WH_GATEWAY_BOOT_WINDOW_MS);
	gateway->tcp_flows_max = or_default(config->tcp_flows_max, WH_GATEWAY_TCP_FLOWS_MAX);
	gateway->tcp_pending_max = or_default(config->tcp_pending_max, WH_GATEWAY_TCP_PENDING_MAX);
	gateway->udp_flows_max = or_default(config->udp_flows_max, WH_GATEWAY_UDP_FLOWS_MAX);
	gateway->descriptors_reserve =
		or_default(config->descriptors_reserve, WH_GATEWAY_DESCRIPTORS_RESERVE);
	gateway->dns_timeout_ns = config->dns_timeout_ms * GATEWAY_MS;
	gateway->dns_filter = config->dns_filter;
	wh_gateway_limits_set(gateway, &config->limits);
	gateway->ntp_count = config->ntp_count;
	memcpy(gateway->ntp, config->ntp, sizeof gateway->ntp);
	gateway->resolver_count = config->resolver_count;
	memcpy(gateway->resolvers, config->resolvers, sizeof gateway->resolvers);
	gateway->resolv_conf = keep_text(&text, config->resolv_conf);
	gateway->hosts = keep_text(&text, config->hosts);
	gateway->hostname = keep_text(&text, config->hostname);
	gateway->search = keep_text(&text, config->search);
}

int wh_gateway_new(const struct wh_gateway_config *config, struct wh_loop *loop,
		   struct wh_gateway **ret_gateway, struct wh_diag *diag)
{
	struct wh_gateway_addresses addresses;
	if (config->size != sizeof *config)
		return wh_diag_set(diag, -WH_EINVAL, "the gateway's config has another version");
	if (config->resolver_count > WH_GATEWAY_RESOLVERS_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "%u DNS servers, at most %u are used",
				   config->resolver_count, WH_GATEWAY_RESOLVERS_MAX);
	if (config->ntp_count > WH_GATEWAY_NTP_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "%u NTP servers, at most %u are told",
				   config->ntp_count, WH_GATEWAY_NTP_MAX);
	int error = wh_gateway_config_addresses(config, &addresses, diag);
	if (error)
		return error;
	size_t size = sizeof(struct wh_gateway) + text_size(config->resolv_conf) +
		      text_size(config->hosts) + text_size(config->hostname) +
		      text_size(config->search);
	const struct wh_alloc *alloc = config->alloc ? config->alloc : &wh_os_allocator;
	struct wh_gateway *gateway = wh_alloc_zero(alloc, size);
	if (!gateway)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the network gateway");
	gateway->alloc = alloc;
	cache_init(&gateway->cache, alloc);
	gateway->size = size;
	gateway->loop = loop;
	gateway->pcap_fd = -1;
	gateway->addresses = addresses;
	settings_take(gateway, config);
	uint64_t random[3];
	gateway->host->random(gateway->host_ctx, random, sizeof random);
	memcpy(gateway->key, random, sizeof gateway->key);
	gateway->random = random[2];
	wh_list_init(&gateway->tcp_flows);
	wh_list_init(&gateway->tcp_refused);
	splice_init(gateway);
	wh_list_init(&gateway->rules);
	wh_list_init(&gateway->policies);
	wh_list_init(&gateway->forwards);
	wh_list_init(&gateway->names);
	wh_list_init(&gateway->records);
	wh_list_init(&gateway->zones);
	wh_list_init(&gateway->echo_flows);
	wh_list_init(&gateway->watchers);
	pool_init(&gateway->tcp_pool, tcp_flow_size(), TCP_FLOWS_PER_BLOCK);
	wh_loop_timer_init(&gateway->timer, gateway_deadline, gateway);
	wh_loop_timer_init(&gateway->retry_timer, tcp_retry_expired, gateway);
	wh_loop_timer_init(&gateway->resume_timer, rules_resume_expired, gateway);
	wh_loop_timer_init(&gateway->advert_timer, advert_expired, gateway);
	wh_loop_timer_init(&gateway->rate_timer, guests_resume, gateway);
	gateway->hook = (struct wh_loop_hook){ .before_sleep = gateway_before_sleep,
					       .after_sleep = gateway_after_sleep,
					       .ctx = gateway };
	wh_loop_hook_add(loop, &gateway->hook);
	error = stack_new(gateway, config);
	if (!error)
		error = advert_update(gateway);
	if (error) {
		wh_gateway_free(gateway);
		return wh_diag_set(diag, error, "the network gateway's stack cannot start");
	}
	*ret_gateway = gateway;
	return 0;
}

void wh_gateway_free(struct wh_gateway *gateway)
{
	if (!gateway)
		return;
	tcp_fini(gateway);
	wh_gateway_detach(gateway);
	splice_fini(gateway);
	udp_fini(gateway);
	echo_fini(gateway);
	dns_fini(gateway);
	rules_fini(gateway);
	policy_fini(gateway);
	proxy_fini(gateway);
	forwards_fini(gateway);
	names_fini(gateway);
	records_fini(gateway);
	pcap_fini(gateway);
	zones_fini(gateway);
	wh_net_free(gateway->net);
	cache_fini(&gateway->cache);
	pool_fini(&gateway->tcp_pool, gateway->alloc);
	wh_loop_timer_stop(gateway->loop, &gateway->timer);
	wh_loop_timer_stop(gateway->loop, &gateway->retry_timer);
	wh_loop_timer_stop(gateway->loop, &gateway->resume_timer);
	wh_loop_hook_remove(gateway->loop, &gateway->hook);
	wh_assert(gateway->descriptors == 0);
	wh_free(gateway->alloc, gateway, gateway->size);
}

void wh_gateway_stats(const struct wh_gateway *gateway, struct wh_gateway_stats *ret_stats)
{
	*ret_stats = gateway->stats;
	ret_stats->tcp_flows = gateway->tcp_flow_count;
	ret_stats->tcp_pending = gateway->tcp_pending;
	ret_stats->udp_flows = gateway->udp_flow_count;
	ret_stats->echo_flows = gateway->echo_flow_count;
	ret_stats->rules = gateway->rule_count;
	ret_stats->descriptors = gateway->descriptors;
	wh_net_stats_get(gateway->net, &ret_stats->stack);
}
