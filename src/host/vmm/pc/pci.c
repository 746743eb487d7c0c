/* SPDX-License-Identifier: ISC */
/*
 * PCI bus 0 (PCI Local Bus 3.0, chapter 6): the bridge to the host and one function a device slot. Configuration
 * space is bytes and a mask of the bits that a guest may change; only the BAR, the command
 * register and MSI-X have effects. Functions have no interrupt line, only messages.
 *
 * The BARs have addresses from the start, as a firmware would give; a guest may move them.
 */
#include <sys/ioctl.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>

#include <wherry/virtio_wire.h>

#include "pc_priv.h"

#define VENDOR_VIRTIO 0x1af4u
#define DEVICE_VIRTIO 0x1040u /* + virtio id */
#define VENDOR_BRIDGE 0x8086u
#define DEVICE_BRIDGE 0x0d57u
#define COMMAND 0x04u
#define COMMAND_MEMORY 2u
#define STATUS_CAPABILITIES 0x10u
#define BAR0 0x10u
#define CAPABILITIES 0x34u
#define CAP_VENDOR 9u
#define CAP_MSIX 0x11u
#define MSIX_AT 0x98u
#define MSIX_ENABLE 0x8000u
#define MSIX_MASK_ALL 0x4000u
#define MASKED 1u

/* Class codes by virtio id, as other monitors have them; 0xff = none of the classes. */
static uint32_t class_of(uint32_t virtio_id)
{
	switch (virtio_id) {
	case WH_VIRTIO_ID_NET:
		return 0x020000;
	case WH_VIRTIO_ID_BLK:
		return 0x018000;
	case WH_VIRTIO_ID_CONSOLE:
		return 0x078000;
	}
	return 0x00ff00;
}

void pc_pci_init(struct pc *pc)
{
	uint8_t *c = pc->function[0].config;
	wh_store_le16(c, VENDOR_BRIDGE);
	wh_store_le16(c + 2, DEVICE_BRIDGE);
	wh_store_le32(c + 8, 0x060000u << 8);
	pc->function_count = 1;
}

/* A virtio capability (virtio 1.2, 4.1.4); returns where the next one goes. */
static uint32_t put_cap(uint8_t *c, uint32_t at, uint8_t type, uint8_t size, uint32_t offset,
			uint32_t length)
{
	c[at] = CAP_VENDOR;
	c[at + 1] = (uint8_t)(at + size);
	c[at + 2] = size;
	c[at + 3] = type;
	wh_store_le32(c + at + 8, offset);
	wh_store_le32(c + at + 12, length);
	return at + size;
}

void pc_pci_add(struct pc *pc, struct wh_vmm_slot *slot)
{
	struct pc_function *f = &pc->function[pc->function_count];
	uint8_t *c = f->config, *w = f->writable;
	uint64_t bar = PC_BAR_BASE + (uint64_t)slot->index * WH_VIRTIO_PCI_BAR_SIZE;
	f->slot = slot;
	f->vector_count = slot->queue_count + 1;
	wh_store_le16(c, VENDOR_VIRTIO);
	wh_store_le16(c + 2, (uint16_t)(DEVICE_VIRTIO + slot->virtio_id));
	wh_store_le16(c + COMMAND, COMMAND_MEMORY);
	c[0x06] = STATUS_CAPABILITIES;
	wh_store_le32(c + 8, class_of(slot->virtio_id) << 8 | 1); /* revision 1: not transitional */
	wh_store_le32(c + BAR0, (uint32_t)bar);
	wh_store_le16(c + 0x2c, VENDOR_VIRTIO);
	wh_store_le16(c + 0x2e, (uint16_t)(DEVICE_VIRTIO + slot->virtio_id));
	wh_store_le16(w + COMMAND, 0x0406); /* memory, bus master, no line */
	wh_store_le32(w + BAR0, ~(WH_VIRTIO_PCI_BAR_SIZE - 1u));
	w[0x3c] = 0xff;

	uint32_t at = CAPABILITIES + 12;
	c[CAPABILITIES] = (uint8_t)at;
	at = put_cap(c, at, 1, 16, WH_VIRTIO_PCI_COMMON, WH_VIRTIO_PCI_COMMON_SIZE);
	at = put_cap(c, at, 3, 16, WH_VIRTIO_PCI_ISR, 1);
	at = put_cap(c, at, 4, 16, WH_VIRTIO_PCI_CONFIG, WH_VIRTIO_PCI_CONFIG_SIZE);
	wh_store_le32(c + at + 16, WH_VIRTIO_PCI_NOTIFY_STRIDE);
	at = put_cap(c, at, 2, 20, WH_VIRTIO_PCI_NOTIFY, WH_VIRTIO_PCI_NOTIFY_SIZE);
	wh_store_le32(w + at + 8, UINT32_MAX); /* access through configuration space: see below */
	w[at + 4] = 0xff;
	wh_store_le32(w + at + 12, UINT32_MAX);
	at = put_cap(c, at, 5, 20, 0, 0);
	wh_assert(at == MSIX_AT);
	c[at] = CAP_MSIX;
	wh_store_le16(c + at + 2, (uint16_t)(f->vector_count - 1));
	wh_store_le16(w + at + 2, MSIX_ENABLE | MSIX_MASK_ALL);
	wh_store_le32(c + at + 4, WH_VIRTIO_PCI_MSIX);
	wh_store_le32(c + at + 8, WH_VIRTIO_PCI_PBA);
	pc->function_count++;
}

static struct pc_function *function_at(struct pc *pc, uint32_t device_function)
{
	uint32_t device = device_function >> 3;
	return device_function & 7 || device >= pc->function_count ? NULL : &pc->function[device];
}

uint32_t pc_pci_read(struct pc *pc, uint32_t device_function, uint32_t offset, uint32_t size)
{
	uint8_t bytes[4] = { 0xff, 0xff, 0xff, 0xff };
	const struct pc_function *f = function_at(pc, device_function);
	if (f && wh_range_inside(offset, size, PC_PCI_CONFIG_SIZE))
		memcpy(bytes, f->config + offset, size);
	else if (f)
		memset(bytes, 0, size); /* no extended capabilities */
	return wh_load_le32(bytes);
}

static uint64_t bar_of(const struct pc_function *f)
{
	return wh_load_le32(f->config + BAR0) & ~15u;
}

static bool decodes(const struct pc_function *f)
{
	return f->config[COMMAND] & COMMAND_MEMORY;
}

static void deliver_pending(struct pc *pc, struct pc_function *f)
{
	for (uint32_t i = 0; i < f->vector_count; i++)
		if (f->pending & 1ull << i) {
			f->pending &= ~(1ull << i);
			pc_msix_send(pc, f, i);
		}
}

void pc_pci_write(struct pc *pc, uint32_t device_function, uint32_t offset, uint32_t size,
		  uint32_t value)
{
	struct pc_function *f = function_at(pc, device_function);
	if (!f || !wh_range_inside(offset, size, PC_PCI_CONFIG_SIZE))
		return;
	for (uint32_t i = 0; i < size; i++) {
		uint8_t mask = f->writable[offset + i];
		f->config[offset + i] =
			(uint8_t)((f->config[offset + i] & ~mask) | ((value >> 8 * i) & mask));
	}
	if (!f->slot)
		return;
	if (decodes(f) && bar_of(f) != f->kicks_at)
		pc_kicks_move(pc, f, bar_of(f));
	if (f->pending)
		deliver_pending(pc, f);
}

struct pc_function *pc_pci_at(struct pc *pc, uint64_t address, uint64_t *ret_offset)
{
	if (address < PC_BAR_BASE || address >= PC_BAR_END)
		return NULL;
	for (uint32_t i = 1; i < pc->function_count; i++) {
		struct pc_function *f = &pc->function[i];
		if (!decodes(f) || address - bar_of(f) >= WH_VIRTIO_PCI_BAR_SIZE)
			continue;
		*ret_offset = address - bar_of(f);
		return f;
	}
	return NULL;
}

/* ---- MSI-X (PCI 3.0, 6.8.2) ---- */

uint64_t pc_msix_read(struct pc_function *f, uint64_t offset, uint32_t size)
{
	uint64_t value = 0;
	const uint8_t *from = (const uint8_t *)f->msix;
	uint64_t at = offset - WH_VIRTIO_PCI_MSIX, limit = f->vector_count * sizeof *f->msix;
	if (offset >= WH_VIRTIO_PCI_PBA) {
		from = (const uint8_t *)&f->pending;
		at = offset - WH_VIRTIO_PCI_PBA;
		limit = sizeof f->pending;
	}
	if (wh_range_inside(at, size, limit))
		memcpy(&value, from + at, size);
	return value;
}

void pc_msix_write(struct pc *pc, struct pc_function *f, uint64_t offset, uint32_t size,
		   uint64_t value)
{
	uint64_t at = offset - WH_VIRTIO_PCI_MSIX;
	if (size < 4 || at % size || !wh_range_inside(at, size, f->vector_count * sizeof *f->msix))
		return;
	memcpy((uint8_t *)f->msix + at, &value, size);
	if (f->pending)
		deliver_pending(pc, f);
}

void pc_msix_send(struct pc *pc, struct pc_function *f, uint32_t vector)
{
	uint16_t control = wh_load_le16(f->config + MSIX_AT + 2);
	if (!(control & MSIX_ENABLE) || vector >= f->vector_count)
		return;
	const struct pc_msix_entry *e = &f->msix[vector];
	if (control & MSIX_MASK_ALL || e->control & MASKED) {
		f->pending |= 1ull << vector;
		return;
	}
	struct kvm_msi msi = { .address_lo = e->address,
			       .address_hi = e->address_high,
			       .data = e->data };
	(void)ioctl(pc->vm, KVM_SIGNAL_MSI,
		    &msi); /* a bad message reaches nobody, as on hardware */
}
