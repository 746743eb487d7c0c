/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_SOLO5_H
#define WHERRY_SOLO5_H

/*
 * Machines for Solo5's unikernels (MirageOS and others): unmodified binaries, ABI version 2, of its hvt target on KVM and of its
 * spt target as a confined process. The binary says in its manifest which devices it wants; whoever makes the machine serves them
 * through struct wh_vmm_solo5_ops (wherry/dev_solo5.h does, with disks and network ports of this toolkit).
 *
 * A guest is one processor that calls; each call is answered in the loop's thread. The machine's end: WH_BOOT_EXIT_STATUS with
 * the guest's status (255 = it aborted), EXIT_FAULT, or EXIT_NONE with a message or with host_signal (spt: SIGSYS = a forbidden
 * call). Signals do not reach such a guest: the first one ends it.
 *
 * An spt guest makes system calls, exactly those of its ABI. Its console is a pipe, a network device a socket pair, whose other ends
 * are here; a disk with `direct` is read and written by the guest itself, one block a call and within `capacity`; calls for any other
 * disk are handed over by the kernel (seccomp notification, Linux 5.0) and end in ops.block. Such a guest can be paused.
 *
 * Threads: as wherry/vmm.h.
 */

#include <stdbool.h>
#include <wherry/vmm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WH_VMM_SOLO5_DEVICES_MAX 64u
#define WH_VMM_SOLO5_NAME_SIZE 68u
#define WH_VMM_SOLO5_MEMORY_DEFAULT (512ull << 20) /* Solo5's; untouched pages cost nothing */
#define WH_VMM_SOLO5_MEMORY_MAX (4ull << 30)

enum wh_vmm_solo5_kind { WH_VMM_SOLO5_BLOCK = 1, WH_VMM_SOLO5_NET = 2 };

enum wh_vmm_solo5_target { WH_VMM_SOLO5_HVT = 1, WH_VMM_SOLO5_SPT = 2 };

struct wh_vmm_solo5_device {
	enum wh_vmm_solo5_kind kind;
	char name[WH_VMM_SOLO5_NAME_SIZE];
	/* Filled in by whoever attaches it. */
	bool attached;
	uint64_t capacity;   /* block: bytes, a multiple of block_size */
	uint16_t block_size; /* block: 512 or more, a power of two */
	uint8_t mac[6];      /* net */
	uint16_t mtu;
	bool direct;  /* block, spt: the guest may use `fd` itself */
	int fd;       /* borrowed until the machine is made */
	int guest_fd; /* its number in an spt guest; the library's */
};

struct wh_vmm_solo5;

/* Is it one, by its notes? Reads the file's beginning only. */
bool wh_vmm_solo5_looks_like(const char *path);
/* -WH_ENOEXEC (not one, or of another target or version; diag says which), or -errno. */
int wh_vmm_solo5_open(const char *path, struct wh_vmm_solo5 **ret_solo5, struct wh_diag *diag);
int wh_vmm_solo5_open_memory(const void *data, size_t size, struct wh_vmm_solo5 **ret_solo5,
			     struct wh_diag *diag);
void wh_vmm_solo5_close(struct wh_vmm_solo5 *solo5); /* after the machine is freed */
enum wh_vmm_solo5_target wh_vmm_solo5_target(const struct wh_vmm_solo5 *solo5);
/* Manifest entry `handle` from 1 on; NULL behind the last one. Every one must be attached before _new. */
struct wh_vmm_solo5_device *wh_vmm_solo5_device(struct wh_vmm_solo5 *solo5, uint32_t handle);

/* All are called in the loop's thread; ranges were checked. */
struct wh_vmm_solo5_ops {
	void (*puts)(void *ctx, const char *text, size_t size);
	/* One whole block or more, aligned. 0 or -errno. */
	int (*block)(void *ctx, uint32_t handle, bool write, uint64_t offset, void *data,
		     size_t size);
	int (*net_write)(void *ctx, uint32_t handle, const void *frame, size_t size);
	/* Bytes, or -WH_EAGAIN: none. */
	int (*net_read)(void *ctx, uint32_t handle, void *frame, size_t size);
	/* Bit per handle that has a frame. */
	uint64_t (*net_ready)(void *ctx);
};

struct wh_vmm_solo5_config {
	size_t size;              /* sizeof(struct wh_vmm_solo5_config) */
	uint64_t memory_size;     /* bytes; 0 = default */
	const char *command_line; /* at most 8191 bytes; NULL = "" */
	const struct wh_vmm_solo5_ops *ops;
	void *ops_ctx;
	struct wh_log log;
	void (*exited)(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how);
	void *ctx;
	enum wh_vmm_sandbox sandbox; /* spt */
	/* hvt: called first in the thread that runs the vCPU (wherry/vmm.h). Optional. */
	void (*thread_begins)(void *ctx);
};

int wh_vmm_machine_new_solo5(const struct wh_vmm_solo5_config *config, struct wh_vmm_solo5 *solo5,
			     struct wh_loop *loop, struct wh_vmm_machine **ret_machine,
			     struct wh_diag *diag);
/* A frame came: a guest that waits for one goes on. */
void wh_vmm_solo5_ready(struct wh_vmm_machine *machine);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
