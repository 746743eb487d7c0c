/* SPDX-License-Identifier: ISC */
#include "transport_regs.h"

#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>

struct wh_virtio_queue_setup *regs_open_queue(struct wh_virtio_device *d)
{
	const struct wh_virtio_mmio_state *s = &d->mmio;
	if (s->queue_sel >= d->c.queue_count || s->queue_ready[s->queue_sel] ||
	    s->status & WH_VIRTIO_STATUS_DRIVER_OK)
		return NULL;
	return &d->mmio.queue[s->queue_sel];
}

void regs_set_half(uint64_t *to, bool high, uint32_t value)
{
	*to = high ? (*to & UINT32_MAX) | (uint64_t)value << 32
		   : (*to & ~(uint64_t)UINT32_MAX) | value;
}

static void start(struct wh_virtio_device *d)
{
	struct wh_virtio_mmio_state *s = &d->mmio;
	struct wh_virtio_queue_setup setup[WH_VIRTIO_QUEUES_MAX] = { 0 };
	for (uint32_t i = 0; i < d->c.queue_count; i++)
		if (s->queue_ready[i])
			setup[i] = s->queue[i];
	(void)wh_virtio_start(d, s->driver_features, setup); /* a failure has set NEEDS_RESET */
}

void regs_write_status(struct wh_virtio_device *d, uint32_t value)
{
	struct wh_virtio_mmio_state *s = &d->mmio;
	const uint32_t known = WH_VIRTIO_STATUS_ACKNOWLEDGE | WH_VIRTIO_STATUS_DRIVER |
			       WH_VIRTIO_STATUS_DRIVER_OK | WH_VIRTIO_STATUS_FEATURES_OK |
			       WH_VIRTIO_STATUS_FAILED;
	if (d->resetting)
		return;
	if (!value) {
		if (!s->status)
			s->status = WH_VIRTIO_STATUS_ACKNOWLEDGE; /* not 0 until it is done */
		(void)wh_virtio_reset(d); /* tells through reset_done, now or later */
		return;
	}
	uint32_t added = value & known & ~s->status;
	if (added & WH_VIRTIO_STATUS_FEATURES_OK && (s->driver_features & ~wh_virtio_features(d) ||
						     !(s->driver_features & WH_VIRTIO_F_VERSION_1)))
		added &= ~WH_VIRTIO_STATUS_FEATURES_OK; /* the driver reads it back (3.1.1) */
	if (added & WH_VIRTIO_STATUS_DRIVER_OK &&
	    !((s->status | added) & WH_VIRTIO_STATUS_FEATURES_OK))
		added &= ~WH_VIRTIO_STATUS_DRIVER_OK;
	s->status |= added;
	if (added & WH_VIRTIO_STATUS_DRIVER_OK && !d->broken)
		start(d);
}

void regs_write_features(struct wh_virtio_device *d, uint32_t value)
{
	struct wh_virtio_mmio_state *s = &d->mmio;
	if (s->driver_features_sel < 2 && !(s->status & WH_VIRTIO_STATUS_FEATURES_OK))
		regs_set_half(&s->driver_features, s->driver_features_sel == 1, value);
}

uint32_t regs_read_features(const struct wh_virtio_device *d)
{
	uint32_t half = d->mmio.device_features_sel;
	return half < 2 ? (uint32_t)(wh_virtio_features(d) >> 32 * half) : 0;
}

uint64_t regs_read_config(const struct wh_virtio_device *d, uint64_t offset, uint32_t size)
{
	uint8_t bytes[8] = { 0 };
	wh_assert(size <= sizeof bytes);
	if (wh_range_inside(offset, size, WH_VIRTIO_CONFIG_SIZE))
		memcpy(bytes, d->config + offset, size);
	return wh_load_le64(bytes);
}

void regs_write_config(struct wh_virtio_device *d, uint64_t offset, uint32_t size, uint64_t value)
{
	uint8_t bytes[8];
	wh_assert(size <= sizeof bytes);
	wh_store_le64(bytes, value);
	if (d->c.ops->config_write && wh_range_inside(offset, size, WH_VIRTIO_CONFIG_SIZE))
		d->c.ops->config_write(d->c.ctx, (uint32_t)offset, bytes, size);
}
