/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <posix/signal.h>
#include <posix/time.h>

enum { ITIMER_REAL = 0 };

static uint64_t interval_ns;
static void expire(struct kern_timer *timer);
static struct kern_timer timer = { { &timer.node, &timer.node }, KERN_FOREVER, expire };

static void expire(struct kern_timer *t)
{
	uint64_t last = t->deadline_ns;
	t->deadline_ns = KERN_FOREVER;
	if (interval_ns) {
		uint64_t now = kern_time_monotonic(), next = last + interval_ns;
		kern_timer_start(t, next > now ? next : now + interval_ns);
	}
	posix_signal_send(0, LX_SIGALRM, LX_SI_KERNEL, 0);
}

static bool valid(const struct lx_timeval *t)
{
	return t->sec >= 0 && t->usec >= 0 && t->usec < 1000000;
}

static uint64_t to_ns(const struct lx_timeval *t)
{
	struct lx_timespec s = { t->sec, t->usec * 1000 };
	return posix_timespec_ns(&s);
}

static uint64_t remaining_ns(void)
{
	uint64_t now = kern_time_monotonic();
	if (timer.deadline_ns == KERN_FOREVER)
		return 0;
	return timer.deadline_ns > now ? timer.deadline_ns - now : 1000;
}

static void arm(uint64_t value_ns)
{
	kern_timer_stop(&timer);
	timer.deadline_ns = KERN_FOREVER;
	if (value_ns)
		kern_timer_start(&timer, posix_deadline_in(value_ns));
}

long wh_sys_getitimer(int which, struct lx_itimerval *ret_value)
{
	if (which != ITIMER_REAL)
		return -WH_EINVAL;
	if (!kern_user_writable(ret_value, sizeof *ret_value))
		return -WH_EFAULT;
	ret_value->interval = posix_timeval_of(interval_ns);
	ret_value->value = posix_timeval_of(remaining_ns());
	return 0;
}

/* Only real time: nobody counts the processor time of the program alone. */
long wh_sys_setitimer(int which, const struct lx_itimerval *value, struct lx_itimerval *ret_old)
{
	if (which != ITIMER_REAL)
		return -WH_EINVAL;
	if ((value && !kern_user_readable(value, sizeof *value)) ||
	    (ret_old && !kern_user_writable(ret_old, sizeof *ret_old)))
		return -WH_EFAULT;
	if (value && (!valid(&value->value) || !valid(&value->interval)))
		return -WH_EINVAL;
	struct lx_itimerval now = value ? *value : (struct lx_itimerval){ 0 };
	if (ret_old)
		(void)wh_sys_getitimer(which, ret_old);
	interval_ns = to_ns(&now.interval);
	arm(to_ns(&now.value));
	return 0;
}

long wh_sys_alarm(unsigned seconds)
{
	uint64_t left = remaining_ns();
	interval_ns = 0;
	arm(seconds * POSIX_NS_PER_S);
	return (long)((left + POSIX_NS_PER_S - 1) / POSIX_NS_PER_S);
}
