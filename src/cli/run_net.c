/* SPDX-License-Identifier: ISC */
/*
 * --net: where a network device leads when it is not the gateway, and how fast.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/dev_net.h>
#include <wherry/net_link.h>
#include <wherry/net_tap.h>
#include <wherry/socket_port.h>
#include <wherry/tap.h>

#include "run.h"

#define TAP_FEATURES (WH_NET_LINK_CSUM | WH_NET_LINK_TSO4 | WH_NET_LINK_TSO6)

/* One per process; the end of the process gives it back. */
static struct {
	struct wh_dev_net *device;
	struct wh_net_tap *tap;
	struct wh_socket_port *socket;
	struct wh_net_link *link;
	struct wh_net_limit *limit;
} net;

struct wh_net_port *run_net_limited(struct run *r, struct wh_net_port *port)
{
	struct wh_net_rate rate = { .bytes_per_second = r->options.net_rate };
	if (!rate.bytes_per_second || wh_net_limit_new(port, &rate, &rate, r->loop, &net.limit) < 0)
		return port;
	return wh_net_limit_port(net.limit);
}

static int fail(const struct run *r, const char *why)
{
	cli_error("--net %s: %s: %s", r->options.net, why, strerror(errno));
	return -1;
}

/* An interface that somebody made for this user (ip tuntap add NAME mode tap user ...). */
static int open_tap(const struct run *r, const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	if (!*name || strlen(name) >= sizeof request.ifr_name) {
		errno = EINVAL;
		return fail(r, "the interface's name");
	}
	strcpy(request.ifr_name, name);
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return fail(r, "cannot open /dev/net/tun");
	if (ioctl(fd, TUNSETIFF, &request)) {
		close(fd);
		return fail(r, "cannot take the interface");
	}
	return fd;
}

static int connect_unix(const struct run *r, const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	if (!*path || strlen(path) >= sizeof to.sun_path) {
		errno = ENAMETOOLONG;
		return fail(r, "the socket's name");
	}
	strcpy(to.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) {
		wh_os_close(&fd);
		return fail(r, "cannot connect");
	}
	return fd;
}

static int open_end(const struct run *r)
{
	const char *where = r->options.net;
	uint64_t number;
	if (!strncmp(where, "tap=", 4))
		return open_tap(r, where + 4);
	if (!strncmp(where, "unix=", 5))
		return connect_unix(r, where + 5);
	if (!strncmp(where, "fd=", 3) &&
	    cli_parse_number(where + 3, strlen(where + 3), 1u << 20, &number) >= 0 && number > 2) {
		/* ours from now on: what is only inherited is closed when the monitor confines itself */
		if (fcntl((int)number, F_SETFD, FD_CLOEXEC) >= 0)
			return (int)number;
		return fail(r, "no such descriptor");
	}
	cli_error("--net is gateway, none, tap=NAME, unix=PATH or fd=N, not %s", where);
	return -1;
}

static void lost(void *ctx)
{
	cli_error("the guest's network is gone");
}

static void left(void *ctx, const char *why)
{
	cli_error("the guest's network is gone: %s", why);
}

/* A tap or a socket, whichever it is. */
static int make_port(struct run *r, int fd, struct wh_net_port **ret_port)
{
	int type = 0, header = WH_TAP_HEADER_SIZE;
	socklen_t size = sizeof type;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return fail(r, "cannot be used without blocking");
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0) {
		struct wh_socket_config c = { .size = sizeof c,
					      .fd = fd,
					      .protocol = type == SOCK_STREAM
								  ? WH_SOCKET_QEMU
								  : WH_SOCKET_QEMU_DGRAM,
					      .gone = left };
		int error = wh_socket_port_new(&c, r->loop, &net.socket);
		errno = -error;
		if (error < 0)
			return fail(r, "cannot use the socket");
		*ret_port = wh_socket_port_port(net.socket);
		return 0;
	}
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) ||
	    ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6))
		return fail(r, "neither a socket nor a tap with virtio headers");
	struct wh_net_tap_config c = {
		.size = sizeof c, .fd = fd, .mtu = 1500, .link_features = TAP_FEATURES, .gone = lost
	};
	int error = wh_net_tap_new(&c, r->loop, &net.tap);
	errno = -error;
	if (error < 0)
		return fail(r, "cannot use the tap");
	*ret_port = wh_net_tap_port(net.tap);
	return 0;
}

int run_net_attach(struct run *r)
{
	struct wh_diag diag = { "" };
	struct wh_net_port *far;
	struct wh_dev_net_config config = { .size = sizeof config, .log = r->log };
	if (wh_streq(r->options.net, "none"))
		return CLI_OK;
	if (r->options.gateway.given) {
		cli_error("-p, --control and other options of the gateway need --net gateway");
		return CLI_ERROR;
	}
	int fd = open_end(r);
	if (fd < 0 || make_port(r, fd, &far) < 0)
		return CLI_ERROR;
	wh_os_random(config.mac, sizeof config.mac);
	config.mac[0] = (uint8_t)((config.mac[0] & ~1) | 2); /* local, one station's */
	config.offloads = far->link_features;
	int error = wh_dev_net_new(&config, r->machine, &net.device, &diag);
	if (error >= 0)
		error = wh_net_link_new(run_net_limited(r, wh_dev_net_port(net.device)), far,
					&net.link);
	if (error >= 0)
		return CLI_OK;
	cli_error("network: %s (errno %d)", diag.text, -error);
	return CLI_ERROR;
}
