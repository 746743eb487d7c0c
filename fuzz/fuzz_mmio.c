/* SPDX-License-Identifier: ISC */
/*
 * A hostile driver on virtio-mmio, or (built with FUZZ_PCI) on virtio over PCI: a sequence of register accesses and writes to guest memory. Nothing
 * may crash, and a device that needs a reset must stay silent until it gets one.
 *
 * Input: steps of 8 bytes: [0] what, [1..2] offset, [3] size or queue, [4..7] value.
 */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>

#ifdef FUZZ_PCI
#define FAKE_TRANSPORT WH_BOOT_TRANSPORT_PCI
#define REGISTERS \
	0x2010u /* common, ISR, device configuration, notify; the table is the machine's */
#define register_read wh_virtio_pci_read
#define register_write wh_virtio_pci_write
#else
#define REGISTERS 0x210u
#define register_read wh_virtio_mmio_read
#define register_write wh_virtio_mmio_write
#endif
#include "../src/host/dev/test/fake_slot.h"

#define STEPS_MAX 4096u
#define TURN_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct wh_virtio_device device;
static bool later;

static void notify(void *ctx, uint32_t queue)
{
	struct wh_iov iov[16];
	struct wh_virtq_chain chain = { .iov = iov, .iov_max = 16 };
	wh_assert(device.running);
	for (uint32_t i = 0; i < TURN_MAX && wh_virtio_pop(&device, queue, &chain); i++) {
		uint32_t written = 0;
		for (uint32_t n = 0; n < chain.in_count; n++) {
			memset(iov[chain.out_count + n].base, 0xaa, iov[chain.out_count + n].size);
			written += (uint32_t)iov[chain.out_count + n].size;
		}
		wh_virtio_push(&device, queue, chain.head, written);
	}
	wh_virtio_raise(&device, queue);
	if (queue == 1)
		wh_virtio_again(&device, queue);
}

static bool reset(void *ctx)
{
	return !later;
}

static void config_write(void *ctx, uint32_t offset, const void *from, uint32_t size)
{
	wh_assert(offset + size <= WH_VIRTIO_CONFIG_SIZE);
	if (size == 1)
		wh_virtio_config_set(&device, offset, from, size);
}

static void step(const uint8_t *p)
{
	static const uint8_t sizes[] = { 4, 4, 4, 1, 2, 8, 4, 4 };
	uint16_t offset = wh_load_le16(p + 1);
	uint32_t value = wh_load_le32(p + 4), size = sizes[p[3] % 8];
	switch (p[0] % 8) {
	case 0:
	case 1:
	case 2:
		register_write(&device, offset % REGISTERS, size, value);
		break;
	case 3:
		(void)register_read(&device, offset % REGISTERS, size);
		break;
	case 4:
	case 5: /* guest memory, with addresses that are likely to mean something */
		wh_store_le32(fake_memory + offset % (FAKE_MEMORY_SIZE - 4), value);
		break;
	case 6:
		later = p[3] & 1;
		if (device.resetting)
			wh_virtio_reset_done(&device);
		break;
	case 7: /* the ioeventfd's way */
		if (device.running)
			wh_virtio_notify(&device, value % 4);
		break;
	}
	if (device.broken)
		wh_assert(!device.running && device.mmio.status & WH_VIRTIO_STATUS_NEEDS_RESET);
	if (device.running)
		wh_assert(device.mmio.status & WH_VIRTIO_STATUS_DRIVER_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct wh_virtio_ops ops = { .notify = notify,
						  .reset = reset,
						  .config_write = config_write };
	fake_slot_reset();
	later = false;
	wh_virtio_init(&device, &(struct wh_virtio_config){ .virtio_id = 4,
							    .queue_count = 2,
							    .queue_size_max = 16,
							    .ops = &ops });
	if (wh_virtio_attach(&device, NULL, "", NULL) < 0)
		return 0;
	for (size_t at = 0; at + 8 <= size && at < 8 * STEPS_MAX; at += 8)
		step(data + at);
	return 0;
}
