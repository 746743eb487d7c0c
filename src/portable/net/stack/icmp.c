/* SPDX-License-Identifier: ISC */
/* ICMP and ICMPv6: echo, errors in and out (RFC 792, 1122 3.2.2, 4443). */
#include "net_priv.h"

static bool rate_allows(struct wh_net *net)
{
	uint64_t tokens = (net->now - net->icmp_time) / (NET_S / NET_ICMP_PER_S);
	if (tokens) {
		net->icmp_time = net->now;
		tokens += net->icmp_tokens;
		net->icmp_tokens = tokens > NET_ICMP_BURST ? NET_ICMP_BURST : (uint32_t)tokens;
	}
	if (!net->icmp_tokens) {
		net->stats.icmp_limited++;
		return false;
	}
	net->icmp_tokens--;
	return true;
}

/* ---- Errors out ---- */

struct kind {
	int error;
	uint8_t type4, code4, type6, code6;
};

static const struct kind kinds[] = {
	{ WH_ECONNREFUSED, WH_WIRE_ICMP_UNREACHABLE, WH_WIRE_ICMP_CODE_PORT,
	  WH_WIRE_ICMP6_UNREACHABLE, WH_WIRE_ICMP6_CODE_PORT },
	{ WH_EPROTONOSUPPORT, WH_WIRE_ICMP_UNREACHABLE, WH_WIRE_ICMP_CODE_PROTOCOL,
	  WH_WIRE_ICMP6_PARAMETER, 1 },
	{ WH_EMSGSIZE, WH_WIRE_ICMP_UNREACHABLE, WH_WIRE_ICMP_CODE_TOO_BIG, WH_WIRE_ICMP6_TOO_BIG,
	  0 },
	{ WH_EACCES, WH_WIRE_ICMP_UNREACHABLE, WH_WIRE_ICMP_CODE_ADMIN, WH_WIRE_ICMP6_UNREACHABLE,
	  WH_WIRE_ICMP6_CODE_ADMIN },
	{ WH_ENETUNREACH, WH_WIRE_ICMP_UNREACHABLE, WH_WIRE_ICMP_CODE_NET,
	  WH_WIRE_ICMP6_UNREACHABLE, WH_WIRE_ICMP6_CODE_NO_ROUTE },
	{ WH_EHOSTUNREACH, WH_WIRE_ICMP_UNREACHABLE, WH_WIRE_ICMP_CODE_HOST,
	  WH_WIRE_ICMP6_UNREACHABLE, WH_WIRE_ICMP6_CODE_ADDRESS },
};

/* Type, code and the four bytes behind the checksum. */
static struct wh_wire_icmp message(bool is4, int error, uint32_t mtu)
{
	const struct kind *k = &kinds[WH_ARRAY_COUNT(kinds) - 1];
	for (size_t i = 0; i < WH_ARRAY_COUNT(kinds); i++)
		if (kinds[i].error == error)
			k = &kinds[i];
	struct wh_wire_icmp icmp = { .type = is4 ? k->type4 : k->type6,
				     .code = is4 ? k->code4 : k->code6 };
	if (error == WH_EMSGSIZE) {
		icmp.id = (uint16_t)(is4 ? 0 : mtu >> 16);
		icmp.sequence = (uint16_t)mtu;
	} else if (error == WH_EPROTONOSUPPORT && !is4) {
		icmp.sequence = 6; /* pointer to next header */
	}
	return icmp;
}

/* Sends an error from `from` that quotes `quote_size` bytes at quote. */
static int error_send(struct wh_net *net, const struct wh_net_ip *from, const struct wh_net_ip *to,
		      const uint8_t *mac, struct wh_wire_icmp icmp, const uint8_t *quote,
		      uint32_t quote_size)
{
	uint8_t buffer[NET_HEADROOM + WH_WIRE_ICMP_SIZE], *head = buffer + NET_HEADROOM;
	bool is4 = wh_net_ip_is4(to);
	struct wh_iov payload = { (void *)quote, quote_size };
	struct net_out o = { .head = head,
			     .head_size = (uint32_t)wh_wire_icmp_emit(head, &icmp),
			     .payload = &payload,
			     .payload_count = 1,
			     .payload_size = quote_size,
			     .from = *from,
			     .to = *to,
			     .protocol = is4 ? WH_WIRE_PROTO_ICMP : WH_WIRE_PROTO_ICMP6,
			     .checksum_at = 2,
			     .mac = mac };
	net->stats.icmp_out++;
	return net_ip_output(net, &o);
}

static void packet_error(struct wh_net *net, const struct net_packet *p, struct wh_wire_icmp icmp,
			 bool group_too)
{
	/* RFC 1122 3.2.2: never about broadcasts, fragments or without a real source. */
	struct wh_net_ip from = p->to;
	if (p->group && (!group_too || wh_net_source(net, &p->from, &from)))
		return;
	if (wh_net_ip_is_any(&p->from) || !rate_allows(net))
		return;
	uint8_t quote[128];
	uint32_t size = p->ip_head_size, rest = p->head_size;
	if (size > sizeof quote - 8)
		return;
	memcpy(quote, p->ip_head, size);
	if (rest > sizeof quote - size)
		rest = (uint32_t)sizeof quote - size;
	memcpy(quote + size, p->head, rest);
	/* Best effort, as all ICMP. */
	(void)error_send(net, &from, &p->from, p->has_mac && !p->loop ? p->from_mac : 0, icmp,
			 quote, size + rest);
}

void net_icmp_error(struct wh_net *net, const struct net_packet *p, int error, uint32_t mtu)
{
	packet_error(net, p, message(wh_net_ip_is4(&p->to), error, mtu), false);
}

void net_icmp_late(struct wh_net *net, const struct net_packet *p)
{
	struct wh_wire_icmp icmp = { .type = wh_net_ip_is4(&p->to) ? WH_WIRE_ICMP_TIME_EXCEEDED
								   : WH_WIRE_ICMP6_TIME_EXCEEDED,
				     .code = 1 };
	packet_error(net, p, icmp, false);
}

void net_icmp6_parameter(struct wh_net *net, const struct net_packet *p, uint8_t code,
			 uint32_t pointer, bool group_too)
{
	struct wh_wire_icmp icmp = { .type = WH_WIRE_ICMP6_PARAMETER,
				     .code = code,
				     .id = (uint16_t)(pointer >> 16),
				     .sequence = (uint16_t)pointer };
	packet_error(net, p, icmp, group_too);
}

int net_icmp_quote(struct wh_net *net, uint8_t protocol, const struct wh_net_tuple *tuple,
		   uint32_t sequence, int error, uint32_t mtu)
{
	uint8_t quote[WH_WIRE_IP6_SIZE + 8];
	size_t size;
	if (!rate_allows(net))
		return -WH_EAGAIN;
	if (wh_net_ip_is4(&tuple->local.ip)) {
		struct wh_wire_ip4 ip = { .ttl = 64,
					  .protocol = protocol,
					  .total_size = WH_WIRE_IP4_SIZE + 8 };
		memcpy(ip.from, tuple->remote.ip.bytes + 12, 4);
		memcpy(ip.to, tuple->local.ip.bytes + 12, 4);
		size = wh_wire_ip4_emit(quote, &ip);
	} else {
		struct wh_wire_ip6 ip = { .hop_limit = 64,
					  .next_header = protocol,
					  .payload_size = 8 };
		memcpy(ip.from, tuple->remote.ip.bytes, 16);
		memcpy(ip.to, tuple->local.ip.bytes, 16);
		size = wh_wire_ip6_emit(quote, &ip);
	}
	wh_store_be16(quote + size, tuple->remote.port);
	wh_store_be16(quote + size + 2, tuple->local.port);
	/* UDP: size and no checksum. */
	wh_store_be32(quote + size + 4, protocol == WH_WIRE_PROTO_UDP ? 8u << 16 : sequence);
	return error_send(net, &tuple->local.ip, &tuple->remote.ip, 0,
			  message(wh_net_ip_is4(&tuple->remote.ip), error, mtu), quote,
			  (uint32_t)size + 8);
}

int wh_net_icmp_udp_error(struct wh_net *net, const struct wh_net_tuple *tuple, int error,
			  uint32_t mtu)
{
	return net_icmp_quote(net, WH_WIRE_PROTO_UDP, tuple, 0, error, mtu);
}

/* ---- Errors in ---- */

static void quoted_dispatch(struct wh_net *net, uint8_t protocol, const uint8_t *p, size_t size,
			    struct net_icmp_error *e)
{
	if (size < 8)
		return;
	e->tuple.local.port = wh_load_be16(p);
	e->tuple.remote.port = wh_load_be16(p + 2);
	e->sequence = wh_load_be32(p + 4);
	if (protocol == WH_WIRE_PROTO_TCP && net->tcp)
		net->tcp->error(net, e);
	else if (protocol == WH_WIRE_PROTO_UDP && net->udp)
		net->udp->error(net, e);
}

/* The quoted header was cut from a packet of ours: its total size is not there. */
static void error4_input(struct wh_net *net, const uint8_t *p, uint32_t size)
{
	static const uint8_t errors[] = { WH_ENETUNREACH, WH_EHOSTUNREACH, WH_ENOPROTOOPT,
					  WH_ECONNREFUSED, WH_EMSGSIZE };
	struct net_icmp_error e = { .error = WH_EHOSTUNREACH };
	struct wh_wire_ip4 ip;
	uint8_t code = p[1];
	if (wh_wire_ip4_parse(p + 8, size - 8, 65535, &ip) < 0 || ip.fragment_offset)
		return;
	if (p[0] == WH_WIRE_ICMP_UNREACHABLE) {
		if (code < sizeof errors)
			e.error = errors[code];
		else if (code == 9 || code == 10 || code == WH_WIRE_ICMP_CODE_ADMIN)
			e.error = WH_EACCES;
		e.hard = code == WH_WIRE_ICMP_CODE_PORT || code == WH_WIRE_ICMP_CODE_PROTOCOL;
		e.mtu = wh_load_be16(p + 6);
	} else if (p[0] == WH_WIRE_ICMP_PARAMETER) {
		e.error = WH_EPROTO;
	}
	e.tuple.local.ip = wh_net_ip4(ip.from);
	e.tuple.remote.ip = wh_net_ip4(ip.to);
	quoted_dispatch(net, ip.protocol, p + 8 + ip.header_size, size - 8 - ip.header_size, &e);
}

static void error6_input(struct wh_net *net, const uint8_t *p, uint32_t size)
{
	struct net_icmp_error e = { .error = WH_EHOSTUNREACH };
	struct wh_wire_ip6 ip;
	struct wh_wire_ip6_extensions x;
	if (wh_wire_ip6_parse(p + 8, size - 8, 65535 + WH_WIRE_IP6_SIZE, &ip) < 0)
		return;
	const uint8_t *body = p + 8 + WH_WIRE_IP6_SIZE;
	size_t body_size = size - 8 - WH_WIRE_IP6_SIZE;
	int skip = wh_wire_ip6_extensions_parse(body, body_size, ip.next_header, &x);
	if (skip < 0 || x.fragment_offset)
		return;
	if (p[0] == WH_WIRE_ICMP6_TOO_BIG) {
		e.error = WH_EMSGSIZE;
		e.mtu = wh_load_be32(p + 4);
	} else if (p[0] == WH_WIRE_ICMP6_UNREACHABLE) {
		e.error = p[1] == WH_WIRE_ICMP6_CODE_PORT       ? WH_ECONNREFUSED
			  : p[1] == WH_WIRE_ICMP6_CODE_ADMIN    ? WH_EACCES
			  : p[1] == WH_WIRE_ICMP6_CODE_NO_ROUTE ? WH_ENETUNREACH
								: WH_EHOSTUNREACH;
		e.hard = p[1] == WH_WIRE_ICMP6_CODE_PORT;
	} else if (p[0] == WH_WIRE_ICMP6_PARAMETER) {
		e.error = WH_EPROTO;
	}
	e.tuple.local.ip = wh_net_ip6(ip.from);
	e.tuple.remote.ip = wh_net_ip6(ip.to);
	quoted_dispatch(net, x.protocol, body + skip, body_size - (size_t)skip, &e);
}

/* ---- Echo ---- */

static int reply_send(struct wh_net *net, const struct wh_net_ip *from, const struct wh_net_ip *to,
		      const uint8_t *mac, uint16_t id, uint16_t sequence, const struct wh_iov *iov,
		      uint32_t count)
{
	uint8_t buffer[NET_HEADROOM + WH_WIRE_ICMP_SIZE], *head = buffer + NET_HEADROOM;
	bool is4 = wh_net_ip_is4(to);
	struct wh_wire_icmp icmp = { .type = is4 ? WH_WIRE_ICMP_ECHO_REPLY
						 : WH_WIRE_ICMP6_ECHO_REPLY,
				     .id = id,
				     .sequence = sequence };
	struct net_out o = { .head = head,
			     .head_size = (uint32_t)wh_wire_icmp_emit(head, &icmp),
			     .payload = iov,
			     .payload_count = count,
			     .payload_size = (uint32_t)wh_iov_size(iov, count),
			     .from = *from,
			     .to = *to,
			     .protocol = is4 ? WH_WIRE_PROTO_ICMP : WH_WIRE_PROTO_ICMP6,
			     .checksum_at = 2,
			     .mac = mac };
	net->stats.icmp_out++;
	return net_ip_output(net, &o);
}

int wh_net_icmp_echo_reply(struct wh_net *net, const struct wh_net_ip *from,
			   const struct wh_net_ip *to, uint16_t id, uint16_t sequence,
			   const struct wh_iov *iov, uint32_t count)
{
	return reply_send(net, from, to, 0, id, sequence, iov, count);
}

static void echo_input(struct wh_net *net, const struct net_packet *p)
{
	struct wh_wire_icmp icmp;
	struct wh_iov iov[WH_NET_FRAME_IOV_MAX - 2];
	struct wh_net_ip from = p->to;
	const struct wh_net_ops *ops = net->config.ops;
	if (wh_wire_icmp_parse(p->head, p->head_size, &icmp) < 0)
		return;
	uint32_t size = p->size - WH_WIRE_ICMP_SIZE;
	int count = wh_iov_slice(p->iov, p->iov_count, p->offset + WH_WIRE_ICMP_SIZE, size, iov,
				 WH_ARRAY_COUNT(iov));
	if (count < 0)
		return;
	if (ops->icmp_echo && ops->icmp_echo(net->config.ctx, &p->from, &p->to, icmp.id,
					     icmp.sequence, iov, (uint32_t)count, size))
		return;
	if (!p->own && !p->group && !ops->icmp_echo)
		return;
	/* A group's members are those who answer (RFC 4291, 2.8): all nodes, and our own names. */
	if (p->group && !wh_net_ip_is4(&p->to) && !net_mld_member(net, &p->to))
		return;
	/* An IPv4 broadcast is not answered (RFC 1122 3.2.2.6 allows it; smurf attacks). */
	if (p->group && (wh_net_ip_is4(&p->to) || wh_net_source(net, &p->from, &from)))
		return;
	(void)reply_send(net, &from, &p->from, p->loop ? 0 : p->from_mac, icmp.id, icmp.sequence,
			 iov, (uint32_t)count); /* best effort */
}

/* ---- In ---- */

void net_icmp4_input(struct wh_net *net, const struct net_packet *p)
{
	uint8_t data[NET_ICMP_COPY];
	uint32_t size = p->size < sizeof data ? p->size : (uint32_t)sizeof data;
	net->stats.icmp_in++;
	if (p->size < WH_WIRE_ICMP_SIZE) {
		net->stats.in_malformed++;
		return;
	}
	if (!p->checked && wh_wire_sum_fold(wh_wire_sum_iov(0, p->iov, p->iov_count, p->offset,
							    p->size)) != 0xffff) {
		net->stats.in_checksum++;
		return;
	}
	size_t copied = wh_iov_read(p->iov, p->iov_count, p->offset, data, size);
	wh_assert(copied == size);
	if (data[0] == WH_WIRE_ICMP_ECHO)
		echo_input(net, p);
	else if (data[0] == WH_WIRE_ICMP_UNREACHABLE || data[0] == WH_WIRE_ICMP_TIME_EXCEEDED ||
		 data[0] == WH_WIRE_ICMP_PARAMETER)
		error4_input(net, data, size);
}

void net_icmp6_input(struct wh_net *net, const struct net_packet *p)
{
	uint8_t data[NET_ICMP_COPY];
	uint32_t size = p->size < sizeof data ? p->size : (uint32_t)sizeof data;
	net->stats.icmp_in++;
	if (p->size < WH_WIRE_ICMP_SIZE) {
		net->stats.in_malformed++;
		return;
	}
	if (!net_checksum_good(p)) {
		net->stats.in_checksum++;
		return;
	}
	size_t copied = wh_iov_read(p->iov, p->iov_count, p->offset, data, size);
	wh_assert(copied == size);
	if (data[0] == WH_WIRE_ICMP6_ECHO)
		echo_input(net, p);
	else if (data[0] >= WH_WIRE_ICMP6_ROUTER_SOLICIT &&
		 data[0] <= WH_WIRE_ICMP6_NEIGHBOUR_ADVERT)
		net_ndp_input(net, p, data, size);
	else if (data[0] == WH_WIRE_ICMP6_MLD_QUERY)
		net_mld_input(net, p, data, size);
	else if (data[0] >= WH_WIRE_ICMP6_UNREACHABLE && data[0] <= WH_WIRE_ICMP6_PARAMETER)
		error6_input(net, data, size);
}
