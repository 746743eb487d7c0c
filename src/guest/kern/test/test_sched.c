/* SPDX-License-Identifier: ISC */
#include <string.h>
#include <kern/futex.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <kern/signal.h>
#include <kern/thread.h>
#include <posix/thread.h>
#include <wherry/base/errors.h>
#include <wherry/test.h>
#include "fake.h"

#define STACK_SIZE 32768u
#define MS 1000000ull

static char trace[256];

static void note(const char *text)
{
	strcat(trace, text);
}

static void start(void)
{
	fake_start();
	trace[0] = 0;
}

static struct kern_thread *spawn(int (*fn)(void *), const char *arg)
{
	static char stacks[16][STACK_SIZE] __attribute__((aligned(16)));
	static unsigned next;
	return kern_thread_new(fn, (void *)(uintptr_t)arg, stacks[next++ % 16] + STACK_SIZE, 0);
}

static void wait_for_all(void)
{
	while (kern_cpu.thread_count > 1)
		(void)kern_sleep(kern_time_monotonic() + MS);
}

static int say_twice(void *name)
{
	note(name);
	kern_yield();
	note(name);
	return 0;
}

static void yields_in_turn(void)
{
	start();
	spawn(say_twice, "a");
	spawn(say_twice, "b");
	wait_for_all();
	CHECK_STR(trace, "abab");
}

static int sleep_and_say(void *name)
{
	CHECK_EQ(kern_sleep(kern_time_monotonic() + (uint64_t)(*(char *)name - '0') * MS),
		 -WH_ETIMEDOUT);
	note(name);
	return 0;
}

static void sleeps_end_in_order_of_deadline(void)
{
	start();
	uint64_t began = fake_now;
	spawn(sleep_and_say, "3");
	spawn(sleep_and_say, "1");
	spawn(sleep_and_say, "2");
	wait_for_all();
	CHECK_STR(trace, "123");
	CHECK(fake_now - began >= 3 * MS);
}

static struct kern_waitq queue;

static int wait_and_say(void *name)
{
	while (kern_wait(&queue, KERN_FOREVER) != 0)
		;
	note(name);
	return 0;
}

static void wakes_as_many_as_asked(void)
{
	start();
	kern_waitq_init(&queue);
	spawn(wait_and_say, "a");
	spawn(wait_and_say, "b");
	spawn(wait_and_say, "c");
	kern_yield();
	kern_waitq_wake(&queue, 1, 1);
	kern_yield();
	CHECK_STR(trace, "a");
	kern_waitq_wake(&queue, 1, UINT32_MAX);
	wait_for_all();
	CHECK_STR(trace, "abc");
}

static void remembers_a_wake_up_before_the_sleep(void)
{
	start();
	kern_thread_wake(kern_self());
	CHECK_EQ(kern_sleep(KERN_FOREVER), 0);
	CHECK_EQ(kern_sleep(kern_time_monotonic() + MS), -WH_ETIMEDOUT);
}

static void waits_time_out(void)
{
	start();
	kern_waitq_init(&queue);
	CHECK_EQ(kern_wait(&queue, fake_now + 5 * MS), -WH_ETIMEDOUT);
	CHECK_EQ(kern_wait(&queue, fake_now - 1), -WH_ETIMEDOUT);
	CHECK(wh_list_empty(&queue.waiters));
}

static unsigned polls;
static struct kern_thread *sleeper;

static uint64_t poll_counting(struct kern_poller *p, uint64_t now)
{
	if (++polls == 3)
		kern_thread_wake(sleeper);
	return now + MS;
}

static void pollers_run_while_idle(void)
{
	static struct kern_poller p = { 0, poll_counting };
	start();
	polls = 0;
	sleeper = kern_self();
	kern_poller_add(&p);
	fake_on_sleep = 0;
	uint64_t began = fake_now;
	CHECK_EQ(kern_sleep(KERN_FOREVER), 0);
	CHECK(polls >= 3);
	CHECK(fake_now >= began);
}

static void host_event(void)
{
	kern_control()->host_events++;
	kern_thread_wake(sleeper);
}

static void host_ends_a_sleep(void)
{
	start();
	sleeper = kern_self();
	fake_on_sleep = host_event;
	CHECK_EQ(kern_sleep(KERN_FOREVER), 0);
	CHECK_EQ(fake_sleeps, 1);
}

static struct kern_timer timer_a, timer_b;
static void fire(struct kern_timer *t)
{
	note(t == &timer_a ? "a" : "b");
}

static void timers_fire_once_and_can_be_stopped(void)
{
	start();
	kern_timer_init(&timer_a, fire);
	kern_timer_init(&timer_b, fire);
	kern_timer_start(&timer_b, fake_now + 2 * MS);
	kern_timer_start(&timer_a, fake_now + 1 * MS);
	(void)kern_sleep(fake_now + 10 * MS);
	CHECK_STR(trace, "ab");
	kern_timer_start(&timer_a, fake_now + 1 * MS);
	kern_timer_start(&timer_a, fake_now + 3 * MS); /* re-arm */
	(void)kern_sleep(fake_now + 2 * MS);
	CHECK_STR(trace, "ab");
	kern_timer_stop(&timer_a);
	(void)kern_sleep(fake_now + 10 * MS);
	CHECK_STR(trace, "ab");
}

enum {
	WAIT = 0,
	WAKE = 1,
	REQUEUE = 3,
	CMP_REQUEUE = 4,
	WAKE_OP = 5,
	WAIT_BITSET = 9,
	WAKE_BITSET = 10
};
static uint32_t word, other;

static int futex_wait_and_say(void *name)
{
	CHECK_EQ(wh_sys_futex(&word, WAIT, 0, 0, 0, 0), 0);
	note(name);
	return 0;
}

static void futex_wakes_in_order(void)
{
	start();
	word = 0;
	CHECK_EQ(wh_sys_futex(&word, WAIT, 1, 0, 0, 0), -WH_EAGAIN);
	spawn(futex_wait_and_say, "a");
	spawn(futex_wait_and_say, "b");
	spawn(futex_wait_and_say, "c");
	kern_yield();
	CHECK_EQ(wh_sys_futex(&word, WAKE, 1, 0, 0, 0), 1);
	CHECK_EQ(wh_sys_futex(&word, WAKE, 1, 0, 0, 0), 1);
	kern_yield();
	CHECK_STR(trace, "ab");
	CHECK_EQ(wh_sys_futex(&word, WAKE, 9, 0, 0, 0), 1);
	CHECK_EQ(wh_sys_futex(&word, WAKE, 9, 0, 0, 0), 0);
	wait_for_all();
	CHECK_STR(trace, "abc");
}

static void futex_times_out(void)
{
	start();
	struct lx_timespec t = { 0, 5 * (int64_t)MS };
	uint64_t began = fake_now;
	word = 0;
	CHECK_EQ(wh_sys_futex(&word, WAIT, 0, &t, 0, 0), -WH_ETIMEDOUT);
	CHECK_EQ(fake_now - began, 5 * MS);
	t.sec = (int64_t)(fake_now / 1000000000);
	t.nsec = (int64_t)(fake_now % 1000000000) + (int64_t)MS;
	CHECK_EQ(wh_sys_futex(&word, WAIT_BITSET, 0, &t, 0, UINT32_MAX), -WH_ETIMEDOUT);
	CHECK_EQ(fake_now - began, 6 * MS);
	t.nsec = -1;
	CHECK_EQ(wh_sys_futex(&word, WAIT, 0, &t, 0, 0), -WH_EINVAL);
	CHECK_EQ(wh_sys_futex((uint32_t *)((char *)&word + 1), WAIT, 0, 0, 0, 0), -WH_EFAULT);
	CHECK_EQ(wh_sys_futex(&word, 6 /* LOCK_PI */, 0, 0, 0, 0), -WH_ENOSYS);
}

static void futex_requeues(void)
{
	start();
	word = other = 0;
	spawn(futex_wait_and_say, "a");
	spawn(futex_wait_and_say, "b");
	spawn(futex_wait_and_say, "c");
	kern_yield();
	CHECK_EQ(wh_sys_futex(&word, CMP_REQUEUE, 1, (void *)(uintptr_t)9, &other, 7), -WH_EAGAIN);
	CHECK_EQ(wh_sys_futex(&word, REQUEUE, 1, (void *)(uintptr_t)9, &other, 0), 3);
	kern_yield();
	CHECK_STR(trace, "a");
	CHECK_EQ(wh_sys_futex(&word, WAKE, 9, 0, 0, 0), 0);
	CHECK_EQ(wh_sys_futex(&other, WAKE, 9, 0, 0, 0), 2);
	wait_for_all();
	CHECK_STR(trace, "abc");
}

static int futex_wait_bit(void *bit)
{
	CHECK_EQ(wh_sys_futex(&word, WAIT_BITSET, 0, 0, 0, *(char *)bit == '1' ? 1 : 2), 0);
	note(bit);
	return 0;
}

static void futex_bits_select(void)
{
	start();
	word = 0;
	spawn(futex_wait_bit, "1");
	spawn(futex_wait_bit, "2");
	kern_yield();
	CHECK_EQ(wh_sys_futex(&word, WAKE_BITSET, 9, 0, 0, 2), 1);
	kern_yield();
	CHECK_STR(trace, "2");
	CHECK_EQ(wh_sys_futex(&word, WAKE_BITSET, 9, 0, 0, 1), 1);
	wait_for_all();
	CHECK_EQ(wh_sys_futex(&word, WAKE_BITSET, 9, 0, 0, 0), -WH_EINVAL);
}

static void futex_wake_op_computes(void)
{
	start();
	other = 5;
	/* other += 3; wake there if it was > 4 */
	uint32_t code = 1u << 28 | 5u << 24 | 3u << 12 | 4u;
	CHECK_EQ(wh_sys_futex(&word, WAKE_OP, 1, (void *)(uintptr_t)1, &other, code), 0);
	CHECK_EQ(other, 8);
}

static int do_nothing(void *unused)
{
	return 0;
}

static void end_of_thread_clears_and_wakes(void)
{
	start();
	word = 7;
	struct kern_thread *t = spawn(do_nothing, 0);
	t->clear_child_tid = &word;
	CHECK_EQ(wh_sys_futex(&word, WAIT, 7, 0, 0, 0), 0);
	CHECK_EQ(word, 0);
	CHECK_EQ(kern_cpu.thread_count, 1);
}

static void signal_interrupts_a_wait(void)
{
	start();
	kern_waitq_init(&queue);
	kern_self()->signal_pending = 1;
	CHECK_EQ(kern_wait(&queue, KERN_FOREVER), -WH_EINTR);
	CHECK(kern_self()->restartable);
	CHECK_EQ(kern_sleep(KERN_FOREVER), -WH_EINTR);
	CHECK(!kern_self()->restartable);
	kern_self()->signal_mask = 1;
	CHECK_EQ(kern_wait(&queue, fake_now + MS), -WH_ETIMEDOUT);
	kern_self()->signal_pending = 0;
	kern_self()->signal_mask = 0;
}

int main(void)
{
	RUN(yields_in_turn);
	RUN(sleeps_end_in_order_of_deadline);
	RUN(wakes_as_many_as_asked);
	RUN(remembers_a_wake_up_before_the_sleep);
	RUN(waits_time_out);
	RUN(pollers_run_while_idle);
	RUN(host_ends_a_sleep);
	RUN(timers_fire_once_and_can_be_stopped);
	RUN(futex_wakes_in_order);
	RUN(futex_times_out);
	RUN(futex_requeues);
	RUN(futex_bits_select);
	RUN(futex_wake_op_computes);
	RUN(end_of_thread_clears_and_wakes);
	RUN(signal_interrupts_a_wait);
	return test_end();
}
