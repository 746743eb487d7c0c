/* SPDX-License-Identifier: ISC */
#ifndef KERN_FAULT_H
#define KERN_FAULT_H

/* Processor faults, from either engine's trap code. */

#include <stdint.h>
#include <wherry/abi/boot.h>

/* Start of Linux's ucontext_t on x86_64: what a handler's third argument points to. */
enum kern_greg {
	KERN_GREG_R8,
	KERN_GREG_RDI = 8,
	KERN_GREG_RSI,
	KERN_GREG_RBP,
	KERN_GREG_RBX,
	KERN_GREG_RDX,
	KERN_GREG_RAX,
	KERN_GREG_RCX,
	KERN_GREG_RSP,
	KERN_GREG_RIP,
	KERN_GREG_FLAGS,
	KERN_GREG_SEGMENTS,
	KERN_GREG_ERROR,
	KERN_GREG_TRAP,
	KERN_GREG_MASK,
	KERN_GREG_CR2,
	KERN_GREG_COUNT
};

struct kern_context {
	uint64_t flags, link;
	uint64_t stack_base, stack_flags, stack_size;
	uint64_t greg[KERN_GREG_COUNT]; /* r8 to r15 first */
	uint8_t *fp;                    /* FXSAVE image, longer when bytes 464..471 say so */
	uint64_t reserved[8];
	uint64_t mask;
};

struct kern_fault {
	int32_t signo, code; /* Linux signal and si_code that correspond */
	uint32_t vector;     /* x86 exception number */
	uint64_t address;    /* CR2 where it applies */
	uint64_t error;      /* x86 error code */
	uint64_t rip, rsp, rbp;
	/* greg and fp are what returning from the trap restores; a handler may change them. */
	struct kern_context *context;
};

/* Hands the fault to the program's handler and returns when that does; without one,
 * records it in the control block and ends the guest. Built without stack
 * protection, runs on the trap stack. */
void kern_fault(const struct kern_fault *fault);

/* Calls the program's handler if there is one; set by posix/ with rt_sigaction. */
extern int (*kern_fault_hook)(const struct kern_fault *fault);

/* For core files: the registers of the caller of the function with this frame. */
static inline void kern_fault_here(struct wh_boot_control *control, const void *frame)
{
	const uint64_t *f = frame;
	control->fault_rbp = f[0];
	control->fault_rip = f[1];
	control->fault_rsp = (uint64_t)(uintptr_t)(f + 2);
}

/* Return addresses from a frame-pointer chain, innermost first; returns how many. */
uint32_t kern_backtrace(uint64_t rbp, uint64_t *ret_addresses, uint32_t max);

#endif
