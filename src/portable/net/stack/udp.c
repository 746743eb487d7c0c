/* SPDX-License-Identifier: ISC */
/* UDP (RFC 768): sockets without queues. A datagram goes to the application in the
 * frame's memory; what is kept is the application's business. */
#include "net_priv.h"

#define BUCKETS 32u       /* by local port; guests have a handful of sockets, the gateway none */
#define PORT_FIRST 32768u /* RFC 6056: ephemeral ports, Linux's range */
#define PORT_COUNT 28232u
#define PAYLOAD_MAX 65507u

struct wh_net_udp {
	struct wh_list node;
	struct wh_net *net;
	struct wh_net_tuple tuple;
	uint32_t flags;
	bool local_chosen; /* by connect, and goes with it */
	bool blocked;
	const struct wh_net_udp_ops *ops;
	void *ctx;
};

struct udp_state {
	struct wh_list bucket[BUCKETS];
};

static struct wh_list *bucket(const struct wh_net *net, uint16_t port)
{
	struct udp_state *state = net->udp_state;
	return &state->bucket[port % BUCKETS];
}

/* How well socket u fits: 0 = not at all; remote counts most. */
static int score(const struct wh_net_udp *u, const struct wh_net_tuple *t)
{
	int points = 1;
	if (u->tuple.local.port != t->local.port)
		return 0;
	if (!wh_net_ip_is_any(&u->tuple.local.ip)) {
		if (!wh_net_ip_equal(&u->tuple.local.ip, &t->local.ip))
			return 0;
		points += 2;
	} else if (wh_net_ip_is4(&t->local.ip) != wh_net_ip_is4(&u->tuple.local.ip) &&
		   ((u->flags & WH_NET_UDP_V6ONLY) || wh_net_ip_is4(&u->tuple.local.ip))) {
		return 0;
	}
	if (u->tuple.remote.port) {
		if (u->tuple.remote.port != t->remote.port ||
		    !wh_net_ip_equal(&u->tuple.remote.ip, &t->remote.ip))
			return 0;
		points += 4;
	}
	return points;
}

static struct wh_net_udp *lookup(const struct wh_net *net, const struct wh_net_tuple *t)
{
	struct wh_net_udp *best = 0;
	int best_score = 0;
	WH_LIST_FOR_EACH(it, bucket(net, t->local.port)) {
		struct wh_net_udp *u = WH_LIST_ENTRY(it, struct wh_net_udp, node);
		int points = score(u, t);
		if (points > best_score) {
			best = u;
			best_score = points;
		}
	}
	return best;
}

/* false = nobody wants it. */
static bool datagram_take(struct wh_net *net, const struct wh_net_tuple *tuple,
			  const struct wh_iov *iov, uint32_t count, uint32_t size, bool group)
{
	const struct wh_net_ops *ops = net->config.ops;
	struct wh_net_udp *u = lookup(net, tuple);
	net->stats.udp_in++;
	if (u && group) { /* RFC 1122, 4.1.3.5: each socket gets a copy */
		WH_LIST_FOR_EACH_SAFE(it, bucket(net, tuple->local.port)) {
			u = WH_LIST_ENTRY(it, struct wh_net_udp, node);
			if (score(u, tuple))
				u->ops->datagram(u, tuple, iov, count, size);
		}
		return true;
	}
	if (u)
		u->ops->datagram(u, tuple, iov, count, size);
	return u ||
	       (ops->udp_datagram && ops->udp_datagram(net->config.ctx, tuple, iov, count, size));
}

/* Several datagrams in one frame. */
static bool segments_take(struct wh_net *net, const struct wh_net_tuple *tuple,
			  const struct wh_iov *iov, uint32_t count, uint32_t size, uint32_t segment,
			  bool group)
{
	const struct wh_net_ops *ops = net->config.ops;
	struct wh_iov part[WH_NET_FRAME_IOV_MAX];
	if (ops->udp_segments && !lookup(net, tuple)) {
		net->stats.udp_in += (size + segment - 1) / segment;
		return ops->udp_segments(net->config.ctx, tuple, iov, count, size, segment);
	}
	for (uint32_t at = 0; at < size; at += segment) {
		uint32_t n = size - at < segment ? size - at : segment;
		int parts = wh_iov_slice(iov, count, at, n, part, WH_ARRAY_COUNT(part));
		wh_assert(parts > 0);
		if (!datagram_take(net, tuple, part, (uint32_t)parts, n, group))
			return false;
	}
	return true;
}

static void udp_input(struct wh_net *net, struct net_packet *p)
{
	struct wh_wire_udp udp;
	struct wh_iov iov[WH_NET_FRAME_IOV_MAX];
	if (wh_wire_udp_parse(p->head, p->head_size, p->size, &udp) < 0 ||
	    (!udp.has_checksum && !wh_net_ip_is4(&p->to))) {
		net->stats.in_malformed++;
		return;
	}
	p->size = udp.size;
	if (udp.has_checksum && !net_checksum_good(p)) {
		net->stats.in_checksum++;
		return;
	}
	struct wh_net_tuple tuple = { .local = { p->to, udp.to }, .remote = { p->from, udp.from } };
	uint32_t size = p->size - WH_WIRE_UDP_SIZE;
	int count = wh_iov_slice(p->iov, p->iov_count, p->offset + WH_WIRE_UDP_SIZE, size, iov,
				 WH_ARRAY_COUNT(iov));
	wh_assert(count >= 0);
	uint32_t segment = p->gso_type == WH_NET_GSO_UDP_L4 ? p->gso_size : 0;
	if (segment && size / segment > WH_NET_UDP_SEGMENTS_MAX) { /* Linux makes 128 at most */
		net->stats.in_malformed++;
		return;
	}
	if (segment && segment < size
		    ? segments_take(net, &tuple, iov, (uint32_t)count, size, segment, p->group)
		    : datagram_take(net, &tuple, iov, (uint32_t)count, size, p->group))
		return;
	net->stats.udp_no_port++;
	net_icmp_error(net, p, WH_ECONNREFUSED, 0);
}

static void udp_error(struct wh_net *net, const struct net_icmp_error *e)
{
	if (e->error == WH_EMSGSIZE && e->mtu >= 576)
		net_pmtu_set(net, &e->tuple.remote.ip, e->mtu);
	struct wh_net_udp *u = lookup(net, &e->tuple);
	if (u) {
		/* Unconnected sockets hear nothing (Linux; RFC 1122 4.1.3.3 in spirit). */
		if (u->ops->error && u->tuple.remote.port)
			u->ops->error(u, &e->tuple, e->error);
		return;
	}
	if (net->config.ops->udp_error)
		net->config.ops->udp_error(net->config.ctx, &e->tuple, e->error);
}

static void udp_unblock(struct wh_net *net)
{
	struct udp_state *state = net->udp_state;
	for (uint32_t i = 0; i < BUCKETS; i++) {
		WH_LIST_FOR_EACH_SAFE(it, &state->bucket[i]) {
			struct wh_net_udp *u = WH_LIST_ENTRY(it, struct wh_net_udp, node);
			if (!u->blocked)
				continue;
			u->blocked = false;
			if (u->ops->writable)
				u->ops->writable(u);
		}
	}
}

static void udp_fini(struct wh_net *net)
{
	struct udp_state *state = net->udp_state;
	for (uint32_t i = 0; i < BUCKETS; i++)
		for (struct wh_list *it; (it = wh_list_pop_front(&state->bucket[i]));)
			wh_free(net->config.alloc, WH_LIST_ENTRY(it, struct wh_net_udp, node),
				sizeof(struct wh_net_udp));
	wh_free(net->config.alloc, state, sizeof *state);
}

int wh_net_udp_enable(struct wh_net *net)
{
	static const struct net_protocol protocol = {
		.input = udp_input, .error = udp_error, .unblock = udp_unblock, .fini = udp_fini
	};
	if (net->udp)
		return 0;
	struct udp_state *state = wh_alloc(net->config.alloc, sizeof *state);
	if (!state)
		return -WH_ENOMEM;
	for (uint32_t i = 0; i < BUCKETS; i++)
		wh_list_init(&state->bucket[i]);
	net->udp_state = state;
	net->udp = &protocol;
	return 0;
}

static bool port_free(const struct wh_net *net, const struct wh_net_end *local, uint32_t flags)
{
	WH_LIST_FOR_EACH(it, bucket(net, local->port)) {
		const struct wh_net_udp *u = WH_LIST_ENTRY(it, struct wh_net_udp, node);
		if (u->tuple.local.port != local->port)
			continue;
		if ((u->flags & WH_NET_UDP_REUSE) && (flags & WH_NET_UDP_REUSE))
			continue;
		const struct wh_net_ip *a = &u->tuple.local.ip, *b = &local->ip;
		if (wh_net_ip_equal(a, b))
			return false;
		bool any_a = wh_net_ip_is_any(a), any_b = wh_net_ip_is_any(b);
		bool same = wh_net_ip_is4(a) == wh_net_ip_is4(b);
		/* An unspecified IPv6 address that is not v6only covers IPv4 too. */
		bool wide_a = any_a && !wh_net_ip_is4(a) && !(u->flags & WH_NET_UDP_V6ONLY);
		bool wide_b = any_b && !wh_net_ip_is4(b) && !(flags & WH_NET_UDP_V6ONLY);
		if ((same && (any_a || any_b)) || wide_a || wide_b)
			return false;
	}
	return true;
}

static int port_choose(struct wh_net *net, struct wh_net_end *local)
{
	uint32_t start = (uint32_t)(net_random(net) % PORT_COUNT);
	for (uint32_t i = 0; i < PORT_COUNT; i++) {
		local->port = (uint16_t)(PORT_FIRST + (start + i) % PORT_COUNT);
		if (port_free(net, local, 0))
			return 0;
	}
	return -WH_EADDRINUSE;
}

int wh_net_udp_open(struct wh_net *net, const struct wh_net_tuple *tuple, uint32_t flags,
		    const struct wh_net_udp_ops *ops, void *ctx, struct wh_net_udp **ret_u)
{
	struct wh_net_tuple t = *tuple;
	wh_assert(net->udp && ops && ops->datagram);
	if (!wh_net_ip_is_any(&t.local.ip) && !net->config.transparent &&
	    !net_ip_multicast(&t.local.ip) && !net_ip_broadcast(net, &t.local.ip) &&
	    !wh_net_address_own(net, &t.local.ip))
		return -WH_EADDRNOTAVAIL;
	if (net->stats.udp_sockets >= net->config.udp_sockets_max)
		return -WH_ENOBUFS;
	if (!t.local.port) {
		int error = port_choose(net, &t.local);
		if (error)
			return error;
	} else if (!port_free(net, &t.local, flags)) {
		return -WH_EADDRINUSE;
	}
	struct wh_net_udp *u = wh_alloc_zero(net->config.alloc, sizeof *u);
	if (!u)
		return -WH_ENOMEM;
	u->net = net;
	u->tuple = t;
	u->flags = flags;
	u->ops = ops;
	u->ctx = ctx;
	wh_list_push_front(bucket(net, t.local.port), &u->node); /* the last bound wins a tie */
	net->stats.udp_sockets++;
	if (t.remote.port) {
		int error = wh_net_udp_connect(u, &t.remote);
		if (error) {
			wh_net_udp_close(u);
			return error;
		}
	}
	*ret_u = u;
	return 0;
}

int wh_net_udp_connect(struct wh_net_udp *u, const struct wh_net_end *remote)
{
	static const struct wh_net_end none;
	if (!remote->port) {
		u->tuple.remote = none;
		if (u->local_chosen)
			u->tuple.local.ip = none.ip;
		u->local_chosen = false;
		return 0;
	}
	if (wh_net_ip_is_any(&u->tuple.local.ip) || u->local_chosen) {
		struct wh_net_ip local;
		int error = wh_net_source(u->net, &remote->ip, &local);
		if (error)
			return error;
		u->tuple.local.ip = local;
		u->local_chosen = true;
	}
	u->tuple.remote = *remote;
	return 0;
}

void wh_net_udp_close(struct wh_net_udp *u)
{
	if (!u)
		return;
	u->net->stats.udp_sockets--;
	wh_list_remove(&u->node);
	wh_free(u->net->config.alloc, u, sizeof *u);
}

void *wh_net_udp_ctx(const struct wh_net_udp *u)
{
	return u->ctx;
}

const struct wh_net_tuple *wh_net_udp_tuple(const struct wh_net_udp *u)
{
	return &u->tuple;
}

/* Does the link take so many bytes as one frame? */
static bool segments_fit(const struct wh_net *net, const struct wh_net_ip *to, size_t size,
			 uint32_t segment)
{
	struct net_route r;
	uint32_t heads =
		(wh_net_ip_is4(to) ? WH_WIRE_IP4_SIZE : WH_WIRE_IP6_SIZE) + WH_WIRE_UDP_SIZE;
	return !net_route(net, to, &r) && !r.loop && (r.features & WH_NET_LINK_USO) &&
	       (r.features & WH_NET_LINK_CSUM) && heads + segment <= r.mtu &&
	       size + heads <= UINT16_MAX;
}

/* One by one. Bytes, or the error if there was none sent before it. */
static int segments_send(struct wh_net *net, struct wh_net_udp *u, const struct wh_net_tuple *tuple,
			 const struct wh_iov *iov, uint32_t count,
			 const struct wh_net_send_options *options)
{
	struct wh_net_send_options single = *options;
	struct wh_iov part[WH_NET_FRAME_IOV_MAX];
	uint32_t size = (uint32_t)wh_iov_size(iov, count), at = 0;
	single.segment = 0;
	while (at < size) {
		uint32_t n = size - at < options->segment ? size - at : options->segment;
		int parts = wh_iov_slice(iov, count, at, n, part, WH_ARRAY_COUNT(part));
		int error =
			parts < 0 ? -WH_EMSGSIZE
				  : wh_net_udp_send(net, u, tuple, part, (uint32_t)parts, &single);
		if (error < 0)
			return at ? (int)at : error;
		at += n;
	}
	return (int)at;
}

int wh_net_udp_send(struct wh_net *net, struct wh_net_udp *u, const struct wh_net_tuple *tuple,
		    const struct wh_iov *iov, uint32_t count,
		    const struct wh_net_send_options *options)
{
	uint8_t buffer[NET_HEADROOM + WH_WIRE_UDP_SIZE], *head = buffer + NET_HEADROOM;
	static const struct wh_net_send_options none;
	size_t size = wh_iov_size(iov, count);
	struct wh_net_ip from = tuple->local.ip;
	if (!options)
		options = &none;
	if (size > PAYLOAD_MAX || count > WH_NET_FRAME_IOV_MAX - 3)
		return -WH_EMSGSIZE;
	bool several = options->segment && size > options->segment;
	if (several && size > WH_NET_UDP_SEGMENTS_MAX * options->segment)
		return -WH_EMSGSIZE;
	if (several && !segments_fit(net, &tuple->remote.ip, size, options->segment))
		return segments_send(net, u, tuple, iov, count, options);
	if (wh_net_ip_is_any(&from)) {
		int error = wh_net_source(net, &tuple->remote.ip, &from);
		/* A DHCP client has no address yet and broadcasts from 0.0.0.0. */
		if (error && !net_ip_broadcast(net, &tuple->remote.ip))
			return error;
	}
	struct wh_wire_udp udp = { .from = tuple->local.port,
				   .to = tuple->remote.port,
				   .size = (uint16_t)(WH_WIRE_UDP_SIZE + size) };
	struct net_out o = { .head = head,
			     .head_size = (uint32_t)wh_wire_udp_emit(head, &udp),
			     .payload = iov,
			     .payload_count = count,
			     .payload_size = (uint32_t)size,
			     .from = from,
			     .to = tuple->remote.ip,
			     .protocol = WH_WIRE_PROTO_UDP,
			     .tos = options->tos,
			     .hop_limit = options->hop_limit,
			     .dont_fragment = options->dont_fragment,
			     .checksum_at = WH_WIRE_UDP_CHECKSUM_AT,
			     .gso_type = several ? WH_NET_GSO_UDP_L4 : WH_NET_GSO_NONE,
			     .gso_size = several ? options->segment : 0 };
	int error = net_ip_output(net, &o);
	if (error == -WH_EAGAIN && !o.unresolved) {
		if (u)
			u->blocked = true;
		return error;
	}
	if (error && error != -WH_EAGAIN)
		return error;
	net->stats.udp_out += several ? (size + options->segment - 1) / options->segment : 1;
	return (int)size;
}
