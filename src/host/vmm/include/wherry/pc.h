/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_PC_H
#define WHERRY_PC_H

/*
 * Machines that other kernels expect: a small PC on the kvm engine. It has a PCI bus with virtio devices
 * (MSI-X), ACPI tables, interrupt controllers and timer of the kernel's, one serial port, a clock, a
 * power button and a way to reset. Kernels are started without firmware: Linux as bzImage or
 * vmlinux, and whatever has a PVH note or a Multiboot header.
 *
 * After _new the machine is an ordinary one (wherry/vmm.h): devices are attached with the same
 * calls, it is started, signalled, killed and freed in the same way. wh_vmm_machine_signal with any signal presses
 * the power button. Its end: WH_BOOT_EXIT_STATUS with WH_VMM_PC_OFF or WH_VMM_PC_RESET, EXIT_FAULT for a
 * triple fault, EXIT_NONE with a message when kvm gave up.
 *
 * Threads: as wherry/vmm.h; one thread a processor is made.
 *
 *	wh_vmm_kernel_open("vmlinuz", &kernel, &diag);
 *	wh_vmm_machine_new_pc(&config, kernel, loop, &machine, &diag);
 *	wh_dev_blk_new(..., machine, ...);
 *	wh_vmm_machine_start(machine, &diag);
 */

#include <stdbool.h>
#include <wherry/vmm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- kernels ---- */

enum wh_vmm_kernel_kind {
	WH_VMM_KERNEL_BZIMAGE = 1, /* Linux with its boot header, 64-bit entry */
	WH_VMM_KERNEL_PVH,         /* ELF with a PVH note (Xen's docs/misc/pvh.pandoc) */
	WH_VMM_KERNEL_ELF,         /* 64-bit ELF: Linux's vmlinux, entered with a zero page */
	WH_VMM_KERNEL_MULTIBOOT    /* Multiboot 1, ELF or with addresses in its header */
};
#define WH_VMM_KERNEL_KINDS 4u

struct wh_vmm_kernel;

/* Opens a file and finds out from its headers what it is; everything in them is checked. -WH_ENOEXEC: not a
 * kernel (diag says why), or -errno. fd is dup'ed. Memory stays the caller's; it is for examining. */
int wh_vmm_kernel_open(const char *path, struct wh_vmm_kernel **ret_kernel, struct wh_diag *diag);
int wh_vmm_kernel_open_fd(int fd, struct wh_vmm_kernel **ret_kernel, struct wh_diag *diag);
int wh_vmm_kernel_open_memory(const void *data, size_t size, struct wh_vmm_kernel **ret_kernel,
			      struct wh_diag *diag);
void wh_vmm_kernel_close(
	struct wh_vmm_kernel *kernel); /* after the machine is made; NULL is allowed */
enum wh_vmm_kernel_kind wh_vmm_kernel_kind(const struct wh_vmm_kernel *kernel);
const char *wh_vmm_kernel_kind_name(enum wh_vmm_kernel_kind kind); /* "bzImage"... */

/* ---- machines ---- */

#define WH_VMM_PC_CPUS_MAX 32u
#define WH_VMM_PC_MEMORY_MIN (16ull << 20)
#define WH_VMM_PC_MEMORY_DEFAULT (256ull << 20)
#define WH_VMM_PC_MEMORY_MAX (256ull << 30)
#define WH_VMM_PC_COMMAND_LINE_MAX 4095u

/* wh_vmm_exit.value with WH_BOOT_EXIT_STATUS. */
#define WH_VMM_PC_OFF 0
#define WH_VMM_PC_RESET 2

struct wh_vmm_pc_config {
	size_t size;              /* sizeof(struct wh_vmm_pc_config) */
	uint64_t memory_size;     /* bytes; 0 = WH_VMM_PC_MEMORY_DEFAULT */
	uint32_t cpus;            /* 0 = 1 */
	const char *command_line; /* copied; NULL = "" */
	const char *initrd;       /* path, or NULL; read by _new */
	const char *name;         /* for messages; copied; NULL = "linux" */
	struct wh_log log;
	void (*exited)(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how);
	/* Bytes from the serial port. While it is being called the guest's next bytes wait. Optional. */
	void (*serial)(void *ctx, struct wh_vmm_machine *machine, const char *text, size_t size);
	/* The guest has read input: wh_vmm_pc_serial_input takes more. Optional. */
	void (*serial_room)(void *ctx, struct wh_vmm_machine *machine);
	void *ctx;
	/* A snapshot to go on from: processors and memory are its, kernel is NULL, and the same devices must be
	 * attached in the same order. NULL = none. */
	const char *from;
	/* Called first in each thread that runs a vCPU (wherry/vmm.h). Optional. */
	void (*thread_begins)(void *ctx);
	/* With `from`: memory is read when it is touched (userfaultfd) instead of being mapped; a right that the host must
	 * grant. -WH_EPERM where it does not. */
	bool lazy;
	/* As thread_begins, in the thread that reads the file then. */
	void (*fetcher_begins)(void *ctx);
};

int wh_vmm_machine_new_pc(const struct wh_vmm_pc_config *config, const struct wh_vmm_kernel *kernel,
			  struct wh_loop *loop, struct wh_vmm_machine **ret_machine,
			  struct wh_diag *diag);

/* wh_vmm_machine_snapshot writes a PC in a format of its own (docs/spec/pc-snapshot.md). Shared folders cannot be saved.
 * -WH_EBUSY: a device has requests under way, try again in a moment; a busy guest is paused first, so that it makes no new
 * ones. */
bool wh_vmm_pc_is_snapshot(const char *path); /* by its first bytes */

/* Whoever takes the serial port's output is behind: the guest waits when its 4 KiB are full, until it is let go. A guest that is
 * paused, or ends, hands over what it has all the same. May be called from config.serial. */
void wh_vmm_pc_serial_hold(struct wh_vmm_machine *machine, bool on);
/* Gives bytes to the guest's serial port; returns how many were taken. */
size_t wh_vmm_pc_serial_input(struct wh_vmm_machine *machine, const char *text, size_t size);

/* Exits to this program so far, by cause, as text in lines "name count". Returns its length. */
size_t wh_vmm_pc_exits(const struct wh_vmm_machine *machine, char *to, size_t size);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
