/* SPDX-License-Identifier: ISC */
#ifndef VMM_ENGINE_H
#define VMM_ENGINE_H

/*
 * The seam between a machine and what runs it (proc/, kvm/).
 *
 * The machine (machine.c) owns what both engines share: the image, RAM, the layout,
 * boot info, control block, slots, and the decoding of an exit. An engine owns where
 * things lie in the guest's address space, how the guest starts, wakes and dies.
 *
 * Order of calls: probe; init; slot_add for each device; start; then interrupt, wake and kill
 * in any order; fini once, also after a failed init. All run in the loop's thread.
 *
 *	init      chooses m->layout.image_base, allocates m->engine_state; may set m->ram_fd (its
 *	          size not yet set), else machine.c opens it
 *	          (machine.c then builds RAM, loads the image and writes boot info)
 *	start     RAM is complete; the engine maps it and lets the guest go
 *	vmm_machine_ended(m, host_signal)   the engine says, once, from the loop, that the guest
 *	          is dead, or has said that it ends and was killed
 */

#include "vmm_priv.h"

#ifdef __cplusplus
extern "C" {
#endif

struct vmm_engine_ops {
	const char *name;
	enum wh_vmm_engine id;
	enum wh_boot_engine boot_id;
	enum wh_boot_transport transport;
	bool guard_hole;     /* the page below the stack is left out of the guest's map */
	bool relocate;       /* machine.c relocates the image (WH_BOOT_RELOCATED) */
	uint64_t memory_max; /* bytes of RAM it can give */

	/* Can this host run it? 0, or -errno and diag says what to do. Leaves nothing behind. */
	int (*probe)(struct wh_diag *diag);
	int (*init)(struct wh_vmm_machine *m, struct wh_diag *diag);
	/* Fills slot->regs (mmio; for shm machine.c does) and slot->irq, keeps what it needs
	 * in slot->engine_state. May be NULL. */
	int (*slot_add)(struct wh_vmm_machine *m, struct wh_vmm_slot *slot, struct wh_diag *diag);
	int (*start)(struct wh_vmm_machine *m, struct wh_diag *diag);
	/* Device raised its interrupt: WH_BOOT_TRANSPORT_MMIO only; bits 0 lowers the line. */
	void (*interrupt)(struct wh_vmm_slot *slot, uint32_t bits);
	/* control->host_events was counted up: see that the guest looks. */
	void (*wake)(struct wh_vmm_machine *m);
	/* Ends the guest; vmm_machine_ended follows from the loop. */
	void (*kill)(struct wh_vmm_machine *m);
	/* Ends the guest if it runs, waits for it, gives everything back. No callback. */
	void (*fini)(struct wh_vmm_machine *m);
	/* Stops the guest wherever it is, or lets it go on. */
	int (*pause)(struct wh_vmm_machine *m, bool on, struct wh_diag *diag);
	/* Brings the guest to where RAM holds all of its state, or lets it go (back to being
	 * paused, if it was). NULL = no snapshots. A machine with m->snapshot starts from there. */
	int (*park)(struct wh_vmm_machine *m, bool on, struct wh_diag *diag);
	/* Writes a snapshot of its own format; NULL = snapshot.c does, with park. */
	int (*snapshot)(struct wh_vmm_machine *m, int fd, struct wh_diag *diag);
	/* WH_BOOT_TRANSPORT_MMIO, _PCI: as if the guest had notified the queue. */
	void (*again)(struct wh_vmm_slot *slot, uint32_t queue);
	/* WH_BOOT_TRANSPORT_PCI: message-signalled interrupt. */
	void (*vector)(struct wh_vmm_slot *slot, uint32_t vector);
	/* How a guest that is no image takes a signal; NULL = through control->signals. */
	void (*signal)(struct wh_vmm_machine *m, int signal);
};

extern const struct vmm_engine_ops vmm_engine_proc;
extern const struct vmm_engine_ops vmm_engine_kvm;
extern const struct vmm_engine_ops vmm_engine_pc; /* pc/: kernels that are no images, on kvm */

/* What AUTO means here. */
const struct vmm_engine_ops *vmm_engine_of(enum wh_vmm_engine wanted);

#ifdef __cplusplus
}
#endif
#endif
