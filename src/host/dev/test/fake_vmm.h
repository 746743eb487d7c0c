/* SPDX-License-Identifier: ISC */
#ifndef FAKE_VMM_H
#define FAKE_VMM_H

/*
 * A machine without a guest: one slot, RAM in an array, and a driver played by the test
 * over the shared-memory transport.
 */

#include <wherry/test.h>
#include <wherry/virtio.h>

#define FAKE_RAM_SIZE (1u << 20)
#define FAKE_RAM_START 0x10000000u
#define FAKE_DATA 0x40000u /* offset of memory that the test may use */
#define FAKE_QUEUE_MAX 256u

struct wh_vmm_slot {
	struct wh_vmm_slot_ops ops;
	void *ctx;
};

struct fake {
	uint8_t *ram; /* ends at an unmapped page */
	struct wh_gmem mem;
	struct wh_shm_device *shm;
	struct wh_vmm_slot slot;
	struct wh_virtq_driver q[WH_SHM_QUEUES_MAX];
	struct wh_virtq_driver_slot slots[WH_SHM_QUEUES_MAX][FAKE_QUEUE_MAX];
};

extern struct fake fake;

struct wh_vmm_machine *fake_new(void);
void fake_free(void);
/* Negotiates and starts all queues with `size` entries. */
void fake_start(uint64_t features, uint32_t size);
/* Kicks, as often as the device asks to be called again. */
void fake_kick(uint32_t bits);
void fake_reset(void);
bool fake_broken(void);
/* Adds a chain and kicks if the device wants that. */
void fake_send(uint32_t queue, const struct wh_iov *iov, uint32_t out, uint32_t in, void *cookie);
/* 1 and the cookie, or 0. */
int fake_get(uint32_t queue, void **ret_cookie, uint32_t *ret_written);
/* Sends a chain and takes its answer, which must come at once; returns the bytes written. */
uint32_t fake_ask(uint32_t queue, const struct wh_iov *iov, uint32_t out, uint32_t in);

#endif
