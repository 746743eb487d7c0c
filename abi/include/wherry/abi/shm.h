/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_ABI_SHM_H
#define WHERRY_ABI_SHM_H

/*
 * Virtio over shared memory, version 1: the transport of the proc engine.
 *
 * A virtio device (virtio 1.2) whose registers are plain memory: no trap, no
 * round trip. The machine fills struct wh_shm_device before boot. The driver
 * writes its choices, then status DRIVER_OK, and from then on kicks queues. The
 * machine looks at `status` when it is kicked, takes one checked copy of all
 * OUT fields when it first sees DRIVER_OK, and never reads them again until a
 * reset. Rings are split virtqueues (virtio 1.2, 2.7) at guest addresses.
 *
 *  kick  (guest -> host): kick |= 1 << queue (atomic); full barrier; if
 *	  control.host_sleeping then ring the doorbell (write 8 bytes).
 *  interrupt (host -> guest): interrupt |= 1 (queue) or 2 (config); control.host_events += 1;
 *	  full barrier; if control.guest_sleeping then futex-wake host_events.
 *  reset: status = 0; kick |= 1 << 31; the driver waits until reset_ack
 *	  equals reset_count, which it raised by one.
 */

#include <stdint.h>
#include <wherry/abi/boot.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WH_SHM_MAGIC 0x316d6873u /* "shm1" */
#define WH_SHM_QUEUES_MAX 8u
#define WH_SHM_CONFIG_SIZE 256u
#define WH_SHM_KICK_CONTROL (1u << 31)

struct wh_shm_queue {
	uint32_t size_max;   /* IN greatest ring size, power of two */
	uint32_t size;       /* OUT ring size, 0 = unused */
	wh_abi_gaddr desc;   /* OUT descriptor table */
	wh_abi_gaddr driver; /* OUT available ring */
	wh_abi_gaddr device; /* OUT used ring */
};

struct wh_shm_device {
	uint32_t magic;             /* IN WH_SHM_MAGIC */
	uint32_t virtio_id;         /* IN */
	uint64_t device_features;   /* IN offered */
	uint64_t driver_features;   /* OUT accepted */
	uint32_t queue_count;       /* IN */
	uint32_t config_generation; /* IN +1 around each change of config */
	uint32_t status;            /* SHARED virtio status; host may only add NEEDS_RESET */
	uint32_t reset_count;       /* OUT */
	uint32_t reset_ack;         /* IN */
	uint32_t reserved0[5];
	uint32_t kick; /* SHARED bit per queue; host takes it with an exchange */
	uint32_t reserved1[15];
	uint32_t
		interrupt; /* SHARED as virtio-mmio InterruptStatus; guest takes it with an exchange */
	uint32_t reserved2[15];
	struct wh_shm_queue queue[WH_SHM_QUEUES_MAX];
	uint8_t config[WH_SHM_CONFIG_SIZE]; /* IN device configuration, virtio layout */
};

#ifdef __cplusplus
}
#endif
#endif
