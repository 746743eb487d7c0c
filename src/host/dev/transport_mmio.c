/* SPDX-License-Identifier: ISC */
/*
 * The machine's side of virtio-mmio, version 2 (virtio 1.2, 4.2.2). The registers are
 * state of ours, written one access at a time by a hostile driver: every access is valid or
 * ignored. What the driver chose is handed on, in one piece, when it says DRIVER_OK;
 * from then until a reset the queue registers cannot change.
 *
 * Registers are 32 bits wide and are only accessed so; the configuration space takes any size. A
 * read elsewhere gives 0.
 */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>

#include "transport_regs.h"

enum {
	REG_MAGIC = 0x00,
	REG_VERSION = 0x04,
	REG_DEVICE_ID = 0x08,
	REG_VENDOR_ID = 0x0c,
	REG_DEVICE_FEATURES = 0x10,
	REG_DEVICE_FEATURES_SEL = 0x14,
	REG_DRIVER_FEATURES = 0x20,
	REG_DRIVER_FEATURES_SEL = 0x24,
	REG_QUEUE_SEL = 0x30,
	REG_QUEUE_SIZE_MAX = 0x34,
	REG_QUEUE_SIZE = 0x38,
	REG_QUEUE_READY = 0x44,
	REG_QUEUE_NOTIFY = 0x50,
	REG_INTERRUPT_STATUS = 0x60,
	REG_INTERRUPT_ACK = 0x64,
	REG_STATUS = 0x70,
	REG_QUEUE_DESC = 0x80,
	REG_QUEUE_DRIVER = 0x90,
	REG_QUEUE_DEVICE = 0xa0,
	REG_SHM_SIZE = 0xb0,
	REG_SHM_SIZE_HIGH = 0xb4,
	REG_CONFIG_GENERATION = 0xfc,
	REG_CONFIG = 0x100,
};

#define MAGIC 0x74726976u  /* "virt" */
#define VENDOR 0x79726857u /* "Whry" */
#define NO_SHM UINT32_MAX  /* length of a region that does not exist */

static void interrupt(struct wh_virtio_device *d, uint32_t causes)
{
	d->mmio.interrupt_status |= causes;
	wh_vmm_slot_interrupt(d->slot, causes);
}

static int mmio_attached(struct wh_virtio_device *d)
{
	d->mmio = (struct wh_virtio_mmio_state){ 0 };
	return 0;
}

static void mmio_needs_reset(struct wh_virtio_device *d)
{
	d->mmio.status |= WH_VIRTIO_STATUS_NEEDS_RESET;
	interrupt(d, WH_VIRTIO_INTERRUPT_CONFIG);
}

static void mmio_config_changed(struct wh_virtio_device *d, uint32_t offset, uint32_t size)
{
	d->mmio.config_generation++;
	if (d->running)
		interrupt(d, WH_VIRTIO_INTERRUPT_CONFIG);
}

static void mmio_reset_done(struct wh_virtio_device *d)
{
	uint32_t generation = d->mmio.config_generation;
	d->mmio = (struct wh_virtio_mmio_state){ .config_generation = generation };
	wh_vmm_slot_interrupt(d->slot, 0);
}

static void mmio_again(struct wh_virtio_device *d, uint32_t queue)
{
	wh_vmm_slot_again(d->slot, queue);
}

const struct wh_virtio_transport wh_virtio_transport_mmio = {
	.attached = mmio_attached,
	.interrupt = interrupt,
	.needs_reset = mmio_needs_reset,
	.config_changed = mmio_config_changed,
	.reset_done = mmio_reset_done,
	.again = mmio_again,
};

static void write_queue(struct wh_virtio_device *d, uint64_t offset, uint32_t value)
{
	struct wh_virtio_queue_setup *q = regs_open_queue(d);
	if (!q)
		return;
	switch (offset) {
	case REG_QUEUE_SIZE:
		q->size = value;
		break;
	case REG_QUEUE_READY:
		d->mmio.queue_ready[d->mmio.queue_sel] = value == 1;
		break;
	case REG_QUEUE_DESC:
	case REG_QUEUE_DESC + 4:
		regs_set_half(&q->desc, offset & 4, value);
		break;
	case REG_QUEUE_DRIVER:
	case REG_QUEUE_DRIVER + 4:
		regs_set_half(&q->driver, offset & 4, value);
		break;
	case REG_QUEUE_DEVICE:
	case REG_QUEUE_DEVICE + 4:
		regs_set_half(&q->device, offset & 4, value);
		break;
	}
}

static void write_register(struct wh_virtio_device *d, uint64_t offset, uint32_t value)
{
	struct wh_virtio_mmio_state *s = &d->mmio;
	switch (offset) {
	case REG_DEVICE_FEATURES_SEL:
		s->device_features_sel = value;
		break;
	case REG_DRIVER_FEATURES_SEL:
		s->driver_features_sel = value;
		break;
	case REG_DRIVER_FEATURES:
		regs_write_features(d, value);
		break;
	case REG_QUEUE_SEL:
		s->queue_sel = value;
		break;
	case REG_QUEUE_NOTIFY:
		if (value < d->c.queue_count)
			wh_virtio_notify(d, value);
		break;
	case REG_INTERRUPT_ACK:
		s->interrupt_status &= ~value;
		if (!s->interrupt_status)
			wh_vmm_slot_interrupt(d->slot, 0);
		break;
	case REG_STATUS:
		regs_write_status(d, value);
		break;
	default:
		write_queue(d, offset, value);
	}
}

static uint32_t read_register(struct wh_virtio_device *d, uint64_t offset)
{
	const struct wh_virtio_mmio_state *s = &d->mmio;
	bool queue = s->queue_sel < d->c.queue_count;
	switch (offset) {
	case REG_MAGIC:
		return MAGIC;
	case REG_VERSION:
		return 2;
	case REG_DEVICE_ID:
		return d->c.virtio_id;
	case REG_VENDOR_ID:
		return VENDOR;
	case REG_DEVICE_FEATURES:
		return regs_read_features(d);
	case REG_QUEUE_SIZE_MAX:
		return queue ? d->c.queue_size_max : 0;
	case REG_QUEUE_READY:
		return queue && s->queue_ready[s->queue_sel];
	case REG_INTERRUPT_STATUS:
		return s->interrupt_status;
	case REG_STATUS:
		return s->status;
	case REG_SHM_SIZE:
	case REG_SHM_SIZE_HIGH:
		return NO_SHM;
	case REG_CONFIG_GENERATION:
		return s->config_generation;
	}
	return 0;
}

uint64_t wh_virtio_mmio_read(void *ctx, uint64_t offset, uint32_t size)
{
	struct wh_virtio_device *d = ctx;
	if (offset < REG_CONFIG)
		return size == 4 && offset % 4 == 0 ? read_register(d, offset) : 0;
	return regs_read_config(d, offset - REG_CONFIG, size);
}

void wh_virtio_mmio_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct wh_virtio_device *d = ctx;
	if (offset >= REG_CONFIG)
		regs_write_config(d, offset - REG_CONFIG, size, value);
	else if (size == 4 && offset % 4 == 0)
		write_register(d, offset, (uint32_t)value);
}
