/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_NET_SWITCH_H
#define WHERRY_NET_SWITCH_H

/*
 * Several guests on one gateway. Each guest's port is added; the switch hands frames for the
 * gateway's MAC to it, those for another guest's MAC to that one, broadcast and multicast to all.
 * The gateway's link begins with the first guest and ends with the last.
 *
 * Guests do not trust each other. A guest keeps the MAC that it was given or sent from first, and the addresses
 * that it used first, for as long as it stays: frames from another one's (or the gateway's) MAC or address are dropped
 * and counted, as are its router advertisements. Up to WH_SWITCH_ADDRESSES_MAX addresses are remembered per guest.
 *
 * A guest that stops reading makes the gateway wait while it is alone; among others its
 * frames are dropped after WH_SWITCH_PATIENCE_MS, until it reads again. Between guests nothing waits.
 *
 * Between guests of different links, checksums and segmentation that one leaves undone and the other
 * does not take are done here; the gateway sends what all links take.
 *
 * The guest that uses the gateway's guest address is the one that published ports lead to.
 */

#include <stddef.h>
#include <stdint.h>
#include <wherry/gateway.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WH_SWITCH_GUESTS_MAX 15u /* leases are as many */
#define WH_SWITCH_ADDRESSES_MAX 8u
#define WH_SWITCH_PATIENCE_MS 200u

struct wh_net_switch;
struct wh_net_guest;

struct wh_net_switch_stats {
	uint64_t to_gateway, to_guests, between; /* frames */
	uint64_t spoofed_mac, spoofed_ip;
	uint64_t unknown; /* for a MAC that nobody has */
	uint64_t
		unfinished; /* segments whose headers fit no such frame, for one that does not take them */
	uint64_t late; /* for a guest that does not read */
};

/* -WH_ENOMEM. The gateway has no port. alloc NULL = malloc. */
int wh_net_switch_new(struct wh_gateway *gateway, struct wh_loop *loop,
		      const struct wh_alloc *alloc, struct wh_net_switch **ret_switch);
void wh_net_switch_free(struct wh_net_switch *net_switch); /* removes its guests; NULL is allowed */
/* Becomes the port's user. mac NULL = the one that it sends from first. -WH_ENOSPC, -WH_EADDRINUSE (the
 * MAC), -errno of the gateway. */
int wh_net_switch_add(struct wh_net_switch *net_switch, struct wh_net_port *port,
		      const uint8_t mac[6], struct wh_net_guest **ret_guest);
void wh_net_switch_remove(struct wh_net_switch *net_switch, struct wh_net_guest *guest);
/* Somebody else is behind the port now: MAC and addresses are free. */
void wh_net_switch_changed(struct wh_net_switch *net_switch, struct wh_net_guest *guest);
/* Makes a Unix socket at `path`, for its owner only, where machines of QEMU's "-netdev stream" and its like come to the
 * switch, and go. Other protocols: wherry/socket_port.h and wherry/vhost_port.h. Uses malloc; the switch and the loop outlive
 * it. -WH_EADDRINUSE (a file has this name), -WH_ENAMETOOLONG, -WH_ENOMEM, -errno; diag has a sentence. */
struct wh_net_listener;
int wh_net_switch_listen(struct wh_net_switch *net_switch, struct wh_loop *loop, const char *path,
			 struct wh_net_listener **ret_listener, struct wh_diag *diag);
/* Its machines are gone, and its name. NULL is allowed. */
void wh_net_listener_free(struct wh_net_listener *listener);
uint32_t wh_net_switch_guests(const struct wh_net_switch *net_switch);
void wh_net_switch_stats(const struct wh_net_switch *net_switch,
			 struct wh_net_switch_stats *ret_stats);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
