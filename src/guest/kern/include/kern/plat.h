/* SPDX-License-Identifier: ISC */
#ifndef KERN_PLAT_H
#define KERN_PLAT_H

/*
 * The platform seam: what differs between a confined process and a virtual
 * machine. kern/plat.c dispatches on wh_boot_info.engine; the two sides are
 * cpu/plat_proc.c and cpu/plat_vm.c.
 */

#include <stdint.h>
#include <wherry/abi/boot.h>

/* The boot info and control block, valid from entry on. */
const struct wh_boot_info *kern_boot(void);
struct wh_boot_control *kern_control(void);

/* Makes the host look at kicked queues (proc: eventfd if the host sleeps). mmio
 * drivers write QueueNotify instead and do not call this. */
void kern_plat_doorbell(void);

/* Sleeps until a host event or the deadline (monotonic ns). Returns early at
 * will; never when work is already pending (host_events changed since `seen`). */
void kern_plat_wait(uint32_t seen_events, uint64_t deadline_ns);

/* A thread goes on after the machine was idle: ticks are wanted again. */
void kern_plat_tick_resume(void);

/* The calling thread's FS base. */
void kern_plat_set_fs_base(uint64_t base);

/* Monotonic and wall clock in ns; monotonic never goes back. */
uint64_t kern_time_monotonic(void);
uint64_t kern_time_realtime(void);
uint64_t kern_time_uptime(void); /* ns since start-up */
uint64_t kern_tsc(void);

void kern_timeline_mark(enum wh_boot_stage stage); /* first call counts */

/* Ends the guest. */
__attribute__((noreturn)) void kern_exit(enum wh_boot_exit kind, int value);
__attribute__((noreturn, format(printf, 1, 2))) void kern_panic(const char *format, ...);

/* Writes straight to the console (panic path, early messages); does not wait. */
void kern_console_write(const char *text, uint32_t size);

/* Set by the console driver (or an early serial port): where kern_console_write
 * goes. Must not wait; may drop. NULL: text is lost, a panic's stays in control.message. */
extern void (*kern_console_hook)(const char *text, uint32_t size);

/* Called once before the guest ends, if set: pushes out what a driver buffers. */
extern void (*kern_exit_hook)(void);

/* Cryptographic bytes: ChaCha20 generator seeded from boot entropy (and virtio-rng). */
void kern_random(void *to, uint64_t size);

/* Mixes more entropy into the generator (virtio-rng, write to /dev/urandom). */
void kern_random_add(const void *from, uint64_t size);

#endif
