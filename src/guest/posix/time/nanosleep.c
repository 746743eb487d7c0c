/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <posix/time.h>

enum { CLOCK_REALTIME = 0, CLOCK_MONOTONIC = 1, CLOCK_BOOTTIME = 7, CLOCK_TAI = 11 };
#define TIMER_ABSTIME 1

static long sleep_until(uint64_t deadline, struct lx_timespec *ret_left)
{
	for (;;) {
		int r = kern_sleep(deadline);
		uint64_t now = kern_time_monotonic();
		if (now >= deadline)
			return 0;
		if (r == -WH_EINTR) {
			if (ret_left && kern_user_writable(ret_left, sizeof *ret_left))
				*ret_left = posix_timespec_of(deadline - now);
			return r;
		}
	}
}

long wh_sys_clock_nanosleep(int clock, int flags, const struct lx_timespec *time,
			    struct lx_timespec *ret_left)
{
	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME &&
	    clock != CLOCK_TAI)
		return -WH_EINVAL;
	if (!kern_user_readable(time, sizeof *time))
		return -WH_EFAULT;
	if (!posix_timespec_valid(time))
		return -WH_EINVAL;
	uint64_t ns = posix_timespec_ns(time);
	if (!(flags & TIMER_ABSTIME))
		return sleep_until(posix_deadline_in(ns), ret_left);
	if (clock == CLOCK_REALTIME || clock == CLOCK_TAI) {
		uint64_t now = kern_time_realtime();
		return ns > now ? sleep_until(posix_deadline_in(ns - now), 0) : 0;
	}
	return sleep_until(ns, 0);
}

long wh_sys_nanosleep(const struct lx_timespec *time, struct lx_timespec *ret_left)
{
	return wh_sys_clock_nanosleep(CLOCK_MONOTONIC, 0, time, ret_left);
}
