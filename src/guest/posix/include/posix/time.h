/* SPDX-License-Identifier: ISC */
#ifndef POSIX_TIME_H
#define POSIX_TIME_H

/* System calls on clocks, and conversions for every handler with a time-out. */

#include <stdbool.h>
#include <stdint.h>
#include <fs/linux.h>
#include <kern/plat.h>
#include <kern/sched.h>
#include <wherry/base/errors.h>
#include <kern/trace.h>

#define POSIX_NS_PER_S 1000000000ull

struct lx_tms;

static inline bool posix_timespec_valid(const struct lx_timespec *t)
{
	return t->sec >= 0 && t->nsec >= 0 && t->nsec < (int64_t)POSIX_NS_PER_S;
}

/* Saturates instead of overflowing: 584 years are for ever. */
static inline uint64_t posix_timespec_ns(const struct lx_timespec *t)
{
	if ((uint64_t)t->sec >= KERN_FOREVER / POSIX_NS_PER_S - 1)
		return KERN_FOREVER;
	return (uint64_t)t->sec * POSIX_NS_PER_S + (uint64_t)t->nsec;
}

static inline struct lx_timespec posix_timespec_of(uint64_t ns)
{
	struct lx_timespec t = { (int64_t)(ns / POSIX_NS_PER_S), (int64_t)(ns % POSIX_NS_PER_S) };
	return t;
}

static inline struct lx_timeval posix_timeval_of(uint64_t ns)
{
	struct lx_timeval t = { (int64_t)(ns / POSIX_NS_PER_S),
				(int64_t)(ns % POSIX_NS_PER_S / 1000) };
	return t;
}

/* Monotonic deadline for a relative time in ns; KERN_FOREVER when it is too far. */
static inline uint64_t posix_deadline_in(uint64_t ns)
{
	uint64_t now = kern_time_monotonic();
	return ns > KERN_FOREVER - 1 - now ? KERN_FOREVER : now + ns;
}

/* Monotonic deadline for a relative timespec; NULL = for ever. -WH_EINVAL. */
static inline int posix_deadline(const struct lx_timespec *relative, uint64_t *ret_deadline_ns)
{
	if (relative && !posix_timespec_valid(relative))
		return -WH_EINVAL;
	*ret_deadline_ns = relative ? posix_deadline_in(posix_timespec_ns(relative)) : KERN_FOREVER;
	return 0;
}

/* Nanoseconds that the CPU has worked, all threads together. */
uint64_t posix_cpu_ns(void);

KERN_CALL long wh_sys_clock_gettime(int clock, struct lx_timespec *ret_time);
KERN_CALL long wh_sys_clock_getres(int clock, struct lx_timespec *ret_time);
KERN_CALL long wh_sys_clock_settime(int clock, const struct lx_timespec *time);
KERN_CALL long wh_sys_clock_nanosleep(int clock, int flags, const struct lx_timespec *time,
				      struct lx_timespec *ret_left);
KERN_CALL long wh_sys_nanosleep(const struct lx_timespec *time, struct lx_timespec *ret_left);
KERN_CALL long wh_sys_gettimeofday(struct lx_timeval *ret_time, void *zone);
KERN_CALL long wh_sys_settimeofday(const struct lx_timeval *time, const void *zone);
KERN_CALL long wh_sys_time(int64_t *ret_time);
KERN_CALL long wh_sys_times(struct lx_tms *ret_times);

#endif
