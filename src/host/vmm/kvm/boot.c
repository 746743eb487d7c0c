/* SPDX-License-Identifier: ISC */
/*
 * The PVH hand-over (Xen's docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h):
 * where the image is entered, and the page that it is given.
 */
#include <elf.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>

#include "kvm_priv.h"

#define NOTE_PVH_ENTRY 18u
#define START_MAGIC 0x336ec578u
#define START_VERSION 1u
#define MEMORY_RAM 1u

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, command_line, rsdp, memory_map;
	uint32_t memory_count, reserved;
};

struct module {
	uint64_t address, size, command_line, reserved;
};

struct memory {
	uint64_t address, size;
	uint32_t type, reserved;
};

struct page {
	struct start_info start;
	struct module module;
	struct memory memory[2];
	char command_line[8];
};

void kvm_start_info_write(void *page, const struct wh_vmm_machine *m)
{
	struct page *p = page;
	const struct vmm_layout *l = &m->layout;
	*p = (struct page){
		.start = { .magic = START_MAGIC,
			   .version = START_VERSION,
			   .module_count = 1,
			   .modules = KVM_START_INFO + offsetof(struct page, module),
			   .command_line = KVM_START_INFO + offsetof(struct page, command_line),
			   .memory_map = KVM_START_INFO + offsetof(struct page, memory),
			   .memory_count = 2 },
		.module = { .address = l->info, .size = VMM_PAGE },
		.memory = { { KVM_START_INFO, VMM_PAGE, MEMORY_RAM, 0 },
			    { l->ram_base, l->ram_size, MEMORY_RAM, 0 } },
	};
}

int kvm_image_entry(const struct wh_vmm_image *image, uint64_t *ret_address, struct wh_diag *diag)
{
	uint8_t bytes[8] = { 0 };
	size_t size = 0;
	int error =
		wh_elf_note(&image->elf, "Xen", NOTE_PVH_ENTRY, bytes, sizeof bytes, &size, diag);
	if (error == -WH_ENOENT || (error >= 0 && size != 4 && size != 8))
		return wh_diag_set(
			diag, -WH_ENOEXEC,
			"the image has no PVH entry, so kvm cannot start it; build it again "
			"or use --engine proc");
	if (error < 0)
		return error;
	/* The note names a physical address. */
	uint64_t address = size == 4 ? wh_load_le32(bytes) : wh_load_le64(bytes);
	for (uint32_t i = 0; i < image->elf.segment_count; i++) {
		const struct wh_elf_segment *s = &image->elf.segment[i];
		if (s->type != PT_LOAD || !(s->flags & PF_X) || address < s->paddr ||
		    address - s->paddr >= s->file_size)
			continue;
		*ret_address = address - s->paddr + s->vaddr;
		return 0;
	}
	return wh_diag_set(diag, -WH_ENOEXEC, "the PVH entry lies outside the text");
}
