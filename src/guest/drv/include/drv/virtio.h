/* SPDX-License-Identifier: ISC */
#ifndef DRV_VIRTIO_H
#define DRV_VIRTIO_H

/*
 * Virtio drivers' common part: one device, two transports (shared memory on
 * proc, mmio in a virtual machine). Queues are the driver half of
 * wherry/virtq.h.
 */

#include <stdbool.h>
#include <stdint.h>
#include <wherry/abi/boot.h>
#include <wherry/virtq.h>

struct drv_virtio {
	const struct wh_boot_device *boot;
	const struct drv_virtio_transport *transport;
	uint64_t features; /* negotiated */
	void *regs;
};

struct drv_virtio_transport {
	uint64_t (*features)(struct drv_virtio *d);
	int (*start)(struct drv_virtio *d, uint64_t features); /* reset, negotiate, FEATURES_OK */
	uint32_t (*queue_size_max)(struct drv_virtio *d, uint32_t queue);
	int (*queue_set)(struct drv_virtio *d, uint32_t queue, const struct wh_virtq_driver *q);
	void (*driver_ok)(struct drv_virtio *d);
	void (*notify)(struct drv_virtio *d, uint32_t queue);
	uint32_t (*take_interrupt)(struct drv_virtio *d);
	void (*config_read)(struct drv_virtio *d, uint32_t offset, void *to, uint32_t size);
	void (*reset)(struct drv_virtio *d);
};

/* Finds the index-th boot device with this virtio id; NULL when there is none. */
const struct wh_boot_device *drv_virtio_find(uint32_t virtio_id, uint32_t index);
int drv_virtio_open(struct drv_virtio *d, const struct wh_boot_device *boot);

#endif
