/* SPDX-License-Identifier: ISC */
/*
 * The machine's side of virtio over PCI (virtio 1.2, 4.1.4): the registers in the BAR, whose layout is
 * wherry/virtio_pci.h. The machine keeps configuration space and the MSI-X table. As with mmio every access is
 * valid or ignored, and what the driver chose is handed on in one piece when it says DRIVER_OK.
 *
 * Interrupts are messages only: a queue without a vector interrupts nobody, and the ISR byte, which is for
 * lines, counts configuration changes and broken contracts only.
 */
#include <wherry/base/assert.h>
#include <wherry/virtio_pci.h>

#include "transport_regs.h"

/* struct virtio_pci_common_cfg (4.1.4.3) */
enum {
	REG_DEVICE_FEATURES_SEL = 0x00,
	REG_DEVICE_FEATURES = 0x04,
	REG_DRIVER_FEATURES_SEL = 0x08,
	REG_DRIVER_FEATURES = 0x0c,
	REG_CONFIG_VECTOR = 0x10,
	REG_QUEUE_COUNT = 0x12,
	REG_STATUS = 0x14,
	REG_CONFIG_GENERATION = 0x15,
	REG_QUEUE_SEL = 0x16,
	REG_QUEUE_SIZE = 0x18,
	REG_QUEUE_VECTOR = 0x1a,
	REG_QUEUE_ENABLE = 0x1c,
	REG_QUEUE_NOTIFY_OFF = 0x1e,
	REG_QUEUE_DESC = 0x20,
	REG_QUEUE_DRIVER = 0x28,
	REG_QUEUE_DEVICE = 0x30,
};

static void clear(struct wh_virtio_device *d)
{
	struct wh_virtio_mmio_state *s = &d->mmio;
	*s = (struct wh_virtio_mmio_state){ .config_generation = s->config_generation,
					    .config_vector = WH_VIRTIO_PCI_NO_VECTOR };
	for (uint32_t i = 0; i < d->c.queue_count; i++) {
		s->vector[i] = WH_VIRTIO_PCI_NO_VECTOR;
		s->queue[i].size = d->c.queue_size_max;
	}
}

static int pci_attached(struct wh_virtio_device *d)
{
	clear(d);
	return 0;
}

static void send(struct wh_virtio_device *d, uint16_t vector)
{
	if (vector != WH_VIRTIO_PCI_NO_VECTOR)
		wh_vmm_slot_vector(d->slot, vector);
}

static void pci_interrupt(struct wh_virtio_device *d, uint32_t causes)
{
	d->mmio.interrupt_status |= causes;
	send(d, d->mmio.config_vector);
}

static void pci_queue_interrupt(struct wh_virtio_device *d, uint32_t queue)
{
	send(d, d->mmio.vector[queue]);
}

static void pci_needs_reset(struct wh_virtio_device *d)
{
	d->mmio.status |= WH_VIRTIO_STATUS_NEEDS_RESET;
	pci_interrupt(d, WH_VIRTIO_INTERRUPT_CONFIG);
}

static void pci_config_changed(struct wh_virtio_device *d, uint32_t offset, uint32_t size)
{
	d->mmio.config_generation++;
	if (d->running)
		pci_interrupt(d, WH_VIRTIO_INTERRUPT_CONFIG);
}

static void pci_again(struct wh_virtio_device *d, uint32_t queue)
{
	wh_vmm_slot_again(d->slot, queue);
}

const struct wh_virtio_transport wh_virtio_transport_pci = {
	.attached = pci_attached,
	.interrupt = pci_interrupt,
	.needs_reset = pci_needs_reset,
	.config_changed = pci_config_changed,
	.reset_done = clear,
	.again = pci_again,
	.queue_interrupt = pci_queue_interrupt,
};

/* A vector that there is, else NO_VECTOR, which the driver reads back (4.1.5.1.2). */
static uint16_t checked_vector(const struct wh_virtio_device *d, uint32_t value)
{
	return value <= d->c.queue_count ? (uint16_t)value : WH_VIRTIO_PCI_NO_VECTOR;
}

static void write_queue(struct wh_virtio_device *d, uint64_t offset, uint32_t value)
{
	struct wh_virtio_queue_setup *q = regs_open_queue(d);
	if (!q)
		return;
	switch (offset) {
	case REG_QUEUE_SIZE:
		q->size = value & 0xffff;
		break;
	case REG_QUEUE_VECTOR:
		d->mmio.vector[d->mmio.queue_sel] = checked_vector(d, value & 0xffff);
		break;
	case REG_QUEUE_ENABLE:
		d->mmio.queue_ready[d->mmio.queue_sel] = (value & 0xffff) == 1;
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

static void write_common(struct wh_virtio_device *d, uint64_t offset, uint32_t value)
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
	case REG_CONFIG_VECTOR:
		s->config_vector = checked_vector(d, value & 0xffff);
		break;
	case REG_STATUS:
		regs_write_status(d, value & 0xff);
		break;
	case REG_QUEUE_SEL:
		s->queue_sel = value & 0xffff;
		break;
	default:
		write_queue(d, offset, value);
	}
}

static uint32_t half_of(uint64_t value, bool high)
{
	return (uint32_t)(high ? value >> 32 : value);
}

static uint32_t read_queue(const struct wh_virtio_device *d, uint64_t offset)
{
	const struct wh_virtio_mmio_state *s = &d->mmio;
	if (s->queue_sel >= d->c.queue_count)
		return 0; /* size 0: there is no such queue */
	const struct wh_virtio_queue_setup *q = &s->queue[s->queue_sel];
	switch (offset) {
	case REG_QUEUE_SIZE:
		return q->size;
	case REG_QUEUE_VECTOR:
		return s->vector[s->queue_sel];
	case REG_QUEUE_ENABLE:
		return s->queue_ready[s->queue_sel];
	case REG_QUEUE_NOTIFY_OFF:
		return s->queue_sel;
	case REG_QUEUE_DESC:
	case REG_QUEUE_DESC + 4:
		return half_of(q->desc, offset & 4);
	case REG_QUEUE_DRIVER:
	case REG_QUEUE_DRIVER + 4:
		return half_of(q->driver, offset & 4);
	case REG_QUEUE_DEVICE:
	case REG_QUEUE_DEVICE + 4:
		return half_of(q->device, offset & 4);
	}
	return 0;
}

static uint32_t read_common(const struct wh_virtio_device *d, uint64_t offset)
{
	const struct wh_virtio_mmio_state *s = &d->mmio;
	switch (offset) {
	case REG_DEVICE_FEATURES_SEL:
		return s->device_features_sel;
	case REG_DEVICE_FEATURES:
		return regs_read_features(d);
	case REG_DRIVER_FEATURES_SEL:
		return s->driver_features_sel;
	case REG_DRIVER_FEATURES:
		return s->driver_features_sel < 2
			       ? half_of(s->driver_features, s->driver_features_sel)
			       : 0;
	case REG_CONFIG_VECTOR:
		return s->config_vector;
	case REG_QUEUE_COUNT:
		return d->c.queue_count;
	case REG_STATUS:
		return s->status;
	case REG_CONFIG_GENERATION:
		return s->config_generation & 0xff;
	case REG_QUEUE_SEL:
		return s->queue_sel;
	}
	return read_queue(d, offset);
}

/* Registers are accessed in their own width (4.1.3.1); 64-bit ones as halves, or at once. */
static uint32_t width_of(uint64_t offset)
{
	if (offset == REG_STATUS || offset == REG_CONFIG_GENERATION)
		return 1;
	return offset < REG_CONFIG_VECTOR || offset >= REG_QUEUE_DESC ? 4 : 2;
}

uint64_t wh_virtio_pci_read(void *ctx, uint64_t offset, uint32_t size)
{
	struct wh_virtio_device *d = ctx;
	uint64_t value = 0;
	if (offset < WH_VIRTIO_PCI_COMMON_SIZE) {
		if (size == 8 && offset >= REG_QUEUE_DESC && offset % 8 == 0)
			return read_common(d, offset) | (uint64_t)read_common(d, offset + 4) << 32;
		return size == width_of(offset) && offset % size == 0 ? read_common(d, offset) : 0;
	}
	if (offset == WH_VIRTIO_PCI_ISR) {
		value = d->mmio.interrupt_status & 0xff;
		d->mmio.interrupt_status = 0;
		return value;
	}
	if (offset >= WH_VIRTIO_PCI_CONFIG &&
	    offset < WH_VIRTIO_PCI_CONFIG + WH_VIRTIO_PCI_CONFIG_SIZE)
		value = regs_read_config(d, offset - WH_VIRTIO_PCI_CONFIG, size);
	return value;
}

void wh_virtio_pci_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct wh_virtio_device *d = ctx;
	if (offset < WH_VIRTIO_PCI_COMMON_SIZE) {
		if (size == 8 && offset >= REG_QUEUE_DESC && offset % 8 == 0) {
			write_common(d, offset, (uint32_t)value);
			write_common(d, offset + 4, (uint32_t)(value >> 32));
		} else if (size == width_of(offset) && offset % size == 0) {
			write_common(d, offset, (uint32_t)value);
		}
	} else if (offset >= WH_VIRTIO_PCI_NOTIFY &&
		   offset < WH_VIRTIO_PCI_NOTIFY + WH_VIRTIO_PCI_NOTIFY_SIZE) {
		uint64_t queue = (offset - WH_VIRTIO_PCI_NOTIFY) / WH_VIRTIO_PCI_NOTIFY_STRIDE;
		if (queue < d->c.queue_count)
			wh_virtio_notify(d, (uint32_t)queue);
	} else if (offset >= WH_VIRTIO_PCI_CONFIG &&
		   offset < WH_VIRTIO_PCI_CONFIG + WH_VIRTIO_PCI_CONFIG_SIZE) {
		regs_write_config(d, offset - WH_VIRTIO_PCI_CONFIG, size, value);
	}
}
