/* SPDX-License-Identifier: ISC */
/* UDP flows, published UDP ports, ping, DHCP, router advertisement, hostile frames, capture. */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/hash.h>

static struct world w;
static struct wh_gateway_stats stats;

static const struct wh_gateway_stats *now(void)
{
	wh_gateway_stats(w.gateway, &stats);
	return &stats;
}

static void begin(void)
{
	world_init(&w);
	world_start(&w);
}

/* ---- a guest's UDP socket ---- */

struct guest_udp {
	struct wh_net_udp *socket;
	uint32_t datagrams, errors;
	int error;
	bool echo;
	struct wh_net_tuple tuple; /* of the last one */
	uint32_t size;
	uint8_t bytes[65536];
};

static void guest_datagram(struct wh_net_udp *u, const struct wh_net_tuple *tuple,
			   const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	struct guest_udp *g = wh_net_udp_ctx(u);
	g->datagrams++;
	g->tuple = *tuple;
	g->size = size;
	CHECK_EQ(wh_iov_read(iov, count, 0, g->bytes, size), size);
	if (g->echo) {
		struct wh_iov back = { g->bytes, size };
		(void)wh_net_udp_send(w.guest, u, tuple, &back, 1, NULL);
	}
}

static void guest_error(struct wh_net_udp *u, const struct wh_net_tuple *tuple, int error)
{
	struct guest_udp *g = wh_net_udp_ctx(u);
	g->errors++;
	g->error = error;
}

static void guest_open(struct guest_udp *g, uint16_t port)
{
	static const struct wh_net_udp_ops ops = { .datagram = guest_datagram,
						   .error = guest_error };
	struct wh_net_tuple tuple = { .local = { .port = port } };
	CHECK_EQ(wh_net_udp_open(w.guest, &tuple, 0, &ops, g, &g->socket), 0);
}

static int guest_send(struct guest_udp *g, struct wh_net_end to, const void *data, uint32_t size)
{
	struct wh_net_tuple tuple = { .local = wh_net_udp_tuple(g->socket)->local, .remote = to };
	struct wh_iov iov = { (void *)(uintptr_t)data, size };
	return wh_net_udp_send(w.guest, g->socket, &tuple, &iov, 1, NULL);
}

static struct guest_udp guest;

static uint16_t port_of(const struct sockaddr_in *a)
{
	return ntohs(a->sin_port);
}

static void datagrams_go_out_and_back(void)
{
	static uint8_t data[60000];
	uint16_t port;
	memset(&guest, 0, sizeof guest);
	begin();
	int fd = host_udp(AF_INET, &port);
	guest_open(&guest, 0);
	/* Empty, small, at the MTU, in fragments. */
	const uint32_t sizes[] = { 0, 1, 1472, 1473, 9000, 60000 };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(sizes); i++) {
		uint8_t got[65536];
		struct sockaddr_in from;
		socklen_t from_size = sizeof from;
		ssize_t n;
		pattern_fill(i, data, sizes[i]);
		CHECK_EQ(guest_send(&guest, end4(10, 0, 2, 2, port), data, sizes[i]), sizes[i]);
		UNTIL(&w, (n = recvfrom(fd, got, sizeof got, 0, (struct sockaddr *)&from,
					&from_size)) >= 0);
		CHECK_EQ(n, sizes[i]);
		CHECK_MEM(got, data, sizes[i]);
		uint32_t before = guest.datagrams;
		CHECK_EQ(sendto(fd, got, (size_t)n, 0, (struct sockaddr *)&from, from_size), n);
		UNTIL(&w, guest.datagrams > before);
		CHECK_EQ(guest.size, sizes[i]);
		CHECK_MEM(guest.bytes, data, sizes[i]);
		CHECK_EQ(guest.tuple.remote.port, port);
		CHECK_EQ(guest.tuple.remote.ip.bytes[15], 2);
	}
	CHECK_EQ(now()->udp_flows, 1);
	CHECK_EQ(stats.udp_out, WH_ARRAY_COUNT(sizes));
	CHECK_EQ(stats.udp_in, WH_ARRAY_COUNT(sizes));
	close(fd);
	world_stop(&w);
}

static void mapping_does_not_depend_on_the_peer(void)
{
	uint16_t ports[2];
	int fds[2];
	struct sockaddr_in from[2];
	memset(&guest, 0, sizeof guest);
	begin();
	guest_open(&guest, 4000);
	for (int i = 0; i < 2; i++) {
		char c;
		socklen_t size = sizeof from[i];
		fds[i] = host_udp(AF_INET, &ports[i]);
		guest_send(&guest, end4(10, 0, 2, 2, ports[i]), "x", 1);
		UNTIL(&w, recvfrom(fds[i], &c, 1, 0, (struct sockaddr *)&from[i], &size) == 1);
	}
	CHECK_EQ(port_of(&from[0]), port_of(&from[1]));
	CHECK_EQ(now()->udp_flows, 1);
	close(fds[0]);
	close(fds[1]);
	world_stop(&w);
}

static void unreachable_port_is_told(void)
{
	uint16_t port;
	memset(&guest, 0, sizeof guest);
	begin();
	close(host_udp(AF_INET, &port));
	guest_open(&guest, 0);
	struct wh_net_end to = end4(10, 0, 2, 2, port);
	CHECK_EQ(wh_net_udp_connect(guest.socket, &to), 0); /* only then errors are told */
	guest_send(&guest, to, "x", 1);
	UNTIL(&w, guest.errors);
	CHECK_EQ(guest.error, WH_ECONNREFUSED);
	world_stop(&w);
}

static void forbidden_destinations(void)
{
	memset(&guest, 0, sizeof guest);
	world_init(&w);
	w.config.host_loopback = false;
	world_start(&w);
	guest_open(&guest, 0);
	struct wh_net_end to = end4(10, 0, 2, 2, 9), none = { .port = 0 };
	CHECK_EQ(wh_net_udp_connect(guest.socket, &to), 0);
	guest_send(&guest, to, "x", 1);
	UNTIL(&w, guest.errors);
	CHECK_EQ(guest.error, WH_ECONNREFUSED);
	CHECK_EQ(wh_net_udp_connect(guest.socket, &none), 0);
	guest_send(&guest, end4(239, 1, 1, 1, 9), "x", 1);
	guest_send(&guest, end4(255, 255, 255, 255, 9), "x", 1);
	world_settle(&w);
	CHECK_EQ(now()->udp_flows, 0);
	CHECK_EQ(stats.descriptors, 0);
	world_stop(&w);
}

static void table_full_drops_the_oldest(void)
{
	uint16_t port;
	memset(&guest, 0, sizeof guest);
	world_init(&w);
	w.config.udp_flows_max = 8;
	world_start(&w);
	int fd = host_udp(AF_INET, &port);
	for (uint16_t i = 0; i < 20; i++) {
		guest_open(&guest, 0);
		guest_send(&guest, end4(10, 0, 2, 2, port), "x", 1);
		world_settle(&w);
		wh_net_udp_close(guest.socket);
	}
	CHECK_EQ(now()->udp_flows, 8);
	CHECK_EQ(stats.udp_evicted, 12);
	CHECK_EQ(stats.descriptors, 8);
	close(fd);
	world_stop(&w);
}

/* A host socket, and the address under which it knows the guest that has sent to it. */
static int begin_flow(struct sockaddr_in *ret_mapped)
{
	uint16_t port;
	char c;
	socklen_t size = sizeof *ret_mapped;
	memset(&guest, 0, sizeof guest);
	begin();
	int fd = host_udp(AF_INET, &port);
	guest_open(&guest, 0);
	guest_send(&guest, end4(10, 0, 2, 2, port), "x", 1);
	UNTIL(&w, recvfrom(fd, &c, 1, 0, (struct sockaddr *)ret_mapped, &size) == 1);
	return fd;
}

static void strangers_are_filtered(void)
{
	struct sockaddr_in mapped;
	int fd = begin_flow(&mapped);
	/* Another address of the loopback network, which was never sent to. */
	int stranger = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in local = { .sin_family = AF_INET };
	local.sin_addr.s_addr = htonl(0x7f000099);
	CHECK_EQ(bind(stranger, (struct sockaddr *)&local, sizeof local), 0);
	mapped.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK_EQ(sendto(stranger, "s", 1, 0, (struct sockaddr *)&mapped, sizeof mapped), 1);
	UNTIL(&w, now()->udp_dropped == 1);
	CHECK_EQ(guest.datagrams, 0);
	CHECK_EQ(sendto(fd, "f", 1, 0, (struct sockaddr *)&mapped, sizeof mapped), 1);
	UNTIL(&w, guest.datagrams == 1);
	close(stranger);
	close(fd);
	world_stop(&w);
}

static void full_link_holds_datagrams(void)
{
	struct sockaddr_in mapped;
	int fd = begin_flow(&mapped);
	w.guest_end.capacity = 4;
	w.guest_stopped = true;
	for (int i = 0; i < 100; i++)
		CHECK_EQ(sendto(fd, "y", 1, 0, (struct sockaddr *)&mapped, sizeof mapped), 1);
	for (int i = 0; i < 20; i++)
		wh_loop_step(w.loop, 0);
	CHECK_EQ(guest.datagrams, 0);
	w.guest_stopped = false;
	UNTIL(&w, guest.datagrams == 100);
	CHECK_EQ(now()->udp_dropped, 0);
	close(fd);
	world_stop(&w);
}

/* ---- published ---- */

static void publish_udp(const char *text, struct wh_net_end *ret_bound)
{
	struct wh_gateway_rule rule;
	struct wh_diag diag = { "" };
	CHECK_EQ(wh_gateway_rule_parse(text, &rule, &diag), 0);
	if (wh_gateway_publish(w.gateway, &rule, NULL, ret_bound, &diag))
		test_fail(__FILE__, __LINE__, "%s", diag.text);
}

static void published(const char *text)
{
	struct wh_net_end bound;
	memset(&guest, 0, sizeof guest);
	begin();
	publish_udp(text, &bound);
	guest.echo = true;
	guest_open(&guest, 5353);
	int fds[3];
	for (int i = 0; i < 3; i++) {
		struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(bound.port) };
		char data[8] = { (char)('a' + i) }, got[8];
		to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
		CHECK_EQ(connect(fds[i], (struct sockaddr *)&to, sizeof to), 0);
		for (int round = 0; round < 3; round++) {
			CHECK_EQ(send(fds[i], data, sizeof data, 0), sizeof data);
			UNTIL(&w, recv(fds[i], got, sizeof got, 0) == sizeof got);
			CHECK_MEM(got, data, sizeof data);
		}
	}
	CHECK_EQ(now()->udp_flows, 3);
	CHECK_EQ(guest.tuple.remote.ip.bytes[15], 2); /* seen as the gateway */
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	world_stop(&w);
}

static void published_udp(void)
{
	published("0:5353/udp");
}

static void published_udp_on_all_addresses(void)
{
	published("*:0:5353/udp");
}

static void published_udp_on_all_ip4(void)
{
	published("0.0.0.0:0:5353/udp");
}

/* ---- services ---- */

static void leases(void)
{
	memset(&guest, 0, sizeof guest);
	world_init(&w);
	w.config.hostname = "boat";
	w.config.search = "example.org corp.example";
	world_start(&w);
	guest_open(&guest, WH_WIRE_DHCP_CLIENT_PORT);
	uint8_t bytes[WH_WIRE_DHCP_SIZE_MAX];
	struct wh_wire_dhcp discover = { .op = 1,
					 .type = WH_WIRE_DHCP_DISCOVER,
					 .broadcast = true,
					 .transaction = 0x12345678,
					 .mac = { 2, 0, 0, 0, 0, 1 } },
			    reply;
	size_t size = wh_wire_dhcp_emit(bytes, &discover);
	CHECK(guest_send(&guest, end4(255, 255, 255, 255, 67), bytes, (uint32_t)size) > 0);
	UNTIL(&w, guest.datagrams == 1);
	CHECK(wh_wire_dhcp_parse(guest.bytes, guest.size, &reply) >= 0);
	CHECK_EQ(reply.type, WH_WIRE_DHCP_OFFER);
	CHECK_EQ(reply.transaction, 0x12345678);
	CHECK_EQ(reply.your_ip[3], 15);
	CHECK_EQ(reply.router[0][3], 2);
	CHECK_EQ(reply.dns[0][3], 3);
	CHECK_EQ(reply.netmask[3], 0);
	CHECK_EQ(reply.netmask[2], 255);
	CHECK_EQ(reply.mtu, 1500);
	CHECK_STR(reply.hostname, "boat");
	CHECK_STR(reply.domain, "example.org");
	CHECK_EQ(reply.search_size, 13 + 14);
	/* Taking it, then asking for another one. */
	struct wh_wire_dhcp request = discover;
	request.type = WH_WIRE_DHCP_REQUEST;
	memcpy(request.requested_ip, reply.your_ip, 4);
	memcpy(request.server_id, reply.server_id, 4);
	size = wh_wire_dhcp_emit(bytes, &request);
	guest_send(&guest, end4(255, 255, 255, 255, 67), bytes, (uint32_t)size);
	UNTIL(&w, guest.datagrams == 2);
	CHECK(wh_wire_dhcp_parse(guest.bytes, guest.size, &reply) >= 0);
	CHECK_EQ(reply.type, WH_WIRE_DHCP_ACK);
	CHECK_EQ(reply.lease_s, 3600);
	request.requested_ip[3] = 200;
	size = wh_wire_dhcp_emit(bytes, &request);
	guest_send(&guest, end4(255, 255, 255, 255, 67), bytes, (uint32_t)size);
	UNTIL(&w, guest.datagrams == 3);
	CHECK(wh_wire_dhcp_parse(guest.bytes, guest.size, &reply) >= 0);
	CHECK_EQ(reply.type, WH_WIRE_DHCP_NAK);
	/* Other MACs get other addresses; there is no end of them. */
	for (uint8_t i = 2; i < 40; i++) {
		discover.mac[5] = i;
		size = wh_wire_dhcp_emit(bytes, &discover);
		guest_send(&guest, end4(255, 255, 255, 255, 67), bytes, (uint32_t)size);
		UNTIL(&w, guest.datagrams == 2u + i);
		CHECK(wh_wire_dhcp_parse(guest.bytes, guest.size, &reply) >= 0);
		CHECK(reply.your_ip[3] >= 15);
	}
	CHECK_EQ(now()->dhcp_in, stats.dhcp_out);
	world_stop(&w);
}

/* The gateway is a hop: what has one left ends here, and its sender is told. Own addresses are no hop away. */
static void hop_limits_end_at_the_gateway(void)
{
	char byte = 'x';
	struct wh_iov iov = { &byte, 1 };
	const struct wh_net_send_options one = { .hop_limit = 1 };
	struct wh_net_tuple tuple = { .local = { .port = 1234 },
				      .remote = end4(192, 0, 2, 1, 33434) };
	begin();
	CHECK_EQ(wh_net_udp_send(w.guest, NULL, &tuple, &iov, 1, &one), 1);
	UNTIL(&w, w.udp_errors == 1);
	CHECK_EQ(w.last_udp_error, WH_EHOSTUNREACH);
	CHECK_EQ(now()->hops_ended, 1);
	CHECK_EQ(stats.udp_out, 0);
	tuple.remote.ip = (struct wh_net_ip){ { 0x20, 1, 0xd, 0xb8, [15] = 1 } };
	CHECK_EQ(wh_net_udp_send(w.guest, NULL, &tuple, &iov, 1, &one), 1);
	UNTIL(&w, w.udp_errors == 2);
	CHECK_EQ(now()->hops_ended, 2);
	uint16_t port;
	int fd = host_udp(AF_INET, &port);
	tuple.remote = end4(10, 0, 2, 2, port);
	CHECK_EQ(wh_net_udp_send(w.guest, NULL, &tuple, &iov, 1, &one), 1);
	UNTIL(&w, recv(fd, &byte, 1, MSG_DONTWAIT) == 1);
	CHECK_EQ(now()->hops_ended, 2);
	close(fd);
	world_stop(&w);
}

static uint8_t icmp_type_seen;
static uint8_t icmp_bytes[2000];
static uint32_t icmp_size;

static bool note_icmp(struct world *world, const struct wh_net_frame *frame, bool to_guest)
{
	uint8_t h[2000];
	size_t n = wh_iov_read(frame->iov, frame->iov_count, 0, h, sizeof h);
	size_t at = h[12] == 0x86 ? 54 : 34;
	bool icmp = h[12] == 0x86 ? h[20] == WH_WIRE_PROTO_ICMP6
				  : h[12] == 8 && h[13] == 0 && h[23] == WH_WIRE_PROTO_ICMP;
	if (to_guest && icmp && n > at && h[at] != WH_WIRE_ICMP6_NEIGHBOUR_SOLICIT &&
	    h[at] != WH_WIRE_ICMP6_NEIGHBOUR_ADVERT) {
		icmp_type_seen = h[at];
		icmp_size = (uint32_t)(n - at);
		memcpy(icmp_bytes, h + at, icmp_size);
	}
	return true;
}

/* A frame from the guest's side of the link, outside of its stack. */
static void inject(const void *bytes, uint32_t size)
{
	struct wh_iov iov = { (void *)(uintptr_t)bytes, size };
	struct wh_net_frame frame = { .iov = &iov, .iov_count = 1, .size = size };
	(void)w.guest_end.port.send(&w.guest_end.port, &frame);
}

static const uint8_t gateway_mac[6] = { 0x52, 0x55, 0x0a, 0, 2, 2 };
static const uint8_t guest_mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

static uint32_t echo_frame(uint8_t *frame, const uint8_t to[4], uint32_t payload)
{
	struct wh_wire_eth eth = { .type = WH_WIRE_ETH_IP4 };
	memcpy(eth.to, gateway_mac, 6);
	memcpy(eth.from, guest_mac, 6);
	wh_wire_eth_emit(frame, &eth);
	struct wh_wire_ip4 ip = { .ttl = 64,
				  .protocol = WH_WIRE_PROTO_ICMP,
				  .total_size = (uint16_t)(28 + payload),
				  .header_size = 20,
				  .from = { 10, 0, 2, 15 } };
	memcpy(ip.to, to, 4);
	wh_wire_ip4_emit(frame + 14, &ip);
	struct wh_wire_icmp icmp = { .type = WH_WIRE_ICMP_ECHO, .id = 77, .sequence = 5 };
	wh_wire_icmp_emit(frame + 34, &icmp);
	pattern_fill(0, frame + 42, payload);
	uint32_t sum = wh_wire_sum(0, frame + 34, 8 + payload);
	wh_store_be16(frame + 36, wh_wire_sum_finish(sum));
	return 42 + payload;
}

static void ping(void)
{
	uint8_t frame[2000];
	begin();
	w.filter = note_icmp;
	icmp_type_seen = 255;
	inject(frame, echo_frame(frame, (const uint8_t[]){ 10, 0, 2, 2 }, 56));
	UNTIL(&w, icmp_type_seen == WH_WIRE_ICMP_ECHO_REPLY);
	CHECK_EQ(icmp_size, 64);
	CHECK(pattern_check(0, icmp_bytes + 8, 56));
	CHECK_EQ(wh_load_be16(icmp_bytes + 4), 77);
	CHECK_EQ(now()->echo_flows, 0);
	world_stop(&w);
}

/* Outside = the first address of this host that is not loopback; skipped where the
 * kernel does not allow ping sockets. */
static void ping_outside(void)
{
	uint8_t frame[2000];
	int fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
	if (fd < 0)
		test_skip("no unprivileged ping (net.ipv4.ping_group_range)");
	close(fd);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(9) };
	socklen_t size = sizeof a;
	a.sin_addr.s_addr = htonl(0xc0000201);
	bool routed = !connect(fd, (struct sockaddr *)&a, sizeof a) &&
		      !getsockname(fd, (struct sockaddr *)&a, &size);
	close(fd);
	if (!routed)
		test_skip("no address but loopback");
	begin();
	w.filter = note_icmp;
	icmp_type_seen = 255;
	uint8_t to[4];
	memcpy(to, &a.sin_addr, 4);
	inject(frame, echo_frame(frame, to, 100));
	UNTIL(&w, icmp_type_seen == WH_WIRE_ICMP_ECHO_REPLY);
	CHECK_EQ(icmp_size, 108);
	CHECK_EQ(wh_load_be16(icmp_bytes + 4), 77); /* the guest's id, not the kernel's */
	CHECK_EQ(wh_load_be16(icmp_bytes + 6), 5);
	CHECK(pattern_check(0, icmp_bytes + 8, 100));
	CHECK_EQ(now()->echo_flows, 1);
	world_stop(&w);
}

static void router_solicitation(void)
{
	uint8_t frame[54 + WH_WIRE_NDP_ROUTER_SOLICIT_SIZE];
	begin();
	w.filter = note_icmp;
	icmp_type_seen = 0;
	struct wh_wire_eth eth = { .to = { 0x33, 0x33, 0, 0, 0, 2 }, .type = WH_WIRE_ETH_IP6 };
	memcpy(eth.from, guest_mac, 6);
	wh_wire_eth_emit(frame, &eth);
	struct wh_wire_ip6 ip = { .next_header = WH_WIRE_PROTO_ICMP6,
				  .hop_limit = 255,
				  .payload_size = WH_WIRE_NDP_ROUTER_SOLICIT_SIZE,
				  .from = { 0xfe, 0x80, [15] = 9 },
				  .to = { 0xff, 2, [15] = 2 } };
	wh_wire_ip6_emit(frame + 14, &ip);
	wh_wire_router_solicit_emit(frame + 54, guest_mac);
	wh_store_be16(frame + 56, 0);
	uint32_t sum = wh_wire_sum_pseudo(ip.from, ip.to, 16, WH_WIRE_PROTO_ICMP6,
					  WH_WIRE_NDP_ROUTER_SOLICIT_SIZE);
	sum = wh_wire_sum(sum, frame + 54, WH_WIRE_NDP_ROUTER_SOLICIT_SIZE);
	wh_store_be16(frame + 56, wh_wire_sum_finish(sum));
	inject(frame, sizeof frame);
	UNTIL(&w, icmp_type_seen == WH_WIRE_ICMP6_ROUTER_ADVERT);
	struct wh_wire_router_advert advert;
	CHECK(wh_wire_router_advert_parse(icmp_bytes, icmp_size, &advert) >= 0);
	CHECK_EQ(advert.prefix_count, 1);
	CHECK_EQ(advert.prefix[0].length, 64);
	CHECK(advert.prefix[0].autonomous && advert.has_mac && advert.lifetime_s);
	CHECK_EQ(advert.dns_count, 1);
	CHECK_EQ(advert.dns[0][15], 3);
	world_stop(&w);
}

static void hostile_frames_do_no_harm(void)
{
	uint64_t random = test_seed();
	uint16_t port;
	begin();
	int listener = host_listen(AF_INET, &port);
	for (int i = 0; i < 20000; i++) {
		uint8_t frame[300];
		uint32_t size = (uint32_t)(wh_random_next(&random) % sizeof frame);
		for (uint32_t k = 0; k < size; k++)
			frame[k] = (uint8_t)wh_random_next(&random);
		/* Half of them look like something. */
		if (i % 2 && size > 60) {
			echo_frame(frame, (const uint8_t[]){ 10, 0, 2, 2 }, size - 42);
			frame[wh_random_next(&random) % 60] ^=
				(uint8_t)(1 << wh_random_next(&random) % 8);
			frame[23] = (uint8_t[]){ 1, 6, 17, 58 }[wh_random_next(&random) % 4];
		}
		inject(frame, size);
		if (i % 100 == 0)
			world_settle(&w);
	}
	world_settle(&w);
	struct app app = { .to_send = 5000, .shut_after = true };
	struct program program = { .shut_after = true };
	app_connect(&app, &w, false, port);
	program_accept(&program, &w, listener);
	UNTIL(&w, program.at_end && app.at_end);
	CHECK_EQ(program.received, 5000);
	program_close(&program);
	app_close(&app);
	close(listener);
	world_stop(&w);
}

static void capture(void)
{
	uint8_t frame[200], file[4096];
	begin();
	FILE *f = tmpfile();
	CHECK(f);
	CHECK_EQ(wh_gateway_pcap(w.gateway, fileno(f)), 0);
	w.filter = note_icmp;
	icmp_type_seen = 255;
	uint32_t size = echo_frame(frame, (const uint8_t[]){ 10, 0, 2, 2 }, 10);
	inject(frame, size);
	UNTIL(&w, icmp_type_seen == 0);
	CHECK_EQ(wh_gateway_pcap(w.gateway, -1), 0);
	long n = pread(fileno(f), file, sizeof file, 0);
	CHECK(n >= 24 + 2 * (16 + (long)size));
	CHECK_EQ(wh_load_le32(file), 0xa1b23c4d);
	CHECK_EQ(wh_load_le32(file + 20), 1);
	CHECK_EQ(wh_load_le32(file + 32), size);
	CHECK_MEM(file + 40, frame, size);
	fclose(f);
	CHECK(wh_gateway_pcap(w.gateway, 9999) < 0);
	world_stop(&w);
}

int main(void)
{
	RUN(datagrams_go_out_and_back);
	RUN(mapping_does_not_depend_on_the_peer);
	RUN(unreachable_port_is_told);
	RUN(forbidden_destinations);
	RUN(table_full_drops_the_oldest);
	RUN(strangers_are_filtered);
	RUN(full_link_holds_datagrams);
	RUN(published_udp);
	RUN(published_udp_on_all_addresses);
	RUN(published_udp_on_all_ip4);
	RUN(leases);
	RUN(hop_limits_end_at_the_gateway);
	RUN(ping);
	RUN(router_solicitation);
	RUN(hostile_frames_do_no_harm);
	RUN(capture);
	RUN(ping_outside);
	return test_end();
}
