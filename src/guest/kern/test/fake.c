/* SPDX-License-Identifier: ISC */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <kern/fault.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <kern/sched.h>
#include <kern/start.h>
#include <kern/thread.h>
#include "../kern_priv.h"
#include "fake.h"
#include "../alloc.c" /* its lists start anew with the heap */

uint64_t fake_now;
unsigned fake_sleeps;
void (*fake_on_sleep)(void);
struct kern_tcb kern_early_tcb;
static struct wh_boot_control control;
static struct wh_boot_info boot = { .engine = WH_BOOT_ENGINE_PROC };
static char *heap;

void fake_start(void)
{
	free(heap);
	heap = aligned_alloc(KERN_PAGE, FAKE_PAGES * KERN_PAGE);
	memset(heap, 0, FAKE_PAGES * KERN_PAGE);
	memset(&control, 0, sizeof control);
	boot.image_start = 0; /* all of the test's own memory counts as the program's */
	boot.ram_base = 0;
	boot.ram_size = UINT64_MAX;
	fake_now = 1000000000;
	fake_sleeps = 0;
	fake_on_sleep = 0;
	kern_pages_init((uint64_t)(uintptr_t)heap,
			(uint64_t)(uintptr_t)heap + FAKE_PAGES * KERN_PAGE);
	memset(partial, 0, sizeof partial);
	kern_sched_init();
}

const struct wh_boot_info *kern_boot(void)
{
	return &boot;
}

struct wh_boot_control *kern_control(void)
{
	return &control;
}

uint64_t kern_time_monotonic(void)
{
	return fake_now;
}

uint64_t kern_time_realtime(void)
{
	return fake_now + 1000000;
}

void kern_observe_poll(void)
{
}

void kern_plat_tick_resume(void)
{
}

void kern_plat_set_fs_base(uint64_t base)
{
}

void kern_plat_wait(uint32_t seen_events, uint64_t deadline_ns)
{
	fake_sleeps++;
	if (control.host_events != seen_events)
		return;
	if (fake_on_sleep) {
		fake_on_sleep();
		return;
	}
	if (deadline_ns == KERN_FOREVER) {
		fprintf(stderr, "everybody sleeps for ever\n");
		abort();
	}
	fake_now = deadline_ns;
}

void kern_exit(enum wh_boot_exit kind, int value)
{
	fprintf(stderr, "guest ended: kind %d, value %d\n", kind, value);
	exit(1);
}

void kern_panic(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	abort();
}

uint32_t kern_backtrace(uint64_t rbp, uint64_t *ret_addresses, uint32_t max)
{
	return 0;
}
