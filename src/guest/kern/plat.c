/* SPDX-License-Identifier: ISC */
#include <cpu/cpu.h>
#include <cpu/plat.h>
#include <kern/plat.h>
#include <kern/sched.h>
#include "kern_priv.h"

const struct plat_ops *kern_plat;
static struct wh_boot_info *boot_info;
static struct wh_boot_control *boot_control;

void kern_plat_init(struct wh_boot_info *boot)
{
	boot_info = boot;
	boot_control = (struct wh_boot_control *)(uintptr_t)boot->control;
	kern_plat = boot->engine == WH_BOOT_ENGINE_PROC ? &plat_proc_ops : &plat_vm_ops;
}

const struct wh_boot_info *kern_boot(void)
{
	return boot_info;
}

struct wh_boot_control *kern_control(void)
{
	return boot_control;
}

void kern_plat_doorbell(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&boot_control->host_sleeping, __ATOMIC_RELAXED))
		kern_plat->doorbell();
}

void kern_plat_wait(uint32_t seen_events, uint64_t deadline_ns)
{
	uint64_t timeout = UINT64_MAX;
	if (deadline_ns != KERN_FOREVER) {
		uint64_t now = kern_time_monotonic();
		if (deadline_ns <= now)
			return;
		timeout = deadline_ns - now;
	}
	kern_plat->wait(seen_events, timeout);
}

void kern_plat_tick_resume(void)
{
	if (kern_plat->tick_resume)
		kern_plat->tick_resume();
}

void kern_plat_set_fs_base(uint64_t base)
{
	if (boot_info->flags & WH_BOOT_FSGSBASE)
		cpu_wrfsbase(base);
	else
		kern_plat->set_fs_base(base);
}

void kern_timeline_mark(enum wh_boot_stage stage)
{
	if (!boot_control->timeline[stage])
		boot_control->timeline[stage] = cpu_tsc();
}
