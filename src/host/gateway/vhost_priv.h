/* SPDX-License-Identifier: ISC */
#ifndef GATEWAY_VHOST_PRIV_H
#define GATEWAY_VHOST_PRIV_H

#include "vhost_wire.h"

#include <wherry/base/errors.h>
#include <wherry/vhost_port.h>
#include <wherry/virtio_wire.h>
#include <wherry/virtq.h>

#define VHOST_RINGS_MAX (2u * WH_VHOST_PAIRS_MAX)
#define VHOST_REGIONS_MAX WH_GMEM_REGIONS_MAX
#define VHOST_RX(pair) (2u * (pair))
#define VHOST_STEER_SIZE 256u /* flows are told apart by so many hashes */

/* One region of the guest's memory, mapped. */
struct vhost_region {
	uint64_t guest, size, user; /* user: where the front end has it, as SET_VRING_ADDR speaks */
	uint8_t *map;               /* of map_size bytes; NULL = free */
	size_t map_size, skip;      /* the region begins at map + skip */
};

/*
 * A ring's life: stopped -> (num, addr, base and a kick descriptor were given) started -> stopped by GET_VRING_BASE.
 * Started and enabled, it carries frames. `next` is the place in the available ring while it is stopped.
 */
struct vhost_ring {
	struct wh_vhost_port *vhost;
	struct wh_virtq_device q;
	struct wh_loop_fd kick; /* fd -1 = none */
	int call, err;          /* -1 = none */
	uint32_t size;
	uint64_t desc, avail, used; /* front end's addresses */
	uint16_t next;
	bool addressed, started, enabled, broken;
	/* Receive rings. */
	bool starved; /* send said -WH_EAGAIN for want of its buffers: tell the user when some come */
	bool answered; /* buffers of it were used since the last flush */
};

struct wh_vhost_port {
	struct wh_net_port port;
	struct wh_loop_fd watch;
	struct wh_loop_timer again; /* more to do than fits one turn, or the end to tell */
	struct wh_loop *loop;
	struct wh_vhost_config config;
	const struct wh_alloc *alloc;
	const char *ended; /* why, or NULL */
	volatile bool faulted;
	bool held;    /* receive said -WH_EAGAIN: the chain is back in the ring until resume */
	bool unblock; /* a ring that the user waits for is no more: tell the user */
	uint8_t steer
		[VHOST_STEER_SIZE]; /* by flow: 1 + the pair that the guest sends it on; 0 = none yet */
	uint64_t features, protocol;
	struct wh_vhost_stats stats;
	struct wh_gmem mem;
	struct vhost_region regions[VHOST_REGIONS_MAX];
	struct vhost_ring rings[VHOST_RINGS_MAX];

	/* The message that is being read. */
	uint32_t have;
	uint8_t message[VHOST_HEADER_SIZE + VHOST_PAYLOAD_MAX];
	int fds[VHOST_FDS_MAX];
	uint32_t fd_count;

	struct wh_iov iov[WH_VHOST_RING_SIZE_MAX], frame_iov[WH_NET_FRAME_IOV_MAX];
	uint8_t copy[WH_NET_FRAME_SIZE_MAX]; /* of a frame in too many pieces */
};

/* vhost_memory.c. Both take fd: it is closed or kept in any case. */
int vhost_memory_add(struct wh_vhost_port *v, const uint8_t *region, int fd, const char **ret_why);
int vhost_memory_remove(struct wh_vhost_port *v, const uint8_t *region);
void vhost_memory_clear(struct wh_vhost_port *v);
/* Where the front end's address is in guest memory. */
bool vhost_memory_find(const struct wh_vhost_port *v, uint64_t user, wh_gaddr *ret_guest);

/* vhost_ring.c */
uint64_t vhost_features(void);
/* Features were agreed on. */
void vhost_link_set(struct wh_vhost_port *v);
/* Begins when everything was given. NULL, or what is wrong. */
const char *vhost_ring_start(struct vhost_ring *r);
void vhost_ring_stop(struct vhost_ring *r);
/* It carries no frames from now on: who waits for its buffers waits no more. */
void vhost_ring_silent(struct vhost_ring *r);
/* Memory is about to move: nothing touches it until _move. */
void vhost_rings_pause(struct wh_vhost_port *v);
/* Memory has moved: running rings are looked up again. NULL, or what is wrong. */
const char *vhost_rings_move(struct wh_vhost_port *v);
void vhost_ring_kicked(struct wh_loop_fd *watch, uint32_t events);
void vhost_rings_run(struct wh_vhost_port *v);
int vhost_send(struct wh_net_port *port, const struct wh_net_frame *frame);
void vhost_flush(struct wh_net_port *port);
void vhost_resume(struct wh_net_port *port);
/* The ring carries frames from now on. */
void vhost_ring_enabled(struct vhost_ring *r);

#endif
