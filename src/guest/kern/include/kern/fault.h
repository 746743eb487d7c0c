/* SPDX-License-Identifier: ISC */
#ifndef KERN_FAULT_H
#define KERN_FAULT_H

/* Processor faults, from either engine's trap code. */

#include <stdint.h>

struct kern_fault {
	int32_t signo, code; /* Linux signal and si_code that correspond */
	uint32_t vector;     /* x86 exception number */
	uint64_t address;    /* CR2 where it applies */
	uint64_t error;      /* x86 error code */
	uint64_t rip, rsp, rbp;
	void *context; /* the handler's third argument: Linux ucontext_t (proc), NULL (kvm) */
};

/* Hands the fault to the program's handler and returns when that does; without one,
 * records it in the control block and ends the guest. Built without stack
 * protection, runs on the trap stack. */
void kern_fault(const struct kern_fault *fault);

/* Calls the program's handler if there is one; set by posix/ with rt_sigaction. */
extern int (*kern_fault_hook)(const struct kern_fault *fault);

/* Return addresses from a frame-pointer chain, innermost first; returns how many. */
uint32_t kern_backtrace(uint64_t rbp, uint64_t *ret_addresses, uint32_t max);

#endif
