/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_VHOST_PORT_H
#define WHERRY_VHOST_PORT_H

/*
 * A port (wherry/net_frame.h) that is the back end of a vhost-user network device: a virtual machine monitor
 * (QEMU -netdev vhost-user, Cloud Hypervisor --net vhost_user=true) shares its guest's memory, and frames
 * cross in its virtqueues, with checksums and segmentation left undone.
 *
 * Offered: MRG_RXBUF, CSUM, GUEST_CSUM, TSO4, TSO6 and USO both ways, MTU, INDIRECT, EVENT_IDX,
 * VERSION_1 (legacy drivers work, too), MQ up to WH_VHOST_PAIRS_MAX pairs (each flow
 * comes to the pair that the guest sends it on). Of the protocol: MQ, REPLY_ACK, NET_MTU, CONFIGURE_MEM_SLOTS. Not offered, and so refused by the
 * monitor: dirty logging (live migration), IOMMU, in-flight tracking, in-band notification. A monitor that
 * reconnects is a new client.
 *
 * The front end is not trusted: each message, table and descriptor is checked; memory is reached through
 * wh_gmem only. What breaks the protocol ends the client; what breaks a ring stops that ring until it is set up
 * again. Memory must be shared memory (memfd, tmpfs, hugetlbfs): a file of another kind could make us wait.
 * Memory that is not sealed against shrinking (QEMU's memfd is) can be taken away while we use it, which is
 * SIGBUS: a program that serves strangers calls wh_vhost_port_fault from its handler.
 *
 * Threads: the loop's. Memory: 130 KiB. Descriptors: three per ring, and one per message under way.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/mem.h>
#include <wherry/loop.h>
#include <wherry/net_frame.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WH_VHOST_PAIRS_MAX 8u        /* queue pairs */
#define WH_VHOST_RING_SIZE_MAX 1024u /* entries; QEMU's largest */

struct wh_vhost_port;

struct wh_vhost_config {
	size_t size; /* sizeof(struct wh_vhost_config) */
	int fd; /* connected stream socket, non-blocking; stays the caller's, who closes it after _free */
	uint32_t mtu; /* 0 = 1500; up to 65535 */
	/* The front end has left or was sent away. Called from the loop, last: the port may be freed
	 * in it. */
	void (*gone)(void *ctx, const char *why);
	void *ctx;
	const struct wh_alloc *alloc; /* NULL = malloc */
};

struct wh_vhost_stats {
	uint64_t frames_in, bytes_in, frames_out, bytes_out; /* in = from the guest */
	uint64_t kicks, calls; /* notifications from and to the guest */
	uint64_t messages;
	uint64_t bad_in;      /* frames that are too short or whose header makes no sense */
	uint64_t bad_rings;   /* rings that broke their contract and were stopped */
	uint64_t blocked_out; /* sends that found no buffers */
	uint64_t lost_out;    /* for no started ring, or larger than the guest's buffers */
};

/* -WH_EINVAL, -WH_ENOMEM, -errno of epoll. Attach a user to the port before the loop runs. */
int wh_vhost_port_new(const struct wh_vhost_config *config, struct wh_loop *loop,
		      struct wh_vhost_port **ret_vhost);
void wh_vhost_port_free(
	struct wh_vhost_port *vhost); /* after the user was detached; NULL is allowed */
struct wh_net_port *wh_vhost_port_port(struct wh_vhost_port *vhost);
void wh_vhost_port_stats(const struct wh_vhost_port *vhost, struct wh_vhost_stats *ret_stats);

/* A fault at this address: was it memory of the front end that is gone? Then zeroes are there now, the client is
 * sent away in the loop's next round, and the handler may return. Signal-safe. */
bool wh_vhost_port_fault(struct wh_vhost_port *vhost, const void *address);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
