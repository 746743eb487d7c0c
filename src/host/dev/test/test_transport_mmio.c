/* SPDX-License-Identifier: ISC */
/* The register model of virtio-mmio: a driver's good behaviour, and its bad one. */
#include <wherry/base/bytes.h>
#include <wherry/test.h>

#include "fake_slot.h"

enum {
	MAGIC = 0x00,
	VERSION = 0x04,
	DEVICE_ID = 0x08,
	DEVICE_FEATURES = 0x10,
	DEVICE_FEATURES_SEL = 0x14,
	DRIVER_FEATURES = 0x20,
	DRIVER_FEATURES_SEL = 0x24,
	QUEUE_SEL = 0x30,
	QUEUE_SIZE_MAX = 0x34,
	QUEUE_SIZE = 0x38,
	QUEUE_READY = 0x44,
	QUEUE_NOTIFY = 0x50,
	INTERRUPT_STATUS = 0x60,
	INTERRUPT_ACK = 0x64,
	STATUS = 0x70,
	QUEUE_DESC = 0x80,
	QUEUE_DRIVER = 0x90,
	QUEUE_DEVICE = 0xa0,
	CONFIG_GENERATION = 0xfc,
	CONFIG = 0x100,
};
enum { READY_FOR_QUEUES = 11, RUNNING = 15, NEEDS_RESET = 64 };

static struct {
	struct wh_virtio_device dev;
	uint32_t started, notified, resets;
	bool reset_later;
	uint32_t config_offset, config_size;
} model;

static void started(void *ctx)
{
	model.started++;
}

static void notified(void *ctx, uint32_t queue)
{
	struct wh_iov iov[8];
	struct wh_virtq_chain chain = { .iov = iov, .iov_max = 8 };
	model.notified++;
	while (wh_virtio_pop(&model.dev, queue, &chain))
		wh_virtio_push(&model.dev, queue, chain.head, 0);
	wh_virtio_raise(&model.dev, queue);
}

static bool reset(void *ctx)
{
	model.resets++;
	return !model.reset_later;
}

static void config_write(void *ctx, uint32_t offset, const void *from, uint32_t size)
{
	model.config_offset = offset;
	model.config_size = size;
}

static uint32_t get(uint64_t offset)
{
	return (uint32_t)wh_virtio_mmio_read(&model.dev, offset, 4);
}

static void set(uint64_t offset, uint32_t value)
{
	wh_virtio_mmio_write(&model.dev, offset, 4, value);
}

static void plug(void)
{
	static const struct wh_virtio_ops ops = {
		.start = started, .notify = notified, .reset = reset, .config_write = config_write
	};
	fake_slot_reset();
	memset(&model, 0, sizeof model);
	wh_virtio_init(&model.dev, &(struct wh_virtio_config){ .virtio_id = 4,
							       .queue_count = 2,
							       .queue_size_max = 8,
							       .features = 1u << 5,
							       .ops = &ops });
	model.dev.config[3] = 0x5a;
	CHECK_EQ(wh_virtio_attach(&model.dev, NULL, "", NULL), 0);
}

static void negotiate(void)
{
	set(STATUS, 3);
	set(DRIVER_FEATURES_SEL, 1);
	set(DRIVER_FEATURES, 1);
	set(DRIVER_FEATURES_SEL, 0);
	set(DRIVER_FEATURES, 1u << 5);
	set(STATUS, READY_FOR_QUEUES);
}

/* Descriptors, available ring and used ring of queue n, a page each. */
static void set_queue(uint32_t n)
{
	uint32_t base = FAKE_MEMORY + n * 0x3000;
	set(QUEUE_SEL, n);
	set(QUEUE_SIZE, 8);
	set(QUEUE_DESC, base);
	set(QUEUE_DESC + 4, 0);
	set(QUEUE_DRIVER, base + 0x1000);
	set(QUEUE_DEVICE, base + 0x2000);
	set(QUEUE_READY, 1);
}

static void bring_up(void)
{
	plug();
	negotiate();
	set_queue(0);
	set_queue(1);
	set(STATUS, RUNNING);
	CHECK_EQ(get(STATUS), RUNNING);
	CHECK_EQ(model.started, 1);
}

static void offer(uint32_t queue)
{
	uint8_t *ring = fake_memory + queue * 0x3000;
	wh_store_le64(ring, FAKE_MEMORY + 0x7000);
	wh_store_le32(ring + 8, 16);
	wh_store_le16(ring + 0x1002, (uint16_t)(wh_load_le16(ring + 0x1002) + 1));
}

static void identifies_itself(void)
{
	plug();
	CHECK_EQ(get(MAGIC), 0x74726976);
	CHECK_EQ(get(VERSION), 2);
	CHECK_EQ(get(DEVICE_ID), 4);
	CHECK_EQ(get(DEVICE_FEATURES) & 1u << 5, 1u << 5);
	set(DEVICE_FEATURES_SEL, 1);
	CHECK_EQ(get(DEVICE_FEATURES), 1);
	set(DEVICE_FEATURES_SEL, 2);
	CHECK_EQ(get(DEVICE_FEATURES), 0);
	CHECK_EQ(get(QUEUE_SIZE_MAX), 8);
	set(QUEUE_SEL, 2);
	CHECK_EQ(get(QUEUE_SIZE_MAX), 0);
}

static void serves_a_queue(void)
{
	bring_up();
	offer(0);
	set(QUEUE_NOTIFY, 0);
	CHECK_EQ(model.notified, 1);
	CHECK_EQ(wh_load_le16(fake_memory + 0x2002), 1);
	CHECK_EQ(get(INTERRUPT_STATUS), 1);
	CHECK_EQ(fake_slot.line, 1);
	set(INTERRUPT_ACK, 1);
	CHECK_EQ(get(INTERRUPT_STATUS), 0);
	CHECK_EQ(fake_slot.line, 0);
	set(QUEUE_NOTIFY, 2);
	set(QUEUE_NOTIFY, 0xffffffff);
	CHECK_EQ(model.notified, 1);
}

static void refuses_features(void)
{
	plug();
	set(STATUS, 3);
	set(STATUS, READY_FOR_QUEUES); /* without VERSION_1 */
	CHECK_EQ(get(STATUS), 3);
	set(DRIVER_FEATURES_SEL, 1);
	set(DRIVER_FEATURES, 1);
	set(DRIVER_FEATURES_SEL, 0);
	set(DRIVER_FEATURES, 1u << 6); /* not on offer */
	set(STATUS, READY_FOR_QUEUES);
	CHECK_EQ(get(STATUS), 3);
	set(STATUS, RUNNING);
	CHECK_EQ(get(STATUS), 3);
	CHECK_EQ(model.started, 0);
	set(DRIVER_FEATURES, 1u << 5);
	set(STATUS, READY_FOR_QUEUES);
	CHECK_EQ(get(STATUS), READY_FOR_QUEUES);
	set(DRIVER_FEATURES, 0); /* too late */
	set_queue(0);
	set(STATUS, RUNNING);
	CHECK(wh_virtio_has(&model.dev, 1u << 5));
}

static void queues_are_fixed_while_running(void)
{
	bring_up();
	set(QUEUE_SEL, 0);
	set(QUEUE_READY, 0);
	CHECK_EQ(get(QUEUE_READY), 1);
	set(QUEUE_DESC, 0);
	set(QUEUE_SIZE, 3);
	offer(0);
	set(QUEUE_NOTIFY, 0);
	CHECK_EQ(wh_load_le16(fake_memory + 0x2002), 1);
}

static void bad_queue_needs_reset(void)
{
	static const struct {
		uint32_t reg, value;
	} bad[] = { { QUEUE_DESC, 0 },         { QUEUE_DESC, FAKE_MEMORY + 1 },
		    { QUEUE_DRIVER + 4, 1 },   { QUEUE_DEVICE, FAKE_MEMORY + FAKE_MEMORY_SIZE - 4 },
		    { QUEUE_SIZE, 3 },         { QUEUE_SIZE, 16 },
		    { QUEUE_SIZE, 0xffffffff } };
	for (size_t i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		plug();
		negotiate();
		set(QUEUE_SEL, 0);
		set_queue(1);
		set(QUEUE_SEL, 0);
		set(QUEUE_SIZE, 8);
		set(QUEUE_DESC, FAKE_MEMORY);
		set(QUEUE_DRIVER, FAKE_MEMORY + 0x1000);
		set(QUEUE_DEVICE, FAKE_MEMORY + 0x2000);
		set(bad[i].reg, bad[i].value);
		set(QUEUE_READY, 1);
		set(STATUS, RUNNING);
		CHECK_EQ(get(STATUS), RUNNING | NEEDS_RESET);
		CHECK_EQ(get(INTERRUPT_STATUS), 2);
		CHECK_EQ(model.started, 0);
		set(QUEUE_NOTIFY, 1);
		CHECK_EQ(model.notified, 0);
		set(STATUS, 0);
		CHECK_EQ(get(STATUS), 0);
		CHECK_EQ(fake_slot.line, 0);
	}
}

static void resets(void)
{
	bring_up();
	set(STATUS, 0);
	CHECK_EQ(model.resets, 1);
	CHECK_EQ(get(STATUS), 0);
	CHECK_EQ(get(QUEUE_READY), 0);
	set(QUEUE_NOTIFY, 0);
	CHECK_EQ(model.notified, 0);
	negotiate();
	set_queue(0);
	set(STATUS, RUNNING);
	CHECK_EQ(model.started, 2);
}

static void resets_later(void)
{
	bring_up();
	model.reset_later = true;
	set(STATUS, 0);
	CHECK(get(STATUS) != 0);
	set(STATUS, READY_FOR_QUEUES);
	set(STATUS, RUNNING);
	set(STATUS, 0);
	CHECK_EQ(model.resets, 1);
	CHECK_EQ(model.started, 1);
	wh_virtio_reset_done(&model.dev);
	CHECK_EQ(get(STATUS), 0);
	/* the same from a device that never had a status */
	set(STATUS, 0);
	CHECK(get(STATUS) != 0);
	wh_virtio_reset_done(&model.dev);
	CHECK_EQ(get(STATUS), 0);
}

static void bad_ring_is_silent(void)
{
	bring_up();
	wh_store_le16(fake_memory + 0x1002, 9); /* more than the ring holds */
	set(QUEUE_NOTIFY, 0);
	CHECK_EQ(get(STATUS), RUNNING | NEEDS_RESET);
	CHECK_EQ(model.dev.errors, 1);
	set(QUEUE_NOTIFY, 1);
	CHECK_EQ(model.notified, 1);
	set(STATUS, RUNNING);
	CHECK_EQ(model.started, 1);
}

static void configuration(void)
{
	plug();
	CHECK_EQ(wh_virtio_mmio_read(&model.dev, CONFIG + 3, 1), 0x5a);
	CHECK_EQ(wh_virtio_mmio_read(&model.dev, CONFIG, 4), 0x5a000000);
	CHECK_EQ(wh_virtio_mmio_read(&model.dev, CONFIG, 8), 0x5a000000);
	CHECK_EQ(wh_virtio_mmio_read(&model.dev, CONFIG + 2, 2), 0x5a00);
	CHECK_EQ(wh_virtio_mmio_read(&model.dev, CONFIG + WH_VIRTIO_CONFIG_SIZE - 4, 8), 0);
	CHECK_EQ(wh_virtio_mmio_read(&model.dev, CONFIG + WH_VIRTIO_CONFIG_SIZE, 1), 0);
	CHECK_EQ(wh_virtio_mmio_read(&model.dev, UINT64_MAX, 8), 0);
	uint32_t generation = get(CONFIG_GENERATION);
	wh_virtio_config_set(&model.dev, 3, "x", 1);
	CHECK(get(CONFIG_GENERATION) != generation);
	CHECK_EQ(wh_virtio_mmio_read(&model.dev, CONFIG + 3, 1), 'x');
	CHECK_EQ(fake_slot.raised, 0); /* nobody drives it yet */
	wh_virtio_mmio_write(&model.dev, CONFIG + 6, 2, 1);
	CHECK_EQ(model.config_offset, 6);
	CHECK_EQ(model.config_size, 2);
	wh_virtio_mmio_write(&model.dev, CONFIG + WH_VIRTIO_CONFIG_SIZE - 1, 2, 1);
	CHECK_EQ(model.config_offset, 6);
}

static void odd_accesses_do_nothing(void)
{
	plug();
	for (uint64_t offset = 0; offset < CONFIG; offset++)
		for (uint32_t size = 1; size <= 8; size *= 2) {
			if (size == 4 && offset % 4 == 0)
				continue;
			wh_virtio_mmio_write(&model.dev, offset, size, 0x0101010101010101);
			CHECK_EQ(wh_virtio_mmio_read(&model.dev, offset, size), 0);
		}
	CHECK_EQ(get(STATUS), 0);
	CHECK_EQ(get(DEVICE_FEATURES) & 1u << 5, 1u << 5);
}

int main(void)
{
	RUN(identifies_itself);
	RUN(serves_a_queue);
	RUN(refuses_features);
	RUN(queues_are_fixed_while_running);
	RUN(bad_queue_needs_reset);
	RUN(resets);
	RUN(resets_later);
	RUN(bad_ring_is_silent);
	RUN(configuration);
	RUN(odd_accesses_do_nothing);
	return test_end();
}
