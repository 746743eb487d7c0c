/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_NET_TAP_H
#define WHERRY_NET_TAP_H

/*
 * A port (wherry/net_frame.h) on a tap descriptor (wherry/tap.h): the kernel behind it is the
 * guest. One system call per frame in either direction; a frame is up to 64 KiB, the header's
 * offload words are translated, payload is copied by the kernel only.
 *
 * Threads: the loop's. Memory: one buffer of 64 KiB. Errors of the guest are counters.
 */

#include <stddef.h>
#include <stdint.h>
#include <wherry/base/mem.h>
#include <wherry/loop.h>
#include <wherry/net_frame.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_net_tap;

struct wh_net_tap_config {
	size_t size; /* sizeof(struct wh_net_tap_config) */
	int fd;      /* non-blocking; stays the caller's, who closes it after _free */
	uint32_t mtu;
	/* WH_NET_LINK_*: what the port's user may leave undone. The kernel finishes everything that
	 * a tap with the virtio-net header can be handed. */
	uint32_t link_features;
	/* The interface is gone (its namespace ended). May be NULL. Called from the loop, last. */
	void (*gone)(void *ctx);
	void *ctx;
	const struct wh_alloc *alloc; /* NULL = malloc */
};

struct wh_net_tap_stats {
	uint64_t frames_in, bytes_in, frames_out, bytes_out; /* in = from the guest */
	uint64_t bad_in;                                     /* headers that make no sense */
	uint64_t blocked_out;                                /* sends that found no room */
	uint64_t lost_out; /* refused by the kernel: the interface was down */
};

/* -WH_ENOMEM, -errno of epoll. Attach a user to the port before the loop runs. */
int wh_net_tap_new(const struct wh_net_tap_config *config, struct wh_loop *loop,
		   struct wh_net_tap **ret_tap);
void wh_net_tap_free(struct wh_net_tap *tap); /* after the user was detached; NULL is allowed */
struct wh_net_port *wh_net_tap_port(struct wh_net_tap *tap);
void wh_net_tap_stats(const struct wh_net_tap *tap, struct wh_net_tap_stats *ret_stats);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
