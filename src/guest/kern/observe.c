/* SPDX-License-Identifier: ISC */
#include <stdarg.h>
#include <kern/fault.h>
#include <kern/mem.h>
#include <kern/observe.h>
#include <kern/pages.h>
#include <kern/plat.h>
#include <kern/preempt.h>
#include <kern/thread.h>
#include <wherry/abi/observe.h>
#include <wherry/base/diag.h>
#include "kern_priv.h"

#define FRAMES 12u
/* Of a saved context (cpu/context.S), in bytes above its stack pointer. */
#define SAVED_R13 24u
#define SAVED_RBP 48u
#define SAVED_RIP 56u

static struct kern_observer *observers;
static struct {
	char *at;
	uint32_t size, room;
} text;

void kern_observer_add(struct kern_observer *o)
{
	o->next = observers;
	observers = o;
}

void kern_observe_put(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	size_t n = wh_vformat(text.at + text.size, text.room - text.size, format, args);
	va_end(args);
	text.size = n < text.room - text.size ? text.size + (uint32_t)n : text.room - 1;
}

static uint64_t saved(const struct kern_thread *t, unsigned offset)
{
	return *(const uint64_t *)(uintptr_t)(t->rsp + offset);
}

static void put_thread(const struct kern_thread *t)
{
	uint64_t frame[FRAMES];
	bool runs = t == kern_cpu.current && t->state != KERN_THREAD_SLEEPING;
	kern_observe_put("thread tid=%d state=%s pending=%llx mask=%llx", t->tid,
			 runs                               ? "running"
			 : t->state == KERN_THREAD_SLEEPING ? "sleeping"
							    : "runnable",
			 (unsigned long long)t->signal_pending, (unsigned long long)t->signal_mask);
	if (t->timer.deadline_ns != KERN_FOREVER && t->state == KERN_THREAD_SLEEPING)
		kern_observe_put(" until_ns=%lld",
				 (long long)(t->timer.deadline_ns - kern_time_monotonic()));
	if (!runs) {
		uint64_t rip = saved(t, SAVED_RIP), rbp = saved(t, SAVED_RBP);
		if (t->preempted && saved(t, SAVED_R13) == (uint64_t)(uintptr_t)t->preempted) {
			const struct kern_context *c = kern_preempted_context(t->preempted);
			rip = c->greg[KERN_GREG_RIP];
			rbp = c->greg[KERN_GREG_RBP];
		}
		frame[0] = rip;
		uint32_t n = 1 + kern_backtrace(rbp, frame + 1, FRAMES - 1);
		for (uint32_t i = 0; i < n; i++)
			kern_observe_put("%s%llx",
					 i ? "," : " stack=", (unsigned long long)frame[i]);
	}
	kern_observe_put(" name=%s\n", t->name);
}

void kern_observe_poll(void)
{
	struct wh_observe *o = (struct wh_observe *)(uintptr_t)kern_boot()->observe;
	uint32_t asked = o ? __atomic_load_n(&o->asked, __ATOMIC_ACQUIRE) : 0;
	if (!o || asked == o->answered)
		return;
	text.at = (char *)(o + 1) + (size_t)o->capacity * sizeof(struct wh_observe_record);
	text.room = o->text_size;
	text.size = 0;
	kern_observe_put("memory total=%llu free=%llu\n",
			 (unsigned long long)kern_pages_total_count() * KERN_PAGE,
			 (unsigned long long)kern_pages_free_count() * KERN_PAGE);
	kern_observe_put("time monotonic_ns=%llu slept_ns=%llu\n",
			 (unsigned long long)kern_time_monotonic(),
			 (unsigned long long)kern_cpu.slept_ns);
	WH_LIST_FOR_EACH(it, &kern_cpu.threads)
		put_thread(WH_LIST_ENTRY(it, struct kern_thread, all_node));
	for (struct kern_observer *i = observers; i; i = i->next)
		i->tell();
	o->text_length = text.size;
	__atomic_store_n(&o->answered, asked, __ATOMIC_RELEASE);
	kern_plat_doorbell();
}
