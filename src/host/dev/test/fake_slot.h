/* SPDX-License-Identifier: ISC */
#ifndef DEV_TEST_FAKE_SLOT_H
#define DEV_TEST_FAKE_SLOT_H

/*
 * A slot without a machine, for tests of transport_mmio.c: guest memory of
 * FAKE_MEMORY_SIZE bytes at FAKE_MEMORY, interrupts and repeats are counted. Include once: it
 * defines the library's functions.
 */

#include <wherry/base/errors.h>
#include <wherry/virtio.h>

#ifndef FAKE_TRANSPORT
#define FAKE_TRANSPORT WH_BOOT_TRANSPORT_MMIO
#endif
#define FAKE_MEMORY 0x10000ull
#define FAKE_MEMORY_SIZE 0x8000u

struct wh_vmm_slot {
	uint32_t line;    /* last bits given */
	uint32_t raised;  /* times bits were not 0 */
	uint32_t again;   /* bit per queue */
	uint64_t vectors; /* bit per MSI-X vector sent */
};

static struct wh_vmm_slot fake_slot;
static struct wh_gmem fake_gmem;
static uint8_t fake_memory[FAKE_MEMORY_SIZE] __attribute__((aligned(4096)));

int wh_vmm_slot_add(struct wh_vmm_machine *machine, const struct wh_vmm_slot_config *config,
		    const struct wh_vmm_slot_ops *ops, void *ctx, struct wh_vmm_slot **ret_slot,
		    struct wh_diag *diag)
{
	*ret_slot = &fake_slot;
	return 0;
}

enum wh_boot_transport wh_vmm_slot_transport(const struct wh_vmm_slot *slot)
{
	return FAKE_TRANSPORT;
}

struct wh_shm_device *wh_vmm_slot_shm(struct wh_vmm_slot *slot)
{
	return NULL;
}

bool wh_vmm_machine_restored(const struct wh_vmm_machine *machine)
{
	return false;
}

const struct wh_gmem *wh_vmm_machine_memory(const struct wh_vmm_machine *machine)
{
	return &fake_gmem;
}

void wh_vmm_slot_interrupt(struct wh_vmm_slot *slot, uint32_t bits)
{
	slot->line = bits;
	slot->raised += bits != 0;
}

void wh_vmm_slot_again(struct wh_vmm_slot *slot, uint32_t queue)
{
	slot->again |= 1u << queue;
}

void wh_vmm_slot_vector(struct wh_vmm_slot *slot, uint32_t vector)
{
	slot->vectors |= 1ull << vector;
}

static void fake_slot_reset(void)
{
	fake_slot = (struct wh_vmm_slot){ 0 };
	fake_gmem = (struct wh_gmem){ 0 };
	memset(fake_memory, 0, sizeof fake_memory);
	(void)wh_gmem_add(&fake_gmem, FAKE_MEMORY, sizeof fake_memory, fake_memory, true);
}

#endif
