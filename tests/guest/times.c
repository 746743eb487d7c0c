/* SPDX-License-Identifier: ISC */
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static long long now(clockid_t clock)
{
	struct timespec t;
	CHECK_EQ(clock_gettime(clock, &t), 0);
	CHECK(t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void monotonic_never_goes_back(void)
{
	long long last = now(CLOCK_MONOTONIC), start = last;
	unsigned steps = 0;
	while (last - start < 60000000) { /* over the first calibration */
		long long t = now(CLOCK_MONOTONIC);
		CHECK(t >= last);
		steps += t > last;
		last = t;
	}
	CHECK(steps > 1000);
}

static void sleeps_long_enough(void)
{
	struct timespec t = { 0, 15000000 };
	long long start = now(CLOCK_MONOTONIC);
	CHECK_EQ(nanosleep(&t, 0), 0);
	CHECK(now(CLOCK_MONOTONIC) - start >= 15000000);
	long long until = now(CLOCK_MONOTONIC) + 10000000;
	t.tv_sec = until / 1000000000;
	t.tv_nsec = until % 1000000000;
	CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0), 0);
	CHECK(now(CLOCK_MONOTONIC) >= until);
	CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0), 0); /* past */
	until = now(CLOCK_REALTIME) + 10000000;
	t.tv_sec = until / 1000000000;
	t.tv_nsec = until % 1000000000;
	CHECK_EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, 0), 0);
	CHECK(now(CLOCK_REALTIME) >= until - 100000); /* the two clocks may drift a little */
	t.tv_nsec = -1;
	CHECK(nanosleep(&t, 0) < 0 && errno == EINVAL);
}

static void clocks_agree(void)
{
	struct timeval tv;
	CHECK_EQ(gettimeofday(&tv, 0), 0);
	long long wall = now(CLOCK_REALTIME);
	CHECK(wall / 1000000000 - tv.tv_sec <= 1);
	CHECK(time(0) - tv.tv_sec <= 1);
	CHECK(wall > 1600000000000000000ll);
	CHECK(now(CLOCK_PROCESS_CPUTIME_ID) >= 0);
	CHECK(clock_gettime((clockid_t)99, &(struct timespec){ 0 }) < 0);
	struct tms tms;
	CHECK(times(&tms) != (clock_t)-1);
	struct timespec res;
	CHECK_EQ(clock_getres(CLOCK_MONOTONIC, &res), 0);
}

static void cpu_time_stands_still_in_sleep(void)
{
	clock_t before = clock();
	usleep(50000);
	CHECK((clock() - before) * 1000 / CLOCKS_PER_SEC < 30);
}

int main(void)
{
	RUN(monotonic_never_goes_back);
	RUN(sleeps_long_enough);
	RUN(clocks_agree);
	RUN(cpu_time_stands_still_in_sleep);
	printf("ok\n");
	return 0;
}
