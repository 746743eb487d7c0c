/* SPDX-License-Identifier: ISC */
#include <wherry/os.h>

#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/test.h>

static void random_and_clocks(void)
{
	uint64_t a = 0, b = 0;
	wh_os_random(&a, sizeof a);
	wh_os_random(&b, sizeof b);
	CHECK(a != b);
	uint64_t t = wh_os_now();
	CHECK(wh_os_now() >= t);
	CHECK(wh_os_wall_clock() > 1600000000ull * 1000000000ull);
}

static void whole_transfers(void)
{
	int fds[2];
	char buffer[8] = { 0 };
	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(wh_os_write_all(fds[1], "12345678", 8), 0);
	CHECK_EQ(wh_os_read_all(fds[0], buffer, 4), 0);
	CHECK_MEM(buffer, "1234", 4);
	wh_os_close(&fds[1]);
	CHECK_EQ(fds[1], -1);
	wh_os_close(&fds[1]);
	CHECK_EQ(wh_os_read_all(fds[0], buffer, 8), -WH_ENODATA);
	wh_os_close(&fds[0]);
	CHECK_EQ(wh_os_read_all(-1, buffer, 1), -WH_EBADF);
}

static void text_files(void)
{
	char text[8];
	CHECK_EQ(wh_os_read_text("/proc/self/comm", text, sizeof text), 7);
	CHECK_STR(text, "test-os");
	CHECK_EQ(wh_os_read_text("/nonexistent", text, sizeof text), -WH_ENOENT);
}

static void allocator(void)
{
	void *p = wh_os_allocator.alloc(NULL, 100, 4096);
	CHECK(p && ((uintptr_t)p & 4095) == 0);
	wh_free(&wh_os_allocator, p, 100);
	p = wh_alloc_zero(&wh_os_allocator, 10);
	CHECK(p);
	wh_free(&wh_os_allocator, p, 10);
}

static unsigned seen;

static void on_signal(struct wh_os_signals *signals, int number)
{
	seen |= 1u << number;
	wh_loop_stop(signals->loop, number);
}

static void signals_reach_the_loop(void)
{
	struct wh_loop *loop;
	const int list[] = { SIGUSR1, SIGUSR2 };
	struct wh_os_signals signals = { .fn = on_signal }, second = { .fn = on_signal };
	CHECK_EQ(wh_loop_new(&loop), 0);
	CHECK_EQ(wh_os_signals_attach(&signals, loop, list, 2), 0);
	CHECK_EQ(wh_os_signals_attach(&second, loop, list, 2), -WH_EBUSY);
	raise(SIGUSR1);
	CHECK_EQ(seen, 0);
	CHECK_EQ(wh_loop_run(loop), SIGUSR1);
	raise(SIGUSR2);
	CHECK_EQ(wh_loop_run(loop), SIGUSR2);
	CHECK_EQ(seen, 1u << SIGUSR1 | 1u << SIGUSR2);
	wh_os_signals_detach(&signals);
	wh_os_signals_detach(&signals);
	struct sigaction now;
	CHECK_EQ(sigaction(SIGUSR1, NULL, &now), 0);
	CHECK(now.sa_handler == SIG_DFL);
	wh_loop_free(loop);
}

int main(void)
{
	RUN(random_and_clocks);
	RUN(whole_transfers);
	RUN(text_files);
	RUN(allocator);
	RUN(signals_reach_the_loop);
	return test_end();
}
