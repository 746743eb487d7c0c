/* SPDX-License-Identifier: ISC */
/*
 * Frames into a stack that listens, has a connection open in each direction and UDP sockets.
 * Input: records of a control byte and data. The control byte picks: a raw frame; a
 * TCP segment or datagram for which addresses, sequence numbers and checksums are made right (so that
 * the fuzzer reaches past them); time that passes; an API call.
 */
#include <wherry/base/bytes.h>
#include <wherry/net.h>
#include <wherry/net_wire.h>
#include <wherry/base/errors.h>
#include <wherry/test.h>

#define MS 1000000ull

static struct {
	struct wh_net *net;
	struct wh_net_port port;
	uint64_t now;
	struct wh_net_tcp *listener, *client, *accepted, *asked;
	struct wh_net_udp *udp;
	uint32_t last_ack, last_sequence; /* of the last TCP segment that the stack sent */
	uint16_t last_from, last_to;
	uint32_t frames;
} f;

static const uint8_t mac[6] = { 0x52, 0x54, 0, 0, 0, 1 };
static const uint8_t peer_mac[6] = { 0x52, 0x54, 0, 0, 0, 2 };
static const uint8_t own4[4] = { 10, 0, 2, 1 }, peer4[4] = { 10, 0, 2, 2 };
static const uint8_t own6[16] = { 0xfd, 1, [15] = 1 }, peer6[16] = { 0xfd, 1, [15] = 2 };

static int port_send(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	uint8_t head[128];
	size_t n = wh_iov_read(frame->iov, frame->iov_count, 0, head, sizeof head);
	CHECK_EQ(wh_iov_size(frame->iov, frame->iov_count), frame->size);
	CHECK(frame->gso_type || frame->size <= 1514);
	if (f.frames++ % 13 == 12)
		return -WH_EAGAIN;
	size_t at = n > 14 && head[12] == 8 && head[13] == 0 ? 34 : 54;
	if (n >= at + 20 && head[at == 34 ? 23 : 20] == 6) {
		f.last_from = wh_load_be16(head + at);
		f.last_to = wh_load_be16(head + at + 2);
		f.last_sequence = wh_load_be32(head + at + 4);
		f.last_ack = wh_load_be32(head + at + 8);
	}
	return 0;
}

static void on_event(struct wh_net_tcp *s, uint32_t events)
{
	struct wh_iov iov[2];
	if (events & WH_NET_ACCEPTABLE) {
		struct wh_net_tcp *n;
		while (!wh_net_tcp_take(s, &n)) {
			if (f.accepted)
				wh_net_tcp_close(f.accepted);
			f.accepted = n;
		}
		return;
	}
	uint32_t size = wh_net_tcp_peek(s, iov);
	wh_net_tcp_consume(s, size / 2);
}

static const struct wh_net_tcp_ops tcp_ops = { .event = on_event };

static bool tcp_request(void *ctx, struct wh_net_tcp *s, const struct wh_net_tuple *tuple)
{
	if (tuple->local.port & 1)
		return false;
	if (f.asked)
		wh_net_tcp_refuse(f.asked, WH_EHOSTUNREACH);
	f.asked = s;
	return true;
}

static void datagram(struct wh_net_udp *u, const struct wh_net_tuple *tuple,
		     const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	CHECK_EQ(wh_iov_size(iov, count), size);
	(void)wh_net_udp_send(f.net, u, tuple, iov, count, 0);
}

static const struct wh_net_udp_ops udp_ops = { .datagram = datagram };
static const struct wh_net_ops net_ops = { .tcp_request = tcp_request };

static void input(const uint8_t *bytes, size_t size, uint8_t flags)
{
	uint8_t *copy = test_guarded(size);
	memcpy(copy, bytes, size);
	size_t cut = size > 40 ? 30 : size;
	struct wh_iov iov[2] = { { copy, cut }, { copy + cut, size - cut } };
	struct wh_net_frame frame = {
		.iov = iov, .iov_count = 2, .size = (uint32_t)size, .flags = flags
	};
	(void)f.port.receive(&f.port, &frame);
	test_guarded_free(copy, size);
}

/* A frame around a transport header and data from the input. */
static void wrapped(uint8_t protocol, bool six, const uint8_t *data, size_t size)
{
	uint8_t frame[1600];
	struct wh_wire_eth eth = { .type = six ? WH_WIRE_ETH_IP6 : WH_WIRE_ETH_IP4 };
	memcpy(eth.to, mac, 6);
	memcpy(eth.from, peer_mac, 6);
	size_t at = wh_wire_eth_emit(frame, &eth);
	if (size > 1400)
		size = 1400;
	if (six) {
		struct wh_wire_ip6 ip = { .next_header = protocol,
					  .hop_limit = 255,
					  .payload_size = (uint16_t)size };
		memcpy(ip.from, peer6, 16);
		memcpy(ip.to, own6, 16);
		at += wh_wire_ip6_emit(frame + at, &ip);
	} else {
		struct wh_wire_ip4 ip = { .protocol = protocol,
					  .ttl = 64,
					  .total_size = (uint16_t)(20 + size) };
		memcpy(ip.from, peer4, 4);
		memcpy(ip.to, own4, 4);
		at += wh_wire_ip4_emit(frame + at, &ip);
	}
	memcpy(frame + at, data, size);
	uint8_t *p = frame + at;
	if (protocol == WH_WIRE_PROTO_TCP && size >= 20) {
		/* First byte of the ports chooses a connection; offsets are small. */
		uint8_t choice = p[0];
		if (choice & 1) {
			wh_store_be16(p, f.last_to);
			wh_store_be16(p + 2, f.last_from);
		}
		if (choice & 2)
			wh_store_be16(p + 2, 80);
		int8_t sequence = (int8_t)p[7], ack = (int8_t)p[11];
		if (p[4] & 1)
			wh_store_be32(p + 4, f.last_ack + (uint32_t)(sequence * 16));
		if (p[8] & 1)
			wh_store_be32(p + 8, f.last_sequence + (uint32_t)ack);
	}
	input(frame, at + size, WH_NET_DATA_VALID);
}

/* Calls that need no connection, or change which there are. */
static void call_more(uint8_t what, uint8_t argument)
{
	static const struct wh_net_udp_ops none = { .datagram = datagram };
	struct wh_net_tuple t = { .local = { .port = (uint16_t)(argument & 3) } };
	struct wh_net_udp *u;
	struct wh_net_tcp *s;
	t.remote = (struct wh_net_end){ argument & 64 ? wh_net_ip6(peer6) : wh_net_ip4(peer4),
					(uint16_t)(argument & 15) };
	switch (what & 3) {
	case 0:
		if (!wh_net_tcp_connect(f.net, &t, &tcp_ops, 0, &s)) {
			if (f.accepted)
				wh_net_tcp_close(f.accepted);
			f.accepted = s;
		}
		break;
	case 1:
		if (wh_net_udp_open(f.net, &t, argument >> 6, &none, 0, &u))
			break;
		(void)wh_net_udp_connect(u, argument & 32 ? &t.remote : &t.local);
		wh_net_udp_close(u);
		break;
	case 2:
		if (!wh_net_tcp_listen(f.net, &t.local, argument & 32, argument & 7, &tcp_ops, 0,
				       &s))
			wh_net_tcp_close(s);
		break;
	default: {
		struct wh_net_ip ip = wh_net_ip4(own4);
		(void)wh_net_address_remove(f.net, &ip);
		(void)wh_net_tcp_bindable(f.net, &t.local, argument & 1);
		(void)wh_net_address_add(f.net, &ip, argument & 31);
	}
	}
}

/* Questions, and parts of what is there. */
static void call_parts(struct wh_net_tcp *s, uint8_t argument)
{
	struct wh_net_tcp_info info;
	struct wh_iov iov[2];
	uint32_t value;
	wh_net_tcp_info(s, &info);
	CHECK(info.unread <= info.receive_size);
	(void)wh_net_tcp_get(s, (enum wh_net_tcp_option)(argument % 12), &value);
	uint32_t size = wh_net_tcp_peek(s, iov);
	CHECK_EQ(iov[0].size + iov[1].size, size);
	wh_net_tcp_consume(s, argument < size ? argument : size);
	size = wh_net_tcp_reserve(s, iov);
	CHECK_EQ(iov[0].size + iov[1].size, size);
	if (size)
		wh_net_tcp_commit(s, argument < size ? argument : size);
}

static void call(uint8_t what, uint8_t argument)
{
	static char data[5000];
	struct wh_net_tcp *s = what & 1 ? f.client : f.accepted;
	if (what & 16) {
		call_more(what >> 1, argument);
		return;
	}
	if (!s)
		return;
	if (what & 32) {
		call_parts(s, argument);
		return;
	}
	switch (what >> 1 & 7) {
	case 0:
		wh_net_tcp_write(s, data, argument * 19u);
		break;
	case 1:
		wh_net_tcp_read(s, data, argument * 19u);
		break;
	case 2:
		wh_net_tcp_shutdown(s);
		break;
	case 3:
		if (s == f.accepted) {
			wh_net_tcp_close(s);
			f.accepted = 0;
		}
		break;
	case 4:
		if (f.asked && wh_net_tcp_accept(f.asked) < 0)
			wh_net_tcp_close(f.asked);
		if (f.asked)
			wh_net_tcp_set_ops(f.asked, &tcp_ops, 0);
		if (f.accepted)
			wh_net_tcp_close(f.accepted);
		f.accepted = f.asked;
		f.asked = 0;
		break;
	case 5:
		wh_net_tcp_set(s, (enum wh_net_tcp_option)(argument % 12), argument);
		break;
	case 6:
		if (s == f.accepted) {
			wh_net_tcp_abort(s);
			f.accepted = 0;
		}
		break;
	default:
		f.port.writable(&f.port);
	}
}

static void begin(void)
{
	struct wh_net_config c = WH_NET_CONFIG_INIT;
	struct wh_net_ip ip4 = wh_net_ip4(own4), ip6 = wh_net_ip6(own6);
	struct wh_net_ip other = wh_net_ip4(peer4);
	struct wh_net_end at80 = { .port = 80 };
	struct wh_net_tuple out = { .remote = { other, 9 } }, u = { .local = { .port = 53 } };
	memset(&f, 0, sizeof f);
	f.now = 1000 * MS;
	c.alloc = &test_allocator;
	c.cc = &wh_net_cc_cubic;
	c.ops = &net_ops;
	c.tcp_sockets_max = 20;
	c.reassemblies_max = 3;
	c.tcp_buffer_start = c.tcp_receive_max = c.tcp_send_max = 4096;
	memcpy(c.mac, mac, 6);
	CHECK_EQ(wh_net_new(&c, f.now, &f.net), 0);
	CHECK_EQ(wh_net_tcp_enable(f.net), 0);
	CHECK_EQ(wh_net_address_add(f.net, &ip4, 24), 0);
	CHECK_EQ(wh_net_address_add(f.net, &ip6, 64), 0);
	CHECK_EQ(wh_net_neighbour_set(f.net, &other, peer_mac), 0);
	f.port = (struct wh_net_port){ .send = port_send,
				       .link_features = WH_NET_LINK_CSUM | WH_NET_LINK_TSO4,
				       .mtu = 1500 };
	wh_net_attach(f.net, &f.port);
	CHECK_EQ(wh_net_autoconf_start(f.net, "fuzz"), 0);
	CHECK_EQ(wh_net_tcp_listen(f.net, &at80, false, 4, &tcp_ops, 0, &f.listener), 0);
	CHECK_EQ(wh_net_udp_open(f.net, &u, 0, &udp_ops, 0, &f.udp), 0);
	CHECK_EQ(wh_net_tcp_connect(f.net, &out, &tcp_ops, 0, &f.client), 0);
	(void)wh_net_run(f.net, f.now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	begin();
	for (size_t at = 0; at + 3 <= size;) {
		uint8_t kind = data[at], flags = data[at + 1];
		size_t n = data[at + 2] * (flags & 0x80 ? 8u : 1u);
		at += 3;
		if (n > size - at)
			n = size - at;
		if (kind < 100)
			wrapped(WH_WIRE_PROTO_TCP, flags & 1, data + at, n);
		else if (kind < 130)
			wrapped(kind & 1 ? WH_WIRE_PROTO_UDP : data[at < size ? at : 0], flags & 1,
				data + at, n);
		else if (kind < 160)
			wrapped(flags & 1 ? WH_WIRE_PROTO_ICMP6 : WH_WIRE_PROTO_ICMP, flags & 1,
				data + at, n);
		else if (kind < 190)
			input(data + at, n, flags & 2);
		else if (kind < 220)
			call(flags, data[at - 1]), n = 0;
		else
			f.now += (uint64_t)data[at - 1] * (flags & 1 ? 500 * MS : MS), n = 0;
		(void)wh_net_run(f.net, f.now);
		at += n;
	}
	wh_net_free(f.net);
	CHECK_EQ(test_alloc_live(), 0);
	return 0;
}
