/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/thread.h>
#include <posix/time.h>

enum {
	CLOCK_REALTIME = 0,
	CLOCK_MONOTONIC = 1,
	CLOCK_PROCESS_CPUTIME = 2,
	CLOCK_THREAD_CPUTIME = 3,
	CLOCK_MONOTONIC_RAW = 4,
	CLOCK_REALTIME_COARSE = 5,
	CLOCK_MONOTONIC_COARSE = 6,
	CLOCK_BOOTTIME = 7,
	CLOCK_TAI = 11
};

uint64_t posix_cpu_ns(void)
{
	uint64_t up = kern_time_uptime();
	return up > kern_cpu.slept_ns ? up - kern_cpu.slept_ns : 0;
}

long wh_sys_clock_gettime(int clock, struct lx_timespec *ret_time)
{
	uint64_t ns;
	switch (clock) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_TAI:
		ns = kern_time_realtime();
		break;
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_BOOTTIME:
		ns = kern_time_monotonic();
		break;
	case CLOCK_PROCESS_CPUTIME:
	case CLOCK_THREAD_CPUTIME: /* threads are not told apart */
		ns = posix_cpu_ns();
		break;
	default:
		return -WH_EINVAL;
	}
	if (!kern_user_writable(ret_time, sizeof *ret_time))
		return -WH_EFAULT;
	*ret_time = posix_timespec_of(ns);
	return 0;
}
