/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_NET_LINK_H
#define WHERRY_NET_LINK_H

/*
 * A link between two ports (wherry/net_frame.h) that both are provided by somebody: a network device and a tap, a
 * network device and a socket. It is the user of both, hands each frame on, and makes one side wait
 * while the other has no room. Each direction may be limited by a token bucket of bytes: a frame passes while
 * there are tokens and may make debts; then the sender waits until they are paid.
 *
 * wh_net_limit is the bucket alone: it stands before a port and is one itself.
 *
 * Threads: the loop's.
 */

#include <stdint.h>
#include <wherry/loop.h>
#include <wherry/net_frame.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_net_rate {
	uint64_t bytes_per_second; /* 0 = no limit */
	uint64_t burst;            /* bytes; 0 = a tenth of a second, at least a largest frame */
};

struct wh_net_link;
struct wh_net_limit;

/* -WH_ENOMEM. The ports outlive the link. */
int wh_net_link_new(struct wh_net_port *a, struct wh_net_port *b, struct wh_net_link **ret_link);
void wh_net_link_free(struct wh_net_link *link); /* NULL is allowed */

/* in: frames that the port delivers; out: frames that are sent to it. -WH_ENOMEM. */
int wh_net_limit_new(struct wh_net_port *port, const struct wh_net_rate *in,
		     const struct wh_net_rate *out, struct wh_loop *loop,
		     struct wh_net_limit **ret_limit);
void wh_net_limit_free(struct wh_net_limit *limit); /* NULL is allowed */
/* The port to use instead of the one that is limited. */
struct wh_net_port *wh_net_limit_port(struct wh_net_limit *limit);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
