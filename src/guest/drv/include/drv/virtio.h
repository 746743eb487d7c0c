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

/* Picks the transport and looks at the device; writes nothing to it. -WH_ENODEV: not a
 * device of a kind we know. The start of a driver is then:
 *
 *	drv_virtio_open(d, boot);
 *	drv_virtio_start(d, features I understand);	-> d->features
 *	drv_virtio_queue(d, 0, &q, memory...);		for each queue
 *	d->transport->driver_ok(d);
 */
int drv_virtio_open(struct drv_virtio *d, const struct wh_boot_device *boot);

/* Resets and negotiates: the offered features that are in `wanted`, plus VERSION_1 and
 * the queue features of wherry/virtq.h. -WH_ENODEV when the device refuses. */
int drv_virtio_start(struct drv_virtio *d, uint64_t wanted);

/* Sets up queue number `queue` with at most `size` entries (a power of two) in the caller's
 * memory, and tells the device. -WH_ENODEV: the device has no such queue. */
int drv_virtio_queue(struct drv_virtio *d, uint32_t queue, struct wh_virtq_driver *q, uint32_t size,
		     void *ring, struct wh_virtq_driver_slot *slots);

/* Notifies the device of what was added to q, if it wants to hear of it. */
void drv_virtio_kick(struct drv_virtio *d, uint32_t queue, struct wh_virtq_driver *q);

/* Memory for a queue as a static object. */
#define DRV_VIRTIO_RING(name, entries)                                                           \
	static struct {                                                                          \
		uint64_t ring[(16 * (entries) + 6 + 2 * (entries) + 3 + 6 + 8 * (entries)) / 8 + \
			      1] __attribute__((aligned(16)));                                   \
		struct wh_virtq_driver_slot slots[entries];                                      \
	} name

/* Can devices reach these bytes? Constant data of the image lies outside RAM and has
 * to be copied first. */
bool drv_in_ram(const void *p, size_t size);

extern const struct drv_virtio_transport drv_transport_shm;
extern const struct drv_virtio_transport drv_transport_mmio;

#endif
