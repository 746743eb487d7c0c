/* SPDX-License-Identifier: ISC */

/*
 * virtio-rng (virtio 1.2, 5.4): one request for entropy at start-up, mixed into the
 * generator when it comes. On proc the boot information brings entropy; this is for
 * machines of other monitors.
 */

#include <drv/rng.h>
#include <drv/virtio.h>
#include <kern/plat.h>
#include <kern/sched.h>
#include <wherry/virtio_wire.h>

#define ENTRIES 2u
#define SIZE 64u

static struct drv_virtio dev;
static struct wh_virtq_driver queue;
DRV_VIRTIO_RING(memory, ENTRIES);
static uint8_t bytes[SIZE];

static uint64_t poll(struct kern_poller *poller, uint64_t now_ns)
{
	void *cookie;
	uint32_t size;
	if (wh_virtq_driver_get(&queue, &cookie, &size) > 0) {
		kern_random_add(bytes, size < SIZE ? size : SIZE);
		memset(bytes, 0, SIZE);
	}
	return KERN_FOREVER;
}

int drv_rng_init(void)
{
	static struct kern_poller poller = { .poll = poll };
	const struct wh_boot_device *boot = drv_virtio_find(WH_VIRTIO_ID_RNG, 0);
	if (!boot)
		return 0;
	int r = drv_virtio_open(&dev, boot);
	if (r >= 0)
		r = drv_virtio_start(&dev, 0);
	if (r >= 0)
		r = drv_virtio_queue(&dev, 0, &queue, ENTRIES, memory.ring, memory.slots);
	if (r < 0)
		return r;
	dev.transport->driver_ok(&dev);
	struct wh_iov in = { bytes, SIZE };
	r = wh_virtq_driver_add(&queue, &in, 0, 1, bytes);
	drv_virtio_kick(&dev, 0, &queue);
	kern_poller_add(&poller);
	return r;
}
