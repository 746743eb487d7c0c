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
/* The first page of the memfd is not RAM: proc keeps its stub there, to exec it from. */
#define VMM_RAM_OFFSET VMM_PAGE

#define VMM_IMAGE_SIZE_MAX (16ull << 30) /* address space of an image without RAM */
#define VMM_RELOCATIONS_MAX (4u << 20)   /* 96 MiB of table */

struct vmm_relocation {
	uint64_t where; /* file address inside the writable part, 8 bytes */
	uint64_t addend;
};

/* Addresses are the file's own: add layout.image_base for the guest's. */
struct wh_vmm_image {
	int fd;
	struct wh_elf elf;
	struct wh_manifest manifest;
	/* Page-aligned pieces that are mapped from the file and never written. */
	struct vmm_piece {
		uint64_t start, size, offset;
		bool executable;
	} piece[WH_VMM_IMAGE_SEGMENTS_MAX];
	uint32_t piece_count;
	uint64_t start;     /* first page */
	uint64_t ram_start; /* first page of the writable part: RELRO, data, .bss */
	uint64_t relro_end; /* >= ram_start; pages before it are sealed after relocation */
	uint64_t end;       /* end of .bss, not rounded */
	struct vmm_relocation *relocation;
	uint32_t relocation_count;
	struct wh_elf_symbols symbols; /* read on first use */
	bool symbols_tried;
};

/* Copies the writable part into `ram` (zeroed, at least end - ram_start bytes) and applies the
 * relocations for the load bias when `relocate`. 0 or -errno: the file changed meanwhile. */
int vmm_image_load(const struct wh_vmm_image *image, uint8_t *ram, uint64_t bias, bool relocate);

/* As wh_vmm_image_open_fd, for an image inside a larger file; base is page-aligned. */
int vmm_image_open_part(int fd, uint64_t base, uint64_t size, struct wh_vmm_image **ret_image,
			struct wh_diag *diag);

/* Where things lie in the guest, filled by machine.c from layout.image_base. */
struct vmm_layout {
	wh_gaddr image_base; /* engine's choice in init, page-aligned: the load bias */
	wh_gaddr ram_base;
	uint64_t ram_size;
	wh_gaddr heap_start, heap_end;
	wh_gaddr info, control, strings, mounts, shm; /* above heap_end */
	wh_gaddr observe;                             /* below them; 0: a copy from a snapshot */
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
	void (*serial)(void *ctx, struct wh_vmm_machine *machine, const char *text, size_t size);
	void (*thread_begins)(void *ctx);
	void *ctx;

	int ram_fd;    /* sealed memfd; offset VMM_RAM_OFFSET = layout.ram_base */
	uint8_t *ram;  /* ram_size bytes, read and write, shared with the guest */
	uint8_t *text; /* host view of the read-only part: image->start .. ram_start */
	uint64_t text_size;
	struct vmm_layout layout;
	struct wh_gmem memory;
	struct wh_boot_info *info;       /* host pointer into RAM, valid from machine_new on */
	struct wh_boot_control *control; /* host pointer into RAM: hostile once started */
	struct wh_observe *observe;      /* the same; NULL = there is none */
	uint32_t observe_records, observe_flags;
	uint64_t stack_size; /* as asked, or 0 */

	uint32_t slot_count;
	bool started, ended, paused;
	bool traced; /* proc, set before the start: its process stays dumpable, for the tracer's memory accesses */
	struct wh_vmm_snapshot *snapshot; /* borrowed: restored from it; NULL = starts afresh */
	enum wh_vmm_sandbox sandbox;
	struct wh_vmm_spare *spare; /* until the engine has taken it */
	char failure[160]; /* why the engine could not bring the guest to its entry, or "" */
	uint64_t timeline[16];
	uint64_t tsc_hz;
	uint64_t started_tsc, started_ns;
	struct wh_vmm_slot slot[WH_BOOT_DEVICES_MAX]; /* last: most of it is never touched */
};

/* First in each vCPU's thread. */
static inline void vmm_thread_begins(const struct wh_vmm_machine *m)
{
	if (m->thread_begins)
		m->thread_begins(m->ctx);
}

/* The host pointer of a guest address inside RAM that this library laid out itself. */
static inline void *vmm_ram_at(const struct wh_vmm_machine *m, wh_gaddr address)
{
	return m->ram + (address - m->layout.ram_base);
}

/* A memfd for a guest's RAM, its size not yet set. Descriptor or -errno. */
int vmm_ram_open(struct wh_diag *diag);
/* Sizes, seals and maps it (layout.ram_size). 0 or -errno. */
int vmm_ram_map(struct wh_vmm_machine *m, struct wh_diag *diag);

/* The checked header; copies the pages into zeroed RAM. -errno: the file changed meanwhile. */
struct vmm_snapshot_header;
const struct vmm_snapshot_header *vmm_snapshot_header(const struct wh_vmm_snapshot *snapshot);
int vmm_snapshot_load(const struct wh_vmm_snapshot *snapshot, uint8_t *ram);

/* See engine.h. host_signal: signal that ended the process of the guest, or 0. */
void vmm_machine_ended(struct wh_vmm_machine *m, int host_signal);

/* Bytes between the registers of two slots. */
#define VMM_SHM_STRIDE ((sizeof(struct wh_shm_device) + 63) & ~(size_t)63)

/* Writes the device table into RAM, behind the registers, and its place into boot info. */
void vmm_slots_publish(struct wh_vmm_machine *m);

/* A copy from a snapshot: its devices look at all queues. */
void vmm_slots_take_up(struct wh_vmm_machine *m);

/* Is there a kvm that runs guest code on the processor (vmx or svm)? */
bool vmm_kvm_is_native(void);

/* Calls the devices of all shm slots that were kicked; they take the bits. true = there was one. */
bool vmm_slots_kicked(struct wh_vmm_machine *m);

#ifdef __cplusplus
}
#endif
#endif
