/* SPDX-License-Identifier: ISC */
/*
 * Ping to the outside, through the kernel's unprivileged ICMP sockets (net.ipv4.ping_group_range). The
 * kernel gives each socket an id of its own and returns only its replies, so a flow is one
 * socket per (guest address, id). Where the host does not allow it, requests are counted and
 * dropped. Addresses of the gateway are answered by the stack.
 */
#include "gateway_priv.h"

#include <wherry/base/assert.h>

#define ECHO_TIMEOUT_NS (20 * GATEWAY_S)
/* Larger pings than the common 64 KiB limit of IP do not exist. */
#define ECHO_SIZE_MAX 65507u
#define ECHO_BATCH_MAX 16

struct echo_flow {
	struct wh_list node; /* gateway->echo_flows: front = least recently used */
	struct wh_gateway *gateway;
	struct wh_loop_fd watch;
	struct wh_loop_timer timer;
	struct wh_net_ip guest;
	uint16_t id;
	uint8_t hops; /* that the socket was told, 0 = none */
	bool is4;
};

static void flow_free(struct echo_flow *flow)
{
	struct wh_gateway *gateway = flow->gateway;
	wh_list_remove(&flow->node);
	wh_loop_timer_stop(gateway->loop, &flow->timer);
	socket_close(gateway, &flow->watch);
	wh_assert(gateway->echo_flow_count > 0);
	gateway->echo_flow_count--;
	wh_free(gateway->alloc, flow, sizeof *flow);
}

static void flow_expired(struct wh_loop_timer *timer)
{
	flow_free(timer->ctx);
}

/* What routers say about requests: the queue has the request's head, and so its sequence number. */
static void flow_errors(struct echo_flow *flow)
{
	struct wh_gateway *gateway = flow->gateway;
	for (int i = 0; i < ECHO_BATCH_MAX; i++) {
		union host_address to = { .any = { .sa_family = AF_UNSPEC } };
		_Alignas(struct cmsghdr) char control[256];
		uint8_t request[WH_WIRE_ICMP_SIZE + HOPS_PAYLOAD_MAX];
		struct iovec iov = { request, sizeof request };
		struct msghdr message = { .msg_name = &to,
					  .msg_namelen = sizeof to,
					  .msg_iov = &iov,
					  .msg_iovlen = 1,
					  .msg_control = control,
					  .msg_controllen = sizeof control };
		struct wh_wire_icmp icmp;
		struct wh_net_end peer;
		long n = gateway->host->receive(gateway->host_ctx, flow->watch.fd, &message,
						MSG_ERRQUEUE);
		if (n < 0)
			return;
		if (wh_wire_icmp_parse(request, (size_t)n, &icmp) < 0 ||
		    !address_to_end(&to, &peer))
			continue;
		struct wh_net_icmp_report report = {
			.tuple = { .local = { peer.ip, 0 }, .remote = { flow->guest, 0 } },
			.echo = true,
			.id = flow->id,
			.sequence = icmp.sequence,
			.payload = request + WH_WIRE_ICMP_SIZE,
			.payload_size = (uint32_t)n - WH_WIRE_ICMP_SIZE
		};
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
			if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
			    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
				(void)hops_error(gateway, c, &report);
	}
}

static void flow_readable(struct wh_loop_fd *watch, uint32_t events)
{
	struct echo_flow *flow = watch->ctx;
	struct wh_gateway *gateway = flow->gateway;
	uint8_t buffer[ECHO_SIZE_MAX];
	if (events & WH_LOOP_HANGUP)
		flow_errors(flow);
	if (!(events & WH_LOOP_READ))
		return;
	for (int i = 0; i < ECHO_BATCH_MAX; i++) {
		struct wh_iov iov = { buffer, sizeof buffer };
		struct wh_net_end peer;
		struct wh_wire_icmp icmp;
		long n = socket_receive(gateway, watch->fd, &iov, 1, &peer);
		if (n == -WH_EAGAIN || n == -WH_EINTR)
			return;
		uint8_t wanted = flow->is4 ? WH_WIRE_ICMP_ECHO_REPLY : WH_WIRE_ICMP6_ECHO_REPLY;
		if (n < 0 || wh_wire_icmp_parse(buffer, (size_t)n, &icmp) < 0 ||
		    icmp.type != wanted) {
			gateway->stats.echo_dropped++;
			continue;
		}
		struct wh_iov payload = { buffer + WH_WIRE_ICMP_SIZE,
					  (size_t)n - WH_WIRE_ICMP_SIZE };
		if (wh_net_icmp_echo_reply(gateway->net, &peer.ip, &flow->guest, flow->id,
					   icmp.sequence, &payload, 1) < 0)
			gateway->stats.echo_dropped++;
		else
			gateway->stats.echo_in++;
		gateway->touched = true;
	}
}

static struct echo_flow *flow_open(struct wh_gateway *gateway, const struct wh_net_ip *guest,
				   uint16_t id, bool is4)
{
	if (gateway->echo_flow_count >= WH_GATEWAY_ECHO_FLOWS_MAX)
		flow_free(WH_LIST_ENTRY(gateway->echo_flows.next, struct echo_flow, node));
	struct echo_flow *flow = wh_alloc_zero(gateway->alloc, sizeof *flow);
	if (!flow)
		return NULL;
	int fd = socket_open(gateway, is4 ? AF_INET : AF_INET6, SOCK_DGRAM,
			     is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	*flow = (struct echo_flow){
		.gateway = gateway,
		.watch = { .fd = fd < 0 ? -1 : fd, .fn = flow_readable, .ctx = flow },
		.guest = *guest,
		.id = id,
		.is4 = is4
	};
	if (fd < 0 || socket_watch(gateway, &flow->watch, WH_LOOP_READ)) {
		socket_close(gateway, &flow->watch);
		wh_free(gateway->alloc, flow, sizeof *flow);
		return NULL;
	}
	/* Without error reports it works, too. */
	(void)(is4 ? socket_set(gateway, fd, IPPROTO_IP, IP_RECVERR, 1)
		   : socket_set(gateway, fd, IPPROTO_IPV6, IPV6_RECVERR, 1));
	wh_loop_timer_init(&flow->timer, flow_expired, flow);
	wh_list_push_back(&gateway->echo_flows, &flow->node);
	gateway->echo_flow_count++;
	return flow;
}

static struct echo_flow *flow_find(struct wh_gateway *gateway, const struct wh_net_ip *guest,
				   uint16_t id, bool is4)
{
	WH_LIST_FOR_EACH(node, &gateway->echo_flows) {
		struct echo_flow *flow = WH_LIST_ENTRY(node, struct echo_flow, node);
		if (flow->id == id && flow->is4 == is4 && wh_net_ip_equal(&flow->guest, guest))
			return flow;
	}
	return NULL;
}

bool echo_request(void *ctx, const struct wh_net_ip *from, const struct wh_net_ip *to, uint16_t id,
		  uint16_t sequence, const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	struct wh_gateway *gateway = ctx;
	struct wh_net_end meant = { *to, 0 }, end;
	gateway->touched = true;
	if (wh_net_address_own(gateway->net, to))
		return false;
	bool is4 = wh_net_ip_is4(to);
	const struct wh_net_tuple tuple = { .local = meant, .remote = { *from, 0 } };
	const struct hops_echo probe = { id, sequence };
	struct echo_flow *flow = NULL;
	if (hops_end_here(gateway, &tuple, &probe, iov, count))
		return true;
	if (gateway_destination(gateway, &meant, &end) == DESTINATION_HOST &&
	    size <= ECHO_SIZE_MAX && count < WH_NET_FRAME_IOV_MAX + 1 &&
	    !policy_denies(gateway, false, WH_WIRE_PROTO_ICMP, to, 0)) {
		flow = flow_find(gateway, from, id, is4);
		if (!flow)
			flow = flow_open(gateway, from, id, is4);
	}
	if (!flow) {
		gateway->stats.echo_dropped++;
		return true;
	}
	wh_list_remove(&flow->node);
	wh_list_push_back(&gateway->echo_flows, &flow->node);
	wh_loop_timer_start(gateway->loop, &flow->timer,
			    wh_loop_now(gateway->loop) + ECHO_TIMEOUT_NS);
	/* The kernel puts its own id and the checksum. */
	uint8_t header[WH_WIRE_ICMP_SIZE];
	struct wh_wire_icmp icmp = { .type = is4 ? WH_WIRE_ICMP_ECHO : WH_WIRE_ICMP6_ECHO,
				     .id = id,
				     .sequence = sequence };
	wh_wire_icmp_emit(header, &icmp);
	struct wh_iov all[WH_NET_FRAME_IOV_MAX + 1] = { { header, sizeof header } };
	memcpy(all + 1, iov, count * sizeof *iov);
	hops_set(gateway, flow->watch.fd, is4, &flow->hops);
	long n = socket_send(gateway, flow->watch.fd, &end, all, count + 1);
	if (n == -WH_EHOSTUNREACH || n == -WH_ENETUNREACH || n == -WH_ECONNREFUSED) {
		flow_errors(flow); /* of an earlier request: it is reported once */
		n = socket_send(gateway, flow->watch.fd, &end, all, count + 1);
	}
	if (n < 0)
		gateway->stats.echo_dropped++;
	else
		gateway->stats.echo_out++;
	return true;
}

void echo_fini(struct wh_gateway *gateway)
{
	while (gateway->echo_flows.next && !wh_list_empty(&gateway->echo_flows))
		flow_free(WH_LIST_ENTRY(gateway->echo_flows.next, struct echo_flow, node));
}
