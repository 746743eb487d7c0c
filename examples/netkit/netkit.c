/* SPDX-License-Identifier: ISC */
/* A network for virtual machines: QEMU machines (-netdev stream) connect to PATH. Lines on standard input
 * publish a port of the first one ("8080:80"), take the last one back ("-"), show counters ("?").
 *	cc -o netkit netkit.c $(pkg-config --cflags --libs libwherry-net); ./netkit PATH */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/net_switch.h>
#include <wherry/os.h>
#include <wherry/socket_port.h>

static struct wh_loop *loop;
static struct wh_gateway *gateway;
static struct wh_net_switch *guests;

struct client {
	struct wh_socket_port *port; /* NULL = this place is free */
	struct wh_net_guest *guest;
	int fd;
} clients[WH_SWITCH_GUESTS_MAX];

static void gone(void *ctx, const char *why)
{
	struct client *c = ctx;
	wh_net_switch_remove(guests, c->guest);
	wh_socket_port_free(c->port);
	wh_os_close(&c->fd);
	c->port = NULL;
}

static void come(struct wh_loop_fd *listener, uint32_t events)
{
	struct client *c = clients;
	while (c < clients + WH_SWITCH_GUESTS_MAX - 1 && c->port)
		c++;
	int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct wh_socket_config config = { sizeof config, fd, .gone = gone, .ctx = c };
	if (fd < 0 || c->port || wh_socket_port_new(&config, loop, &c->port))
		wh_os_close(&fd);
	else if (c->fd = fd,
		 wh_net_switch_add(guests, wh_socket_port_port(c->port), NULL, &c->guest))
		gone(c, "no room");
}

static void command(const char *line)
{
	static uint32_t last;
	struct wh_gateway_rule rule;
	struct wh_gateway_stats stats;
	struct wh_net_end bound;
	struct wh_diag diag = { "" };
	wh_gateway_stats(gateway, &stats);
	if (*line == '?')
		printf("%u TCP connections, %u rules\n", stats.tcp_flows, stats.rules);
	else if (*line == '-')
		puts(wh_gateway_unpublish(gateway, last) ? "there is none" : "taken back");
	else if (wh_gateway_rule_parse(line, &rule, &diag) ||
		 wh_gateway_publish(gateway, &rule, &last, &bound, &diag))
		puts(diag.text);
	else
		printf("listens on port %u\n", bound.port);
}

int main(int argc, char **argv)
{
	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
	struct sockaddr_un at = { AF_UNIX, "" };
	struct wh_loop_fd listener = { socket(AF_UNIX, SOCK_STREAM, 0), WH_LOOP_READ, come, 0 };
	struct pollfd p[2] = { { 0, POLLIN, 0 }, { 0, POLLIN, 0 } };
	char line[128] = "";
	snprintf(at.sun_path, sizeof at.sun_path, "%s", argc > 1 ? argv[1] : "netkit.sock");
	if (bind(listener.fd, (struct sockaddr *)&at, sizeof at) || listen(listener.fd, 8))
		return perror(at.sun_path), 1;
	if (wh_loop_new(&loop) || wh_gateway_new(&config, loop, &gateway, NULL) ||
	    wh_net_switch_new(gateway, loop, NULL, &guests) || wh_loop_add(loop, &listener))
		return fputs("netkit: no memory\n", stderr), 1;
	setlinebuf(stdout);
	for (p[1].fd = wh_loop_fd(loop); !p[0].revents || fgets(line, sizeof line, stdin);) {
		line[strcspn(line, "\n")] = 0;
		if (p[0].revents)
			command(line);
		wh_loop_step(loop, 0); /* the gateway's part of a loop that is ours */
		uint64_t due = wh_loop_deadline(loop), now = wh_os_now();
		struct timespec wait = { due > now ? (due - now) / 1000000000 : 0,
					 due > now ? (due - now) % 1000000000 : 0 };
		ppoll(p, 2, due == UINT64_MAX ? NULL : &wait, NULL);
	}
	unlink(at.sun_path);
	wh_net_switch_free(guests);
	wh_gateway_free(gateway);
	return 0;
}
