/* SPDX-License-Identifier: ISC */
#include <cpu/cpu.h>
#include <kern/plat.h>
#include <kern/start.h>
#include <kern/thread.h>
#include <posix/thread.h>
#include <wherry/base/errors.h>

enum { ARCH_SET_FS = 0x1002, ARCH_GET_FS = 0x1003 };
#define CANARY_OFFSET 0x28

/* The canary moves along, so functions that are active across the change keep
 * their word; a C library may choose its own later. */
__attribute__((no_stack_protector)) long wh_sys_arch_prctl(int code, uint64_t address)
{
	struct kern_thread *t = kern_self();
	switch (code) {
	case ARCH_SET_FS:
		if (t->fs_base == (uint64_t)(uintptr_t)&kern_early_tcb)
			*(uint64_t *)(uintptr_t)(address + CANARY_OFFSET) = kern_early_tcb.canary;
		t->fs_base = address;
		kern_plat_set_fs_base(address);
		return 0;
	case ARCH_GET_FS:
		*(uint64_t *)(uintptr_t)address = t->fs_base;
		return 0;
	default:
		return -WH_EINVAL;
	}
}
