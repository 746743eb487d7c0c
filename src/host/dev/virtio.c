/* SPDX-License-Identifier: ISC */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/virtio.h>

#define COMMON_FEATURES (WH_VIRTIO_F_VERSION_1 | WH_VIRTQ_F_INDIRECT | WH_VIRTQ_F_EVENT_IDX)

void wh_virtio_init(struct wh_virtio_device *d, const struct wh_virtio_config *config)
{
	wh_assert(config->queue_count <= WH_VIRTIO_QUEUES_MAX);
	wh_assert(wh_is_power_of_two(config->queue_size_max) &&
		  config->queue_size_max <= WH_VIRTQ_SIZE_MAX);
	*d = (struct wh_virtio_device){ .c = *config };
}

uint64_t wh_virtio_features(const struct wh_virtio_device *d)
{
	return d->c.features | COMMON_FEATURES;
}

static int start_at(struct wh_virtio_device *d, uint64_t features,
		    const struct wh_virtio_queue_setup *setup, const uint8_t *positions);

static void slot_drain(void *ctx)
{
	struct wh_virtio_device *d = ctx;
	if (d->running && d->c.ops->drain)
		d->c.ops->drain(d->c.ctx);
}

static bool slot_idle(void *ctx)
{
	const struct wh_virtio_device *d = ctx;
	for (uint32_t i = 0; i < d->c.queue_count; i++)
		if (!wh_virtq_device_idle(&d->queue[i]))
			return false;
	return !d->resetting;
}

static void slot_kicked(void *ctx)
{
	wh_virtio_shm_kicked(ctx);
}

static void slot_notified(void *ctx, uint32_t queue)
{
	wh_virtio_notify(ctx, queue);
}

static uint64_t slot_read(void *ctx, uint64_t offset, uint32_t size)
{
	const struct wh_virtio_device *d = ctx;
	return d->transport == &wh_virtio_transport_pci ? wh_virtio_pci_read(ctx, offset, size)
							: wh_virtio_mmio_read(ctx, offset, size);
}

static void slot_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	const struct wh_virtio_device *d = ctx;
	if (d->transport == &wh_virtio_transport_pci)
		wh_virtio_pci_write(ctx, offset, size, value);
	else
		wh_virtio_mmio_write(ctx, offset, size, value);
}

/*
 * A device in a snapshot: registers, then queues, then configuration; all little-endian.
 *	0 version, 4 virtio id, 8 status, 12 interrupt status, 16 generation, 20 selectors (3), 32 driver features, 40 running,
 *	44 configuration vector; 48 + 40 n: queue n: size, vector, ready, position, three addresses
 */
#define STATE_VERSION 1u
#define STATE_QUEUES 48u
#define STATE_QUEUE_SIZE 40u

static int slot_save(void *ctx, void *to, size_t size)
{
	struct wh_virtio_device *d = ctx;
	const struct wh_virtio_mmio_state *m = &d->mmio;
	uint8_t *p = to;
	size_t need = STATE_QUEUES + d->c.queue_count * STATE_QUEUE_SIZE + WH_VIRTIO_CONFIG_SIZE;
	if (d->transport != &wh_virtio_transport_pci || size < need)
		return -WH_EOPNOTSUPP;
	int error = d->running && d->c.ops->save ? d->c.ops->save(d->c.ctx) : 0;
	if (error < 0 || d->resetting)
		return error < 0 ? error : -WH_EBUSY;
	memset(p, 0, need);
	const uint32_t words[] = {
		STATE_VERSION,          d->c.virtio_id,       m->status,
		m->interrupt_status,    m->config_generation, m->device_features_sel,
		m->driver_features_sel, m->queue_sel
	};
	for (uint32_t i = 0; i < WH_ARRAY_COUNT(words); i++)
		wh_store_le32(p + 4 * i, words[i]);
	wh_store_le64(p + 32, m->driver_features);
	p[40] = d->running;
	wh_store_le16(p + 44, m->config_vector);
	for (uint32_t i = 0; i < d->c.queue_count; i++) {
		const struct wh_virtq_device *q = &d->queue[i];
		uint8_t *e = p + STATE_QUEUES + i * STATE_QUEUE_SIZE;
		uint16_t taken = wh_virtq_device_next(q);
		if (d->running && wh_virtq_device_ready(q) && taken != wh_virtq_device_given(q))
			return -WH_EBUSY;
		wh_store_le32(e, m->queue[i].size);
		wh_store_le16(e + 4, m->vector[i]);
		e[6] = m->queue_ready[i];
		wh_store_le16(e + 8, taken);
		wh_store_le64(e + 16, m->queue[i].desc);
		wh_store_le64(e + 24, m->queue[i].driver);
		wh_store_le64(e + 32, m->queue[i].device);
	}
	memcpy(p + need - WH_VIRTIO_CONFIG_SIZE, d->config, WH_VIRTIO_CONFIG_SIZE);
	return (int)need;
}

/* The model's own configuration is taken from the snapshot, so that the driver sees no change. */
static int slot_restore(void *ctx, const void *from, size_t size)
{
	struct wh_virtio_device *d = ctx;
	struct wh_virtio_mmio_state m = { 0 };
	struct wh_virtio_queue_setup setup[WH_VIRTIO_QUEUES_MAX] = { 0 };
	const uint8_t *p = from;
	size_t need = STATE_QUEUES + d->c.queue_count * STATE_QUEUE_SIZE + WH_VIRTIO_CONFIG_SIZE;
	if (size != need || wh_load_le32(p) != STATE_VERSION ||
	    wh_load_le32(p + 4) != d->c.virtio_id)
		return -WH_EBADMSG;
	m.status = wh_load_le32(p + 8) & 0xff;
	m.interrupt_status = wh_load_le32(p + 12);
	m.config_generation = wh_load_le32(p + 16);
	m.device_features_sel = wh_load_le32(p + 20);
	m.driver_features_sel = wh_load_le32(p + 24);
	m.queue_sel = wh_load_le32(p + 28);
	m.driver_features = wh_load_le64(p + 32);
	m.config_vector = wh_load_le16(p + 44);
	if (m.config_vector > d->c.queue_count)
		m.config_vector = 0xffff;
	for (uint32_t i = 0; i < d->c.queue_count; i++) {
		const uint8_t *e = p + STATE_QUEUES + i * STATE_QUEUE_SIZE;
		m.queue[i] = (struct wh_virtio_queue_setup){ wh_load_le32(e), wh_load_le64(e + 16),
							     wh_load_le64(e + 24),
							     wh_load_le64(e + 32) };
		m.vector[i] = wh_load_le16(e + 4);
		if (m.vector[i] > d->c.queue_count)
			m.vector[i] = 0xffff;
		m.queue_ready[i] = e[6] == 1;
		if (m.queue_ready[i])
			setup[i] = m.queue[i];
	}
	d->mmio = m;
	memcpy(d->config, p + need - WH_VIRTIO_CONFIG_SIZE, WH_VIRTIO_CONFIG_SIZE);
	if (p[40] != 1)
		return 0;
	if (!(m.status & WH_VIRTIO_STATUS_DRIVER_OK) ||
	    start_at(d, m.driver_features, setup, p + STATE_QUEUES) < 0)
		return -WH_EBADMSG;
	if (d->c.ops->restored)
		d->c.ops->restored(d->c.ctx);
	for (uint32_t i = 0; i < d->c.queue_count; i++)
		wh_virtio_again(d, i); /* kicks may have been under way */
	return 0;
}

int wh_virtio_attach(struct wh_virtio_device *d, struct wh_vmm_machine *machine, const char *name,
		     struct wh_diag *diag)
{
	static const struct wh_vmm_slot_ops ops = { .kicked = slot_kicked,
						    .mmio_read = slot_read,
						    .mmio_write = slot_write,
						    .notified = slot_notified,
						    .drain = slot_drain,
						    .idle = slot_idle,
						    .save = slot_save,
						    .restore = slot_restore };
	static const struct wh_virtio_transport *const transports[] = {
		[WH_BOOT_TRANSPORT_SHM] = &wh_virtio_transport_shm,
		[WH_BOOT_TRANSPORT_MMIO] = &wh_virtio_transport_mmio,
		[WH_BOOT_TRANSPORT_PCI] = &wh_virtio_transport_pci,
	};
	struct wh_vmm_slot_config config = { .size = sizeof config,
					     .virtio_id = d->c.virtio_id,
					     .queue_count = d->c.queue_count,
					     .name = name };
	int r = wh_vmm_slot_add(machine, &config, &ops, d, &d->slot, diag);
	if (r < 0)
		return r;
	d->mem = wh_vmm_machine_memory(machine);
	d->take_up = wh_vmm_machine_restored(machine);
	d->transport = transports[wh_vmm_slot_transport(d->slot)];
	r = d->transport->attached(d);
	if (r < 0)
		return wh_diag_set(diag, r, "device %u: the machine has no registers for it",
				   d->c.virtio_id);
	return 0;
}

void wh_virtio_broken(struct wh_virtio_device *d, const char *why)
{
	if (d->broken)
		return;
	d->errors++;
	d->broken = true;
	d->running = false;
	wh_log_write(&d->c.log, WH_LOG_DEBUG, "virtio", d->c.virtio_id,
		     "driver broke the contract: %s", why);
	d->transport->needs_reset(d);
}

/* positions: entries of a snapshot, or NULL: at the beginning. */
static int start_at(struct wh_virtio_device *d, uint64_t features,
		    const struct wh_virtio_queue_setup *setup, const uint8_t *positions)
{
	wh_assert(!d->running && !d->resetting);
	if (features & ~wh_virtio_features(d) || !(features & WH_VIRTIO_F_VERSION_1)) {
		wh_virtio_broken(d, "features that were not offered");
		return -WH_EINVAL;
	}
	for (uint32_t i = 0; i < d->c.queue_count; i++) {
		struct wh_virtq_device_config c = { .mem = d->mem,
						    .size = setup[i].size,
						    .desc = setup[i].desc,
						    .driver = setup[i].driver,
						    .device = setup[i].device,
						    .features = features };
		wh_virtq_device_reset(&d->queue[i]);
		if (!c.size)
			continue;
		if (c.size > d->c.queue_size_max || wh_virtq_device_init(&d->queue[i], &c) < 0) {
			wh_virtio_broken(d, "a queue outside memory or of a bad size");
			return -WH_EINVAL;
		}
		if (positions)
			wh_virtq_device_seek(&d->queue[i],
					     wh_load_le16(positions + i * STATE_QUEUE_SIZE + 8));
	}
	for (uint32_t i = 0; d->take_up && i < d->c.queue_count; i++)
		wh_virtq_device_resume(&d->queue[i]);
	d->take_up = false;
	d->features = features;
	d->running = true;
	if (d->c.ops->start)
		d->c.ops->start(d->c.ctx);
	return 0;
}

int wh_virtio_start(struct wh_virtio_device *d, uint64_t features,
		    const struct wh_virtio_queue_setup *setup)
{
	return start_at(d, features, setup, NULL);
}

bool wh_virtio_reset(struct wh_virtio_device *d)
{
	if (d->resetting)
		return false;
	d->running = false;
	d->broken = false;
	d->features = 0;
	for (uint32_t i = 0; i < d->c.queue_count; i++)
		wh_virtq_device_reset(&d->queue[i]);
	d->resetting = true;
	if (d->c.ops->reset && !d->c.ops->reset(d->c.ctx))
		return false;
	wh_virtio_reset_done(d);
	return true;
}

void wh_virtio_reset_done(struct wh_virtio_device *d)
{
	wh_assert(d->resetting);
	d->resetting = false;
	d->transport->reset_done(d);
}

void wh_virtio_notify(struct wh_virtio_device *d, uint32_t queue)
{
	if (d->running && queue < d->c.queue_count && wh_virtq_device_ready(&d->queue[queue]))
		d->c.ops->notify(d->c.ctx, queue);
}

bool wh_virtio_pop(struct wh_virtio_device *d, uint32_t queue, struct wh_virtq_chain *chain)
{
	wh_assert(queue < d->c.queue_count);
	if (!d->running)
		return false;
	int r = wh_virtq_device_pop(&d->queue[queue], chain);
	if (!r && wh_virtq_device_kicks_on(&d->queue[queue]))
		r = wh_virtq_device_pop(&d->queue[queue], chain);
	if (r < 0)
		wh_virtio_broken(d, "a bad descriptor chain");
	return r > 0;
}

void wh_virtio_push(struct wh_virtio_device *d, uint32_t queue, uint16_t head, uint32_t written)
{
	wh_assert(queue < d->c.queue_count);
	if (d->running)
		wh_virtq_device_push(&d->queue[queue], head, written);
}

void wh_virtio_raise(struct wh_virtio_device *d, uint32_t queue)
{
	wh_assert(queue < d->c.queue_count);
	if (!d->running || !wh_virtq_device_interrupt_needed(&d->queue[queue]))
		return;
	if (d->transport->queue_interrupt)
		d->transport->queue_interrupt(d, queue);
	else
		d->transport->interrupt(d, WH_VIRTIO_INTERRUPT_QUEUE);
}

void wh_virtio_again(struct wh_virtio_device *d, uint32_t queue)
{
	wh_assert(queue < d->c.queue_count);
	if (d->running && d->transport->again)
		d->transport->again(d, queue);
}

void wh_virtio_config_set(struct wh_virtio_device *d, uint32_t offset, const void *from,
			  uint32_t size)
{
	wh_assert(wh_range_inside(offset, size, WH_VIRTIO_CONFIG_SIZE));
	memcpy(d->config + offset, from, size);
	if (d->transport)
		d->transport->config_changed(d, offset, size);
}
