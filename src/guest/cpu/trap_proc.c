/* SPDX-License-Identifier: ISC */
/*
 * Processor faults of a confined process. The host's kernel delivers them as
 * signals to wh_trap_entry on the alternate stack; this file turns the host's
 * frame into a struct kern_fault. FS may be anything here: no stack protector.
 */
#include <kern/fault.h>

struct host_siginfo {
	int32_t signo, error, code, pad;
	uint64_t address;
};

__attribute__((no_stack_protector)) void wh_trap_entry(int signo, struct host_siginfo *info,
						       struct kern_context *context);

void wh_trap_entry(int signo, struct host_siginfo *info, struct kern_context *context)
{
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
