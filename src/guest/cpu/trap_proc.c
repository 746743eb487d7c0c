/* SPDX-License-Identifier: ISC */
/*
 * Processor faults of a confined process. The host's kernel delivers them as
 * signals to wh_trap_entry on the alternate stack; this file turns the host's
 * frame into a struct kern_fault. FS may be anything here: no stack protector.
 * The park signal and the tick (wherry/abi/boot.h) come here, too; in a copy from a snapshot without siginfo.
 */
#include <cpu/cpu.h>
#include <cpu/plat.h>
#include <kern/fault.h>
#include <kern/plat.h>
#include <kern/preempt.h>
#include <kern/trace.h>

struct host_siginfo {
	int32_t signo, error, code, pad;
	uint64_t address;
};

__attribute__((no_stack_protector)) void wh_trap_entry(int signo, struct host_siginfo *info,
						       struct kern_context *context);

void wh_trap_entry(int signo, struct host_siginfo *info, struct kern_context *context)
{
	if (signo == WH_BOOT_PARK_SIGNAL) {
		plat_proc_park((uint64_t)(uintptr_t)context, info != 0);
		return;
	}
	if (signo == WH_BOOT_TICK_SIGNAL) {
		kern_trace_sample(context);
		if (kern_preempt_tick)
			kern_preempt_tick(context);
		return;
	}
	struct kern_fault fault = {
		.signo = signo,
		.code = info->code,
		.vector = (uint32_t)context->greg[KERN_GREG_TRAP],
		.address = context->greg[KERN_GREG_CR2],
		.error = context->greg[KERN_GREG_ERROR],
		.rip = context->greg[KERN_GREG_RIP],
		.rsp = context->greg[KERN_GREG_RSP],
		.rbp = context->greg[KERN_GREG_RBP],
		.context = context,
	};
	kern_fault(&fault);
}
