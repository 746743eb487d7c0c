/* SPDX-License-Identifier: ISC */
/*
 * First C code of an image. It runs without a thread block, so it is
 * built without stack protection until FS points to one with a random
 * canary; kern_start and everything behind it is protected.
 */
#include <cpu/cpu.h>
#include <cpu/plat.h>
#include <kern/start.h>

#define ENTROPY_CANARY 48 /* entropy: 0 generator's key, 32 AT_RANDOM, 48 canary */

struct kern_tcb kern_early_tcb;

__attribute__((noreturn, no_stack_protector)) void cpu_boot(struct wh_boot_info *boot,
							    uint64_t tsc);

void cpu_boot(struct wh_boot_info *boot, uint64_t tsc)
{
	/* There is no way yet to say what is wrong: the machine sees a fault here. */
	if (boot->magic != WH_BOOT_MAGIC || boot->version != WH_BOOT_VERSION ||
	    boot->size < sizeof *boot)
		__builtin_trap();
	kern_early_tcb.self = (uint64_t)(uintptr_t)&kern_early_tcb;
	/* The zero byte stops string functions from writing a guessed canary. */
	kern_early_tcb.canary = *(const uint64_t *)(boot->entropy + ENTROPY_CANARY) & ~0xff00ull;
	if (boot->flags & WH_BOOT_FSGSBASE)
		cpu_wrfsbase(kern_early_tcb.self);
	else
		(boot->engine == WH_BOOT_ENGINE_PROC ? &plat_proc_ops : &plat_vm_ops)
			->set_fs_base(kern_early_tcb.self);
	kern_start(boot, tsc);
}
