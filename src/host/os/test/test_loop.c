/* SPDX-License-Identifier: ISC */
#include <wherry/loop.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/test.h>

#define MS 1000000ull

static struct wh_loop *loop;

static void setup(void)
{
	CHECK_EQ(wh_loop_new(&loop), 0);
}

struct pipe_watch {
	struct wh_loop_fd watch;
	int other;
	unsigned calls;
	uint32_t events;
	struct wh_loop_fd *victim;
};

static void note_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct pipe_watch *p = watch->ctx;
	p->calls++;
	p->events = events;
	if (p->victim) {
		wh_loop_remove(loop, p->victim);
		p->victim = NULL;
	}
}

static void pair_open(struct pipe_watch *p, uint32_t events)
{
	int fds[2];
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	*p = (struct pipe_watch){ .watch = { .fd = fds[0], .events = events, .fn = note_event },
				  .other = fds[1] };
	p->watch.ctx = p;
	CHECK_EQ(wh_loop_add(loop, &p->watch), 0);
}

static void pair_close(struct pipe_watch *p)
{
	wh_loop_remove(loop, &p->watch);
	close(p->watch.fd);
	if (p->other >= 0)
		close(p->other);
}

static void reads_and_hangs_up(void)
{
	struct pipe_watch p;
	setup();
	pair_open(&p, WH_LOOP_READ);
	CHECK_EQ(wh_loop_step(loop, 0), 0);
	CHECK_EQ(write(p.other, "x", 1), 1);
	CHECK_EQ(wh_loop_step(loop, -1), 1);
	CHECK_EQ(p.events, WH_LOOP_READ);
	CHECK_EQ(wh_loop_step(loop, 0), 1); /* level-triggered */
	CHECK_EQ(wh_loop_modify(loop, &p.watch, WH_LOOP_READ | WH_LOOP_WRITE), 0);
	CHECK_EQ(wh_loop_step(loop, 0), 1);
	CHECK_EQ(p.events, WH_LOOP_READ | WH_LOOP_WRITE);
	CHECK_EQ(wh_loop_modify(loop, &p.watch, 0), 0);
	CHECK_EQ(wh_loop_step(loop, 0), 0);
	close(p.other);
	p.other = -1;
	CHECK_EQ(wh_loop_step(loop, -1), 1);
	CHECK(p.events & WH_LOOP_HANGUP);
	pair_close(&p);
	wh_loop_free(loop);
}

static void ends_in_order(void)
{
	struct pipe_watch p;
	char b[4];
	setup();
	pair_open(&p, WH_LOOP_READ | WH_LOOP_HANGUP | WH_LOOP_EDGE);
	CHECK_EQ(write(p.other, "x", 1), 1);
	CHECK_EQ(wh_loop_step(loop, 0), 1);
	CHECK_EQ(p.events, WH_LOOP_READ);
	CHECK_EQ(shutdown(p.other, SHUT_WR), 0);
	CHECK_EQ(wh_loop_step(loop, 0), 1);
	CHECK_EQ(p.events, WH_LOOP_READ | WH_LOOP_HANGUP | WH_LOOP_ENDED);
	CHECK_EQ(read(p.watch.fd, b, sizeof b), 1); /* it is all there */
	/* Both ways: no longer only the end of what comes. */
	close(p.other);
	p.other = -1;
	CHECK_EQ(wh_loop_step(loop, 0), 1);
	CHECK(p.events & WH_LOOP_HANGUP && !(p.events & WH_LOOP_ENDED));
	pair_close(&p);
	wh_loop_free(loop);
}

static void edge_fires_once(void)
{
	struct pipe_watch p;
	setup();
	pair_open(&p, WH_LOOP_READ | WH_LOOP_EDGE);
	CHECK_EQ(write(p.other, "x", 1), 1);
	CHECK_EQ(wh_loop_step(loop, 0), 1);
	CHECK_EQ(wh_loop_step(loop, 0), 0);
	CHECK_EQ(write(p.other, "x", 1), 1);
	CHECK_EQ(wh_loop_step(loop, 0), 1);
	pair_close(&p);
	wh_loop_free(loop);
}

static void removed_in_same_round_is_not_called(void)
{
	struct pipe_watch a, b;
	setup();
	pair_open(&a, WH_LOOP_READ);
	pair_open(&b, WH_LOOP_READ);
	a.victim = &b.watch;
	b.victim = &a.watch;
	CHECK_EQ(write(a.other, "x", 1) + write(b.other, "x", 1), 2);
	CHECK_EQ(wh_loop_step(loop, 0), 1);
	CHECK_EQ(a.calls + b.calls, 1);
	pair_close(&a);
	pair_close(&b);
	wh_loop_free(loop);
}

static void regular_file_is_refused(void)
{
	setup();
	int fd = open("/proc/self/exe", O_RDONLY);
	struct wh_loop_fd watch = { .fd = fd, .events = WH_LOOP_READ, .fn = note_event };
	CHECK_EQ(wh_loop_add(loop, &watch), -WH_EPERM);
	close(fd);
	wh_loop_free(loop);
}

static unsigned fired, order_broken;
static uint64_t last_deadline;

static void note_timer(struct wh_loop_timer *timer)
{
	fired++;
	if (timer->deadline_ns < last_deadline)
		order_broken++;
	last_deadline = timer->deadline_ns;
	if (timer->ctx)
		wh_loop_timer_start(loop, timer, 0);
}

#define TIMERS 500

static void timers_fire_in_order(void)
{
	static struct wh_loop_timer timers[TIMERS];
	uint64_t random = test_seed();
	setup();
	uint64_t base = wh_loop_now(loop);
	for (int i = 0; i < TIMERS; i++)
		wh_loop_timer_init(&timers[i], note_timer, NULL);
	unsigned running = 0;
	for (int i = 0; i < 20000; i++) {
		struct wh_loop_timer *t = &timers[wh_random_next(&random) % TIMERS];
		if (wh_random_next(&random) & 1)
			wh_loop_timer_start(loop, t, base - wh_random_next(&random) % 1000);
		else
			wh_loop_timer_stop(loop, t);
	}
	uint64_t first = UINT64_MAX;
	for (int i = 0; i < TIMERS; i++) {
		if (!wh_loop_timer_running(&timers[i]))
			continue;
		running++;
		if (timers[i].deadline_ns < first)
			first = timers[i].deadline_ns;
	}
	CHECK_EQ(wh_loop_deadline(loop), first);
	fired = order_broken = 0;
	last_deadline = 0;
	CHECK_EQ(wh_loop_step(loop, -1), running);
	CHECK_EQ(fired, running);
	CHECK_EQ(order_broken, 0);
	CHECK_EQ(wh_loop_deadline(loop), UINT64_MAX);
	wh_loop_free(loop);
}

static void timer_limits_the_sleep(void)
{
	struct wh_loop_timer t;
	setup();
	wh_loop_timer_init(&t, note_timer, NULL);
	uint64_t deadline = wh_loop_now(loop) + MS / 2;
	wh_loop_timer_start(loop, &t, deadline);
	fired = 0;
	while (!fired)
		CHECK(wh_loop_step(loop, -1) >= 0);
	CHECK(wh_loop_now(loop) >= deadline);
	CHECK(!wh_loop_timer_running(&t));
	wh_loop_free(loop);
}

static void restarting_timer_fires_once_a_round(void)
{
	struct wh_loop_timer t;
	setup();
	wh_loop_timer_init(&t, note_timer, &t);
	wh_loop_timer_start(loop, &t, 0);
	CHECK_EQ(wh_loop_step(loop, -1), 1);
	CHECK_EQ(wh_loop_step(loop, -1), 1);
	wh_loop_timer_stop(loop, &t);
	CHECK_EQ(wh_loop_step(loop, 0), 0);
	wh_loop_free(loop);
}

static unsigned before, after;

static bool hook_before(struct wh_loop_hook *hook)
{
	before++;
	if (hook->ctx)
		wh_loop_hook_remove(loop, hook->ctx);
	return before == 1;
}

static void hook_after(struct wh_loop_hook *hook)
{
	after++;
}

static void hooks_surround_the_sleep(void)
{
	setup();
	struct wh_loop_hook b = { .before_sleep = hook_before };
	struct wh_loop_hook a = { .before_sleep = hook_before, .after_sleep = hook_after };
	before = after = 0;
	wh_loop_hook_add(loop, &a);
	CHECK_EQ(wh_loop_step(loop, -1), 0); /* busy: did not sleep */
	CHECK_EQ(before, 1);
	CHECK_EQ(after, 1);
	wh_loop_hook_add(loop, &b);
	a.ctx = &b; /* removes the next hook from under the walk */
	CHECK_EQ(wh_loop_step(loop, 0), 0);
	CHECK_EQ(before, 3); /* and once more, because we may sleep now */
	a.ctx = &a;
	CHECK_EQ(wh_loop_step(loop, 0), 0);
	CHECK_EQ(before, 4);
	CHECK_EQ(wh_loop_step(loop, 0), 0);
	CHECK_EQ(before, 4);
	wh_loop_free(loop);
}

static void *waker(void *ctx)
{
	for (int i = 0; i < 1000; i++)
		wh_loop_wake(loop);
	wh_loop_wake(loop);
	return NULL;
}

static void wake_ends_sleep(void)
{
	setup();
	wh_loop_wake(loop); /* before the sleep: kept */
	CHECK_EQ(wh_loop_step(loop, -1), 0);
	CHECK_EQ(wh_loop_step(loop, 0), 0);
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, waker, NULL), 0);
	CHECK_EQ(wh_loop_step(loop, -1), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	wh_loop_free(loop);
}

static void stop_now(struct wh_loop_timer *timer)
{
	wh_loop_stop(loop, 7);
}

static void run_until_stop(void)
{
	struct wh_loop_timer t;
	setup();
	wh_loop_timer_init(&t, stop_now, NULL);
	wh_loop_timer_start(loop, &t, 0);
	CHECK_EQ(wh_loop_run(loop), 7);
	wh_loop_stop(loop, 3); /* before run: ends at once */
	CHECK_EQ(wh_loop_run(loop), 3);
	wh_loop_free(loop);
	wh_loop_free(NULL);
}

/* Looking before sleeping changes nothing but when things are noticed. */
static void looks_before_it_sleeps(void)
{
	struct pipe_watch p = { 0 };
	struct wh_loop_timer timer;
	setup();
	wh_loop_spin(loop, 20000);
	pair_open(&p, WH_LOOP_READ);
	for (unsigned i = 1; i <= 300; i++) { /* found at once, by a look or by a sleep */
		char byte;
		CHECK_EQ(write(p.other, "x", 1), 1);
		CHECK_EQ(wh_loop_step(loop, -1), 1);
		CHECK_EQ(p.calls, i);
		CHECK_EQ(read(p.watch.fd, &byte, 1), 1);
		/* nothing comes: looks become rare, limits hold */
		CHECK_EQ(wh_loop_step(loop, i % 2), 0);
	}
	wh_loop_timer_init(&timer, note_timer, NULL);
	for (int i = 0; i < 100; i++) { /* deadlines shorter and longer than a look */
		unsigned earlier = fired;
		uint64_t deadline = wh_loop_now(loop) + (uint64_t)i * 1000;
		wh_loop_timer_start(loop, &timer, deadline);
		while (fired == earlier)
			CHECK(wh_loop_step(loop, -1) >= 0);
		CHECK(wh_loop_now(loop) >= deadline);
	}
	pair_close(&p);
	wh_loop_free(loop);
}

int main(void)
{
	RUN(reads_and_hangs_up);
	RUN(ends_in_order);
	RUN(edge_fires_once);
	RUN(removed_in_same_round_is_not_called);
	RUN(regular_file_is_refused);
	RUN(timers_fire_in_order);
	RUN(timer_limits_the_sleep);
	RUN(restarting_timer_fires_once_a_round);
	RUN(hooks_surround_the_sleep);
	RUN(wake_ends_sleep);
	RUN(run_until_stop);
	RUN(looks_before_it_sleeps);
	return test_end();
}
