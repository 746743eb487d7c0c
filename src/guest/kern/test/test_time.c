/* SPDX-License-Identifier: ISC */
/* The clock against a made-up counter and a made-up host. */
#include <cpu/cpu.h>

static uint64_t fake_tsc(void);
#define cpu_tsc fake_tsc
#include "../time.c"
#undef cpu_tsc
#include <wherry/test.h>

#define MS 1000000ull
static uint64_t true_ns, rate_khz, jitter_ns, host_calls;
static struct wh_boot_info boot;
static struct wh_boot_control control;
const struct plat_ops *kern_plat;

static uint64_t fake_tsc(void)
{
	return true_ns / 1000 * rate_khz / 1000 + 12345;
}

static uint64_t host_clock(bool realtime)
{
	host_calls++;
	true_ns += 100; /* the call takes its time */
	return true_ns + (host_calls % 2 ? jitter_ns : 0) + (realtime ? 5000000000 : 0);
}

static const struct plat_ops with_clock = { .clock = host_clock };
static const struct plat_ops without_clock = { 0 };

const struct wh_boot_info *kern_boot(void)
{
	return &boot;
}

struct wh_boot_control *kern_control(void)
{
	return &control;
}

static void start(const struct plat_ops *plat, uint64_t tsc_hz)
{
	memset(&line, 0, sizeof line);
	memset(&boot, 0, sizeof boot);
	memset(&control, 0, sizeof control);
	true_ns = 77777777777;
	rate_khz = 2500000;
	jitter_ns = host_calls = 0;
	kern_plat = plat;
	boot.tsc_hz = tsc_hz;
	control.timeline[WH_BOOT_STAGE_ENTRY] = fake_tsc();
	kern_time_init();
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

static void follows_the_host_without_being_told_the_rate(void)
{
	start(&with_clock, 0);
	uint64_t last = 0;
	for (int i = 0; i < 100000; i++) {
		true_ns += 100000; /* 10 s in all */
		uint64_t now = kern_time_monotonic();
		CHECK(now >= last);
		CHECK(distance(now, true_ns) < 20000);
		last = now;
	}
	CHECK(host_calls < 200); /* dense only at first */
}

static void stays_monotonic_with_a_jittery_host(void)
{
	start(&with_clock, 0);
	jitter_ns = 3000;
	uint64_t last = 0;
	for (int i = 0; i < 200000; i++) {
		true_ns += 20000;
		if (i == 100000)
			rate_khz = 2500100; /* 40 ppm faster from here on, with a step ahead */
		uint64_t now = kern_time_monotonic();
		CHECK(now >= last);
		last = now;
	}
	CHECK(distance(last, true_ns) < 5 * MS);
}

static void survives_a_long_stop(void)
{
	start(&with_clock, 2500000000);
	(void)kern_time_monotonic();
	true_ns += 3600ull * 1000 * MS;
	CHECK(distance(kern_time_monotonic(), true_ns) < 1000);
}

static void needs_no_host_clock_in_a_virtual_machine(void)
{
	start(&without_clock, 2500000000);
	boot.realtime_ns = 1700000000ull * 1000 * MS;
	boot.tsc_at_realtime = fake_tsc();
	uint64_t before = kern_time_monotonic();
	true_ns += 250 * MS;
	CHECK(distance(kern_time_monotonic() - before, 250 * MS) < 1000);
	CHECK(distance(kern_time_realtime(), boot.realtime_ns + 250 * MS) < 1000);
	CHECK(distance(kern_time_uptime(), 250 * MS) < 1000);
}

static void wall_clock_follows_the_hosts(void)
{
	start(&with_clock, 0);
	CHECK(distance(kern_time_realtime(), true_ns + 5000000000) < 10000);
	true_ns += 30000 * MS;
	CHECK(distance(kern_time_realtime(), true_ns + 5000000000) < 10000);
}

static void goes_on_in_a_copy(void)
{
	start(&with_clock, 0);
	kern_time_monotonic();
	true_ns += 5000 * MS;
	uint64_t before = kern_time_monotonic();
	true_ns += 3600000 * MS; /* an hour in a file, then another counter */
	rate_khz = 1000000;
	control.generation++;
	uint64_t now = kern_time_monotonic();
	CHECK(distance(now, before) < 10000);
	CHECK(distance(kern_time_realtime(), true_ns + 5000000000) < 10000);
	true_ns += 1500 * MS;
	CHECK(distance(kern_time_monotonic(), before + 1500 * MS) < 5 * MS);
	true_ns += 1500 * MS;
	CHECK(distance(kern_time_monotonic(), before + 3000 * MS) < 5 * MS);
}

int main(void)
{
	RUN(follows_the_host_without_being_told_the_rate);
	RUN(stays_monotonic_with_a_jittery_host);
	RUN(survives_a_long_stop);
	RUN(needs_no_host_clock_in_a_virtual_machine);
	RUN(wall_clock_follows_the_hosts);
	RUN(goes_on_in_a_copy);
	return test_end();
}
