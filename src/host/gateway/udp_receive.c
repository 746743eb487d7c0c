/* SPDX-License-Identifier: ISC */
/*
 * UDP from host sockets to the guest.
 *
 * A read takes up to UDP_READ_MAX datagrams. Its buffers are laid out so that those of the size that the flow had last come to
 * lie one behind the other; neighbours of one peer then go to the guest as one frame that its kernel (or device) cuts, without
 * having been copied. What is longer than expected has its end elsewhere and goes alone. Of flows with bursts the
 * kernel may hand over several datagrams of one sender as one (UDP_GRO, Linux 5.0); they are passed on so. Where the guest's link
 * takes no such frames the stack sends them one by one (wh_net_udp_send).
 *
 * Lossless where it can be: when the guest's link is full, what was read is held, and host sockets are not read until the
 * link takes frames again.
 */
#include "udp_priv.h"

#include <time.h> /* linux/errqueue.h needs struct timespec */

#include <linux/errqueue.h>
#include <linux/udp.h>
#include <wherry/base/assert.h>
#include <wherry/base/hash.h>

#ifndef UDP_GRO /* Linux 5.0 */
#define UDP_GRO 104
#endif

/* Reads of one socket per event, so that a busy one leaves room for others. */
#define READS_MAX 2
#define UDP_ERRORS_MAX 8
/* Of a socket that had so many at once, as far as the system lets us: bursts come faster than a guest takes them. */
#define UDP_BURST 8
#define UDP_RECEIVE_BUFFER (1 << 20)

/* ---- towards the guest ---- */

/* What was read goes to the guest. false = the link is full; the rest is held. */
static bool runs_deliver(struct wh_gateway *gateway)
{
	struct gateway_udp *udp = gateway->udp;
	while (udp->run_at < udp->run_count) {
		const struct udp_run *run = &udp->runs[udp->run_at];
		struct wh_net_send_options options = { .segment = (uint16_t)run->segment };
		struct wh_iov part[2];
		uint32_t left = run->size - udp->run_offset;
		int count = wh_iov_slice(run->iov, run->iov_count, udp->run_offset, left, part, 2);
		wh_assert(count >= 0);
		int n = wh_net_udp_send(gateway->net, NULL, &run->tuple, part, (uint32_t)count,
					&options);
		gateway->touched = true;
		if (n == -WH_EAGAIN) {
			udp->held = true;
			return false;
		}
		uint32_t gone = n < 0 ? left : (uint32_t)n;
		*(n < 0 ? &gateway->stats.udp_dropped : &gateway->stats.udp_in) +=
			run->segment ? (gone + run->segment - 1) / run->segment : 1;
		udp->run_offset += gone;
		if (udp->run_offset < run->size)
			continue;
		udp->run_at++;
		udp->run_offset = 0;
	}
	udp->run_at = udp->run_count = 0;
	return true;
}

bool udp_deliver(struct wh_gateway *gateway, const struct wh_net_tuple *tuple, uint32_t size)
{
	struct gateway_udp *udp = gateway->udp;
	wh_assert(!udp->held && !udp->run_count);
	udp->runs[udp->run_count++] = (struct udp_run){
		.tuple = *tuple, .iov = { { udp->buffer, size } }, .iov_count = 1, .size = size
	};
	return runs_deliver(gateway);
}

void udp_read_pause(struct wh_gateway *gateway, struct wh_loop_fd *watch)
{
	gateway->udp->paused = true;
	(void)socket_watch_modify(gateway, watch, 0);
}

void udp_writable(struct wh_gateway *gateway)
{
	struct gateway_udp *udp = gateway->udp;
	if (!udp)
		return;
	if (udp->held) {
		udp->held = false;
		if (!runs_deliver(gateway))
			return;
	}
	if (!udp->paused)
		return;
	udp->paused = false;
	WH_LIST_FOR_EACH(node, &udp->flows) {
		struct udp_flow *flow = WH_LIST_ENTRY(node, struct udp_flow, used);
		if (flow->watch.fd >= 0 && !flow->watch.events)
			(void)socket_watch_modify(gateway, &flow->watch, WH_LOOP_READ);
	}
	WH_LIST_FOR_EACH(node, &gateway->rules) {
		struct rule *rule = WH_LIST_ENTRY(node, struct rule, node);
		for (uint32_t i = 0; i < rule->listener_count; i++) {
			struct wh_loop_fd *watch = &rule->listeners[i].watch;
			if (rule->config.protocol == WH_GATEWAY_UDP && !watch->events)
				(void)socket_watch_modify(gateway, watch, WH_LOOP_READ);
		}
	}
}

static void filter_bits(const struct wh_gateway *gateway, const struct wh_net_ip *ip,
			uint32_t bits[2])
{
	uint64_t hash = wh_siphash(gateway->key, ip->bytes, 16);
	bits[0] = (uint32_t)(hash % (64 * UDP_FILTER_WORDS));
	bits[1] = (uint32_t)((hash >> 32) % (64 * UDP_FILTER_WORDS));
}

void udp_filter_add(struct udp_flow *flow, const struct wh_net_ip *ip)
{
	uint32_t bits[2];
	filter_bits(flow->gateway, ip, bits);
	for (int i = 0; i < 2; i++)
		flow->filter[bits[i] / 64] |= 1ull << (bits[i] % 64);
}

static bool filter_has(const struct udp_flow *flow, const struct wh_net_ip *ip)
{
	uint32_t bits[2];
	filter_bits(flow->gateway, ip, bits);
	return (flow->filter[bits[0] / 64] >> (bits[0] % 64) & 1) &&
	       (flow->filter[bits[1] / 64] >> (bits[1] % 64) & 1);
}

/* How the guest knows a peer of an OUT flow. false: it cannot have been sent to. */
static bool peer_shown(const struct wh_gateway *gateway, const struct udp_flow *flow,
		       const struct wh_net_end *peer, struct wh_net_end *ret_shown)
{
	if (gateway->forward_count &&
	    forward_shown(gateway, peer, wh_net_ip_is4(&flow->guest.ip), ret_shown))
		return true;
	*ret_shown = *peer;
	if (!gateway_is_loopback(&peer->ip))
		return true;
	ret_shown->ip = gateway->self[wh_net_ip_is4(&peer->ip) ? 0 : 1];
	return gateway->host_loopback;
}

/* ICMP errors about what the guest sent, from the socket's error queue. */
void udp_flow_errors(struct udp_flow *flow)
{
	struct wh_gateway *gateway = flow->gateway;
	for (int i = 0; i < UDP_ERRORS_MAX; i++) {
		union host_address to = { .any = { .sa_family = AF_UNSPEC } };
		_Alignas(struct cmsghdr) char control[256];
		uint8_t payload[HOPS_PAYLOAD_MAX]; /* of the datagram that it is about */
		struct iovec iov = { payload, sizeof payload };
		struct msghdr message = { .msg_name = &to,
					  .msg_namelen = sizeof to,
					  .msg_iov = &iov,
					  .msg_iovlen = 1,
					  .msg_control = control,
					  .msg_controllen = sizeof control };
		long n = gateway->host->receive(gateway->host_ctx, flow->watch.fd, &message,
						MSG_ERRQUEUE);
		struct wh_net_tuple tuple = { .remote = flow->guest };
		struct wh_net_end peer;
		if (n < 0)
			return;
		if (!address_to_end(&to, &peer) || !peer_shown(gateway, flow, &peer, &tuple.local))
			continue;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
			struct sock_extended_err error;
			struct wh_net_icmp_report report = { .tuple = tuple,
							     .payload = payload,
							     .payload_size = (uint32_t)n };
			if ((c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_RECVERR) &&
			    (c->cmsg_level != IPPROTO_IPV6 || c->cmsg_type != IPV6_RECVERR))
				continue;
			if (hops_error(gateway, c, &report))
				continue;
			memcpy(&error, CMSG_DATA(c), sizeof error);
			(void)wh_net_icmp_udp_error(gateway->net, &tuple, (int)error.ee_errno,
						    error.ee_info);
			gateway->touched = true;
		}
	}
}

/* ---- reading ---- */

static void many_prepare(struct udp_many *m, uint32_t guess)
{
	for (uint32_t i = 0; i < UDP_READ_MAX; i++) {
		m->iov[i][0] = (struct iovec){ m->expected + (size_t)i * guess, guess };
		m->iov[i][1] = (struct iovec){ m->rest[i], GATEWAY_DATAGRAM_MAX };
		m->headers[i].msg_hdr = (struct msghdr){ .msg_name = &m->from[i],
							 .msg_namelen = sizeof m->from[i],
							 .msg_iov = m->iov[i],
							 .msg_iovlen = 2,
							 .msg_control = &m->control[i],
							 .msg_controllen = sizeof m->control[i] };
	}
}

/* Bytes of each datagram, if the kernel has put several into one; 0 = it is one. */
static uint32_t segment_of(struct msghdr *message)
{
	int segment = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
			memcpy(&segment, CMSG_DATA(c), sizeof segment);
	return segment > 0 && segment <= UINT16_MAX ? (uint32_t)segment : 0;
}

/* Does this datagram follow the last one in memory, from the same peer, and may the guest get them as one? */
static bool run_extend(struct gateway_udp *udp, const struct wh_net_tuple *tuple, const uint8_t *at,
		       uint32_t size, uint32_t guess)
{
	if (!udp->run_count || !size || size > guess || guess < UDP_GUESS_MIN)
		return false;
	struct udp_run *run = &udp->runs[udp->run_count - 1];
	uint32_t first = run->segment ? run->segment : run->size;
	if (run->iov_count != 1 || first != guess || run->size % guess ||
	    (const uint8_t *)run->iov[0].base + run->size != at ||
	    run->size + size > UDP_BATCH_SIZE_MAX || run->tuple.local.port != tuple->local.port ||
	    !wh_net_ip_equal(&run->tuple.local.ip, &tuple->local.ip))
		return false;
	run->segment = guess;
	run->size += size;
	run->iov[0].size = run->size;
	return true;
}

/* One of those that were read: where it goes. */
static void many_take(struct udp_flow *flow, struct udp_many *m, uint32_t i, uint32_t guess)
{
	struct wh_gateway *gateway = flow->gateway;
	struct gateway_udp *udp = gateway->udp;
	struct wh_net_tuple tuple = { .remote = flow->guest };
	struct wh_net_end peer;
	uint32_t size = m->headers[i].msg_len, segment = segment_of(&m->headers[i].msg_hdr);
	if (!address_to_end(&m->from[i], &peer) || !filter_has(flow, &peer.ip) ||
	    !peer_shown(gateway, flow, &peer, &tuple.local)) {
		gateway->stats.udp_dropped++;
		return;
	}
	flow->bytes_in += size;
	if (!segment && run_extend(udp, &tuple, m->iov[i][0].iov_base, size, guess))
		return;
	uint32_t head = size < guess ? size : guess;
	struct udp_run run = { .tuple = tuple,
			       .iov = { { m->iov[i][0].iov_base, head },
					{ m->rest[i], size - head } },
			       .iov_count = size > head ? 2 : 1,
			       .size = size,
			       .segment = segment < size ? segment : 0 };
	udp->runs[udp->run_count++] = run;
}

/* Bursts come: the kernel may gather for us. */
static void flow_grow(struct udp_flow *flow)
{
	/* The usual buffer does as well, and so do single datagrams. */
	(void)socket_set(flow->gateway, flow->watch.fd, SOL_SOCKET, SO_RCVBUF, UDP_RECEIVE_BUFFER);
	(void)socket_set(flow->gateway, flow->watch.fd, IPPROTO_UDP, UDP_GRO, 1);
	flow->large = true;
}

/* false = nothing more now. */
static bool flow_read(struct udp_flow *flow)
{
	struct wh_gateway *gateway = flow->gateway;
	struct gateway_udp *udp = gateway->udp;
	if (!udp->many)
		udp->many = wh_alloc(gateway->alloc, sizeof *udp->many);
	struct udp_many *m = udp->many;
	if (!m)
		return false; /* it stays readable */
	uint32_t guess = flow->guess ? flow->guess : UDP_GUESS_MAX;
	many_prepare(m, guess);
	long n = socket_receive_many(gateway, flow->watch.fd, m->headers, UDP_READ_MAX);
	if (n <= 0) {
		if (n != -WH_EAGAIN && n != -WH_EINTR)
			gateway->stats.udp_dropped++;
		return n != -WH_EAGAIN;
	}
	for (uint32_t i = 0; i < (uint32_t)n; i++)
		many_take(flow, m, i, guess);
	uint32_t size = m->headers[0].msg_len;
	flow->guess = (uint16_t)(size > UDP_GUESS_MAX   ? UDP_GUESS_MAX
				 : size > UDP_GUESS_MIN ? size
							: UDP_GUESS_MIN);
	if (n >= UDP_BURST && !flow->large)
		flow_grow(flow);
	if (udp->run_count) {
		udp_flow_touch(flow);
		if (flow->timeout_ns == UDP_TIMEOUT_ONE_WAY_NS)
			flow->timeout_ns = UDP_TIMEOUT_NS;
	}
	return n == UDP_READ_MAX;
}

void udp_flow_readable(struct wh_loop_fd *watch, uint32_t events)
{
	struct udp_flow *flow = watch->ctx;
	struct wh_gateway *gateway = flow->gateway;
	if (events & WH_LOOP_HANGUP)
		udp_flow_errors(flow);
	if (!(events & WH_LOOP_READ))
		return;
	bool more = true;
	for (int i = 0; i < READS_MAX && more; i++) {
		if (gateway->udp->held) {
			udp_read_pause(gateway, watch);
			return;
		}
		more = flow_read(flow);
		if (!runs_deliver(gateway)) {
			udp_read_pause(gateway, watch);
			return;
		}
	}
}

void udp_receive_fini(struct wh_gateway *gateway)
{
	struct gateway_udp *udp = gateway->udp;
	udp->held = false;
	udp->run_at = udp->run_count = udp->run_offset = 0;
	if (udp->many)
		wh_free(gateway->alloc, udp->many, sizeof *udp->many);
	udp->many = NULL;
}
