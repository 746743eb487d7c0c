/* SPDX-License-Identifier: ISC */
#ifndef POSIX_PROCESS_H
#define POSIX_PROCESS_H

/* System calls on the process, which is the whole guest: one process, user 0. Each
 * returns >= 0 or -errno as Linux does; see its manual page, section 2. */

#include <stddef.h>
#include <stdint.h>
#include <fs/linux.h>
#include <kern/trace.h>

#define POSIX_PID 1

/* In ticks of 1/100 s. */
struct lx_tms {
	int64_t user, system, child_user, child_system;
};

struct lx_rlimit {
	uint64_t soft, hard;
};

struct lx_rusage {
	struct lx_timeval user, system;
	int64_t counts[14];
	int64_t reserved[16];
};

struct lx_sysinfo {
	int64_t uptime;
	uint64_t loads[3];
	uint64_t ram_total, ram_free, ram_shared, ram_buffer, swap_total, swap_free;
	uint16_t processes, pad;
	uint64_t high_total, high_free;
	uint32_t unit;
};

#define LX_UTS_SIZE 65
struct lx_utsname {
	char sysname[LX_UTS_SIZE], nodename[LX_UTS_SIZE], release[LX_UTS_SIZE];
	char version[LX_UTS_SIZE], machine[LX_UTS_SIZE], domain[LX_UTS_SIZE];
};

KERN_CALL __attribute__((noreturn)) void wh_sys_exit(int status);
KERN_CALL __attribute__((noreturn)) void wh_sys_exit_group(int status);

KERN_CALL long wh_sys_getpid(void);
KERN_CALL long wh_sys_getppid(void);
KERN_CALL long wh_sys_getpgrp(void);
KERN_CALL long wh_sys_getpgid(int pid);
KERN_CALL long wh_sys_setpgid(int pid, int group);
KERN_CALL long wh_sys_getsid(int pid);
KERN_CALL long wh_sys_setsid(void);

KERN_CALL long wh_sys_getuid(void);
KERN_CALL long wh_sys_geteuid(void);
KERN_CALL long wh_sys_getgid(void);
KERN_CALL long wh_sys_getegid(void);
KERN_CALL long wh_sys_getresuid(uint32_t *real, uint32_t *effective, uint32_t *saved);
KERN_CALL long wh_sys_getresgid(uint32_t *real, uint32_t *effective, uint32_t *saved);
KERN_CALL long wh_sys_getgroups(int count, uint32_t *groups);
KERN_CALL long wh_sys_setuid(uint32_t id);
KERN_CALL long wh_sys_setgid(uint32_t id);
KERN_CALL long wh_sys_setreuid(uint32_t real, uint32_t effective);
KERN_CALL long wh_sys_setregid(uint32_t real, uint32_t effective);
KERN_CALL long wh_sys_setresuid(uint32_t real, uint32_t effective, uint32_t saved);
KERN_CALL long wh_sys_setresgid(uint32_t real, uint32_t effective, uint32_t saved);
KERN_CALL long wh_sys_setfsuid(uint32_t id);
KERN_CALL long wh_sys_setfsgid(uint32_t id);
KERN_CALL long wh_sys_setgroups(size_t count, const uint32_t *groups);

KERN_CALL long wh_sys_getrlimit(int resource, struct lx_rlimit *ret_limit);
KERN_CALL long wh_sys_setrlimit(int resource, const struct lx_rlimit *limit);
KERN_CALL long wh_sys_prlimit64(int pid, int resource, const struct lx_rlimit *limit,
				struct lx_rlimit *ret_old);
KERN_CALL long wh_sys_getrusage(int who, struct lx_rusage *ret_usage);
KERN_CALL long wh_sys_sysinfo(struct lx_sysinfo *ret_info);
KERN_CALL long wh_sys_uname(struct lx_utsname *ret_name);
KERN_CALL long wh_sys_prctl(int option, unsigned long a, unsigned long b, unsigned long c,
			    unsigned long d);
KERN_CALL long wh_sys_getpriority(int which, int who);
KERN_CALL long wh_sys_setpriority(int which, int who, int value);
KERN_CALL long wh_sys_wait4(int pid, int *ret_status, int options, struct lx_rusage *ret_usage);
KERN_CALL long wh_sys_waitid(int which, int pid, void *ret_info, int options,
			     struct lx_rusage *ret_usage);
KERN_CALL long wh_sys_personality(unsigned long personality);
KERN_CALL long wh_sys_capget(uint32_t *header, uint32_t *ret_sets);
KERN_CALL long wh_sys_capset(const uint32_t *header, const uint32_t *sets);
KERN_CALL long wh_sys_getrandom(void *to, size_t size, unsigned flags);

#endif
