/* SPDX-License-Identifier: ISC */
#include <cpu/cpu.h>
#include <kern/fault.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <kern/thread.h>
#include <kern/trace.h>
#include <wherry/abi/observe.h>
#include "kern_priv.h"

extern const char text_start[] __asm__("wh_kernel_text_start")
	__attribute__((visibility("hidden")));
extern const char text_end[] __asm__("wh_kernel_text_end") __attribute__((visibility("hidden")));
#define WEAK __attribute__((weak))
WEAK long wh_sys_exit(int status);
WEAK long wh_sys_exit_group(int status);
#define UNPROTECTED __attribute__((no_stack_protector))

static bool is_inside(uint64_t address)
{
	return address - (uint64_t)(uintptr_t)text_start < (uint64_t)(text_end - text_start);
}

UNPROTECTED static struct wh_observe *observe(void)
{
	return (struct wh_observe *)(uintptr_t)kern_boot()->observe;
}

/* The next record to write, or NULL: the ring is full. */
UNPROTECTED static struct wh_observe_record *next_record(struct wh_observe *o)
{
	uint32_t tail = __atomic_load_n(&o->tail, __ATOMIC_ACQUIRE);
	if (!o->capacity || o->head - tail >= o->capacity)
		return 0;
	return (struct wh_observe_record *)(o + 1) + o->head % o->capacity;
}

UNPROTECTED static void publish(struct wh_observe *o)
{
	__atomic_store_n(&o->head, o->head + 1, __ATOMIC_RELEASE);
}

/* Calls wait for room: a trace with holes would lie. */
static struct wh_observe_record *wait_for_record(struct wh_observe *o)
{
	struct wh_observe_record *r;
	for (;;) {
		uint32_t seen = __atomic_load_n(&kern_control()->host_events, __ATOMIC_ACQUIRE);
		r = next_record(o);
		if (r || !o->capacity)
			return r;
		kern_plat_doorbell();
		kern_plat_wait(seen, kern_time_monotonic() + 10000000);
	}
}

static uint32_t copy_string(uint8_t *to, uint64_t from)
{
	if (!kern_user_readable((const void *)(uintptr_t)from, WH_OBSERVE_STRING))
		return 0;
	memcpy(to, (const void *)(uintptr_t)from, WH_OBSERVE_STRING);
	return 1;
}

static void record(enum wh_observe_kind kind, const struct kern_trace_frame *f, long result,
		   const uint8_t *strings, uint32_t readable)
{
	struct wh_observe *o = observe();
	struct wh_observe_record *r = o ? wait_for_record(o) : 0;
	if (!r)
		return;
	r->kind = kind;
	r->tid = kern_tid();
	r->begin = f->begin;
	r->end = cpu_tsc();
	r->handler = f->handler;
	r->result = result;
	r->count = 0;
	memcpy(r->u.call.argument, f->argument, sizeof r->u.call.argument);
	memcpy(r->u.call.string, strings, 2 * WH_OBSERVE_STRING);
	if (copy_string(r->u.call.string[2], f->argument[1]))
		readable |= 4;
	r->readable = readable;
	publish(o);
}

uint32_t kern_trace_enter(struct kern_trace_frame *f, uint8_t *strings)
{
	uint32_t readable = 0;
	if (is_inside(f->return_address))
		return 0; /* the kernel's own */
	for (unsigned i = 0; i < 2; i++)
		readable |= copy_string(strings + i * WH_OBSERVE_STRING, f->argument[i]) << i;
	f->begin = cpu_tsc();
	if ((wh_sys_exit_group &&
	     f->handler == (uint64_t)(uintptr_t)wh_sys_exit_group + WH_OBSERVE_PATCH_SIZE) ||
	    (wh_sys_exit && f->handler == (uint64_t)(uintptr_t)wh_sys_exit + WH_OBSERVE_PATCH_SIZE))
		record(WH_OBSERVE_ENDING, f, 0, strings, readable);
	return readable;
}

void kern_trace_leave(const struct kern_trace_frame *f, long result, const uint8_t *strings,
		      uint32_t readable)
{
	if (!is_inside(f->return_address))
		record(WH_OBSERVE_CALL, f, result, strings, readable);
}

UNPROTECTED void kern_trace_sample(const struct kern_context *context)
{
	struct wh_observe *o = observe();
	if (!o || !(o->flags & WH_OBSERVE_PROFILE))
		return;
	struct wh_observe_record *r = next_record(o);
	if (!r) {
		o->lost++;
		return;
	}
	r->kind = WH_OBSERVE_SAMPLE;
	r->tid = kern_cpu.current ? kern_cpu.current->tid : 0;
	r->begin = r->end = cpu_tsc();
	r->u.frame[0] = context->greg[KERN_GREG_RIP];
	r->count = 1 + kern_backtrace(context->greg[KERN_GREG_RBP], r->u.frame + 1,
				      WH_OBSERVE_FRAMES - 1);
	publish(o);
}
