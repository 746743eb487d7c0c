/* SPDX-License-Identifier: ISC */
#ifndef CPU_PLAT_H
#define CPU_PLAT_H

/* What a platform implements; kern/plat.c dispatches on the boot info's engine. */

#include <stdbool.h>
#include <stdint.h>
#include <wherry/abi/boot.h>

struct plat_ops {
	/* Makes the host look at kicked queues; called after the kick and a full
	 * barrier. */
	void (*doorbell)(void);
	/* Sleeps at most `timeout_ns` (UINT64_MAX: for ever) while control.host_events
	 * equals `seen`. Early return is fine, a missed event is not. */
	void (*wait)(uint32_t seen, uint64_t timeout_ns);
	/* Host's clock in ns; slow, used to calibrate the time-stamp counter. NULL:
	 * boot.tsc_hz and boot.realtime_ns are the clock. */
	uint64_t (*clock)(bool realtime);
	/* Sets FS base where WRFSBASE may not be executed. */
	void (*set_fs_base)(uint64_t base);
	/* Ticks for kern_preempt_tick while the guest computes, every KERN_TICK_NS or so. NULL: they come without
	 * being asked for. tick_resume is called when a thread goes on after the machine was idle. */
	void (*tick_start)(void);
	void (*tick_resume)(void);
	/* Ends the guest; the control block says how. */
	__attribute__((noreturn)) void (*exit)(int status);
};

extern const struct plat_ops plat_proc_ops;

/* The park signal came (first), or we are a copy that goes on (wherry/abi/boot.h). */
void plat_proc_park(uint64_t frame, bool first);

extern const struct plat_ops plat_vm_ops __attribute__((weak));

#endif
