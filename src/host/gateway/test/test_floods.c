/* SPDX-License-Identifier: ISC */
/*
 * Floods of one guest: connections that are never answered, fragments without an end, ARP, datagrams to anywhere, DHCP of
 * made-up machines. Each is bounded by its named limit, memory with it, and another guest goes on.
 */
#include "../gateway_priv.h"
#include "world.h"

#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#define FLOOD 5000u

static struct world w;
static struct wh_gateway_stats stats;
static struct wh_gateway_host silent;

static const struct wh_gateway_stats *now(void)
{
	wh_gateway_stats(w.gateway, &stats);
	return &stats;
}

/* Addresses outside never answer; the host's loopback does. */
static int silent_connect(void *ctx, int fd, const struct sockaddr *to, socklen_t size)
{
	const struct sockaddr_in *a = (const struct sockaddr_in *)to;
	if (to->sa_family == AF_INET && a->sin_addr.s_addr != htonl(INADDR_LOOPBACK))
		return -WH_EINPROGRESS;
	return gateway_host_linux.connect(ctx, fd, to, size);
}

/* The kernel reports a socket that is not connected as hung up: nobody looks. */
static int silent_watch(void *ctx, struct wh_loop *loop, struct wh_loop_fd *watch)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof peer;
	if (getpeername(watch->fd, (struct sockaddr *)&peer, &size) && errno == ENOTCONN &&
	    watch->events & WH_LOOP_EDGE)
		return 0;
	return gateway_host_linux.watch(ctx, loop, watch);
}

static void begin(void)
{
	silent = gateway_host_linux;
	silent.connect = silent_connect;
	silent.watch = silent_watch;
	world_init(&w);
	w.config.host = &silent;
	w.config.tcp_pending_max = 64;
	world_start(&w);
}

static const uint8_t bad_mac[6] = { 2, 0xbb, 0, 0, 0, 1 };

static void inject(uint8_t *frame, uint32_t size)
{
	struct wh_gateway_addresses a;
	struct wh_iov iov = { frame, size };
	struct wh_net_frame f = {
		.iov = &iov, .iov_count = 1, .size = size, .flags = WH_NET_DATA_VALID
	};
	wh_gateway_addresses(w.gateway, &a);
	memcpy(frame, a.gateway_mac, 6);
	memcpy(frame + 6, bad_mac, 6);
	CHECK_EQ(w.host_end.port.receive(&w.host_end.port, &f), 0);
}

static uint8_t *ip4(uint8_t *frame, uint8_t protocol, uint32_t to, uint16_t payload, uint16_t id,
		    uint16_t fragment)
{
	struct wh_wire_ip4 ip = { .ttl = 64,
				  .protocol = protocol,
				  .total_size = (uint16_t)(20 + payload),
				  .id = id,
				  .fragment_offset = (uint16_t)(fragment & 0xfff8),
				  .more_fragments = fragment & 1,
				  .from = { 10, 0, 2, 66 } };
	wh_store_be32(ip.to, to);
	wh_store_be16(frame + 12, WH_WIRE_ETH_IP4);
	wh_wire_ip4_emit(frame + 14, &ip);
	return frame + 34;
}

/* Another guest's connection stands, and carries bytes. */
static void others_go_on(void)
{
	uint16_t port;
	struct app app = { .to_send = 10000 };
	struct program server = { .to_send = 10000 };
	int listener = host_listen(AF_INET, &port);
	app_connect(&app, &w, false, port);
	program_accept(&server, &w, listener);
	UNTIL(&w, app.received == 10000 && server.received == 10000);
	CHECK(!app.mismatch && !server.mismatch);
	app_close(&app);
	program_close(&server);
	close(listener);
}

static void connections(void)
{
	begin();
	for (uint32_t i = 0; i < FLOOD; i++) {
		uint8_t frame[80] = { 0 };
		struct wh_wire_tcp tcp = { .from = (uint16_t)(1024 + i),
					   .to = 80,
					   .flags = WH_WIRE_TCP_SYN,
					   .window = 1000 };
		uint8_t *at = ip4(frame, WH_WIRE_PROTO_TCP, 0xc0000200 + i % 250, 20, 0, 0);
		wh_wire_tcp_emit(at, &tcp);
		inject(frame, 54);
		if (i % 100 == 0)
			wh_loop_step(w.loop, 0);
	}
	CHECK_EQ(now()->tcp_pending, 64);
	CHECK(stats.tcp_flows == 64 && stats.descriptors == 64);
	CHECK(stats.tcp_out_refused > FLOOD / 2);
	uint64_t live = test_alloc_live();
	CHECK(live < 300);
	others_go_on();
	CHECK(now()->limit_refused > 0); /* the flood has given up a place */
	world_stop(&w);
}

static void fragments(void)
{
	begin();
	for (uint32_t i = 0; i < FLOOD; i++) {
		uint8_t frame[34 + 512] = { 0 };
		/* First, middle and overlapping ones of ever new datagrams. */
		ip4(frame, WH_WIRE_PROTO_UDP, 0xc0000201, 512, (uint16_t)i,
		    (uint16_t)((i % 3 * 60000 & 0xfff8) | 1));
		inject(frame, sizeof frame);
		if (i % 100 == 0)
			wh_loop_step(w.loop, 0);
	}
	CHECK(now()->stack.fragments_in == FLOOD);
	CHECK(test_alloc_live() < 100);
	CHECK_EQ(stats.udp_flows, 0);
	others_go_on();
	world_stop(&w);
}

static void neighbours(void)
{
	begin();
	for (uint32_t i = 0; i < FLOOD; i++) {
		uint8_t frame[60] = { 0 };
		struct wh_wire_arp arp = { .op = WH_WIRE_ARP_REQUEST,
					   .sender_ip = { 10, 0, 2, (uint8_t)(100 + i % 100) },
					   .target_ip = { 10, 0, 2, 2 } };
		memcpy(arp.sender_mac, bad_mac, 6);
		wh_store_be16(frame + 12, WH_WIRE_ETH_ARP);
		wh_wire_arp_emit(frame + 14, &arp);
		inject(frame, sizeof frame);
		if (i % 100 == 0)
			world_settle(&w);
	}
	CHECK(now()->stack.arp_in >= FLOOD);
	CHECK(test_alloc_live() < 100);
	others_go_on();
	world_stop(&w);
}

static void datagrams(void)
{
	begin();
	for (uint32_t i = 0; i < FLOOD; i++) {
		uint8_t frame[34 + 9] = { 0 };
		struct wh_wire_udp udp = { .from = (uint16_t)(1024 + i), .to = 9, .size = 9 };
		/* The gateway's own port 9: a closed port of the host, so that nothing leaves it. */
		wh_wire_udp_emit(ip4(frame, WH_WIRE_PROTO_UDP, 0x0a000202, 9, 0, 0), &udp);
		inject(frame, sizeof frame);
		if (i % 100 == 0)
			wh_loop_step(w.loop, 0);
	}
	CHECK(now()->udp_flows <= WH_GATEWAY_UDP_FLOWS_MAX);
	CHECK_EQ(stats.udp_flows_opened, FLOOD);
	CHECK(stats.udp_evicted >= FLOOD - WH_GATEWAY_UDP_FLOWS_MAX);
	others_go_on();
	world_stop(&w);
}

/* Without a switch nobody checks whose lease is asked for: the table is all that can be had. */
static void leases(void)
{
	struct wh_gateway_lease list[WH_GATEWAY_LEASES_MAX];
	begin();
	for (uint32_t i = 0; i < FLOOD; i++) {
		uint8_t frame[42 + WH_WIRE_DHCP_SIZE_MAX] = { 0 };
		struct wh_wire_dhcp d = { .op = 1,
					  .type = WH_WIRE_DHCP_DISCOVER,
					  .transaction = i };
		wh_store_be32(d.mac + 2, i);
		d.mac[0] = 2;
		size_t size = wh_wire_dhcp_emit(frame + 42, &d);
		struct wh_wire_udp udp = { .from = 68, .to = 67, .size = (uint16_t)(8 + size) };
		wh_wire_udp_emit(
			ip4(frame, WH_WIRE_PROTO_UDP, 0xffffffff, (uint16_t)(8 + size), 0, 0),
			&udp);
		inject(frame, (uint32_t)(42 + size));
		if (i % 100 == 0)
			world_settle(&w);
	}
	CHECK_EQ(wh_gateway_lease_list(w.gateway, list, WH_GATEWAY_LEASES_MAX),
		 WH_GATEWAY_LEASES_MAX);
	CHECK_EQ(now()->dhcp_exhausted, FLOOD - WH_GATEWAY_LEASES_MAX);
	others_go_on();
	world_stop(&w);
}

int main(void)
{
	RUN(connections);
	RUN(fragments);
	RUN(neighbours);
	RUN(datagrams);
	RUN(leases);
	return test_end();
}
