/* SPDX-License-Identifier: ISC */

/* Virtio over memory-mapped registers, version 2 (virtio 1.2, 4.2.2). */

#include <drv/virtio.h>
#include <kern/sched.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>
#include <wherry/virtio_wire.h>

enum {
	REG_MAGIC = 0x00,
	REG_VERSION = 0x04,
	REG_DEVICE_FEATURES = 0x10,
	REG_DEVICE_FEATURES_SEL = 0x14,
	REG_DRIVER_FEATURES = 0x20,
	REG_DRIVER_FEATURES_SEL = 0x24,
	REG_QUEUE_SEL = 0x30,
	REG_QUEUE_NUM_MAX = 0x34,
	REG_QUEUE_NUM = 0x38,
	REG_QUEUE_READY = 0x44,
	REG_QUEUE_NOTIFY = 0x50,
	REG_INTERRUPT_STATUS = 0x60,
	REG_INTERRUPT_ACK = 0x64,
	REG_STATUS = 0x70,
	REG_QUEUE_DESC = 0x80,
	REG_QUEUE_DRIVER = 0x90,
	REG_QUEUE_DEVICE = 0xa0,
	REG_CONFIG_GENERATION = 0xfc,
	REG_CONFIG = 0x100,
};

#define MAGIC 0x74726976u /* "virt" */

static uint32_t get(struct drv_virtio *d, uint32_t reg)
{
	return *(volatile uint32_t *)((char *)d->regs + reg);
}

static void set(struct drv_virtio *d, uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)((char *)d->regs + reg) = value;
}

static void set64(struct drv_virtio *d, uint32_t reg, uint64_t value)
{
	set(d, reg, (uint32_t)value);
	set(d, reg + 4, (uint32_t)(value >> 32));
}

static uint64_t mmio_features(struct drv_virtio *d)
{
	if (get(d, REG_MAGIC) != MAGIC || get(d, REG_VERSION) != 2)
		return 0;
	set(d, REG_DEVICE_FEATURES_SEL, 1);
	uint64_t high = get(d, REG_DEVICE_FEATURES);
	set(d, REG_DEVICE_FEATURES_SEL, 0);
	return high << 32 | get(d, REG_DEVICE_FEATURES);
}

static void mmio_reset(struct drv_virtio *d)
{
	set(d, REG_STATUS, 0);
	while (get(d, REG_STATUS))
		kern_yield();
}

static int mmio_start(struct drv_virtio *d, uint64_t features)
{
	mmio_reset(d);
	set(d, REG_STATUS, WH_VIRTIO_STATUS_ACKNOWLEDGE | WH_VIRTIO_STATUS_DRIVER);
	set(d, REG_DRIVER_FEATURES_SEL, 1);
	set(d, REG_DRIVER_FEATURES, (uint32_t)(features >> 32));
	set(d, REG_DRIVER_FEATURES_SEL, 0);
	set(d, REG_DRIVER_FEATURES, (uint32_t)features);
	set(d, REG_STATUS,
	    WH_VIRTIO_STATUS_ACKNOWLEDGE | WH_VIRTIO_STATUS_DRIVER | WH_VIRTIO_STATUS_FEATURES_OK);
	if (!(get(d, REG_STATUS) & WH_VIRTIO_STATUS_FEATURES_OK))
		return -WH_ENODEV;
	d->features = features;
	return 0;
}

static uint32_t mmio_queue_size_max(struct drv_virtio *d, uint32_t queue)
{
	set(d, REG_QUEUE_SEL, queue);
	return get(d, REG_QUEUE_NUM_MAX);
}

static int mmio_queue_set(struct drv_virtio *d, uint32_t queue, const struct wh_virtq_driver *q)
{
	set(d, REG_QUEUE_SEL, queue);
	set(d, REG_QUEUE_NUM, q->size);
	set64(d, REG_QUEUE_DESC, q->desc_address);
	set64(d, REG_QUEUE_DRIVER, q->driver_address);
	set64(d, REG_QUEUE_DEVICE, q->device_address);
	set(d, REG_QUEUE_READY, 1);
	return 0;
}

static void mmio_driver_ok(struct drv_virtio *d)
{
	set(d, REG_STATUS, get(d, REG_STATUS) | WH_VIRTIO_STATUS_DRIVER_OK);
}

static void mmio_notify(struct drv_virtio *d, uint32_t queue)
{
	set(d, REG_QUEUE_NOTIFY, queue);
}

static uint32_t mmio_take_interrupt(struct drv_virtio *d)
{
	uint32_t bits = get(d, REG_INTERRUPT_STATUS);
	if (bits)
		set(d, REG_INTERRUPT_ACK, bits);
	return bits;
}

static void mmio_config_read(struct drv_virtio *d, uint32_t offset, void *to, uint32_t size)
{
	const volatile uint8_t *from = (uint8_t *)d->regs + REG_CONFIG + offset;
	uint32_t before;
	do {
		before = get(d, REG_CONFIG_GENERATION);
		for (uint32_t i = 0; i < size; i++)
			((uint8_t *)to)[i] = from[i];
	} while (before != get(d, REG_CONFIG_GENERATION));
}

const struct drv_virtio_transport drv_transport_mmio = {
	.features = mmio_features,
	.start = mmio_start,
	.queue_size_max = mmio_queue_size_max,
	.queue_set = mmio_queue_set,
	.driver_ok = mmio_driver_ok,
	.notify = mmio_notify,
	.take_interrupt = mmio_take_interrupt,
	.config_read = mmio_config_read,
	.reset = mmio_reset,
};
