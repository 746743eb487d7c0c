/* SPDX-License-Identifier: ISC */
#ifndef KERN_START_H
#define KERN_START_H

/*
 * Start-up. The entry of either boot contract ends in kern_start(), which readies
 * memory and time, calls the initialisers below in this order and enters
 * the C library's `_start` on the first thread's stack.
 *
 * Each initialiser is a weak reference: it is called only if something else
 * pulled its unit into the image. It returns 0, or -WH_E* that ends the guest with
 * a panic naming it; "no such device" is 0. None may wait.
 */

#include <wherry/abi/boot.h>

int posix_signal_init(void);
int drv_console_init(void);
int drv_rng_init(void);
int fs_init(void);          /* descriptors 0..2, root, archive, /dev, /proc */
int drv_blk_init(void);     /* block devices become nodes under /dev */
int drv_9p_init(void);      /* 9P devices get their sessions */
int fs_mount_9p_init(void); /* boot mounts */
int drv_net_init(void);     /* network device */
int net_guest_init(void);   /* the TCP/IP stack on it */

/* Called by the entry code with relocations applied, FS base on an early thread
 * block, interrupts off. `tsc` = time-stamp counter at the first instruction. */
__attribute__((noreturn)) void kern_start(struct wh_boot_info *boot, uint64_t tsc);

/* The early thread block: what FS points to before the C library has its own. */
struct kern_tcb {
	uint64_t self;
	uint64_t unused[4];
	uint64_t canary; /* fs:0x28, where the compiler looks for it */
	uint64_t tail[2];
};
extern struct kern_tcb kern_early_tcb;

#endif
