/* SPDX-License-Identifier: ISC */
/*
 * Clocks. A call of the host's clock costs some 100 ns, the time-stamp counter 10.
 * So the counter is calibrated against the host's clock and corrected about once
 * a second: a straight line through (base_tsc, base_ns) with slope `mult`. Where
 * the corrected line would step back, time stands still until it has caught up.
 * Without a host clock (virtual machine) the line comes from boot.tsc_hz.
 *
 * In a copy from a snapshot time goes on where the snapshot was taken, whatever passed outside;
 * the date is the host's.
 */
#include <cpu/cpu.h>
#include <kern/plat.h>
#include <wherry/base/assert.h>
#include "kern_priv.h"

#define NS_PER_S 1000000000ull
/* A reading jitters by ~100 ns; over 10 ms that is 1e-5, over a second 1e-7. */
#define CALIBRATE_NS_MIN 10000000ull
#define RESYNC_NS NS_PER_S
/* Counters run at 0.1 to 20 GHz; anything else is a counter that was set meanwhile. */
#define MULT_MIN ((1ull << 32) / 20)
#define MULT_MAX ((1ull << 32) * 10)

static struct {
	uint64_t base_tsc, base_ns;
	uint64_t mult;       /* ns per tick, 32.32 fixed point; 0 = not known yet */
	uint64_t resync_tsc; /* ticks behind base_tsc after which to look at the host's clock */
	uint64_t last_ns;
	uint64_t realtime_offset_ns;
	uint64_t host_shift; /* added to the host's monotonic clock */
	uint32_t generation; /* control.generation when the line was drawn */
	bool started, realtime_known;
} line;

static uint64_t ticks_to_ns(uint64_t ticks, uint64_t mult)
{
	return (uint64_t)(((__uint128_t)ticks * mult) >> 32);
}

static void set_rate(uint64_t mult)
{
	line.mult = mult;
	line.resync_tsc = mult ? (RESYNC_NS << 32) / mult : 0;
}

/* Ticks and nanoseconds that passed together: the slope. */
static uint64_t slope(uint64_t ns, uint64_t ticks)
{
	while (ns >> 31)
		ns >>= 1, ticks >>= 1;
	return ticks ? (ns << 32) / ticks : 0;
}

void kern_time_init(void)
{
	uint64_t hz = kern_boot()->tsc_hz;
	if (hz)
		set_rate((NS_PER_S << 32) / hz);
	else if (!kern_plat->clock)
		set_rate(1ull << 32); /* 1 GHz is wrong, but time goes on */
}

static uint64_t shifted_clock(void)
{
	return kern_plat->clock(false) + line.host_shift;
}

static void resync(void)
{
	uint64_t ns = shifted_clock(), tsc = cpu_tsc();
	if (line.started) {
		uint64_t passed = ns - line.base_ns;
		if (passed < CALIBRATE_NS_MIN && !line.mult)
			return; /* too early for a slope; the caller uses ns */
		uint64_t mult = slope(passed, tsc - line.base_tsc);
		if (mult >= MULT_MIN && mult <= MULT_MAX)
			set_rate(mult);
	}
	line.started = true;
	line.realtime_known = false;
	line.base_ns = ns;
	line.base_tsc = tsc;
}

/* A new life: this may be another host, or years later. */
static void start_again(uint32_t generation)
{
	line.generation = generation;
	line.started = false;
	line.realtime_known = false;
	if (kern_plat->clock) {
		set_rate(0);
		line.host_shift = line.last_ns - kern_plat->clock(false); /* wraps */
	}
}

static uint64_t read_clock(void)
{
	uint32_t generation = __atomic_load_n(&kern_control()->generation, __ATOMIC_RELAXED);
	if (generation != line.generation)
		start_again(generation);
	uint64_t ticks = cpu_tsc() - line.base_tsc;
	if (!kern_plat->clock)
		return ticks_to_ns(ticks, line.mult);
	if (!line.started || (line.mult && ticks > line.resync_tsc)) {
		resync();
		return line.base_ns;
	}
	if (!line.mult) {
		uint64_t ns = shifted_clock();
		if (ns - line.base_ns >= CALIBRATE_NS_MIN)
			resync();
		return ns;
	}
	return line.base_ns + ticks_to_ns(ticks, line.mult);
}

uint64_t kern_time_monotonic(void)
{
	uint64_t now = read_clock();
	if (now > line.last_ns)
		line.last_ns = now;
	return line.last_ns;
}

uint64_t kern_time_realtime(void)
{
	uint64_t now = kern_time_monotonic();
	if (!line.realtime_known) {
		const struct wh_boot_info *boot = kern_boot();
		if (kern_plat->clock)
			line.realtime_offset_ns = kern_plat->clock(true) - shifted_clock();
		else
			line.realtime_offset_ns =
				boot->realtime_ns - ticks_to_ns(boot->tsc_at_realtime, line.mult);
		line.realtime_known = true;
	}
	return now + line.realtime_offset_ns;
}

/* Needs no clock at start-up: the time of the entry is known in ticks. */
uint64_t kern_time_uptime(void)
{
	uint64_t now = kern_time_monotonic();
	uint64_t ticks = cpu_tsc() - kern_control()->timeline[WH_BOOT_STAGE_ENTRY];
	if (line.mult)
		return ticks_to_ns(ticks, line.mult);
	return now - line.base_ns;
}

uint64_t kern_tsc(void)
{
	return cpu_tsc();
}
