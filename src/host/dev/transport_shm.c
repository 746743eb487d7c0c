/* SPDX-License-Identifier: ISC */
/*
 * The machine's side of wherry/abi/shm.h. The registers are memory that the guest may
 * write at any moment, also those it has no business with. So: what we publish is
 * written from our own state and never read back; what the driver chose is copied
 * once, when DRIVER_OK is first seen, and the copy is what is checked and used.
 */
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/virtio.h>

static struct wh_shm_device *shm_of(struct wh_virtio_device *d)
{
	return wh_vmm_slot_shm(d->slot);
}

static int shm_attached(struct wh_virtio_device *d)
{
	struct wh_shm_device *s = shm_of(d);
	if (!s)
		return -WH_ENXIO;
	if (d->take_up) {
		d->shm_reset_count = __atomic_load_n(&s->reset_ack, __ATOMIC_RELAXED);
		return 0; /* the driver is at work already */
	}
	*s = (struct wh_shm_device){ .magic = WH_SHM_MAGIC,
				     .virtio_id = d->c.virtio_id,
				     .device_features = wh_virtio_features(d),
				     .queue_count = d->c.queue_count };
	for (uint32_t i = 0; i < d->c.queue_count; i++)
		s->queue[i].size_max = d->c.queue_size_max;
	memcpy(s->config, d->config, sizeof s->config);
	return 0;
}

static void shm_interrupt(struct wh_virtio_device *d, uint32_t causes)
{
	wh_vmm_slot_interrupt(d->slot, causes);
}

static void shm_needs_reset(struct wh_virtio_device *d)
{
	__atomic_fetch_or(&shm_of(d)->status, WH_VIRTIO_STATUS_NEEDS_RESET, __ATOMIC_RELEASE);
	wh_vmm_slot_interrupt(d->slot, WH_VIRTIO_INTERRUPT_CONFIG);
}

static void shm_config_changed(struct wh_virtio_device *d, uint32_t offset, uint32_t size)
{
	struct wh_shm_device *s = shm_of(d);
	__atomic_fetch_add(&s->config_generation, 1, __ATOMIC_ACQ_REL);
	memcpy(s->config + offset, d->config + offset, size);
	__atomic_fetch_add(&s->config_generation, 1, __ATOMIC_ACQ_REL);
	if (d->running)
		wh_vmm_slot_interrupt(d->slot, WH_VIRTIO_INTERRUPT_CONFIG);
}

static void shm_reset_done(struct wh_virtio_device *d)
{
	__atomic_store_n(&shm_of(d)->reset_ack, d->shm_reset_count, __ATOMIC_RELEASE);
	wh_vmm_slot_interrupt(d->slot, WH_VIRTIO_INTERRUPT_CONFIG); /* the driver may sleep on it */
}

/* As if the driver had kicked: the loop looks before it sleeps. */
static void shm_again(struct wh_virtio_device *d, uint32_t queue)
{
	__atomic_fetch_or(&shm_of(d)->kick, 1u << queue, __ATOMIC_ACQ_REL);
}

const struct wh_virtio_transport wh_virtio_transport_shm = { .attached = shm_attached,
							     .interrupt = shm_interrupt,
							     .needs_reset = shm_needs_reset,
							     .config_changed = shm_config_changed,
							     .reset_done = shm_reset_done,
							     .again = shm_again };

/* One copy of all OUT fields, then checks on the copy (in wh_virtio_start). */
static void take(struct wh_virtio_device *d, struct wh_shm_device *s)
{
	struct wh_virtio_queue_setup setup[WH_VIRTIO_QUEUES_MAX];
	uint64_t features = __atomic_load_n(&s->driver_features, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < d->c.queue_count; i++) {
		struct wh_shm_queue *q = &s->queue[i];
		setup[i].size = __atomic_load_n(&q->size, __ATOMIC_RELAXED);
		setup[i].desc = __atomic_load_n(&q->desc, __ATOMIC_RELAXED);
		setup[i].driver = __atomic_load_n(&q->driver, __ATOMIC_RELAXED);
		setup[i].device = __atomic_load_n(&q->device, __ATOMIC_RELAXED);
	}
	(void)wh_virtio_start(d, features, setup); /* a failure has set NEEDS_RESET */
}

void wh_virtio_shm_kicked(void *ctx)
{
	struct wh_virtio_device *d = ctx;
	struct wh_shm_device *s = shm_of(d);
	uint32_t kick = __atomic_exchange_n(&s->kick, 0, __ATOMIC_ACQ_REL);
	if (kick & WH_SHM_KICK_CONTROL) {
		d->shm_reset_count = __atomic_load_n(&s->reset_count, __ATOMIC_RELAXED);
		(void)wh_virtio_reset(d); /* later is told through reset_done */
	}
	if (!d->running && !d->broken && !d->resetting &&
	    __atomic_load_n(&s->status, __ATOMIC_ACQUIRE) & WH_VIRTIO_STATUS_DRIVER_OK)
		take(d, s);
	for (uint32_t i = 0; i < d->c.queue_count; i++)
		if (kick & 1u << i)
			wh_virtio_notify(d, i);
}
