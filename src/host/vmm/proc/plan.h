/* SPDX-License-Identifier: ISC */
#ifndef VMM_PROC_PLAN_H
#define VMM_PROC_PLAN_H

/*
 * The plan: what the stub does before it becomes the guest, as a list of system calls. It lies in
 * the top page of the guest's first stack, which the guest touches in any case. The guest may read
 * and change what is left of it: nothing in it is secret, and nothing reads it again once
 * the guest runs.
 */

#include <linux/filter.h>
#include <stdint.h>

#include "../engine.h"
#include "stub.h"

struct proc_step {
	uint64_t call; /* system call number, PROC_STEP_* */
	uint64_t args[6];
	int64_t result; /* written by the stub */
};

#define PROC_STEPS_MAX 44u
#define PROC_FILTER_MAX 56u

struct proc_sigaction { /* the kernel's struct, not libc's */
	uint64_t handler, flags, restorer, mask;
};

struct proc_plan {
	struct proc_step step[PROC_STEPS_MAX];
	struct sock_filter filter[PROC_FILTER_MAX];
	struct { /* struct sock_fprog */
		uint64_t count;
		uint64_t filter;
	} program;
	struct { /* stack_t */
		uint64_t stack;
		uint32_t flags, pad;
		uint64_t size;
	} altstack;
	struct proc_sigaction fault;
	uint64_t no_signals;
	struct { /* struct itimerval */
		int64_t interval_s, interval_us, value_s, value_us;
	} tick;
	char name[16];
	uint8_t unused[PROC_PLAN_SIZE - PROC_STEPS_MAX * 64 - PROC_FILTER_MAX * 8 - 16 - 24 - 32 -
		       8 - 32 - 16 - 16];
	uint64_t entry; /* popped by the stub's last instruction */
	uint64_t zero;  /* the guest's return address: none */
};
_Static_assert(sizeof(struct proc_step) == PROC_STEP_SIZE, "stub.S relies on it");
_Static_assert(sizeof(struct proc_plan) == PROC_PLAN_SIZE, "the plan fills its page");

/* Writes the plan into m's RAM. Descriptors are the child's. */
void proc_plan_write(struct wh_vmm_machine *m, int image_fd, int doorbell_fd);
/* A fresh guest's plan lies at the top of its stack, which it touches in any case; that of a copy in the
 * lowest page of the trap stack, the rest of which holds its registers. */
wh_gaddr proc_plan_address(const struct wh_vmm_machine *m);
struct proc_plan *proc_plan_of(struct wh_vmm_machine *m);
/* Name of the call that failed and its errno, or NULL. Only while the stub ran. */
const char *proc_steps_failure(const struct proc_step *steps, uint32_t count, int *ret_errno);

/* Writes the guest's filter; returns its length. control_events: address of the futex word. */
uint32_t proc_filter_write(struct sock_filter *to, uint64_t control_events, int doorbell_fd,
			   bool may_set_fs);

#endif
