/* SPDX-License-Identifier: ISC */
/* Ports on sockets and the switch: a peer speaks the protocols' bytes by hand. */
#include "../socket_wire.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/net_switch.h>
#include <wherry/os.h>
#include <wherry/test.h>

static const uint8_t mac_a[6] = { 2, 0, 0, 0, 0, 0xa }, mac_b[6] = { 2, 0, 0, 0, 0, 0xb };
static const uint8_t everyone[6] = { 255, 255, 255, 255, 255, 255 };
static const uint8_t gateway_mac[6] = { 0x52, 0x55, 0x0a, 0, 2, 2 };

/* ---- one port with a user that notes what comes ---- */

static struct {
	struct wh_loop *loop;
	struct wh_socket_port *socket;
	struct wh_net_port *port;
	int fd, peer;
	uint32_t frames, bytes, sum, refuse, writable, changed;
	bool peer_reads; /* all there is, when a frame comes */
	const char *gone;
	struct wh_socket_request request;
	const char *answer;
} t;

static void peer_read_all(void)
{
	uint8_t bytes[4096];
	while (read(t.peer, bytes, sizeof bytes) > 0)
		;
}

static int receive(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	uint8_t bytes[4096];
	if (t.refuse) {
		t.refuse--;
		return -WH_EAGAIN;
	}
	if (t.peer_reads)
		peer_read_all();
	size_t n = wh_iov_read(frame->iov, frame->iov_count, 0, bytes, sizeof bytes);
	for (size_t i = 0; i < n; i++)
		t.sum = t.sum * 31 + bytes[i];
	t.frames++;
	t.bytes += frame->size;
	return 0;
}

static void writable(struct wh_net_port *port)
{
	t.writable++;
}

static void gone(void *ctx, const char *why)
{
	t.gone = why;
}

static void changed(void *ctx)
{
	t.changed++;
}

static const char *request(void *ctx, const struct wh_socket_request *request, uint8_t ret_mac[6])
{
	t.request = *request;
	memcpy(ret_mac, mac_a, 6);
	return t.answer;
}

static void port_make(enum wh_socket_protocol protocol, int fd)
{
	struct wh_socket_config config = { .size = sizeof config,
					   .fd = fd,
					   .protocol = protocol,
					   .request = request,
					   .changed = changed,
					   .gone = gone,
					   .alloc = &test_allocator };
	CHECK_EQ(wh_socket_port_new(&config, t.loop, &t.socket), 0);
	t.port = wh_socket_port_port(t.socket);
	t.port->receive = receive;
	t.port->writable = writable;
}

static void begin(enum wh_socket_protocol protocol)
{
	int pair[2];
	bool dgram = protocol == WH_SOCKET_QEMU_DGRAM;
	memset(&t, 0, sizeof t);
	CHECK_EQ(socketpair(AF_UNIX, (dgram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0, pair),
		 0);
	t.fd = pair[0];
	t.peer = pair[1];
	CHECK_EQ(wh_loop_new(&t.loop), 0);
	port_make(protocol, t.fd);
}

static void end(void)
{
	wh_socket_port_free(t.socket);
	wh_loop_free(t.loop);
	wh_os_close(&t.fd);
	wh_os_close(&t.peer);
}

static void settle(void)
{
	while (wh_loop_step(t.loop, 0) > 0)
		;
}

static void put(const void *bytes, size_t size)
{
	CHECK_EQ(send(t.peer, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static uint32_t frame_make(enum wh_socket_protocol protocol, uint8_t *to, uint32_t size)
{
	uint32_t header = socket_header_size(protocol);
	socket_header_emit(protocol, to, size);
	for (uint32_t i = 0; i < size; i++)
		to[header + i] = (uint8_t)(i * 7 + size);
	return header + size;
}

static void handshake(void)
{
	uint8_t bytes[VPNKIT_HELLO_SIZE + VPNKIT_ANSWER_SIZE], command[VPNKIT_COMMAND_SIZE] = { 1 };
	memcpy(command + 1, "01234567-89ab-cdef-0123-456789abcdef", 36);
	vpnkit_hello_emit(bytes);
	put(bytes, VPNKIT_HELLO_SIZE);
	put(command, sizeof command);
	settle();
	CHECK_EQ(read(t.peer, bytes, sizeof bytes), (ssize_t)sizeof bytes);
	CHECK_EQ(bytes[VPNKIT_HELLO_SIZE], 1);
}

static void cuts(void)
{
	static const enum wh_socket_protocol protocols[] = { WH_SOCKET_QEMU, WH_SOCKET_VPNKIT };
	static uint8_t stream[40000];
	uint32_t random = 1;
	for (int p = 0; p < 2; p++) {
		uint32_t size = 0, wanted = 0, sum = 0;
		for (uint32_t i = 0; i < 20; i++, wanted++)
			size += frame_make(protocols[p], stream + size, 14 + i * 97);
		for (uint32_t way = 0; way < 30; way++) {
			begin(protocols[p]);
			if (p)
				handshake();
			for (uint32_t at = 0, n; at < size; at += n) {
				random = random * 1103515245 + 12345;
				n = way ? 1 + (random >> 16) % (way * 40) : 1;
				n = n > size - at ? size - at : n;
				t.refuse = way % 3 == 1 && !(random & 0x70000);
				put(stream + at, n);
				settle();
				t.refuse = 0;
				t.port->resume(t.port);
				settle();
			}
			sum = way ? sum : t.sum;
			CHECK_EQ(t.frames, wanted);
			CHECK_EQ(t.sum, sum);
			CHECK(!t.gone);
			end();
		}
	}
}

static void handshake_vectors(void)
{
	uint8_t hello[VPNKIT_HELLO_SIZE], bytes[512], command[VPNKIT_COMMAND_SIZE] = { 8 };
	struct wh_socket_request r;
	vpnkit_hello_emit(hello);
	CHECK_MEM(hello, "VMN3T\x16\0\0\0", 9);
	CHECK(!vpnkit_hello_check(hello));
	hello[5] = 21;
	CHECK(vpnkit_hello_check(hello));
	memcpy(command + 1, "01234567-89ab-cdef-0123-456789abcdef\x05\x41\xa8\xc0", 40);
	CHECK(!vpnkit_command_parse(command, &r));
	CHECK_MEM(r.ip4, "\xc0\xa8\x41\x05", 4); /* 192.168.65.5, little-endian on the wire */
	command[1] = 'x';
	CHECK(vpnkit_command_parse(command, &r));
	vpnkit_vif_emit(bytes, 1500, mac_a);
	CHECK_MEM(bytes, "\x01\xdc\x05\x0e\x06\x02\0\0\0\0\x0a", 11);
	vpnkit_disconnect_emit(bytes, "no");
	CHECK_MEM(bytes, "\x02\x02no\0", 5);

	/* byte by byte, with a frame right behind */
	begin(WH_SOCKET_VPNKIT);
	vpnkit_hello_emit(bytes);
	memset(bytes + VPNKIT_HELLO_SIZE, 0, VPNKIT_COMMAND_SIZE);
	bytes[VPNKIT_HELLO_SIZE] = 1;
	memcpy(bytes + VPNKIT_HELLO_SIZE + 1, "01234567-89ab-cdef-0123-456789abcdef", 36);
	uint32_t n = VPNKIT_HELLO_SIZE + VPNKIT_COMMAND_SIZE;
	n += frame_make(WH_SOCKET_VPNKIT, bytes + n, 60);
	for (uint32_t i = 0; i < n; i++) {
		put(bytes + i, 1);
		settle();
	}
	CHECK_EQ(t.frames, 1);
	CHECK_EQ(read(t.peer, bytes, sizeof bytes), VPNKIT_HELLO_SIZE + VPNKIT_ANSWER_SIZE);
	CHECK_MEM(bytes + VPNKIT_HELLO_SIZE + 5, mac_a, 6);
	CHECK_MEM(t.request.uuid, "01234567", 8);
	end();
}

static void refused_with(const void *hello, const uint8_t *command, const char *answer)
{
	uint8_t bytes[VPNKIT_HELLO_SIZE + VPNKIT_ANSWER_SIZE];
	begin(WH_SOCKET_VPNKIT);
	t.answer = answer;
	put(hello, VPNKIT_HELLO_SIZE);
	put(command, VPNKIT_COMMAND_SIZE);
	settle();
	CHECK(t.gone);
	CHECK_EQ(read(t.peer, bytes, sizeof bytes), (ssize_t)sizeof bytes);
	CHECK_EQ(bytes[VPNKIT_HELLO_SIZE], 2);
	CHECK_EQ(bytes[VPNKIT_HELLO_SIZE + 1], strlen(t.gone));
	end();
}

static void hostile(void)
{
	static uint8_t junk[VPNKIT_HELLO_SIZE];
	uint8_t hello[VPNKIT_HELLO_SIZE], command[VPNKIT_COMMAND_SIZE] = { 1 };
	memcpy(command + 1, "01234567-89ab-cdef-0123-456789abcdef", 36);
	vpnkit_hello_emit(hello);
	refused_with(junk, command, NULL);
	refused_with(hello, command, "no room");
	command[0] = 6;
	refused_with(hello, command, NULL);
	command[0] = 77;
	refused_with(hello, command, NULL);

	/* cut: nothing but half a hello, then gone */
	begin(WH_SOCKET_VPNKIT);
	put(hello, 20);
	settle();
	wh_os_close(&t.peer);
	settle();
	CHECK(t.gone);
	CHECK_EQ(t.frames, 0);
	end();

	/* a length over the limit ends it at once, without waiting for the bytes */
	begin(WH_SOCKET_QEMU);
	uint8_t bytes[64] = { 0, 2, 0, 0 };
	put(bytes, 4);
	settle();
	CHECK(t.gone);
	end();

	/* too short, empty: dropped and counted; the next one is fine */
	struct wh_socket_stats stats;
	begin(WH_SOCKET_QEMU);
	put("\0\0\0\0\0\0\0\5hello", 13);
	put(bytes, frame_make(WH_SOCKET_QEMU, bytes, 20));
	settle();
	wh_socket_port_stats(t.socket, &stats);
	CHECK_EQ(stats.bad_in, 2);
	CHECK_EQ(t.frames, 1);
	end();
}

static int send_frame(uint32_t size)
{
	static uint8_t bytes[4096];
	struct wh_iov iov[2] = { { bytes, 14 }, { bytes + 14, size - 14 } };
	struct wh_net_frame frame = { .iov = iov, .iov_count = 2, .size = size };
	return t.port->send(t.port, &frame);
}

/* A peer that does not read: bounded, -WH_EAGAIN, then everything in order. */
static void stops_reading(enum wh_socket_protocol protocol)
{
	static uint8_t bytes[1 << 20];
	begin(protocol);
	bool dgram = protocol == WH_SOCKET_QEMU_DGRAM;
	uint32_t sent = 0;
	if (protocol == WH_SOCKET_VPNKIT)
		handshake();
	while (!send_frame(1514)) {
		CHECK(++sent < 10000);
		if (sent % 50 == 0)
			t.port->flush(t.port);
	}
	CHECK(sent > 20);
	settle();
	CHECK_EQ(t.writable, 0);
	uint64_t wanted = (uint64_t)sent * (1514 + socket_header_size(protocol)), got = 0;
	for (ssize_t n;; settle()) {
		while ((n = read(t.peer, bytes, dgram ? 2000 : sizeof bytes)) > 0)
			got += (uint64_t)n;
		if (got == wanted)
			break;
	}
	settle();
	CHECK_EQ(t.writable, 1);
	CHECK_EQ(send_frame(1514), 0);
	t.port->flush(t.port);
	CHECK_EQ(read(t.peer, bytes, sizeof bytes), 1514 + socket_header_size(protocol));
	struct wh_socket_stats stats;
	wh_socket_port_stats(t.socket, &stats);
	CHECK_EQ(stats.blocked_out, 1);
	CHECK(stats.calls_out * (dgram ? 4 : 20) < stats.frames_out);
	end();
}

static void slow_readers(void)
{
	stops_reading(WH_SOCKET_QEMU);
	stops_reading(WH_SOCKET_VPNKIT);
	stops_reading(WH_SOCKET_QEMU_DGRAM);
}

/* A full link gets room while a frame comes in, or when it is flushed, before the loop says that it is writable. Who
 * waits for room must hear of it all the same. */
static void room_before_the_event(enum wh_socket_protocol protocol, bool by_frame)
{
	uint8_t frame[100];
	uint32_t size = frame_make(protocol, frame, 60);
	begin(protocol);
	while (!send_frame(1514))
		;
	settle();
	CHECK_EQ(t.writable, 0);
	if (by_frame) {
		t.peer_reads = true;
		put(frame, size);
	} else {
		peer_read_all();
		t.port->flush(t.port);
	}
	for (int i = 0; i < 3; i++) {
		settle();
		peer_read_all();
	}
	CHECK_EQ(t.frames, by_frame);
	CHECK_EQ(t.writable, 1);
	CHECK_EQ(wh_loop_step(t.loop, 0), 0); /* and it is not asked for any more */
	CHECK_EQ(send_frame(1514), 0);
	end();
}

static void room_is_told(void)
{
	room_before_the_event(WH_SOCKET_QEMU, true);
	room_before_the_event(WH_SOCKET_QEMU, false);
	room_before_the_event(WH_SOCKET_QEMU_DGRAM, true);
	room_before_the_event(WH_SOCKET_QEMU_DGRAM, false);
}

/* The first who sends has the link until it is gone. */
static void dgram_peers(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX }, self[2] = { { 0 }, { 0 } };
	char folder[] = "/tmp/wherry-ports-XXXXXX";
	uint8_t frame[60] = { 1 };
	int peers[2];
	begin(WH_SOCKET_QEMU_DGRAM);
	wh_socket_port_free(t.socket);
	wh_os_close(&t.fd);
	CHECK(mkdtemp(folder));
	wh_format(at.sun_path, sizeof at.sun_path, "%s/wire", folder);
	t.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	CHECK_EQ(bind(t.fd, (struct sockaddr *)&at, sizeof at), 0);
	port_make(WH_SOCKET_QEMU_DGRAM, t.fd);
	CHECK(send_frame(60) < 0); /* nobody is there */
	for (int i = 0; i < 2; i++) {
		self[i].sun_family = AF_UNIX;
		wh_format(self[i].sun_path, sizeof self[i].sun_path, "%s/%u", folder, (unsigned)i);
		peers[i] = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
		CHECK_EQ(bind(peers[i], (struct sockaddr *)&self[i], sizeof self[i]), 0);
		CHECK_EQ(connect(peers[i], (struct sockaddr *)&at, sizeof at), 0);
	}
	CHECK_EQ(send(peers[0], "VFKT", 4, 0), 4); /* what vfkit begins with */
	CHECK_EQ(send(peers[0], frame, 60, 0), 60);
	settle();
	CHECK_EQ(t.frames, 1);
	CHECK_EQ(t.changed, 1);
	CHECK(send(peers[1], frame, 60, 0) < 0); /* the kernel refuses it */
	CHECK_EQ(send_frame(60), 0);
	t.port->flush(t.port);
	CHECK_EQ(read(peers[0], frame, 60), 60);
	wh_os_close(&peers[0]);
	CHECK_EQ(send_frame(60), 0);
	t.port->flush(t.port); /* notices */
	CHECK_EQ(send(peers[1], frame, 60, 0), 60);
	settle();
	CHECK_EQ(t.frames, 2);
	CHECK_EQ(t.changed, 2);
	CHECK(!t.gone);
	/* gone without a frame to notice it by: the probe does */
	wh_os_close(&peers[1]);
	unlink(self[1].sun_path);
	peers[1] = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	CHECK_EQ(bind(peers[1], (struct sockaddr *)&self[1], sizeof self[1]), 0);
	for (int i = 0; i < 100 && connect(peers[1], (struct sockaddr *)&at, sizeof at); i++)
		wh_loop_step(t.loop, 50);
	CHECK_EQ(send(peers[1], frame, 60, 0), 60);
	settle();
	CHECK_EQ(t.changed, 3);
	CHECK_EQ(send_frame(60), 0);
	wh_os_close(&peers[1]);
	for (int i = 0; i < 2; i++)
		unlink(self[i].sun_path);
	unlink(at.sun_path);
	rmdir(folder);
	end();
}

/* ---- the switch ---- */

struct wire {
	struct wh_net_port port;
	struct wh_net_guest *guest;
	uint32_t frames;
	bool full;
	uint8_t last[64];
};

static int wire_send(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	struct wire *w = port->provider;
	if (w->full)
		return -WH_EAGAIN;
	uint8_t first = 0;
	wh_iov_read(frame->iov, frame->iov_count, 0, &first, 1);
	if (first == 0x33)
		return 0; /* a router advertisement: they come when the gateway likes */
	w->frames++;
	wh_iov_read(frame->iov, frame->iov_count, 0, w->last, sizeof w->last);
	return 0;
}

/* A DHCP request for the lease of `client`; words = length of the IPv4 header. */
static void wire_dhcp(struct wire *w, const uint8_t mac[6], const uint8_t client[6], unsigned words)
{
	uint8_t f[400] = { [12] = 8, 0, (uint8_t)(0x40 | words), [23] = 17 };
	struct wh_iov iov = { f, sizeof f };
	struct wh_net_frame frame = { .iov = &iov, .iov_count = 1, .size = sizeof f };
	uint8_t *udp = f + 14 + 4 * words;
	memcpy(f, gateway_mac, 6);
	memcpy(f + 6, mac, 6);
	udp[1] = 68, udp[3] = 67;
	memcpy(udp + 8 + 28, client, 6);
	CHECK_EQ(w->port.receive(&w->port, &frame), 0);
	settle();
}

static void wire_arp(struct wire *w, const uint8_t to[6], const uint8_t mac[6], uint8_t ip,
		     uint8_t target)
{
	uint8_t f[60] = { [12] = 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 };
	struct wh_iov iov = { f, sizeof f };
	struct wh_net_frame frame = { .iov = &iov, .iov_count = 1, .size = sizeof f };
	memcpy(f, to, 6);
	memcpy(f + 6, mac, 6);
	memcpy(f + 22, mac, 6);
	memcpy(f + 28, (uint8_t[4]){ 10, 0, 2, ip }, 4);
	memcpy(f + 38, (uint8_t[4]){ 10, 0, 2, target }, 4);
	CHECK_EQ(w->port.receive(&w->port, &frame), 0);
	settle();
}

static void switching(void)
{
	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
	struct wh_gateway *gateway;
	struct wh_net_switch *sw;
	struct wh_net_switch_stats s;
	struct wh_gateway_addresses addresses;
	struct wire a = { .port = { .send = wire_send, .mtu = 1500, .provider = &a } };
	struct wire b = { .port = { .send = wire_send, .mtu = 1400, .provider = &b } };
	memset(&t, 0, sizeof t);
	config.alloc = &test_allocator;
	CHECK_EQ(wh_loop_new(&t.loop), 0);
	CHECK_EQ(wh_gateway_new(&config, t.loop, &gateway, NULL), 0);
	CHECK_EQ(wh_net_switch_new(gateway, t.loop, &test_allocator, &sw), 0);
	CHECK_EQ(wh_net_switch_add(sw, &a.port, NULL, &a.guest), 0);
	CHECK_EQ(wh_net_switch_add(sw, &b.port, mac_b, &b.guest), 0);
	/* who is 10.0.2.2? The gateway answers the guest that asked; the other hears the question. */
	wire_arp(&a, everyone, mac_a, 15, 2);
	CHECK_EQ(a.frames, 1);
	CHECK_MEM(a.last, mac_a, 6);
	CHECK_MEM(a.last + 22, gateway_mac, 6);
	CHECK_EQ(b.frames, 1);
	wh_gateway_addresses(gateway, &addresses);
	CHECK_MEM(addresses.guest_mac, mac_a, 6); /* it uses the guest's address */
	/* guest to guest */
	wire_arp(&b, mac_a, mac_b, 16, 15);
	CHECK_EQ(a.frames, 2);
	/* spoofed: other MAC, the gateway's address, a neighbour's address, another network's */
	wire_arp(&a, mac_b, mac_b, 15, 2);
	wire_arp(&b, mac_a, mac_b, 2, 15);
	wire_arp(&b, mac_a, mac_b, 3, 15);
	wire_arp(&b, mac_a, mac_b, 15, 15);
	wh_net_switch_stats(sw, &s);
	CHECK_EQ(s.spoofed_mac, 1);
	CHECK_EQ(s.spoofed_ip, 3);
	CHECK_EQ(a.frames, 2);
	CHECK_EQ(b.frames, 1);
	/* leases are asked for by whom they belong to */
	wire_dhcp(&b, mac_b, mac_b, 5);
	wire_dhcp(&b, mac_b, mac_b, 15);
	wh_net_switch_stats(sw, &s);
	CHECK_EQ(s.spoofed_ip, 3);
	wire_dhcp(&b, mac_b, mac_a, 5);
	wire_dhcp(&b, mac_b, mac_a, 15);
	wh_net_switch_stats(sw, &s);
	CHECK_EQ(s.spoofed_ip, 5);
	/* a guest that does not read does not hold up the other */
	a.full = true;
	wire_arp(&b, mac_a, mac_b, 16, 15);
	wire_arp(&b, gateway_mac, mac_b, 16, 2);
	CHECK_EQ(b.frames, 2);
	wh_net_switch_stats(sw, &s);
	CHECK_EQ(s.late, 1);
	/* leases */
	CHECK_EQ(wh_gateway_lease_set(gateway, mac_a, (uint8_t[4]){ 10, 0, 2, 99 }), 0);
	CHECK_EQ(wh_gateway_lease_set(gateway, mac_b, (uint8_t[4]){ 10, 0, 2, 99 }),
		 -WH_EADDRINUSE);
	CHECK_EQ(wh_gateway_lease_set(gateway, mac_b, (uint8_t[4]){ 10, 0, 2, 2 }),
		 -WH_EADDRNOTAVAIL);
	CHECK_EQ(wh_gateway_lease_set(gateway, mac_b, (uint8_t[4]){ 10, 0, 3, 9 }),
		 -WH_EADDRNOTAVAIL);
	/* the last one leaves, another comes: the gateway's link begins again */
	wh_net_switch_remove(sw, a.guest);
	wh_net_switch_remove(sw, b.guest);
	CHECK_EQ(wh_net_switch_guests(sw), 0);
	a.full = false;
	CHECK_EQ(wh_net_switch_add(sw, &a.port, gateway_mac, &a.guest), -WH_EADDRINUSE);
	CHECK_EQ(wh_net_switch_add(sw, &a.port, mac_a, &a.guest), 0);
	wire_arp(&a, everyone, mac_a, 15, 2);
	CHECK_EQ(a.frames, 3);
	wh_net_switch_free(sw);
	wh_gateway_free(gateway);
	wh_loop_free(t.loop);
}

int main(void)
{
	RUN(cuts);
	RUN(handshake_vectors);
	RUN(hostile);
	RUN(slow_readers);
	RUN(room_is_told);
	RUN(dgram_peers);
	RUN(switching);
	return test_end();
}
