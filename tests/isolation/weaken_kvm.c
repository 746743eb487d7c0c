/* SPDX-License-Identifier: ISC */
/*
 * As weaken.c, for the kvm engine: takes a protection away just before the processor gets
 * its first state. The guest builds its own page tables, so what they say is changed in the image's
 * constants; an additional page is mapped by a device that has its registers there.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "kvm/kvm_priv.h"

#define TEXT_SLOT 1u
#define EXTRA_SLOT 8u
#define OUTSIDE 0xb0000000ull /* as ring0_map_outside.c */
#define WRITABLE (1ull << 1)
#define NO_EXECUTE (1ull << 63)
enum { RIGHTS_RX, RIGHTS_R, RIGHTS_RW }; /* enum cpu_paging_access */

int __real_kvm_vcpu_prepare(struct kvm *k, struct wh_diag *diag);
int __wrap_kvm_vcpu_prepare(struct kvm *k, struct wh_diag *diag);

static bool without(const char *protection)
{
	const char *chosen = getenv("WHERRY_WEAKEN");
	return chosen && !strcmp(chosen, protection);
}

/* The image's cpu_paging_rights, in the monitor's private view. */
static uint64_t *rights(struct wh_vmm_machine *m)
{
	struct wh_elf_symbols symbols;
	if (wh_elf_symbols_load(&m->image->elf, &symbols) < 0 ||
	    mprotect(m->text, m->text_size, PROT_READ | PROT_WRITE))
		abort();
	for (uint32_t i = 0; i < symbols.count; i++) {
		struct wh_elf_symbol s = wh_elf_symbol(&symbols, i);
		if (!strcmp(s.name, "wh_cpu_paging_rights"))
			return (uint64_t *)(void *)(m->text + (s.value - m->image->start));
	}
	abort();
}

static void set_slot(struct kvm *k, uint32_t slot, uint64_t start, uint64_t size, void *host)
{
	struct kvm_userspace_memory_region r = { .slot = slot,
						 .guest_phys_addr = start,
						 .userspace_addr = (uint64_t)(uintptr_t)host };
	(void)ioctl(k->vm, KVM_SET_USER_MEMORY_REGION, &r); /* size 0: gone */
	r.memory_size = size;
	if (size && ioctl(k->vm, KVM_SET_USER_MEMORY_REGION, &r))
		abort();
}

static void writable_text(struct kvm *k)
{
	struct wh_vmm_machine *m = k->machine;
	mprotect(m->text, m->text_size, PROT_READ | PROT_WRITE);
	set_slot(k, TEXT_SLOT, m->layout.image_base + m->image->start, m->text_size, m->text);
}

static void extra_page(struct kvm *k, uint64_t address, bool memory)
{
	struct wh_vmm_machine *m = k->machine;
	struct wh_boot_device *table = vmm_ram_at(m, m->info->devices);
	table[m->info->device_count++] = (struct wh_boot_device){
		.virtio_id = 0xffff, .transport = WH_BOOT_TRANSPORT_MMIO, .regs = address
	};
	if (memory)
		set_slot(k, EXTRA_SLOT, address, VMM_PAGE,
			 mmap(NULL, VMM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			      -1, 0));
}

int __wrap_kvm_vcpu_prepare(struct kvm *k, struct wh_diag *diag)
{
	const struct vmm_layout *l = &k->machine->layout;
	if (without("text") || without("constants") || without("slot"))
		writable_text(k);
	if (without("text"))
		rights(k->machine)[RIGHTS_RX] |= WRITABLE;
	if (without("constants"))
		rights(k->machine)[RIGHTS_R] |= WRITABLE;
	if (without("noexec"))
		rights(k->machine)[RIGHTS_RW] &= ~NO_EXECUTE;
	if (without("null"))
		extra_page(k, 0, true);
	if (without("guard"))
		extra_page(k, l->stack_low - VMM_PAGE, false);
	if (without("outside"))
		extra_page(k, l->stack_top, true);
	if (without("memory"))
		set_slot(k, EXTRA_SLOT, OUTSIDE, VMM_PAGE,
			 mmap(NULL, VMM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			      -1, 0));
	return __real_kvm_vcpu_prepare(k, diag);
}
