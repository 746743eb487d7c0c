/* SPDX-License-Identifier: ISC */
#ifndef VMM_PROC_PRIV_H
#define VMM_PROC_PRIV_H

#include "plan.h"

#define PROC_CHILD_STACK_SIZE 4096u /* child_main makes system calls and nothing else */

struct proc {
	struct wh_vmm_machine *machine;
	struct wh_loop_fd exit_watch, doorbell_watch;
	struct wh_loop_hook hook;
	int pidfd, doorbell;
	bool running;
	bool said_farewell; /* the guest wrote how it ends; its process may still be there */

	/* For the child, which runs in our memory until it is the stub. */
	unsigned long unshare_flags;
	bool strict;
	char numbers[33]; /* argv[0] of the stub */
	_Alignas(16) char child_stack[PROC_CHILD_STACK_SIZE];
	/* Written by the child. */
	int child_lacks;      /* errno of a namespace that it did without */
	int child_error;      /* errno: it gave up */
	uint32_t child_ready; /* 1 = all namespaces made; futex word */
};

/* Starts the process that will be the guest. m->ram_fd and p->doorbell are open. 0 or -errno. */
int proc_spawn(struct proc *p, struct wh_diag *diag);
/* Waits until a strict child has its namespaces. 0 or -errno with diag. */
int proc_spawn_wait(struct proc *p, struct wh_diag *diag);
/* Waits for the process's end. Returns the signal that ended it, or 0. */
int proc_reap(struct proc *p);

#endif
