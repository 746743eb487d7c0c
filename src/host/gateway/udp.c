/* SPDX-License-Identifier: ISC */
/*
 * UDP flows.
 *
 * OUT: one unconnected host socket per (guest address, guest port) and IP version, as RFC 4787 wants
 * it (REQ-1: the outside port does not depend on the peer). Replies come back from any port of
 * addresses that the guest has sent to (REQ-8, address-dependent filtering): they
 * are kept in a small Bloom filter, whose errors only let more in. ICMP errors arrive
 * in the socket's error queue and are told to the guest.
 *
 * IN: a client of a published port, behind the rule's socket. The guest sees the client, or the
 * gateway with a port of its own where the client cannot be shown.
 *
 * Both kinds are in one hash table and one list in order of last use; when the table is full the
 * least recently used flow goes. Timeouts: 10 s for DNS (port 53), 30 s until there was a reply, then 120 s
 * (RFC 4787 REQ-5: at least two minutes).
 *
 * Bursts: of what the guest sends in one round of the loop, the first datagram of a flow goes at
 * once; those that follow to the same peer are gathered, and go before the loop sleeps as one call
 * that the kernel cuts (UDP_SEGMENT, Linux 4.18). So a single question never waits.
 *
 * Datagrams that the guest hands over as one frame (USO) go out as such, straight from its memory.
 *
 * What comes for the guest: udp_receive.c.
 */
#include "udp_priv.h"

#include <linux/udp.h>
#include <wherry/base/assert.h>
#include <wherry/base/hash.h>

#ifndef UDP_SEGMENT /* Linux 4.18 */
#define UDP_SEGMENT 103
#endif

#define UDP_FLOWS_PER_BLOCK 16u
#define TIMEOUT_DNS_NS (10 * GATEWAY_S)
#define SHOWN_PORT_TRIES 8
/* Of a published port per event. */
#define PUBLISHED_MAX 64
/* That Linux before 6.9 cuts in one call. */
#define CUT_MAX 64u

static void flow_expired(struct wh_loop_timer *timer);

int udp_init(struct wh_gateway *gateway)
{
	if (gateway->udp)
		return 0;
	gateway->udp = wh_alloc(gateway->alloc, sizeof *gateway->udp);
	if (!gateway->udp)
		return -WH_ENOMEM;
	memset(gateway->udp, 0, offsetof(struct gateway_udp, buffer));
	gateway->udp->batch.flow = NULL;
	gateway->udp->batch.used = gateway->udp->batch.count = 0;
	pool_init(&gateway->udp->pool, sizeof(struct udp_flow), UDP_FLOWS_PER_BLOCK);
	wh_list_init(&gateway->udp->flows);
	return 0;
}

/* ---- table ---- */

static uint32_t hash_ends(const struct wh_gateway *gateway, const struct wh_net_end *a,
			  const struct wh_net_end *b, uint32_t more)
{
	uint8_t bytes[40];
	memcpy(bytes, a->ip.bytes, 16);
	wh_store_le16(bytes + 16, a->port);
	memset(bytes + 18, 0, 18);
	if (b) {
		memcpy(bytes + 18, b->ip.bytes, 16);
		wh_store_le16(bytes + 34, b->port);
	}
	wh_store_le32(bytes + 36, more);
	return (uint32_t)wh_siphash(gateway->key, bytes, sizeof bytes) % UDP_BUCKETS;
}

static bool end_equal(const struct wh_net_end *a, const struct wh_net_end *b)
{
	return a->port == b->port && wh_net_ip_equal(&a->ip, &b->ip);
}

static struct udp_flow **bucket_of(struct wh_gateway *gateway, const struct udp_flow *flow)
{
	uint32_t at = flow->rule ? hash_ends(gateway, &flow->guest, &flow->shown, 0)
				 : hash_ends(gateway, &flow->guest, NULL, flow->is4);
	return &gateway->udp->buckets[at];
}

static struct udp_flow *find_out(struct wh_gateway *gateway, const struct wh_net_end *guest,
				 bool is4)
{
	uint32_t at = hash_ends(gateway, guest, NULL, is4);
	struct udp_flow *flow = gateway->udp->buckets[at];
	while (flow && (flow->rule || flow->is4 != is4 || !end_equal(&flow->guest, guest)))
		flow = flow->next;
	return flow;
}

static struct udp_flow *find_in(struct wh_gateway *gateway, const struct wh_net_end *guest,
				const struct wh_net_end *shown)
{
	struct udp_flow *flow = gateway->udp->buckets[hash_ends(gateway, guest, shown, 0)];
	while (flow &&
	       (!flow->rule || !end_equal(&flow->shown, shown) || !end_equal(&flow->guest, guest)))
		flow = flow->next;
	return flow;
}

static struct udp_flow *find_client(struct wh_gateway *gateway, const struct rule *rule,
				    const struct wh_net_end *client)
{
	uint32_t at = hash_ends(gateway, client, NULL, rule->id);
	struct udp_flow *flow = gateway->udp->clients[at];
	while (flow && (flow->rule != rule || !end_equal(&flow->client, client)))
		flow = flow->client_next;
	return flow;
}

static void flow_free(struct udp_flow *flow)
{
	struct wh_gateway *gateway = flow->gateway;
	if (gateway->udp->batch.flow == flow)
		udp_flush(gateway);
	if (events_wanted(gateway))
		event_flow_closed(gateway, flow->id, flow->begun_ns, flow->bytes_out,
				  flow->bytes_in);
	struct udp_flow **at = bucket_of(gateway, flow);
	while (*at != flow)
		at = &(*at)->next;
	*at = flow->next;
	if (flow->rule) {
		at = &gateway->udp
			      ->clients[hash_ends(gateway, &flow->client, NULL, flow->rule->id)];
		while (*at != flow)
			at = &(*at)->client_next;
		*at = flow->client_next;
	}
	wh_list_remove(&flow->used);
	wh_loop_timer_stop(gateway->loop, &flow->timer);
	wh_assert(gateway->udp_flow_count > 0);
	gateway->udp_flow_count--;
	if (flow->account)
		flow->account->udp_flows--;
	struct wh_loop_fd watch = flow->watch;
	gateway->host->watch_forget(gateway->host_ctx, gateway->loop, &flow->watch);
	pool_put(&gateway->udp->pool, flow);
	socket_close(gateway, &watch);
}

/* The timer is not moved with every datagram: when it fires it looks at used_ns. */
void udp_flow_touch(struct udp_flow *flow)
{
	struct gateway_udp *udp = flow->gateway->udp;
	flow->used_ns = wh_loop_now(flow->gateway->loop);
	if (udp->flows.prev != &flow->used) {
		wh_list_remove(&flow->used);
		wh_list_push_back(&udp->flows, &flow->used);
	}
}

static void flow_expired(struct wh_loop_timer *timer)
{
	struct udp_flow *flow = timer->ctx;
	uint64_t end = flow->used_ns + flow->timeout_ns;
	if (end > wh_loop_now(flow->gateway->loop))
		wh_loop_timer_start(flow->gateway->loop, timer, end);
	else
		flow_free(flow);
}

/* Makes room by the least recently used flow. NULL = no memory. */
static struct udp_flow *flow_new(struct wh_gateway *gateway)
{
	struct gateway_udp *udp = gateway->udp;
	if (gateway->udp_flow_count >= gateway->udp_flows_max) {
		gateway->stats.udp_evicted++;
		flow_free(WH_LIST_ENTRY(udp->flows.next, struct udp_flow, used));
	}
	struct udp_flow *flow = pool_get(&udp->pool, gateway->alloc);
	if (!flow)
		return NULL;
	flow->gateway = gateway;
	flow->watch = (struct wh_loop_fd){ .fd = -1, .fn = udp_flow_readable, .ctx = flow };
	flow->timeout_ns = UDP_TIMEOUT_ONE_WAY_NS;
	wh_loop_timer_init(&flow->timer, flow_expired, flow);
	return flow;
}

static void flow_insert(struct udp_flow *flow)
{
	struct wh_gateway *gateway = flow->gateway;
	struct udp_flow **bucket = bucket_of(gateway, flow);
	flow->next = *bucket;
	*bucket = flow;
	if (flow->rule) {
		bucket =
			&gateway->udp
				 ->clients[hash_ends(gateway, &flow->client, NULL, flow->rule->id)];
		flow->client_next = *bucket;
		*bucket = flow;
	}
	wh_list_push_back(&gateway->udp->flows, &flow->used);
	flow->used_ns = flow->begun_ns = wh_loop_now(gateway->loop);
	flow->id = ++gateway->flow_id;
	wh_loop_timer_start(gateway->loop, &flow->timer, flow->used_ns + flow->timeout_ns);
	gateway->udp_flow_count++;
	gateway->stats.udp_flows_opened++;
	const struct wh_net_tuple tuple = { .local = flow->rule ? flow->shown : flow->peer,
					    .remote = flow->guest };
	if (events_wanted(gateway))
		event_flow(gateway, flow->id, WH_GATEWAY_UDP, flow->rule != NULL, &tuple);
	log_flow(gateway, flow->id, flow->rule ? "udp from" : "udp to any from",
		 flow->rule ? &flow->client : &flow->guest, &flow->guest, 0);
}

/* ---- from the guest ---- */

/* The least recently used flow of this guest, or of all (NULL), goes. false: there is none. */
static bool evict(struct wh_gateway *gateway, const struct account *account)
{
	WH_LIST_FOR_EACH(node, &gateway->udp->flows) {
		struct udp_flow *flow = WH_LIST_ENTRY(node, struct udp_flow, used);
		if (account ? flow->account != account : flow->watch.fd < 0)
			continue;
		gateway->stats.udp_evicted++;
		flow_free(flow);
		return true;
	}
	return false;
}

static struct udp_flow *out_open(struct wh_gateway *gateway, const struct wh_net_tuple *tuple,
				 bool is4)
{
	struct account *account = account_now(gateway);
	if (!account_may_udp(gateway, account) && !evict(gateway, account)) {
		gateway->stats.limit_refused++;
		return NULL;
	}
	struct udp_flow *flow = flow_new(gateway);
	if (!flow)
		return NULL;
	int fd = socket_open(gateway, is4 ? AF_INET : AF_INET6, SOCK_DGRAM, IPPROTO_UDP);
	if ((fd == -WH_EMFILE || fd == -WH_ENFILE) && evict(gateway, NULL))
		fd = socket_open(gateway, is4 ? AF_INET : AF_INET6, SOCK_DGRAM, IPPROTO_UDP);
	int error = fd < 0 ? fd : 0;
	flow->watch.fd = fd < 0 ? -1 : fd;
	if (!error) {
		/* Without error reports the flow works, too. */
		(void)(is4 ? socket_set(gateway, fd, IPPROTO_IP, IP_RECVERR, 1)
			   : socket_set(gateway, fd, IPPROTO_IPV6, IPV6_RECVERR, 1));
		error = socket_watch(gateway, &flow->watch, WH_LOOP_READ);
	}
	if (error) {
		socket_close(gateway, &flow->watch);
		pool_put(&gateway->udp->pool, flow);
		return NULL;
	}
	flow->guest = tuple->remote;
	flow->peer = tuple->local;
	flow->is4 = is4;
	flow->account = account;
	account->udp_flows++;
	if (tuple->local.port == 53)
		flow->timeout_ns = TIMEOUT_DNS_NS;
	flow_insert(flow);
	return flow;
}

union source_control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

static void source_put(struct msghdr *message, union source_control *control, int level, int type,
		       const void *info, size_t size)
{
	memset(control, 0, sizeof *control);
	control->header.cmsg_level = level;
	control->header.cmsg_type = type;
	control->header.cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(&control->header), info, size);
	message->msg_control = control;
	message->msg_controllen = CMSG_SPACE(size);
}

/* What the socket says to a send; errors that came in for an earlier datagram are reported once by
 * the next call. */
static long out_try(struct udp_flow *flow, const struct msghdr *message)
{
	struct wh_gateway *gateway = flow->gateway;
	long n = gateway->host->send(gateway->host_ctx, flow->watch.fd, message);
	if (n == -WH_ECONNREFUSED || n == -WH_EHOSTUNREACH || n == -WH_ENETUNREACH) {
		udp_flow_errors(flow);
		n = gateway->host->send(gateway->host_ctx, flow->watch.fd, message);
	}
	return n;
}

/* The kernel has no way to cut for this route or socket. */
static bool cannot_cut(long error)
{
	return error == -WH_EINVAL || error == -WH_EMSGSIZE || error == -WH_EIO ||
	       error == -WH_ENOPROTOOPT;
}

/* Datagrams of `segment` bytes but perhaps the last: in one call as many as may be, or one by one where the kernel does not
 * cut. What the last call said. */
static long segments_send(struct udp_flow *flow, const struct wh_net_end *to,
			  const struct wh_iov *iov, uint32_t count, uint32_t size, uint32_t segment)
{
	struct wh_gateway *gateway = flow->gateway;
	union host_address address;
	union source_control control;
	struct wh_iov part[WH_NET_FRAME_IOV_MAX];
	uint16_t option = (uint16_t)segment;
	long n = 0;
	for (uint32_t at = 0; at < size;) {
		struct msghdr message = { .msg_iov = (struct iovec *)part, .msg_name = &address };
		bool whole = !flow->no_batch && size - at > segment;
		uint32_t most = whole ? CUT_MAX * segment : segment;
		uint32_t taken = size - at < most ? size - at : most;
		int parts = wh_iov_slice(iov, count, at, taken, part, WH_ARRAY_COUNT(part));
		wh_assert(parts > 0);
		message.msg_iovlen = (size_t)parts;
		message.msg_namelen = address_from_end(to, &address);
		if (whole)
			source_put(&message, &control, IPPROTO_UDP, UDP_SEGMENT, &option,
				   sizeof option);
		n = out_try(flow, &message);
		if (whole && cannot_cut(n)) {
			flow->no_batch = true;
			continue;
		}
		*(n < 0 ? &gateway->stats.udp_dropped : &gateway->stats.udp_out) +=
			(taken + segment - 1) / segment;
		at += taken;
	}
	return n;
}

void udp_flush(struct wh_gateway *gateway)
{
	struct gateway_udp *udp = gateway->udp;
	if (!udp || !udp->batch.flow)
		return;
	struct udp_batch *b = &udp->batch;
	struct wh_iov iov = { b->buffer, b->used };
	long n = segments_send(b->flow, &b->to, &iov, 1, b->used, b->segment);
	if (n == -WH_EHOSTUNREACH || n == -WH_ENETUNREACH || n == -WH_ECONNREFUSED)
		(void)wh_net_icmp_udp_error(gateway->net, &b->tuple, (int)-n, 0);
	b->flow = NULL;
	b->used = b->count = 0;
}

/* true: the datagram goes with the others of this round. */
static bool batch_add(struct udp_flow *flow, const struct wh_net_end *to, const struct wh_iov *iov,
		      uint32_t count, uint32_t size)
{
	struct udp_batch *b = &flow->gateway->udp->batch;
	if (b->flow != flow || !end_equal(&b->to, to) || !size || size > UDP_BATCH_SIZE_MAX ||
	    flow->no_batch)
		return false;
	if (b->count && (size > b->segment || b->used + size > UDP_BATCH_SIZE_MAX ||
			 b->count == UDP_BATCH_SEGMENTS_MAX)) {
		udp_flush(flow->gateway);
		b->flow = flow; /* to and tuple are still those */
	}
	if (!b->count)
		b->segment = size;
	wh_iov_read(iov, count, 0, b->buffer + b->used, size);
	b->used += size;
	b->count++;
	if (size < b->segment) { /* only the last one may be shorter */
		udp_flush(flow->gateway);
		b->flow = flow;
	}
	return true;
}

/* false = port unreachable. */
static bool out_send(struct wh_gateway *gateway, const struct wh_net_tuple *tuple,
		     const struct wh_net_end *to, const struct wh_iov *iov, uint32_t count,
		     uint32_t size, uint32_t segment)
{
	if (hops_end_here(gateway, tuple, NULL, iov, count))
		return true;
	bool is4 = wh_net_ip_is4(&to->ip);
	struct udp_flow *flow = find_out(gateway, &tuple->remote, is4);
	if (!flow)
		flow = out_open(gateway, tuple, is4);
	if (!flow) {
		gateway->stats.udp_dropped++;
		return true;
	}
	udp_filter_add(flow, &to->ip);
	udp_flow_touch(flow);
	flow->peer = tuple->local;
	flow->bytes_out += size;
	if (!segment && !flow->hops && batch_add(flow, to, iov, count, size))
		return true;
	udp_flush(gateway);
	hops_set(gateway, flow->watch.fd, is4, &flow->hops);
	long n;
	if (segment) {
		n = segments_send(flow, to, iov, count, size, segment);
	} else {
		union host_address address;
		struct msghdr message = { .msg_iov = (struct iovec *)(void *)(uintptr_t)iov,
					  .msg_iovlen = count,
					  .msg_name = &address };
		message.msg_namelen = address_from_end(to, &address);
		n = out_try(flow, &message);
		*(n < 0 ? &gateway->stats.udp_dropped : &gateway->stats.udp_out) += 1;
		gateway->udp->batch.flow = flow;
		gateway->udp->batch.to = *to;
		gateway->udp->batch.tuple = *tuple;
	}
	if (n == -WH_ECONNREFUSED)
		return false;
	if (n == -WH_EHOSTUNREACH || n == -WH_ENETUNREACH || n == -WH_EACCES || n == -WH_EPERM)
		(void)wh_net_icmp_udp_error(gateway->net, tuple,
					    n == -WH_EPERM ? WH_EACCES : (int)-n, 0);
	return true;
}

/* A wildcard socket must answer from the address that the client has asked. */
static void source_set(struct msghdr *message, union source_control *control,
		       const struct wh_net_ip *local)
{
	struct in_pktinfo info4 = { 0 };
	struct in6_pktinfo info6 = { 0 };
	if (wh_net_ip_is4(local)) {
		memcpy(&info4.ipi_spec_dst, local->bytes + 12, 4);
		source_put(message, control, IPPROTO_IP, IP_PKTINFO, &info4, sizeof info4);
	} else {
		memcpy(&info6.ipi6_addr, local->bytes, 16);
		source_put(message, control, IPPROTO_IPV6, IPV6_PKTINFO, &info6, sizeof info6);
	}
}

/* A reply of the guest to a client of a published port. */
static void in_reply(struct udp_flow *flow, const struct wh_iov *iov, uint32_t count)
{
	struct wh_gateway *gateway = flow->gateway;
	union host_address address;
	union source_control control;
	struct msghdr message = { .msg_iov = (struct iovec *)(void *)(uintptr_t)iov,
				  .msg_iovlen = count,
				  .msg_name = &address };
	message.msg_namelen = address_from_end(&flow->client, &address);
	if (flow->rule->wildcard && !wh_net_ip_is_any(&flow->local))
		source_set(&message, &control, &flow->local);
	/* A dual-stack socket takes IPv4 addresses in mapped form. */
	if (flow->listener->ip6 && wh_net_ip_is4(&flow->client.ip)) {
		memset(&address, 0, sizeof address);
		address.ip6.sin6_family = AF_INET6;
		address.ip6.sin6_port = htons(flow->client.port);
		memcpy(&address.ip6.sin6_addr, flow->client.ip.bytes, 16);
		message.msg_namelen = sizeof address.ip6;
	}
	long n = gateway->host->send(gateway->host_ctx, flow->listener->watch.fd, &message);
	*(n < 0 ? &gateway->stats.udp_dropped : &gateway->stats.udp_out) += 1;
	flow->bytes_out += n < 0 ? 0 : (uint64_t)n;
	flow->timeout_ns = UDP_TIMEOUT_NS;
	udp_flow_touch(flow);
}

static bool datagram_take(struct wh_gateway *gateway, const struct wh_net_tuple *tuple,
			  const struct wh_iov *iov, uint32_t count, uint32_t size, uint32_t segment)
{
	struct wh_net_end to;
	gateway->touched = true;
	if (tuple->local.port == WH_WIRE_DHCP_SERVER_PORT &&
	    (gateway_is_multicast(&tuple->local.ip) || gateway_is_own(gateway, &tuple->local.ip))) {
		dhcp_datagram(gateway, iov, count, size);
		return true;
	}
	if (gateway->dhcp6 && tuple->local.port == DHCP6_SERVER_PORT &&
	    !wh_net_ip_is4(&tuple->local.ip) && gateway_is_multicast(&tuple->local.ip)) {
		gateway->dhcp6(gateway, tuple, iov, count, size);
		return true;
	}
	if (udp_init(gateway)) {
		gateway->stats.udp_dropped++;
		return true;
	}
	struct udp_flow *in = find_in(gateway, &tuple->remote, &tuple->local);
	if (in) {
		in_reply(in, iov, count);
		return true;
	}
	if (gateway_is_multicast(&tuple->local.ip)) {
		gateway->stats.udp_dropped++;
		return true;
	}
	const struct wh_gateway_forward *forward =
		forward_find(gateway, WH_GATEWAY_UDP, &tuple->local);
	if (forward)
		to = forward->to;
	switch (forward ? DESTINATION_HOST : gateway_destination(gateway, &tuple->local, &to)) {
	case DESTINATION_HOST:
		if (policy_denies(gateway, false, WH_GATEWAY_UDP, &tuple->local.ip,
				  tuple->local.port)) {
			gateway->stats.udp_dropped++;
			return false;
		}
		/* QUIC goes past an HTTP proxy: its clients try TCP when they hear no. */
		if (!forward && tuple->local.port == 443 && proxy_carries(gateway, &tuple->local)) {
			gateway->stats.udp_dropped++;
			return false;
		}
		return out_send(gateway, tuple, &to, iov, count, size, segment);
	case DESTINATION_DNS:
		if (tuple->local.port != 53)
			return false;
		dns_datagram(gateway, tuple, iov, count, size);
		return true;
	case DESTINATION_UNREACHABLE:
		(void)wh_net_icmp_udp_error(gateway->net, tuple, WH_EHOSTUNREACH, 0);
		break;
	case DESTINATION_FORBIDDEN:
		(void)wh_net_icmp_udp_error(gateway->net, tuple, WH_EACCES, 0);
		break;
	case DESTINATION_REFUSED:
		gateway->stats.udp_dropped++;
		return false;
	}
	gateway->stats.udp_dropped++;
	return true;
}

bool udp_datagram(void *ctx, const struct wh_net_tuple *tuple, const struct wh_iov *iov,
		  uint32_t count, uint32_t size)
{
	return datagram_take(ctx, tuple, iov, count, size, 0);
}

bool udp_segments(void *ctx, const struct wh_net_tuple *tuple, const struct wh_iov *iov,
		  uint32_t count, uint32_t size, uint32_t segment)
{
	struct wh_gateway *gateway = ctx;
	uint16_t port = tuple->local.port;
	/* Replies to clients of published ports, and questions to services of ours, are taken one by one. */
	bool ours = port == 53 || port == WH_WIRE_DHCP_SERVER_PORT || port == DHCP6_SERVER_PORT ||
		    (gateway->udp && find_in(gateway, &tuple->remote, &tuple->local));
	if (!ours)
		return datagram_take(gateway, tuple, iov, count, size, segment);
	struct wh_iov part[WH_NET_FRAME_IOV_MAX];
	for (uint32_t at = 0; at < size; at += segment) {
		uint32_t n = size - at < segment ? size - at : segment;
		int parts = wh_iov_slice(iov, count, at, n, part, WH_ARRAY_COUNT(part));
		wh_assert(parts > 0);
		if (!datagram_take(gateway, tuple, part, (uint32_t)parts, n, 0))
			return false;
	}
	return true;
}

/* The guest does not want what came from outside. Clients cannot be told without
 * privileges; the flow ends so that its entry is free. */
void udp_error(void *ctx, const struct wh_net_tuple *tuple, int error)
{
	struct wh_gateway *gateway = ctx;
	if (!gateway->udp || error != WH_ECONNREFUSED)
		return;
	struct udp_flow *flow = find_in(gateway, &tuple->remote, &tuple->local);
	if (flow)
		flow_free(flow);
}

/* ---- published ---- */

static struct udp_flow *in_open(struct listener *listener, const struct wh_net_end *client)
{
	struct rule *rule = listener->rule;
	struct wh_gateway *gateway = rule->gateway;
	struct wh_net_end shown, guest;
	bool kept = gateway_shown(gateway, client, &shown);
	guest = rule_guest(gateway, rule, &shown.ip, &kept);
	for (int i = 0; find_in(gateway, &guest, &shown); i++) {
		if (kept || i == SHOWN_PORT_TRIES)
			return NULL;
		shown.port = gateway_random_port(gateway);
	}
	struct udp_flow *flow = flow_new(gateway);
	if (!flow)
		return NULL;
	flow->rule = rule;
	flow->listener = listener;
	flow->client = *client;
	flow->shown = shown;
	flow->guest = guest;
	flow_insert(flow);
	return flow;
}

/* Which address of ours the client has sent to. */
static void local_of(struct msghdr *message, struct wh_net_ip *ret_local)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;
			uint8_t ip[4];
			memcpy(&info, CMSG_DATA(c), sizeof info);
			memcpy(ip, &info.ipi_spec_dst, 4);
			*ret_local = wh_net_ip4(ip);
			return;
		}
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;
			memcpy(&info, CMSG_DATA(c), sizeof info);
			memcpy(ret_local->bytes, &info.ipi6_addr, 16);
		}
	}
}

/* One datagram of a published port; false = none left, or the link is full. */
static bool published_one(struct wh_gateway *gateway, struct listener *listener)
{
	struct gateway_udp *udp = gateway->udp;
	union host_address from = { .any = { .sa_family = AF_UNSPEC } };
	_Alignas(struct cmsghdr) char control[128];
	struct iovec iov = { udp->buffer, sizeof udp->buffer };
	struct msghdr message = {
		.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &iov, .msg_iovlen = 1
	};
	if (listener->rule->wildcard) {
		message.msg_control = control;
		message.msg_controllen = sizeof control;
	}
	struct wh_net_end client;
	long n = gateway->host->receive(gateway->host_ctx, listener->watch.fd, &message, 0);
	if (n < 0)
		return n != -WH_EAGAIN;
	if (!address_to_end(&from, &client) || !client.port) {
		gateway->stats.udp_dropped++;
		return true;
	}
	struct udp_flow *flow = find_client(gateway, listener->rule, &client);
	if (!flow && !policy_denies(gateway, true, WH_GATEWAY_UDP, &client.ip,
				    listener->rule->config.guest_port))
		flow = in_open(listener, &client);
	if (!flow) {
		gateway->stats.udp_dropped++;
		return true;
	}
	if (listener->rule->wildcard)
		local_of(&message, &flow->local);
	flow->bytes_in += (uint64_t)n;
	udp_flow_touch(flow);
	struct wh_net_tuple tuple = { .local = flow->shown, .remote = flow->guest };
	if (udp_deliver(gateway, &tuple, (uint32_t)n))
		return true;
	udp_read_pause(gateway, &listener->watch);
	return false;
}

void udp_published(struct wh_gateway *gateway, struct listener *listener)
{
	if (gateway->udp->held) {
		udp_read_pause(gateway, &listener->watch);
		return;
	}
	for (int i = 0; i < PUBLISHED_MAX; i++)
		if (!published_one(gateway, listener))
			return;
}

void udp_rule_gone(struct wh_gateway *gateway, struct rule *rule)
{
	if (!gateway->udp)
		return;
	WH_LIST_FOR_EACH_SAFE(node, &gateway->udp->flows) {
		struct udp_flow *flow = WH_LIST_ENTRY(node, struct udp_flow, used);
		if (flow->rule == rule)
			flow_free(flow);
	}
}

void udp_flows_list(struct wh_gateway *gateway, struct flow_list *list)
{
	uint64_t now = wh_loop_now(gateway->loop);
	if (!gateway->udp)
		return;
	WH_LIST_FOR_EACH(node, &gateway->udp->flows) {
		struct udp_flow *flow = WH_LIST_ENTRY(node, struct udp_flow, used);
		struct wh_gateway_flow *to = flow_list_add(list, flow->id);
		if (!to)
			continue;
		to->protocol = WH_GATEWAY_UDP;
		to->inbound = flow->rule != NULL;
		to->guest = flow->guest;
		to->peer = flow->rule ? flow->shown : flow->peer;
		flow_socket_ends(gateway, flow->rule ? flow->listener->watch.fd : flow->watch.fd,
				 to);
		if (flow->rule)
			to->host_peer = flow->client;
		else
			(void)gateway_destination(gateway, &flow->peer, &to->host_peer);
		to->bytes_out = flow->bytes_out;
		to->bytes_in = flow->bytes_in;
		to->age_ns = now - flow->begun_ns;
		to->idle_ns = now - flow->used_ns;
	}
}

void udp_flows_end(struct wh_gateway *gateway)
{
	struct gateway_udp *udp = gateway->udp;
	if (!udp)
		return;
	while (!wh_list_empty(&udp->flows))
		flow_free(WH_LIST_ENTRY(udp->flows.next, struct udp_flow, used));
	wh_assert(gateway->udp_flow_count == 0);
	udp_receive_fini(gateway);
}

void udp_fini(struct wh_gateway *gateway)
{
	struct gateway_udp *udp = gateway->udp;
	if (!udp)
		return;
	udp_flows_end(gateway);
	pool_fini(&udp->pool, gateway->alloc);
	gateway->udp = NULL;
	wh_free(gateway->alloc, udp, sizeof *udp);
}
