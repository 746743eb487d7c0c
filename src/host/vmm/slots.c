/* SPDX-License-Identifier: ISC */
/*
 * Slots: the places of a machine where device models plug in. With the shared-memory
 * transport the slot's registers are a struct wh_shm_device in RAM.
 *
 * Sleeping and waking, host side (wherry/abi/shm.h has the guest's half). Each side announces
 * that it sleeps, then looks once more, then sleeps; the other changes something, then
 * looks for the announcement. With a full barrier between the two steps on both sides one
 * of them always sees the other.
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

#include "engine.h"
#include "snapshot_wire.h"

/* A copy from a snapshot knows its devices already: they have to be the same. */
static bool is_known(const struct wh_vmm_machine *m, const struct wh_vmm_slot_config *config)
{
	const struct vmm_snapshot_header *h = vmm_snapshot_header(m->snapshot);
	uint32_t i = m->slot_count;
	return i < h->slot_count && h->slot[i].virtio_id == config->virtio_id &&
	       h->slot[i].queue_count == config->queue_count &&
	       wh_streq(h->slot[i].name, config->name ? config->name : "");
}

int wh_vmm_slot_add(struct wh_vmm_machine *m, const struct wh_vmm_slot_config *config,
		    const struct wh_vmm_slot_ops *ops, void *ctx, struct wh_vmm_slot **ret_slot,
		    struct wh_diag *diag)
{
	wh_assert(!m->started);
	size_t name_size = config->name ? wh_strlen(config->name) + 1 : 1;
	if (m->slot_count == WH_BOOT_DEVICES_MAX)
		return wh_diag_set(diag, -WH_ENOSPC, "more than %u devices", WH_BOOT_DEVICES_MAX);
	if (config->queue_count > WH_SHM_QUEUES_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "more than %u queues", WH_SHM_QUEUES_MAX);
	if (name_size > WH_BOOT_NAME_SIZE)
		return wh_diag_set(diag, -WH_ENAMETOOLONG, "device name %s is over %u bytes",
				   config->name, WH_BOOT_NAME_SIZE - 1);
	if (m->snapshot && !is_known(m, config))
		return wh_diag_set(diag, -WH_EINVAL,
				   "device %u is not that of the snapshot: give the same devices",
				   m->slot_count);
	struct wh_vmm_slot *s = &m->slot[m->slot_count];
	*s = (struct wh_vmm_slot){
		.machine = m,
		.index = m->slot_count,
		.virtio_id = config->virtio_id,
		.queue_count = config->queue_count,
		.ops = *ops,
		.ctx = ctx,
	};
	memcpy(s->name, config->name ? config->name : "", name_size);
	if (m->engine->transport == WH_BOOT_TRANSPORT_SHM) {
		s->regs = m->layout.shm + s->index * VMM_SHM_STRIDE;
		s->shm = vmm_ram_at(m, s->regs);
		if (!m->snapshot) {
			s->shm->magic = WH_SHM_MAGIC;
			s->shm->virtio_id = config->virtio_id;
			s->shm->queue_count = config->queue_count;
		}
	}
	if (m->engine->slot_add) {
		int error = m->engine->slot_add(m, s, diag);
		if (error < 0)
			return error;
	}
	m->slot_count++;
	*ret_slot = s;
	return 0;
}

void vmm_slots_publish(struct wh_vmm_machine *m)
{
	struct wh_boot_device *table;
	if (m->engine->transport == WH_BOOT_TRANSPORT_PCI)
		return; /* found by looking */
	m->info->devices = m->layout.shm;
	if (m->engine->transport == WH_BOOT_TRANSPORT_SHM)
		m->info->devices += m->slot_count * VMM_SHM_STRIDE;
	m->info->device_count = m->slot_count;
	table = vmm_ram_at(m, m->info->devices);
	for (uint32_t i = 0; i < m->slot_count; i++) {
		const struct wh_vmm_slot *s = &m->slot[i];
		table[i] = (struct wh_boot_device){ .virtio_id = s->virtio_id,
						    .transport = m->engine->transport,
						    .irq = s->irq,
						    .regs = s->regs };
		memcpy(table[i].name, s->name, sizeof s->name);
	}
}

enum wh_boot_transport wh_vmm_slot_transport(const struct wh_vmm_slot *slot)
{
	return slot->machine->engine->transport;
}

struct wh_shm_device *wh_vmm_slot_shm(struct wh_vmm_slot *slot)
{
	return slot->shm;
}

void wh_vmm_slot_interrupt(struct wh_vmm_slot *slot, uint32_t bits)
{
	struct wh_vmm_machine *m = slot->machine;
	if (!slot->shm) {
		m->engine->interrupt(slot, bits);
		return;
	}
	__atomic_fetch_or(&slot->shm->interrupt, bits, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&m->control->host_events, 1, __ATOMIC_SEQ_CST);
	m->engine->wake(m);
}

void wh_vmm_slot_vector(struct wh_vmm_slot *slot, uint32_t vector)
{
	const struct vmm_engine_ops *engine = slot->machine->engine;
	wh_assert(vector <= slot->queue_count && engine->vector);
	if (slot->machine->started && !slot->machine->ended)
		engine->vector(slot, vector);
}

void wh_vmm_slot_again(struct wh_vmm_slot *slot, uint32_t queue)
{
	const struct vmm_engine_ops *engine = slot->machine->engine;
	wh_assert(queue < slot->queue_count && engine->again);
	if (slot->machine->started && !slot->machine->ended)
		engine->again(slot, queue);
}

void vmm_slots_take_up(struct wh_vmm_machine *m)
{
	for (uint32_t i = 0; i < m->slot_count; i++)
		__atomic_fetch_or(&m->slot[i].shm->kick, (1u << m->slot[i].queue_count) - 1u,
				  __ATOMIC_SEQ_CST);
}

bool vmm_slots_kicked(struct wh_vmm_machine *m)
{
	bool any = false;
	for (uint32_t i = 0; i < m->slot_count && !m->ended; i++) {
		struct wh_vmm_slot *s = &m->slot[i];
		if (!s->shm || !__atomic_load_n(&s->shm->kick, __ATOMIC_ACQUIRE))
			continue;
		any = true;
		s->ops.kicked(s->ctx);
	}
	return any;
}
