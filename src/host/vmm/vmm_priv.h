/* SPDX-License-Identifier: ISC */
#ifndef VMM_PRIV_H
#define VMM_PRIV_H

/*
 * What the files of the machine library share.
 */

#include <stdbool.h>
#include <wherry/elf.h>
#include <wherry/vmm.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMM_PAGE 4096u

/* Addresses are the file's own (add layout.image_base), page-aligned unless said. */
struct wh_vmm_image {
	int fd;
	uint64_t file_size;
	struct wh_elf elf;
	struct wh_manifest manifest;
	/* The read-only part: all segments below the first writable one. */
	uint64_t start;     /* first byte */
	uint64_t ram_start; /* first page of the writable part: RELRO, data, .bss */
	uint64_t relro_end; /* >= ram_start; pages before it are sealed after relocation */
	uint64_t end;       /* end of .bss, not rounded */
	struct wh_elf_symbols symbols; /* read on first use */
};

/* Where things lie in the guest, filled by machine.c from layout.image_base. */
struct vmm_layout {
	wh_gaddr image_base; /* engine's choice in init, page-aligned: the load bias */
	wh_gaddr ram_base;
	uint64_t ram_size;
	wh_gaddr heap_start, heap_end;
	wh_gaddr info, control, devices, mounts, strings, shm; /* above heap_end */
	wh_gaddr trap_stack_low, trap_stack_top;
	wh_gaddr stack_low, stack_top; /* stack_low - VMM_PAGE is the guard page */
};

struct wh_vmm_slot {
	struct wh_vmm_machine *machine;
	uint32_t index;
	uint32_t virtio_id;
	uint32_t queue_count;
	char name[WH_BOOT_NAME_SIZE];
	struct wh_vmm_slot_ops ops;
	void *ctx;
	struct wh_shm_device *shm; /* transport shm: host pointer into RAM */
	wh_gaddr regs;             /* guest address of the registers */
	uint32_t irq;
	void *engine_state;
};

struct wh_vmm_machine {
	const struct vmm_engine_ops *engine;
	void *engine_state;
	struct wh_vmm_image *image; /* borrowed */
	struct wh_loop *loop;
	struct wh_log log;
	void (*exited)(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how);
	void *ctx;

	int ram_fd;    /* sealed memfd; offset 0 = layout.ram_base */
	uint8_t *ram;  /* ram_size bytes, read and write, shared with the guest */
	uint8_t *text; /* host view of the read-only part: image->start .. ram_start */
	uint64_t text_size;
	struct vmm_layout layout;
	struct wh_gmem memory;
	struct wh_boot_info *info;       /* host pointer into RAM, valid from machine_new on */
	struct wh_boot_control *control; /* host pointer into RAM: hostile once started */

	struct wh_vmm_slot slot[WH_BOOT_DEVICES_MAX];
	uint32_t slot_count;
	bool started, ended;
	uint64_t timeline[16];
	uint64_t tsc_hz;
};

/* The host pointer of a guest address inside RAM that this library laid out itself. */
static inline void *vmm_ram_at(const struct wh_vmm_machine *m, wh_gaddr address)
{
	return m->ram + (address - m->layout.ram_base);
}

/* See engine.h. host_signal: signal that ended the process of the guest, or 0. */
void vmm_machine_ended(struct wh_vmm_machine *m, int host_signal);

/* Takes kicks of all shm slots and calls their devices; true = there was one. */
bool vmm_slots_kicked(struct wh_vmm_machine *m);

#ifdef __cplusplus
}
#endif
#endif
