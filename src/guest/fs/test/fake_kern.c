/* SPDX-License-Identifier: ISC */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <kern/mem.h>
#include <kern/observe.h>
#include <kern/plat.h>
#include <kern/sched.h>
#include <kern/signal.h>
#include <kern/thread.h>
#include <wherry/base/errors.h>
#include "fake_kern.h"

struct wh_boot_info fake_boot = { .hostname = "box", .ram_size = UINT64_MAX };
uint64_t fake_now = 1000000000;
uint32_t fake_signals, fake_page_limit = 4096, fake_alloc_fail_in;
char fake_output[4096];
uint32_t fake_output_size;
void (*fake_on_wait)(void);
bool (*fake_devices)(void);
void (*kern_console_hook)(const char *text, uint32_t size);

static struct kern_thread self;
static struct wh_boot_control control;
static uint32_t pages;
static struct wh_list timers = { &timers, &timers };

const struct wh_boot_info *kern_boot(void)
{
	return &fake_boot;
}

struct wh_boot_control *kern_control(void)
{
	return &control;
}

void kern_plat_doorbell(void)
{
}

uint64_t kern_time_monotonic(void)
{
	return fake_now;
}

uint64_t kern_time_realtime(void)
{
	return fake_now + 1700000000000000000;
}

void kern_random(void *to, uint64_t size)
{
	memset(to, 0x5a, size);
}

void kern_random_add(const void *from, uint64_t size)
{
}

void kern_console_write(const char *text, uint32_t size)
{
	if (size > sizeof fake_output - fake_output_size)
		size = sizeof fake_output - fake_output_size;
	memcpy(fake_output + fake_output_size, text, size);
	fake_output_size += size;
}

void kern_panic(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	abort();
}

/* ---- memory ---- */

static bool fails(void)
{
	return fake_alloc_fail_in && !--fake_alloc_fail_in;
}

void *kern_alloc(size_t size)
{
	return fails() ? NULL : malloc(size ? size : 1);
}

void *kern_alloc_zero(size_t size)
{
	return fails() ? NULL : calloc(1, size ? size : 1);
}

void kern_free(void *memory, size_t size)
{
	free(memory);
}

void *kern_pages_alloc(size_t count)
{
	if (fails() || pages + count > fake_page_limit)
		return NULL;
	void *p = aligned_alloc(KERN_PAGE, count * KERN_PAGE);
	memset(p, 0, count * KERN_PAGE);
	pages += (uint32_t)count;
	return p;
}

void kern_pages_free(void *p, size_t count)
{
	pages -= (uint32_t)count;
	free(p);
}

size_t kern_pages_free_count(void)
{
	return fake_page_limit - pages;
}

size_t kern_pages_total_count(void)
{
	return fake_page_limit;
}

uint64_t kern_bus(const void *pointer)
{
	return (uintptr_t)pointer;
}

bool kern_user_readable(const void *address, size_t size)
{
	return (uintptr_t)address >= KERN_PAGE;
}

bool kern_user_writable(const void *address, size_t size)
{
	return (uintptr_t)address >= KERN_PAGE;
}

/* ---- waiting ---- */

void kern_waitq_init(struct kern_waitq *q)
{
	wh_list_init(&q->waiters);
}

void kern_waitq_add(struct kern_waitq *q, struct kern_waiter *w)
{
	wh_list_push_back(&q->waiters, &w->node);
}

void kern_waiter_remove(struct kern_waiter *w)
{
	if (w->node.next)
		wh_list_remove(&w->node);
}

void kern_waitq_wake(struct kern_waitq *q, uint32_t events, uint32_t count)
{
	WH_LIST_FOR_EACH_SAFE(it, &q->waiters) {
		struct kern_waiter *w = WH_LIST_ENTRY(it, struct kern_waiter, node);
		if (w->fn)
			(void)w->fn(w, events);
		else
			wh_list_remove(&w->node);
	}
}

int kern_sleep(uint64_t deadline_ns)
{
	void (*fn)(void) = fake_on_wait;
	fake_on_wait = NULL;
	if (!fn && fake_devices && fake_devices()) {
		(void)kern_poll();
		return 0;
	}
	if (fn) {
		fn();
		(void)kern_poll();
		return 0;
	}
	if (deadline_ns == KERN_FOREVER)
		return -WH_EINTR;
	if (deadline_ns > fake_now)
		fake_now = deadline_ns;
	(void)kern_poll();
	return -WH_ETIMEDOUT;
}

int kern_wait(struct kern_waitq *q, uint64_t deadline_ns)
{
	struct kern_waiter w = { .thread = &self };
	kern_waitq_add(q, &w);
	int r = kern_sleep(deadline_ns);
	kern_waiter_remove(&w);
	return r;
}

int kern_wait_uninterruptible(struct kern_waitq *q, uint64_t deadline_ns)
{
	int r = kern_wait(q, deadline_ns);
	if (r == -WH_EINTR)
		kern_panic("a device never answered");
	return r;
}

void kern_yield(void)
{
}

struct kern_thread *kern_self(void)
{
	return &self;
}

bool kern_signal_pending(void)
{
	return false;
}

void kern_signal_raise(int signo)
{
	fake_signals |= 1u << (signo - 1);
}

void kern_timer_init(struct kern_timer *t, void (*fn)(struct kern_timer *))
{
	wh_list_init(&t->node);
	t->fn = fn;
}

void kern_timer_start(struct kern_timer *t, uint64_t deadline_ns)
{
	wh_list_remove(&t->node);
	t->deadline_ns = deadline_ns;
	wh_list_push_back(&timers, &t->node);
}

void kern_timer_stop(struct kern_timer *t)
{
	wh_list_remove(&t->node);
}

static struct kern_poller *pollers;

void kern_poller_add(struct kern_poller *p)
{
	p->next = pollers;
	pollers = p;
}

uint64_t kern_poll(void)
{
	for (struct kern_poller *p = pollers; p; p = p->next)
		(void)p->poll(p, fake_now);
	WH_LIST_FOR_EACH_SAFE(it, &timers) {
		struct kern_timer *t = WH_LIST_ENTRY(it, struct kern_timer, node);
		if (t->deadline_ns > fake_now)
			continue;
		kern_timer_stop(t);
		t->fn(t);
	}
	return KERN_FOREVER;
}

uint32_t wh_signal_work;

bool kern_signal_again_slow(long result)
{
	return false;
}

/* --- kern/observe.h: nobody looks --- */

void kern_observer_add(struct kern_observer *o)
{
}

void kern_observe_put(const char *format, ...)
{
}
