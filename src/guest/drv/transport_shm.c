/* SPDX-License-Identifier: ISC */

/* The driver's side of wherry/abi/shm.h. */

#include <drv/virtio.h>
#include <kern/plat.h>
#include <kern/sched.h>
#include <wherry/abi/shm.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>
#include <wherry/virtio_wire.h>

static struct wh_shm_device *regs_of(struct drv_virtio *d)
{
	return d->regs;
}

static void kick(struct wh_shm_device *s, uint32_t bits)
{
	__atomic_fetch_or(&s->kick, bits, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&kern_control()->host_sleeping, __ATOMIC_SEQ_CST))
		kern_plat_doorbell();
}

static uint64_t shm_features(struct drv_virtio *d)
{
	struct wh_shm_device *s = regs_of(d);
	return s->magic == WH_SHM_MAGIC ? s->device_features : 0;
}

static void shm_reset(struct drv_virtio *d)
{
	struct wh_shm_device *s = regs_of(d);
	if (!__atomic_load_n(&s->status, __ATOMIC_RELAXED))
		return; /* as the machine made it: nothing to take back */
	__atomic_store_n(&s->status, 0, __ATOMIC_RELEASE);
	s->reset_count++;
	kick(s, WH_SHM_KICK_CONTROL);
	while (__atomic_load_n(&s->reset_ack, __ATOMIC_ACQUIRE) != s->reset_count)
		kern_yield();
}

static int shm_start(struct drv_virtio *d, uint64_t features)
{
	struct wh_shm_device *s = regs_of(d);
	shm_reset(d);
	d->features = features;
	s->driver_features = features;
	__atomic_store_n(&s->status,
			 WH_VIRTIO_STATUS_ACKNOWLEDGE | WH_VIRTIO_STATUS_DRIVER |
				 WH_VIRTIO_STATUS_FEATURES_OK,
			 __ATOMIC_RELEASE);
	return 0;
}

static uint32_t shm_queue_size_max(struct drv_virtio *d, uint32_t queue)
{
	struct wh_shm_device *s = regs_of(d);
	return queue < s->queue_count && queue < WH_SHM_QUEUES_MAX ? s->queue[queue].size_max : 0;
}

static int shm_queue_set(struct drv_virtio *d, uint32_t queue, const struct wh_virtq_driver *q)
{
	struct wh_shm_queue *sq = &regs_of(d)->queue[queue];
	sq->desc = q->desc_address;
	sq->driver = q->driver_address;
	sq->device = q->device_address;
	sq->size = q->size;
	return 0;
}

static void shm_driver_ok(struct drv_virtio *d)
{
	struct wh_shm_device *s = regs_of(d);
	__atomic_fetch_or(&s->status, WH_VIRTIO_STATUS_DRIVER_OK, __ATOMIC_SEQ_CST);
}

static void shm_notify(struct drv_virtio *d, uint32_t queue)
{
	kick(regs_of(d), 1u << queue);
}

static uint32_t shm_take_interrupt(struct drv_virtio *d)
{
	struct wh_shm_device *s = regs_of(d);
	if (!__atomic_load_n(&s->interrupt, __ATOMIC_RELAXED))
		return 0;
	return __atomic_exchange_n(&s->interrupt, 0, __ATOMIC_ACQUIRE);
}

static void shm_config_read(struct drv_virtio *d, uint32_t offset, void *to, uint32_t size)
{
	struct wh_shm_device *s = regs_of(d);
	uint32_t before, after;
	do {
		before = __atomic_load_n(&s->config_generation, __ATOMIC_ACQUIRE);
		memset(to, 0, size);
		if (offset <= WH_SHM_CONFIG_SIZE && size <= WH_SHM_CONFIG_SIZE - offset)
			memcpy(to, s->config + offset, size);
		after = __atomic_load_n(&s->config_generation, __ATOMIC_ACQUIRE);
	} while (before != after);
}

const struct drv_virtio_transport drv_transport_shm = {
	.features = shm_features,
	.start = shm_start,
	.queue_size_max = shm_queue_size_max,
	.queue_set = shm_queue_set,
	.driver_ok = shm_driver_ok,
	.notify = shm_notify,
	.take_interrupt = shm_take_interrupt,
	.config_read = shm_config_read,
	.reset = shm_reset,
};
