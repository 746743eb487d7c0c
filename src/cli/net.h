/* SPDX-License-Identifier: ISC */
#ifndef CLI_NET_H
#define CLI_NET_H

/*
 * `wherry net`, in parts: cmd_net.c reads the options and runs the gateway, net_child.c is the
 * process that enters namespaces, makes the tap there and becomes the command; net_serve.c lets machines
 * of others in; net_control.c talks to a gateway that runs.
 */

#include <sys/types.h>
#include <wherry/gateway.h>
#include <wherry/socket_port.h>
#include <wherry/tap.h>

#include "cli.h"
#include "gateway_options.h"

#define NET_LISTEN_MAX 16u
#define NET_INSIDE_MAX 64u

struct net_options {
	bool attach, serve, no_splice;
	const char *listen[NET_LISTEN_MAX];
	unsigned listen_count;
	struct {
		uint16_t inside, host;
	} loopback_ports[NET_INSIDE_MAX];
	unsigned loopback_port_count;
	const char *protocol; /* of addresses that do not say; NULL = qemu */
	const char *netns, *interface;
	uint32_t mtu;
	bool map_root, verbose;
	struct gateway_options gateway;
	int ready_fd;      /* -1 = none */
	char *const *argv; /* of the command */
};

struct net_child {
	pid_t pid;
	int fd;  /* the tap */
	int net; /* the namespace; -1 = not known */
	uint32_t offloads;
	int socket; /* run: the command waits for net_child_go */
};

/* Makes the child; when this returns, the interface is there and up. Messages are printed; 0 or an
 * exit status. attach: the child has ended again. */
int net_child_start(const struct net_options *o, const struct wh_tap_config *tap,
		    const uint8_t dns[4], struct net_child *ret_child);
/* Lets the command begin. 0 or the exit status when it cannot be executed. */
int net_child_go(const struct net_options *o, struct net_child *child);

/* Enters a network namespace and the user namespace that owns it. 0 or -errno. */
int net_namespace_enter(int net);
/* A process in the namespace that makes sockets for net_inside_socket (guest_socket of a gateway's config). NULL = none
 * could be made. */
struct net_inside;
struct net_inside *net_inside_start(int net);
int net_inside_socket(void *ctx, int domain);

/* serve: the protocol's name; CLI_BAD with a message. */
int net_protocol_take(struct net_options *o, const char *text);
/* Listens, or takes the connection that was inherited. Messages are printed; an exit status. */
int net_serve_start(const struct net_options *o, struct wh_loop *loop, struct wh_gateway *gateway);
/* Removes the socket's name; says what was carried when that is wanted. */
void net_serve_end(bool show);

#endif
