/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_VMM_H
#define WHERRY_VMM_H

/*
 * libwherry-vmm: machines of either engine. Create a machine for an image, plug
 * devices into its slots, start it on your event loop, get control back.
 *
 * Threads: a machine, its slots and its loop belong to one thread. The kvm engine
 * runs vCPUs on threads of its own and hands every event to the loop's thread.
 * No call exits, prints, installs signal handlers or keeps global state.
 * Ownership: what `ret_` gives is the caller's to free; strings in a config are
 * copied; callbacks come from the loop and may call anything but _free.
 *
 *	wh_vmm_image_open("hello", &image, &diag);
 *	wh_vmm_machine_new(&config, image, loop, &machine, &diag);
 *	wh_vmm_slot_add(machine, &slot_config, &ops, ctx, &slot, &diag);  // per device
 *	wh_vmm_machine_start(machine, &diag);
 *	wh_loop_run(loop);                       // config.exited stops it
 *	wh_vmm_machine_free(machine);
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/abi/boot.h>
#include <wherry/abi/manifest.h>
#include <wherry/abi/shm.h>
#include <wherry/base/diag.h>
#include <wherry/base/log.h>
#include <wherry/elf.h>
#include <wherry/gmem.h>
#include <wherry/loop.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- images ---- */

struct wh_vmm_image;

#define WH_VMM_IMAGE_SEGMENTS_MAX 16u

/* Opens and checks an image completely: ELF, segments (W^X, order, overlap),
 * relocations, manifest. -WH_ENOEXEC = not an image (diag says why), or -errno. */
int wh_vmm_image_open(const char *path, struct wh_vmm_image **ret_image, struct wh_diag *diag);
/* Its first step alone: the open file, or -errno with diag; for wh_vmm_spare_new. */
int wh_vmm_image_file(const char *path, struct wh_diag *diag);
int wh_vmm_image_open_fd(int fd, struct wh_vmm_image **ret_image,
			 struct wh_diag *diag); /* fd is dup'ed */
/* The image is in memory that stays valid and unchanged; such an image can be examined but not run. */
int wh_vmm_image_open_memory(const void *data, size_t size, struct wh_vmm_image **ret_image,
			     struct wh_diag *diag);
void wh_vmm_image_close(struct wh_vmm_image *image);
const struct wh_manifest *wh_vmm_image_manifest(const struct wh_vmm_image *image);

/* The checked ELF file behind it (wherry/elf.h), borrowed. */
const struct wh_elf *wh_vmm_image_elf(const struct wh_vmm_image *image);

/* Name of the function that holds a file address, with the offset in it; reads the symbol
 * table on first use. -WH_ENOENT = no symbol. The name is borrowed from the image. */
int wh_vmm_image_symbol(struct wh_vmm_image *image, uint64_t address, const char **ret_name,
			uint64_t *ret_offset);

/* ---- machines ---- */

enum wh_vmm_engine { WH_VMM_ENGINE_AUTO, WH_VMM_ENGINE_PROC, WH_VMM_ENGINE_KVM };

struct wh_vmm_machine;
struct wh_vmm_spare;

/* How a guest ended. */
struct wh_vmm_exit {
	enum wh_boot_exit kind; /* EXIT_NONE: killed from outside or by a forbidden system call */
	int value;              /* status, or signal number */
	int host_signal; /* EXIT_NONE on proc: the signal that ended the process (SIGSYS = forbidden call) */
	uint32_t fault_vector;
	uint64_t fault_address, fault_rip; /* runtime */
	uint64_t image_base;               /* fault_rip - image_base = address in the file */
	uint64_t backtrace[16];
	uint32_t backtrace_count;
	char message[160]; /* panic text, printable; or why the engine could not start the guest */
	uint64_t fault_error; /* x86 error code: bit 0 present, 1 write, 4 fetch */
};

/* How the proc engine confines. Filter, empty address space and closed descriptors always. */
enum wh_vmm_sandbox {
	WH_VMM_SANDBOX_AUTO, /* also namespaces without a network one; what the host lacks is left out */
	WH_VMM_SANDBOX_STRICT, /* all namespaces, or an error */
	WH_VMM_SANDBOX_MINIMAL /* no namespaces */
};

struct wh_vmm_config {
	size_t size; /* sizeof(struct wh_vmm_config) */
	enum wh_vmm_engine engine;
	uint64_t memory_size;          /* bytes of RAM; 0 = the manifest's */
	const char *name;              /* also the guest's host name; NULL = the manifest's */
	const char *const *argv;       /* NULL-terminated, argv[0] included */
	const char *const *envp;       /* NULL-terminated */
	const struct wh_boot_net *net; /* NULL = none or DHCP */
	const struct wh_boot_mount *mounts;
	uint32_t mount_count;
	uint32_t boot_flags; /* WH_BOOT_CONSOLE_TTY, WH_BOOT_STDIN_EOF */
	struct wh_log log;
	/* The guest has ended, devices are drained. */
	void (*exited)(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how);
	void *ctx;
	enum wh_vmm_sandbox sandbox;
	/* kvm: bytes from the guest's serial port, where the kernel writes before (and besides) the
	 * console. Optional. */
	void (*serial)(void *ctx, struct wh_vmm_machine *machine, const char *text, size_t size);
	const char *workdir; /* where the program starts; NULL = in / */
	/* proc: a process made ahead, for this image and sandbox; _new takes it over, also when it
	 * fails. NULL = make one now. */
	struct wh_vmm_spare *spare;
	/* kvm: called first in each thread that runs a vCPU, for a name, an affinity or a filter (wherry/confine.h). Optional. */
	void (*thread_begins)(void *ctx);
	uint64_t
		stack_size; /* of the first thread, bytes; 0 = the manifest's and what the memory allows */
	/* Records of calls and samples (wherry/abi/observe.h): a power of two, 0 = none; WH_OBSERVE_*. */
	uint32_t observe_records, observe_flags;
};

/* proc: makes the process that a later guest becomes, confined and waiting, beside the
 * caller's other work: that is most of what a start takes. Uses config->engine and ->sandbox only.
 * image_fd is the image's file, kept open by the caller until the machine runs. *ret_spare = NULL where the
 * engine needs none. The process dies with the calling thread. */
int wh_vmm_spare_new(const struct wh_vmm_config *config, int image_fd,
		     struct wh_vmm_spare **ret_spare, struct wh_diag *diag);
void wh_vmm_spare_free(struct wh_vmm_spare *spare);

int wh_vmm_machine_new(const struct wh_vmm_config *config, struct wh_vmm_image *image,
		       struct wh_loop *loop, struct wh_vmm_machine **ret_machine,
		       struct wh_diag *diag);
int wh_vmm_machine_start(struct wh_vmm_machine *machine, struct wh_diag *diag);
/* Asks the guest to take signal 1..31 (SIGINT, SIGTERM...). */
void wh_vmm_machine_signal(struct wh_vmm_machine *machine, int signal);
/* Ends the guest at once; exited() follows from the loop. */
void wh_vmm_machine_kill(struct wh_vmm_machine *machine);
/* Stops the guest where it is, or lets it go on; devices live on. The guest's clocks count the time. proc, images
 * with WH_MANIFEST_PARKS; kernels; -WH_EOPNOTSUPP elsewhere, -WH_EINVAL: it does not run, -WH_EAGAIN: it did not come to
 * rest within a second. */
int wh_vmm_machine_pause(struct wh_vmm_machine *machine, bool on, struct wh_diag *diag);
bool wh_vmm_machine_paused(const struct wh_vmm_machine *machine);
/* Writes a core file (ELF) of an image that has ended to an empty file: gdb IMAGE CORE. Registers are those of the fault, or of
 * whoever ended it. -WH_EINVAL: it has not ended, or is no image; -errno of the file. */
int wh_vmm_machine_core(struct wh_vmm_machine *machine, const struct wh_vmm_exit *how, int fd,
			struct wh_diag *diag);
void wh_vmm_machine_free(struct wh_vmm_machine *machine); /* kills and reaps first; no callback */
const struct wh_gmem *wh_vmm_machine_memory(const struct wh_vmm_machine *machine);
uint64_t wh_vmm_machine_ram_size(const struct wh_vmm_machine *machine); /* bytes */
/* Bytes of RAM that are backed by memory: what the guest and its devices ever touched. 0 = unknown. */
uint64_t wh_vmm_machine_touched(const struct wh_vmm_machine *machine);
enum wh_vmm_engine wh_vmm_machine_engine(const struct wh_vmm_machine *machine);
/* The struct at boot.observe with its records and text, in guest memory: hostile, what is read counts once. NULL for a
 * copy from a snapshot. Its size is that of observe_records and WH_OBSERVE_TEXT_SIZE. */
struct wh_observe *wh_vmm_machine_observe(struct wh_vmm_machine *machine);
/* Records were taken (`tail` moved): a guest that waits for room goes on. */
void wh_vmm_machine_observed(struct wh_vmm_machine *machine);
/* Has the guest write its text (threads, descriptors, memory) and waits for that, a second at most. Copies at most `size` bytes
 * of it, printable but for line ends, and a NUL. Length, -WH_EINVAL (does not run or has no text), -WH_EAGAIN (no answer: it
 * computes and does not tick). */
int wh_vmm_machine_inspect(struct wh_vmm_machine *machine, char *to, size_t size);
/* The run-time address of the image's first byte is this much above the one in the file. */
uint64_t wh_vmm_machine_image_base(const struct wh_vmm_machine *machine);
/* Notes when a stage before ENTRY was reached (START, IMAGE, MACHINE), as a TSC stamp. */
void wh_vmm_machine_mark(struct wh_vmm_machine *machine, enum wh_boot_stage stage, uint64_t tsc);
/* TSC stamps by enum wh_boot_stage and the rate in Hz (0 = unknown). */
const uint64_t *wh_vmm_machine_timeline(struct wh_vmm_machine *machine, uint64_t *ret_tsc_hz);

/* ---- snapshots (docs/spec/snapshot.md) ---- */

struct wh_vmm_snapshot;

/* Writes a running or paused guest, memory and image, to an empty file; the guest goes on after that. Not from
 * a callback of a device. Disks are not in it: a copy needs them as they were. -WH_EAGAIN, -WH_EBUSY: a device has
 * requests under way, or the guest did not come to rest within a second. -WH_EOPNOTSUPP: not this guest (kvm; shared
 * folders; an image without WH_MANIFEST_PARKS). */
int wh_vmm_machine_snapshot(struct wh_vmm_machine *machine, int fd, struct wh_diag *diag);

/* Checks the file. fd is dup'ed; the file must not change while the snapshot or a copy is in use.
 * -WH_ENOEXEC = not a snapshot, damaged, of another format or for another processor. */
int wh_vmm_snapshot_open_fd(int fd, struct wh_vmm_snapshot **ret_snapshot, struct wh_diag *diag);
/* After the machines made from it are freed. */
void wh_vmm_snapshot_close(struct wh_vmm_snapshot *snapshot);
struct wh_vmm_image *wh_vmm_snapshot_image(struct wh_vmm_snapshot *snapshot); /* borrowed */

/* A machine that goes on from a snapshot; any number of them. Add the same devices in the same order, then
 * start. Of the config count log, exited, serial, ctx, sandbox and spare (made with the snapshot's file).
 * A copy draws other random numbers than its siblings, its own time goes on, its date is the host's; its addresses in
 * memory, and its network addresses, are those of its siblings. Connections of the guest to the outside do
 * not live on. */
int wh_vmm_machine_restore(const struct wh_vmm_config *config, struct wh_vmm_snapshot *snapshot,
			   struct wh_loop *loop, struct wh_vmm_machine **ret_machine,
			   struct wh_diag *diag);
/* For devices: the registers in RAM are those of the snapshot; take up their queues. */
bool wh_vmm_machine_restored(const struct wh_vmm_machine *machine);

/* ---- slots: where device models plug in (host/dev does) ---- */

struct wh_vmm_slot;

struct wh_vmm_slot_config {
	size_t size;
	uint32_t virtio_id;
	uint32_t queue_count; /* at most WH_SHM_QUEUES_MAX */
	const char *name;     /* block NAME or 9P tag, else "" */
};

#define WH_VMM_SLOT_STATE_MAX 4096u /* bytes of a device in a snapshot */

struct wh_vmm_slot_ops {
	/* shm: the device was kicked; look at slot->shm. Loop thread. */
	void (*kicked)(void *ctx);
	/* mmio, and the BAR of pci (wherry/virtio_pci.h): register access, size 1, 2, 4 or 8. Loop thread. */
	uint64_t (*mmio_read)(void *ctx, uint64_t offset, uint32_t size);
	void (*mmio_write)(void *ctx, uint64_t offset, uint32_t size, uint64_t value);
	/* mmio, pci: QueueNotify for `queue` through an ioeventfd. Loop thread. */
	void (*notified)(void *ctx, uint32_t queue);
	/* The guest has ended: finish what it had queued (console output). */
	void (*drain)(void *ctx);
	/* No request of the guest is under way: a snapshot may be taken. Optional. */
	bool (*idle)(void *ctx);
	/* Snapshots of a PC; optional. save writes the device's state and returns its size, -WH_EBUSY (requests
	 * are under way) or -WH_EOPNOTSUPP. restore takes it in a new machine before the guest runs. */
	int (*save)(void *ctx, void *to, size_t size);
	int (*restore)(void *ctx, const void *from, size_t size);
};

/* Before start only. */
int wh_vmm_slot_add(struct wh_vmm_machine *machine, const struct wh_vmm_slot_config *config,
		    const struct wh_vmm_slot_ops *ops, void *ctx, struct wh_vmm_slot **ret_slot,
		    struct wh_diag *diag);
enum wh_boot_transport wh_vmm_slot_transport(const struct wh_vmm_slot *slot);
/* The shared registers (transport shm), host pointer: hostile memory. Else NULL. */
struct wh_shm_device *wh_vmm_slot_shm(struct wh_vmm_slot *slot);
/* Raises the guest's interrupt: bits 1 = queue, 2 = configuration. For shm this sets
 * shm->interrupt, counts control.host_events and wakes the guest if it sleeps; for mmio it
 * drives the line (the transport keeps InterruptStatus). */
void wh_vmm_slot_interrupt(struct wh_vmm_slot *slot, uint32_t bits);
/* pci: sends the message of MSI-X vector `vector` (below queue_count + 1), if the guest wants it. */
void wh_vmm_slot_vector(struct wh_vmm_slot *slot, uint32_t vector);
/* mmio, pci: calls ops.notified(queue) once more in the loop's next round. Not for shm. */
void wh_vmm_slot_again(struct wh_vmm_slot *slot, uint32_t queue);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
