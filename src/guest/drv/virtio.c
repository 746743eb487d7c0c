/* SPDX-License-Identifier: ISC */
#include <drv/virtio.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/virtio_wire.h>

const struct wh_boot_device *drv_virtio_find(uint32_t virtio_id, uint32_t index)
{
	const struct wh_boot_info *b = kern_boot();
	const struct wh_boot_device *d = (const void *)b->devices;
	for (uint32_t i = 0; i < b->device_count && i < WH_BOOT_DEVICES_MAX; i++)
		if (d[i].virtio_id == virtio_id && !index--)
			return &d[i];
	return NULL;
}

int drv_virtio_open(struct drv_virtio *d, const struct wh_boot_device *boot)
{
	d->boot = boot;
	d->features = 0;
	d->regs = (void *)boot->regs;
	if (boot->transport == WH_BOOT_TRANSPORT_SHM)
		d->transport = &drv_transport_shm;
	else if (boot->transport == WH_BOOT_TRANSPORT_MMIO)
		d->transport = &drv_transport_mmio;
	else
		return -WH_ENODEV;
	return 0;
}

int drv_virtio_start(struct drv_virtio *d, uint64_t wanted)
{
	uint64_t offered = d->transport->features(d);
	if (!(offered & WH_VIRTIO_F_VERSION_1))
		return -WH_ENODEV;
	return d->transport->start(
		d, offered & (wanted | WH_VIRTIO_F_VERSION_1 | WH_VIRTQ_F_EVENT_IDX));
}

int drv_virtio_queue(struct drv_virtio *d, uint32_t queue, struct wh_virtq_driver *q, uint32_t size,
		     void *ring, struct wh_virtq_driver_slot *slots)
{
	uint32_t max = d->transport->queue_size_max(d, queue);
	if (!max)
		return -WH_ENODEV;
	while (size > max)
		size /= 2;
	struct wh_virtq_driver_config config = {
		.size = size,
		.ring = ring,
		.slots = slots,
		.bias = kern_bus(ring) - (uintptr_t)ring,
		.features = d->features,
	};
	int r = wh_virtq_driver_init(q, &config);
	return r < 0 ? r : d->transport->queue_set(d, queue, q);
}

void drv_virtio_kick(struct drv_virtio *d, uint32_t queue, struct wh_virtq_driver *q)
{
	if (wh_virtq_driver_kick_needed(q))
		d->transport->notify(d, queue);
}

bool drv_in_ram(const void *p, size_t size)
{
	const struct wh_boot_info *b = kern_boot();
	uint64_t a = (uintptr_t)p;
	return a >= b->ram_base && wh_range_inside(a - b->ram_base, size, b->ram_size);
}
