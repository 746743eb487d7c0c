/* SPDX-License-Identifier: ISC */
#ifndef VMM_PROC_PRIV_H
#define VMM_PROC_PRIV_H

#include "plan.h"

#define PROC_CHILD_STACK_SIZE 4096u /* child_main makes system calls and nothing else */

/* The process that will be, or is, a guest. */
struct wh_vmm_spare {
	/* First: the stack's top shares a page with what follows. */
	_Alignas(16) char child_stack[PROC_CHILD_STACK_SIZE];
	int ram_fd;     /* the child reads it until it has exec'ed: never changed */
	bool ram_given; /* a machine owns it */
	int image_fd;   /* borrowed; the child has a copy under this number */
	int pidfd, doorbell;
	int pid; /* for a tracer: the process lives until proc_reap */
	enum wh_vmm_sandbox sandbox;
	uint64_t image_dev, image_ino;
	uint64_t stub_address; /* 0 = PROC_STUB_ADDRESS */
	const int *more;       /* descriptors that the child keeps besides; until it has exec'ed */
	uint32_t more_count;

	/* For the child, which runs in our memory until it is the stub. */
	unsigned long unshare_flags;
	char numbers[33]; /* argv[0] of the stub */
	/* Written by the child. */
	int child_lacks;      /* errno of a namespace that it did without */
	int child_error;      /* errno: it gave up */
	uint32_t child_ready; /* 1 = all namespaces made; futex word */
};

struct proc {
	struct wh_vmm_machine *machine;
	struct wh_vmm_spare *process;
	struct wh_loop_fd exit_watch, doorbell_watch;
	struct wh_loop_hook hook;
	bool running;
	bool said_farewell; /* the guest wrote how it ends; its process may still be there */
};

/* Starts the process. Descriptors and sandbox are set. 0 or -errno. */
int proc_spawn(struct wh_vmm_spare *p, struct wh_diag *diag);
/* Waits until a strict child has its namespaces. 0 or -errno with diag. */
int proc_spawn_wait(struct wh_vmm_spare *p, struct wh_diag *diag);
/* Waits for the process's end. Returns the signal that ended it, or 0; *ret_status (NULL = do not care) is then what
 * it exited with. */
int proc_reap(struct wh_vmm_spare *p, int *ret_status);

#endif
