/* SPDX-License-Identifier: ISC */
/* POSIX timers. The table grows by single allocations up to a small limit. */
#include <kern/mem.h>
#include <kern/thread.h>
#include <posix/signal.h>
#include <posix/time.h>

#define TIMERS_MAX 64
enum { CLOCK_REALTIME = 0, CLOCK_MONOTONIC = 1, CLOCK_BOOTTIME = 7 };
enum { SIGEV_SIGNAL = 0, SIGEV_NONE = 1, SIGEV_THREAD_ID = 4 };
#define TIMER_ABSTIME 1
#define OVERRUN_MAX INT32_MAX

struct timer {
	struct kern_timer timer;
	uint64_t interval_ns;
	uint64_t value; /* sigev_value */
	int32_t clock, signo, notify, tid;
	uint64_t overrun;
};

static struct timer *timers[TIMERS_MAX];

static struct timer *find(int id)
{
	return id >= 0 && id < TIMERS_MAX ? timers[id] : 0;
}

static void expire(struct kern_timer *k)
{
	struct timer *t = WH_CONTAINER_OF(k, struct timer, timer);
	uint64_t now = kern_time_monotonic(), last = k->deadline_ns;
	k->deadline_ns = KERN_FOREVER;
	t->overrun = 0;
	if (t->interval_ns) {
		t->overrun = (now - last) / t->interval_ns;
		kern_timer_start(k, last + (t->overrun + 1) * t->interval_ns);
	}
	if (t->notify == SIGEV_NONE)
		return;
	struct kern_thread *to = t->notify == SIGEV_THREAD_ID ? kern_thread_find(t->tid) : 0;
	if (to || t->notify == SIGEV_SIGNAL)
		posix_signal_send(to, t->signo, LX_SI_TIMER, t->value);
}

long wh_sys_timer_create(int clock, const struct lx_sigevent *event, int *ret_id)
{
	int id = 0;
	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME)
		return -WH_EINVAL;
	if ((event && !kern_user_readable(event, sizeof *event)) ||
	    !kern_user_writable(ret_id, sizeof *ret_id))
		return -WH_EFAULT;
	if (event && event->notify != SIGEV_NONE &&
	    (event->signo < 1 || event->signo > LX_SIG_COUNT ||
	     (event->notify != SIGEV_SIGNAL && event->notify != SIGEV_THREAD_ID)))
		return -WH_EINVAL;
	while (id < TIMERS_MAX && timers[id])
		id++;
	struct timer *t = id < TIMERS_MAX ? kern_alloc_zero(sizeof *t) : 0;
	if (!t)
		return -WH_EAGAIN;
	kern_timer_init(&t->timer, expire);
	t->clock = clock;
	t->signo = event ? event->signo : LX_SIGALRM;
	t->notify = event ? event->notify : SIGEV_SIGNAL;
	t->value = event ? event->value : (uint64_t)id;
	t->tid = event && event->notify == SIGEV_THREAD_ID ? event->tid : 0;
	timers[id] = t;
	*ret_id = id;
	return 0;
}

static void get(const struct timer *t, struct lx_itimerspec *ret_value)
{
	uint64_t now = kern_time_monotonic(), deadline = t->timer.deadline_ns;
	ret_value->interval = posix_timespec_of(t->interval_ns);
	ret_value->value = posix_timespec_of(deadline == KERN_FOREVER ? 0
					     : deadline > now         ? deadline - now
								      : 1);
}

long wh_sys_timer_gettime(int id, struct lx_itimerspec *ret_value)
{
	struct timer *t = find(id);
	if (!t)
		return -WH_EINVAL;
	if (!kern_user_writable(ret_value, sizeof *ret_value))
		return -WH_EFAULT;
	get(t, ret_value);
	return 0;
}

long wh_sys_timer_settime(int id, int flags, const struct lx_itimerspec *value,
			  struct lx_itimerspec *ret_old)
{
	struct timer *t = find(id);
	if (!kern_user_readable(value, sizeof *value) ||
	    (ret_old && !kern_user_writable(ret_old, sizeof *ret_old)))
		return -WH_EFAULT;
	if (!t || !posix_timespec_valid(&value->value) || !posix_timespec_valid(&value->interval))
		return -WH_EINVAL;
	struct lx_itimerspec asked = *value;
	uint64_t ns = posix_timespec_ns(&asked.value), deadline = ns;
	if (ret_old)
		get(t, ret_old);
	kern_timer_stop(&t->timer);
	t->timer.deadline_ns = KERN_FOREVER;
	t->interval_ns = posix_timespec_ns(&asked.interval);
	if (!ns)
		return 0;
	if (!(flags & TIMER_ABSTIME)) {
		deadline = posix_deadline_in(ns);
	} else if (t->clock == CLOCK_REALTIME) {
		uint64_t now = kern_time_realtime();
		deadline = posix_deadline_in(ns > now ? ns - now : 0);
	}
	kern_timer_start(&t->timer, deadline);
	return 0;
}

long wh_sys_timer_getoverrun(int id)
{
	struct timer *t = find(id);
	if (!t)
		return -WH_EINVAL;
	return t->overrun > OVERRUN_MAX ? OVERRUN_MAX : (long)t->overrun;
}

long wh_sys_timer_delete(int id)
{
	struct timer *t = find(id);
	if (!t)
		return -WH_EINVAL;
	kern_timer_stop(&t->timer);
	timers[id] = 0;
	kern_free(t, sizeof *t);
	return 0;
}
