/* SPDX-License-Identifier: ISC */
/*
 * Frames of a hostile guest into a gateway whose host is made of the input, too: sockets answer with
 * what it says, events come when it says. The input is a list of records: kind, size (two
 * bytes), payload. At the end nothing may be left open, registered or allocated.
 */
#include <netinet/in.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/gateway.h>
#include <wherry/net_wire.h>
#include <wherry/test.h>

#include "../src/host/gateway/gateway_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RAW_FRAME, IP4_FRAME, TCP_SEGMENT, SOCKET_EVENT, LINK_ROOM, UDP_FRAME, ICMP6_FRAME, STEP };

#define SOCKETS_MAX 48
#define DATAGRAM_FD 1u /* flag of a fake socket */
#define LISTENING_FD 2u

struct fake_socket {
	bool open;
	uint32_t flags;
	struct wh_loop_fd *watch;
};

static struct {
	const uint8_t *data;
	size_t left;
	struct fake_socket sockets[SOCKETS_MAX];
	struct wh_net_port port;
	uint32_t room;    /* frames that the link takes */
	uint16_t segment; /* the next frame is several datagrams of so many bytes; 0 = it is not */
	/* The last TCP segment from the gateway, to go on with its connection. */
	struct wh_wire_tcp tcp;
	uint32_t tcp_payload;
	uint8_t tcp_from[4];
} f;

static uint8_t next_byte(void)
{
	if (!f.left)
		return 0;
	f.left--;
	return *f.data++;
}

/* ---- host ---- */

static int new_socket(uint32_t flags)
{
	for (int i = 0; i < SOCKETS_MAX; i++)
		if (!f.sockets[i].open) {
			f.sockets[i] = (struct fake_socket){ .open = true, .flags = flags };
			return i;
		}
	return -WH_EMFILE;
}

static struct fake_socket *get(int fd)
{
	wh_assert(fd >= 0 && fd < SOCKETS_MAX && f.sockets[fd].open);
	return &f.sockets[fd];
}

static int fake_error(void)
{
	static const int errors[] = { -WH_EAGAIN,       -WH_ECONNRESET,  -WH_EPIPE,
				      -WH_ECONNREFUSED, -WH_ENETUNREACH, -WH_EINTR,
				      -WH_EMSGSIZE,     -WH_EHOSTUNREACH };
	int error = errors[next_byte() % WH_ARRAY_COUNT(errors)];
	return f.left ? error : error == -WH_EINTR ? -WH_EAGAIN : error;
}

static int fake_socket_new(void *ctx, int domain, int type, int protocol)
{
	if (next_byte() == 0xff)
		return -WH_EMFILE;
	return new_socket(type == SOCK_DGRAM ? DATAGRAM_FD : 0);
}

static int fake_connect(void *ctx, int fd, const struct sockaddr *to, socklen_t size)
{
	get(fd);
	uint8_t b = next_byte();
	return b < 16 ? fake_error() : b < 64 ? 0 : -WH_EINPROGRESS;
}

static int fake_bind(void *ctx, int fd, const struct sockaddr *to, socklen_t size)
{
	get(fd);
	return 0;
}

static int fake_listen(void *ctx, int fd, int backlog)
{
	get(fd)->flags |= LISTENING_FD;
	return 0;
}

static void fake_address(struct sockaddr *to, socklen_t *size)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(next_byte() | 0x100) };
	const uint8_t loopback[4] = { 127, 0, 0, 1 }, other[4] = { 192, 0, 2, next_byte() };
	memcpy(&a.sin_addr, next_byte() & 1 ? loopback : other, 4);
	memcpy(to, &a, sizeof a);
	*size = sizeof a;
}

static int fake_accept(void *ctx, int fd, struct sockaddr *ret_from, socklen_t *size)
{
	wh_assert(get(fd)->flags & LISTENING_FD);
	if (next_byte() < 128)
		return fake_error();
	fake_address(ret_from, size);
	return new_socket(0);
}

static int fake_name(void *ctx, int fd, struct sockaddr *ret_name, socklen_t *size)
{
	get(fd);
	fake_address(ret_name, size);
	return 0;
}

static long fake_send(void *ctx, int fd, const struct msghdr *message)
{
	size_t size = 0;
	struct fake_socket *s = get(fd);
	for (size_t i = 0; i < message->msg_iovlen; i++)
		size += message->msg_iov[i].iov_len;
	uint8_t b = next_byte();
	if (b < 32)
		return fake_error();
	return s->flags & DATAGRAM_FD || b > 128 || !size ? (long)size : (long)(1 + b % size);
}

static long fake_receive(void *ctx, int fd, struct msghdr *message, int flags)
{
	get(fd);
	uint8_t b = next_byte();
	if (!f.left)
		return -WH_EAGAIN;
	if (b < 64)
		return fake_error();
	if (flags & MSG_ERRQUEUE)
		message->msg_controllen = 0;
	if (message->msg_name)
		fake_address(message->msg_name, &message->msg_namelen);
	size_t size = b - 64u, done = 0;
	for (size_t i = 0; i < message->msg_iovlen && done < size; i++) {
		size_t n = message->msg_iov[i].iov_len;
		n = n < size - done ? n : size - done;
		for (size_t k = 0; k < n; k++)
			((uint8_t *)message->msg_iov[i].iov_base)[k] = next_byte();
		done += n;
	}
	if (!(flags & MSG_ERRQUEUE))
		message->msg_controllen = 0;
	return (long)done;
}

static int fake_option_set(void *ctx, int fd, int level, int name, const void *v, socklen_t n)
{
	get(fd);
	return 0;
}

static int fake_so_error(void *ctx, int fd)
{
	get(fd);
	return next_byte() < 128 ? WH_ECONNREFUSED : 0;
}

static void fake_shutdown(void *ctx, int fd)
{
	get(fd);
}

static void fake_close(void *ctx, int fd)
{
	struct fake_socket *s = get(fd);
	wh_assert(!s->watch);
	s->open = false;
}

static int fake_watch(void *ctx, struct wh_loop *loop, struct wh_loop_fd *watch)
{
	struct fake_socket *s = get(watch->fd);
	wh_assert(!s->watch);
	s->watch = watch;
	return 0;
}

static int fake_watch_modify(void *ctx, struct wh_loop *loop, struct wh_loop_fd *watch,
			     uint32_t events)
{
	wh_assert(get(watch->fd)->watch == watch);
	watch->events = events;
	return 0;
}

static void fake_watch_forget(void *ctx, struct wh_loop *loop, struct wh_loop_fd *watch)
{
	if (watch->fd >= 0 && f.sockets[watch->fd].open)
		f.sockets[watch->fd].watch = NULL;
}

static uint32_t fake_descriptors_max(void *ctx)
{
	return 40;
}

static int fake_read_text(void *ctx, const char *path, uint64_t *stamp, char *to, size_t size)
{
	static const char text[] = "192.0.2.9 name.example\nsearch a.example\n";
	memcpy(to, text, sizeof text);
	return (int)sizeof text - 1;
}

static void fake_random(void *ctx, void *to, size_t size)
{
	memset(to, 0x5a, size);
}

static const struct wh_gateway_host fake_host = { .socket = fake_socket_new,
						  .connect = fake_connect,
						  .bind = fake_bind,
						  .listen = fake_listen,
						  .accept = fake_accept,
						  .name = fake_name,
						  .send = fake_send,
						  .receive = fake_receive,
						  .option_set = fake_option_set,
						  .error = fake_so_error,
						  .shutdown = fake_shutdown,
						  .close = fake_close,
						  .watch = fake_watch,
						  .watch_modify = fake_watch_modify,
						  .watch_forget = fake_watch_forget,
						  .descriptors_max = fake_descriptors_max,
						  .read_text = fake_read_text,
						  .random = fake_random };

/* ---- link ---- */

static int link_send(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	uint8_t head[14 + 20 + 60];
	if (!f.room)
		return -WH_EAGAIN;
	f.room--;
	size_t n = wh_iov_read(frame->iov, frame->iov_count, 0, head, sizeof head);
	struct wh_wire_tcp tcp;
	if (n >= 54 && head[12] == 8 && head[13] == 0 && head[23] == WH_WIRE_PROTO_TCP &&
	    wh_wire_tcp_parse(head + 34, n - 34, frame->size - 34, &tcp) >= 0) {
		f.tcp = tcp;
		f.tcp_payload = frame->size - 34 - tcp.header_size;
		memcpy(f.tcp_from, head + 26, 4);
	}
	return 0;
}

static void hand_in(const uint8_t *bytes, uint32_t size)
{
	/* Two pieces: headers may lie across them. */
	uint32_t cut = size > 40 ? 40 : size / 2;
	struct wh_iov iov[2] = { { (void *)(uintptr_t)bytes, cut },
				 { (void *)(uintptr_t)(bytes + cut), size - cut } };
	struct wh_net_frame frame = {
		.iov = iov, .iov_count = 2, .size = size, .flags = WH_NET_DATA_VALID
	};
	frame.gso_type = f.segment ? WH_NET_GSO_UDP_L4 : WH_NET_GSO_NONE;
	frame.gso_size = f.segment;
	if (f.port.receive)
		(void)f.port.receive(&f.port, &frame);
}

static const uint8_t macs[12] = { 0x52, 0x55, 0x0a, 0, 2, 2, 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

static uint8_t *ip4_head(uint8_t *frame, uint8_t protocol, const uint8_t *to, uint32_t payload)
{
	struct wh_wire_ip4 ip = { .ttl = 64,
				  .header_size = 20,
				  .protocol = protocol,
				  .total_size = (uint16_t)(20 + payload),
				  .from = { 10, 0, 2, 15 } };
	memcpy(ip.to, to, 4);
	memcpy(frame, macs, 12);
	wh_store_be16(frame + 12, WH_WIRE_ETH_IP4);
	wh_wire_ip4_emit(frame + 14, &ip);
	return frame + 34;
}

/* Goes on with the connection of the last segment, as the input wants to distort it. */
static void tcp_segment(const uint8_t *p, uint32_t size)
{
	uint8_t frame[34 + 20 + 2048] = { 0 };
	if (size < 6)
		return;
	struct wh_wire_tcp tcp = {
		.from = f.tcp.to, .to = f.tcp.from, .flags = p[0], .window = wh_load_be16(p + 1)
	};
	tcp.sequence = f.tcp.acknowledgement + (uint32_t)(int8_t)p[3];
	tcp.acknowledgement = f.tcp.sequence + f.tcp_payload +
			      !!(f.tcp.flags & (WH_WIRE_TCP_SYN | WH_WIRE_TCP_FIN)) +
			      (uint32_t)(int8_t)p[4];
	uint32_t payload = size - 6 < 2000 ? size - 6 : 2000;
	uint8_t *at = ip4_head(frame, WH_WIRE_PROTO_TCP, f.tcp_from, 20 + payload);
	wh_wire_tcp_emit(at, &tcp);
	memcpy(at + 20, p + 6, payload);
	hand_in(frame, 54 + payload);
}

static void record(uint8_t kind, const uint8_t *p, uint32_t size, struct wh_loop *loop)
{
	uint8_t frame[34 + 8 + 2048] = { 0 };
	uint32_t n = size < 2000 ? size : 2000;
	switch (kind % 8) {
	case RAW_FRAME:
		hand_in(p, size);
		break;
	case IP4_FRAME: /* protocol, destination, rest */
		if (n >= 5) {
			memcpy(ip4_head(frame, p[0], p + 1, n - 5), p + 5, n - 5);
			hand_in(frame, 34 + n - 5);
		}
		break;
	case TCP_SEGMENT:
		tcp_segment(p, size);
		break;
	case SOCKET_EVENT:
		if (size >= 2 && f.sockets[p[0] % SOCKETS_MAX].open) {
			struct wh_loop_fd *watch = f.sockets[p[0] % SOCKETS_MAX].watch;
			if (watch && (watch->events & p[1] & 3 || p[1] & WH_LOOP_HANGUP))
				watch->fn(watch, p[1] & 7);
		}
		break;
	case LINK_ROOM:
		f.room = size ? p[0] : 0;
		if (f.room && f.port.writable)
			f.port.writable(&f.port);
		break;
	case UDP_FRAME: /* destination, port, payload; top bit of the kind: several datagrams, as long as the last byte says */
		if (n >= 6) {
			uint8_t *at = ip4_head(frame, WH_WIRE_PROTO_UDP, p, 8 + n - 6);
			struct wh_wire_udp udp = { .from = 1234,
						   .to = wh_load_be16(p + 4),
						   .size = (uint16_t)(8 + n - 6) };
			wh_wire_udp_emit(at, &udp);
			memcpy(at + 8, p + 6, n - 6);
			f.segment = kind & 0x80 ? 1 + p[n - 1] : 0;
			hand_in(frame, 42 + n - 6);
			f.segment = 0;
		}
		break;
	case ICMP6_FRAME: { /* destination, message */
		if (n < 16 || n > 1500)
			break;
		struct wh_wire_ip6 ip = { .next_header = WH_WIRE_PROTO_ICMP6,
					  .hop_limit = 255,
					  .payload_size = (uint16_t)(n - 16),
					  .from = { 0xfe, 0x80, [15] = 1 } };
		memcpy(ip.to, p, 16);
		memcpy(frame, macs, 12);
		wh_store_be16(frame + 12, WH_WIRE_ETH_IP6);
		wh_wire_ip6_emit(frame + 14, &ip);
		memcpy(frame + 54, p + 16, n - 16);
		hand_in(frame, 54 + n - 16);
		break;
	}
	default:
		(void)wh_loop_step(loop, 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wh_loop *loop;
	struct wh_gateway *gateway;
	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
	struct wh_gateway_rule tcp = { .protocol = WH_GATEWAY_TCP, .guest_port = 80 };
	struct wh_gateway_rule udp = { .protocol = WH_GATEWAY_UDP, .guest_port = 53 };
	const uint8_t server[4] = { 192, 0, 2, 53 };
	struct wh_gateway_policy policy;
	struct wh_gateway_forward forward;
	struct wh_gateway_flow flows[4];
	memset(&f, 0, sizeof f);
	f.room = 1000;
	config.host = &fake_host;
	config.alloc = &test_allocator;
	config.host_loopback = true;
	config.tcp_flows_max = 16;
	config.udp_flows_max = 8;
	config.descriptors_reserve = 4;
	config.resolver_count = 1;
	config.resolvers[0] = (struct wh_net_end){ wh_net_ip4(server), 53 };
	wh_assert(wh_loop_new(&loop) == 0);
	wh_assert(wh_gateway_new(&config, loop, &gateway, NULL) == 0);
	(void)wh_gateway_publish(gateway, &tcp, NULL, NULL, NULL);
	(void)wh_gateway_publish(gateway, &udp, NULL, NULL, NULL);
	wh_assert(wh_gateway_policy_parse("192.0.2.128/25:1-1023", true, &policy, NULL) == 0);
	wh_assert(wh_gateway_policy_add(gateway, &policy, 0, NULL) == 0);
	wh_gateway_dhcp6_enable(gateway);
	wh_assert(wh_gateway_proxy_set(gateway, WH_GATEWAY_PROXY_BOTH, "u:p@192.0.2.80:3128",
				       NULL) == 0);
	wh_assert(wh_gateway_proxy_exclude(gateway, "*.example,192.0.2.0/26", NULL) == 0);
	wh_assert(wh_gateway_forward_parse("8080=192.0.2.1:80", &forward, NULL) == 0);
	wh_assert(wh_gateway_forward_add(gateway, &forward, NULL, NULL) == 0);
	f.port = (struct wh_net_port){ .send = link_send, .mtu = 1500 };
	f.port.link_features = size & 1 ? WH_NET_LINK_CSUM | WH_NET_LINK_USO : 0;
	wh_assert(wh_gateway_attach(gateway, &f.port) == 0);
	f.data = data;
	f.left = size;
	while (f.left >= 3) {
		uint8_t kind = next_byte();
		uint32_t n = (uint32_t)next_byte() << 8;
		n |= next_byte();
		if (n > f.left)
			n = (uint32_t)f.left;
		const uint8_t *p = f.data;
		f.data += n;
		f.left -= n;
		record(kind, p, n, loop);
		if (!(kind & 0x80))
			(void)wh_loop_step(loop, 0);
	}
	for (uint32_t after = 0, n; (n = wh_gateway_flow_list(gateway, after, flows, 4));
	     after = flows[n - 1].id)
		wh_assert(flows[n - 1].id > after && flows[0].guest.port);
	wh_gateway_free(gateway);
	for (int i = 0; i < SOCKETS_MAX; i++)
		wh_assert(!f.sockets[i].open);
	wh_assert(wh_loop_deadline(loop) == UINT64_MAX);
	wh_loop_free(loop);
	wh_assert(test_alloc_live() == 0);
	return 0;
}
