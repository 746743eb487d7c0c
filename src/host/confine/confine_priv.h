/* SPDX-License-Identifier: ISC */
#ifndef CONFINE_PRIV_H
#define CONFINE_PRIV_H

#include <linux/filter.h>
#include <wherry/confine.h>

/* What a call's arguments must be. */
enum confine_check {
	CONFINE_ANY,
	CONFINE_NO_EXEC, /* the third has no PROT_EXEC: mmap, mprotect */
	CONFINE_IOCTL, /* the second is on a list: terminals, queue lengths; KVM's for those parts */
	CONFINE_THREAD, /* the first has CLONE_THREAD: no process is made */
	CONFINE_SOCKET, /* the first is a family of the parts */
	CONFINE_STOP,   /* the second is SIGUSR1, which makes a vCPU's thread look */
	CONFINE_SELF,   /* the first is our own process id */
	CONFINE_NO_NEW, /* the first is PR_SET_NO_NEW_PRIVS: prctl */
	CONFINE_NARROW, /* the first adds a filter: seccomp */
	CONFINE_ABSENT, /* answered as by a kernel that does not have it */
	CONFINE_FCNTL,  /* the second sends no signals to others */
	CONFINE_CHECKS,
};

struct confine_call {
	uint16_t number;
	uint16_t parts; /* any of these */
	uint8_t check;
};

/* Ascending by number. */
extern const struct confine_call confine_calls[];
extern const uint32_t confine_call_count;

#define CONFINE_FILTER_MAX 384u

/* Writes the filter of these parts. The architecture is checked first; another one's calls kill. */
uint32_t confine_filter_write(uint32_t parts, enum wh_confine_violation violation, uint32_t own_pid,
			      struct sock_filter *to);

/* 0, -errno; *ret_had = false where the kernel has no Landlock that does. */
int confine_landlock(const struct wh_confine_config *config, bool *ret_had, struct wh_diag *diag);

#endif
