/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_CONFINE_H
#define WHERRY_CONFINE_H

/*
 * Confines the calling process once it is set up: what it has open it keeps, what it may still ask the kernel for is
 * what the parts that are said need. For programs that serve guests, peers or files of strangers.
 *
 * Five walls, each of which an old kernel may lack (ret_missing says so, and that is no error):
 *
 *	descriptors	what was inherited (above 2, without close-on-exec) is closed
 *	not dumpable	no core file, no debugger, /proc/PID/mem and the like are root's
 *	no new rights	set-user-id programs give none
 *	files		Landlock: only the paths of the config, and no TCP without WH_CONFINE_NETWORK
 *	calls		a seccomp filter from one list (calls.c): each call names the parts that make it
 *
 * Nothing here is undone, and nothing is done by itself: no other library calls it. wherry run does, when everything
 * is open and before it looks at anything that the guest wrote.
 *
 * Threads: _process is for the calling thread and threads that it makes later (and, of Landlock and the filter, for no
 * other); a thread that exists already calls _thread itself, one that is made later may, to have less.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/diag.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* What a thread does, and so which calls it makes. */
enum wh_confine_part {
	WH_CONFINE_LOOP = 1u << 0,    /* events, timers, memory, standard streams; everybody's */
	WH_CONFINE_PROC = 1u << 1,    /* guests of the proc engine: signal, reap, snapshot */
	WH_CONFINE_KVM = 1u << 2,     /* guests of the kvm engines, from the loop's thread */
	WH_CONFINE_VCPU = 1u << 3,    /* a thread that runs a vCPU */
	WH_CONFINE_BLOCK = 1u << 4,   /* disks that are open */
	WH_CONFINE_FILES = 1u << 5,   /* 9P folders */
	WH_CONFINE_NETWORK = 1u << 6, /* the gateway: sockets of the Internet's families */
	WH_CONFINE_LOCAL = 1u << 7,   /* Unix sockets: an API, vsock, a control socket */
	WH_CONFINE_THREADS = 1u << 8, /* makes threads */
	WH_CONFINE_WORKER = 1u << 9,  /* a thread that does transfers of disks for a loop */
	WH_CONFINE_TRACE = 1u << 10,  /* debugs a guest of the proc engine */
	WH_CONFINE_FETCH = 1u << 11,  /* a thread that brings a snapshot's memory (userfaultfd) */
};
#define WH_CONFINE_PARTS 12u

enum wh_confine_violation {
	WH_CONFINE_KILL, /* the process ends by SIGSYS */
	WH_CONFINE_TRAP, /* SIGSYS for the caller's handler, which can say what happened; the call is not made */
	WH_CONFINE_LOG, /* the call is made, the kernel's log has a line; no Landlock */
};

/* Access to a path and what is below it. */
enum {
	WH_CONFINE_READ = 1u << 0,
	WH_CONFINE_WRITE = 1u << 1, /* and make, rename, remove */
	WH_CONFINE_REMOVE = 1u << 2 /* of files only: a socket's name at the end */
};

struct wh_confine_path {
	const char *path; /* what does not exist is left out */
	uint32_t access;
};

struct wh_confine_config {
	size_t size;    /* sizeof(struct wh_confine_config) */
	uint32_t parts; /* WH_CONFINE_LOOP is always meant */
	enum wh_confine_violation violation;
	const struct wh_confine_path *paths;
	uint32_t path_count;
	bool none_inherited; /* the caller knows; looking takes 60 us here */
};

/* Walls that could not be had. */
enum {
	WH_CONFINE_NO_FILTER = 1u << 0,   /* kernel without seccomp; a sanitizer in this program */
	WH_CONFINE_NO_LANDLOCK = 1u << 1, /* Linux before 5.19, or switched off */
	WH_CONFINE_NO_DESCRIPTORS = 1u
				    << 2, /* /proc is not there: inherited descriptors stay open */
};

/* 0, or -errno with diag: the process is then confined in part and should end. */
int wh_confine_process(const struct wh_confine_config *config, uint32_t *ret_missing,
		       struct wh_diag *diag);
/* The calling thread's filter, on top of what it has. 0 or -errno. */
int wh_confine_thread(uint32_t parts, enum wh_confine_violation violation);

/* Is this system call on the list of these parts (whatever its arguments)? */
bool wh_confine_allows(uint32_t parts, int number);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
