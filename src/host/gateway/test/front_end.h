/* SPDX-License-Identifier: ISC */
#ifndef TEST_FRONT_END_H
#define TEST_FRONT_END_H

/* A vhost-user front end by hand, with the driver's half of two rings in a memfd, for tests and the fuzz target. */

#include "../vhost_wire.h"

#include <wherry/loop.h>
#include <wherry/vhost_port.h>
#include <wherry/virtio_wire.h>
#include <wherry/virtq.h>

#define FRONT_MEMORY (1u << 20)
#define FRONT_GUEST 0x40000000ull /* where the guest has its memory */
#define FRONT_USER 0x7f0000000000ull
#define FRONT_RING_SIZE 64u
#define FRONT_RINGS 4u
#define FRONT_FEATURES                                                                   \
	(WH_VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES | WH_VIRTIO_NET_F_MRG_RXBUF | \
	 WH_VIRTIO_NET_F_CSUM | WH_VIRTIO_NET_F_HOST_TSO4 | WH_VIRTIO_NET_F_GUEST_CSUM | \
	 WH_VIRTIO_NET_F_GUEST_TSO4 | WH_VIRTQ_F_EVENT_IDX)

struct front_end {
	struct wh_loop *loop;
	struct wh_vhost_port *vhost;
	struct wh_net_port *port;
	int peer; /* the front end's side of the socket */
	int fd, memory_fd;
	uint8_t *memory;
	struct wh_virtq_driver ring[FRONT_RINGS]; /* receive, transmit, of each pair */
	struct wh_virtq_driver_slot slots[FRONT_RINGS][FRONT_RING_SIZE];
	int kick[FRONT_RINGS], call[FRONT_RINGS], err[FRONT_RINGS];
	const char *gone;
	uint32_t writable, received, received_bytes, refuse;
	uint8_t last[2048];
	struct wh_net_frame last_frame;
};

void front_begin(struct front_end *f);
void front_end(struct front_end *f);
void front_settle(struct front_end *f);

/* A message with up to 8 descriptors; then the loop runs. */
void front_say(struct front_end *f, uint32_t request, uint32_t flags, const void *payload,
	       uint32_t size, const int *fds, unsigned fd_count);
void front_u64(struct front_end *f, uint32_t request, uint64_t value);
void front_state(struct front_end *f, uint32_t request, uint32_t index, uint32_t value);
void front_ring_fd(struct front_end *f, uint32_t request, uint32_t index, int fd);
/* One region: guest address, size, user address, offset in the file. */
void front_region(struct front_end *f, uint32_t request, uint64_t guest, uint64_t size,
		  uint64_t user, uint64_t offset, int fd);
void front_addresses(struct front_end *f, uint32_t index);
/* The payload of an answer; -1 = none came. */
int64_t front_answer(struct front_end *f, uint32_t request);
/* Everything until frames can cross. */
void front_start(struct front_end *f, uint64_t features);
/* The first pair is there from front_start on; this is another one. */
void front_start_pair(struct front_end *f, uint64_t features, uint32_t pair);
void front_start_ring(struct front_end *f, uint32_t index, uint32_t base);

/* Guest side: offers a receive buffer at this offset of memory; sends a frame that lies there, with header. */
void front_offer(struct front_end *f, uint32_t offset, uint32_t size);
void front_send(struct front_end *f, uint32_t offset, uint32_t size);
void front_offer_to(struct front_end *f, uint32_t pair, uint32_t offset, uint32_t size);
void front_send_on(struct front_end *f, uint32_t pair, uint32_t offset, uint32_t size);
bool front_called(struct front_end *f, uint32_t index);

#endif
