/* SPDX-License-Identifier: ISC */
#include "fake_vmm.h"

struct fake fake;

struct wh_vmm_machine *fake_new(void)
{
	memset(&fake, 0, sizeof fake);
	fake.ram = test_guarded(FAKE_RAM_SIZE);
	if (wh_gmem_add(&fake.mem, FAKE_RAM_START, FAKE_RAM_SIZE, fake.ram, true) < 0)
		abort();
	fake.shm = (struct wh_shm_device *)fake.ram;
	return (struct wh_vmm_machine *)(void *)&fake;
}

void fake_free(void)
{
	test_guarded_free(fake.ram, FAKE_RAM_SIZE);
	memset(&fake, 0, sizeof fake);
}

void fake_start(uint64_t features, uint32_t size)
{
	fake.shm->driver_features = features | WH_VIRTIO_F_VERSION_1;
	for (uint32_t i = 0; i < fake.shm->queue_count; i++) {
		struct wh_virtq_driver_config c = { .size = size,
						    .ring = fake.ram + 0x2000 + i * 0x4000,
						    .slots = fake.slots[i],
						    .bias = FAKE_RAM_START - (uintptr_t)fake.ram,
						    .features = features };
		if (wh_virtq_driver_init(&fake.q[i], &c) < 0)
			abort();
		fake.shm->queue[i].size = size;
		fake.shm->queue[i].desc = fake.q[i].desc_address;
		fake.shm->queue[i].driver = fake.q[i].driver_address;
		fake.shm->queue[i].device = fake.q[i].device_address;
	}
	fake.shm->status = WH_VIRTIO_STATUS_ACKNOWLEDGE | WH_VIRTIO_STATUS_DRIVER |
			   WH_VIRTIO_STATUS_FEATURES_OK | WH_VIRTIO_STATUS_DRIVER_OK;
	fake_kick(0);
}

void fake_kick(uint32_t bits)
{
	fake.shm->kick |= bits;
	do
		fake.slot.ops.kicked(fake.slot.ctx);
	while (fake.shm->kick);
}

void fake_reset(void)
{
	fake.shm->status = 0;
	fake.shm->reset_count++;
	fake_kick(WH_SHM_KICK_CONTROL);
}

bool fake_broken(void)
{
	return fake.shm->status & WH_VIRTIO_STATUS_NEEDS_RESET;
}

void fake_send(uint32_t queue, const struct wh_iov *iov, uint32_t out, uint32_t in, void *cookie)
{
	CHECK_EQ(wh_virtq_driver_add(&fake.q[queue], iov, out, in, cookie), 0);
	if (wh_virtq_driver_kick_needed(&fake.q[queue]))
		fake_kick(1u << queue);
}

int fake_get(uint32_t queue, void **ret_cookie, uint32_t *ret_written)
{
	return wh_virtq_driver_get(&fake.q[queue], ret_cookie, ret_written);
}

uint32_t fake_ask(uint32_t queue, const struct wh_iov *iov, uint32_t out, uint32_t in)
{
	void *cookie = NULL;
	uint32_t written = 0;
	fake_send(queue, iov, out, in, (void *)(uintptr_t)iov);
	CHECK_EQ(fake_get(queue, &cookie, &written), 1);
	CHECK(cookie == (const void *)iov);
	return written;
}

/* ---- what the devices call ---- */

int wh_vmm_slot_add(struct wh_vmm_machine *machine, const struct wh_vmm_slot_config *config,
		    const struct wh_vmm_slot_ops *ops, void *ctx, struct wh_vmm_slot **ret_slot,
		    struct wh_diag *diag)
{
	fake.slot.ops = *ops;
	fake.slot.ctx = ctx;
	*ret_slot = &fake.slot;
	return 0;
}

enum wh_boot_transport wh_vmm_slot_transport(const struct wh_vmm_slot *slot)
{
	return WH_BOOT_TRANSPORT_SHM;
}

struct wh_shm_device *wh_vmm_slot_shm(struct wh_vmm_slot *slot)
{
	return fake.shm;
}

void wh_vmm_slot_interrupt(struct wh_vmm_slot *slot, uint32_t bits)
{
	fake.shm->interrupt |= bits;
}

bool wh_vmm_machine_restored(const struct wh_vmm_machine *machine)
{
	return false;
}

const struct wh_gmem *wh_vmm_machine_memory(const struct wh_vmm_machine *machine)
{
	return &fake.mem;
}

void wh_vmm_slot_again(struct wh_vmm_slot *slot, uint32_t queue)
{
}

void wh_vmm_slot_vector(struct wh_vmm_slot *slot, uint32_t vector)
{
}
