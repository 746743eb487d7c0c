/* SPDX-License-Identifier: ISC */
/*
 * Processor faults of a confined process. The host's kernel delivers them as
 * signals to wh_trap_entry on the alternate stack; this file turns the host's
 * frame into a struct kern_fault. FS may be anything here: no stack protector.
 */
#include <kern/fault.h>

/* Words of the x86_64 Linux signal frame that matter. */
enum {
	GREG_RBP = 10,
	GREG_RSP = 15,
	GREG_RIP = 16,
	GREG_ERROR = 19,
	GREG_TRAP = 20,
	GREG_CR2 = 22
};

struct host_siginfo {
	int32_t signo, error, code, pad;
	uint64_t address;
};

struct host_ucontext {
	uint64_t flags, link, stack[3];
	uint64_t greg[23];
};

__attribute__((no_stack_protector)) void wh_trap_entry(int signo, struct host_siginfo *info,
						       struct host_ucontext *context);

void wh_trap_entry(int signo, struct host_siginfo *info, struct host_ucontext *context)
{
	struct kern_fault fault = {
		.signo = signo,
		.code = info->code,
		.vector = (uint32_t)context->greg[GREG_TRAP],
		.address = context->greg[GREG_CR2],
		.error = context->greg[GREG_ERROR],
		.rip = context->greg[GREG_RIP],
		.rsp = context->greg[GREG_RSP],
		.rbp = context->greg[GREG_RBP],
		.context = context,
	};
	kern_fault(&fault);
}
