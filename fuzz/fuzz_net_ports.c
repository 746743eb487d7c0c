/* SPDX-License-Identifier: ISC */
/*
 * Bytes of a client into a port on a socket, with a switch and a gateway behind. First byte: protocol, and
 * whether VPNKit's handshake is made right first. Then records: a size and so many bytes in one write; size
 * 255 lets the client read.
 */
#include "../src/host/gateway/socket_wire.h"

#include <sys/socket.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/net_switch.h>
#include <wherry/os.h>
#include <wherry/test.h>

static struct {
	struct wh_loop *loop;
	struct wh_gateway *gateway;
	struct wh_net_switch *net_switch;
	struct wh_socket_port *socket;
	struct wh_net_guest *guest;
	bool gone;
} f;

static const char *request(void *ctx, const struct wh_socket_request *request, uint8_t ret_mac[6])
{
	static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };
	if (wh_gateway_lease_set(f.gateway, mac, request->ip4) == -WH_EADDRINUSE)
		return "in use";
	memcpy(ret_mac, mac, 6);
	return wh_net_switch_add(f.net_switch, wh_socket_port_port(f.socket), mac, &f.guest)
		       ? "no room"
		       : NULL;
}

static void gone(void *ctx, const char *why)
{
	CHECK(why && !f.gone);
	f.gone = true;
}

static void begin(enum wh_socket_protocol protocol, int fd)
{
	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
	struct wh_socket_config port = { .size = sizeof port,
					 .fd = fd,
					 .protocol = protocol,
					 .request = request,
					 .gone = gone,
					 .alloc = &test_allocator };
	memset(&f, 0, sizeof f);
	config.alloc = &test_allocator;
	config.no_outbound = true;
	config.hosts = "";
	config.resolv_conf = "/nonexistent";
	CHECK_EQ(wh_loop_new(&f.loop), 0);
	CHECK_EQ(wh_gateway_new(&config, f.loop, &f.gateway, NULL), 0);
	CHECK_EQ(wh_net_switch_new(f.gateway, f.loop, &test_allocator, &f.net_switch), 0);
	CHECK_EQ(wh_socket_port_new(&port, f.loop, &f.socket), 0);
	if (protocol != WH_SOCKET_VPNKIT)
		CHECK_EQ(wh_net_switch_add(f.net_switch, wh_socket_port_port(f.socket), NULL,
					   &f.guest),
			 0);
}

static void end(void)
{
	if (f.guest)
		wh_net_switch_remove(f.net_switch, f.guest);
	wh_socket_port_free(f.socket);
	wh_net_switch_free(f.net_switch);
	wh_gateway_free(f.gateway);
	wh_loop_free(f.loop);
}

static void put(int fd, const void *bytes, size_t size)
{
	(void)!send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	for (int i = 0; i < 4 && !f.gone && wh_loop_step(f.loop, 0) > 0; i++)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2];
	uint8_t first = size ? data[0] : 0, hello[VPNKIT_HELLO_SIZE];
	enum wh_socket_protocol protocol = (enum wh_socket_protocol)(first % 3);
	int type = protocol == WH_SOCKET_QEMU_DGRAM ? SOCK_DGRAM : SOCK_STREAM;
	CHECK_EQ(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	begin(protocol, pair[0]);
	if (protocol == WH_SOCKET_VPNKIT && first & 0x80) {
		vpnkit_hello_emit(hello);
		put(pair[1], hello, sizeof hello);
		put(pair[1],
		    "\1"
		    "01234567-89ab-cdef-0123-456789abcdef\0\0\0",
		    VPNKIT_COMMAND_SIZE);
	}
	for (size_t at = 1, n; at < size && !f.gone; at += n) {
		uint8_t answers[4096];
		n = data[at++];
		if (n == 255)
			(void)!read(pair[1], answers, sizeof answers);
		n = n == 255 ? 0 : n > size - at ? size - at : n;
		put(pair[1], data + at, n);
	}
	wh_os_close(&pair[1]);
	for (int i = 0; i < 4 && !f.gone && wh_loop_step(f.loop, 0) > 0; i++)
		;
	CHECK(f.gone || type == SOCK_DGRAM);
	end();
	wh_os_close(&pair[0]);
	return 0;
}
