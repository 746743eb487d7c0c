/* SPDX-License-Identifier: ISC */

/* Pipes, eventfd, timerfd, and the three ways to wait for them. */

#include <fs/file.h>
#include <fs/pipe.h>
#include <posix/file.h>
#include <posix/poll.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/test.h>
#include "../../../fs/test/fake_kern.h"

#define IN LX_POLLIN
#define OUT LX_POLLOUT
#define ET (1u << 31)
#define ONESHOT (1u << 30)
enum { ADD = 1, DEL = 2, MOD = 3 };

static int fds[2];

static void add_one(void)
{
	uint64_t one = 1;
	(void)wh_sys_write(fds[0], &one, sizeof one);
}

static void write_pipe(void)
{
	(void)wh_sys_write(fds[1], "w", 1);
}

static void close_writer(void)
{
	(void)wh_sys_close(fds[1]);
}

static void drain_pipe(void)
{
	static char all[1 << 20];
	(void)wh_sys_read(fds[0], all, sizeof all);
}

static int watch(int ep, int fd, int operation, uint32_t events)
{
	struct lx_epoll_event e = { events, (uint64_t)fd };
	return (int)wh_sys_epoll_ctl(ep, operation, fd, &e);
}

/* Events of the first ready descriptor, 0 = none. */
static uint32_t ready(int ep)
{
	struct lx_epoll_event e[4];
	long n = wh_sys_epoll_wait(ep, e, 4, 0);
	return n > 0 ? e[0].events : 0;
}

static void pipes_carry_bytes(void)
{
	char text[8] = "";
	CHECK_EQ(wh_sys_pipe(fds), 0);
	CHECK_EQ(wh_sys_write(fds[1], "abc", 3), 3);
	CHECK_EQ(wh_sys_read(fds[0], text, 2), 2);
	CHECK_STR(text, "ab");
	CHECK_EQ(wh_sys_read(fds[1], text, 1), -WH_EBADF);
	CHECK_EQ(wh_sys_lseek(fds[0], 0, 0), -WH_ESPIPE);
	int n = 0;
	CHECK_EQ(wh_sys_ioctl(fds[0], 0x541b, (unsigned long)&n), 0);
	CHECK_EQ(n, 1);
	CHECK_EQ(wh_sys_read(fds[0], text, 8), 1);
	CHECK_EQ(wh_sys_read(fds[0], text, 8), -WH_EINTR);
	fake_on_wait = write_pipe;
	CHECK_EQ(wh_sys_read(fds[0], text, 8), 1);
	fake_on_wait = close_writer;
	CHECK_EQ(wh_sys_read(fds[0], text, 8), 0);
	wh_sys_close(fds[0]);
}

static void pipes_fill_up_and_wrap(void)
{
	static char block[40000], back[40000];
	CHECK_EQ(wh_sys_pipe2(fds, LX_O_NONBLOCK), 0);
	uint64_t seed = test_seed(), in = 0, out = 0;
	for (int i = 0; i < 3000; i++) {
		size_t size = wh_random_next(&seed) % (i % 7 ? 5000 : sizeof block);
		for (size_t k = 0; k < size; k++)
			block[k] = (char)((in + k) * 7 >> 3);
		long n = wh_sys_write(fds[1], block, size);
		if (size <= 4096)
			CHECK(n == (long)size || n == -WH_EAGAIN);
		if (n > 0)
			in += (uint64_t)n;
		CHECK(in - out <= 65536);
		n = wh_sys_read(fds[0], back, wh_random_next(&seed) % sizeof back);
		for (long k = 0; k < n; k++)
			CHECK_EQ(back[k], (char)((out + (uint64_t)k) * 7 >> 3));
		if (n > 0)
			out += (uint64_t)n;
	}
	CHECK_EQ(wh_sys_fcntl(fds[0], 1032, 0), 65536);
	CHECK_EQ(wh_sys_fcntl(fds[0], 1031, 100000), 131072);
	wh_sys_close(fds[0]);
	fake_signals = 0;
	CHECK_EQ(wh_sys_write(fds[1], "x", 1), -WH_EPIPE);
	CHECK_EQ(fake_signals, 1u << (LX_SIGPIPE - 1));
	wh_sys_close(fds[1]);
}

static void a_blocking_writer_waits_for_room(void)
{
	static char block[100000];
	CHECK_EQ(wh_sys_pipe(fds), 0);
	fake_on_wait = drain_pipe;
	CHECK_EQ(wh_sys_write(fds[1], block, sizeof block), sizeof block);
	CHECK_EQ(wh_sys_write(fds[1], block, sizeof block), 65536 - (sizeof block - 65536));
	wh_sys_close(fds[0]);
	wh_sys_close(fds[1]);
}

static void sendfile_borrows_from_memory(void)
{
	static char back[10000];
	int64_t offset = 1;
	int fd = (int)wh_sys_open("/tmp/s", LX_O_CREAT | LX_O_RDWR, 0600);
	CHECK_EQ(wh_sys_pwrite64(fd, "abc", 3, 0), 3);
	CHECK_EQ(wh_sys_pwrite64(fd, "xyz", 3, 9000), 3);
	CHECK_EQ(wh_sys_pipe2(fds, LX_O_NONBLOCK), 0);
	CHECK_EQ(wh_sys_sendfile(fds[1], fd, &offset, 100000), 9002);
	CHECK_EQ(offset, 9003);
	CHECK_EQ(wh_sys_sendfile(fds[1], fd, &offset, 10), 0);
	CHECK_EQ(wh_sys_read(fds[0], back, sizeof back), 9002);
	CHECK(back[0] == 'b' && back[2] == 0 && back[8998] == 0 && back[9001] == 'z');
	CHECK_EQ(wh_sys_ftruncate(fd, 200000), 0);
	offset = 0;
	CHECK_EQ(wh_sys_sendfile(fds[1], fd, &offset, 200000), 65536); /* full */
	CHECK_EQ(offset, 65536);
	CHECK_EQ(wh_sys_sendfile(fds[1], fd, &offset, 200000), -WH_EAGAIN);
	CHECK_EQ(wh_sys_sendfile(fd, fds[0], NULL, 1), -WH_EINVAL);
	CHECK_EQ(wh_sys_close_range(3, 100, 0), 0);
}

static void eventfd_counts(void)
{
	uint64_t v = 3;
	fds[0] = (int)wh_sys_eventfd2(2, LX_O_NONBLOCK);
	CHECK_EQ(wh_sys_write(fds[0], &v, 8), 8);
	CHECK_EQ(wh_sys_write(fds[0], &v, 4), -WH_EINVAL);
	CHECK_EQ(wh_sys_read(fds[0], &v, 8), 8);
	CHECK_EQ(v, 5);
	CHECK_EQ(wh_sys_read(fds[0], &v, 8), -WH_EAGAIN);
	v = UINT64_MAX - 1;
	CHECK_EQ(wh_sys_write(fds[0], &v, 8), 8);
	CHECK_EQ(wh_sys_write(fds[0], &v, 8), -WH_EAGAIN);
	struct lx_pollfd p = { fds[0], IN | OUT, 0 };
	CHECK_EQ(wh_sys_poll(&p, 1, 0), 1);
	CHECK_EQ(p.revents, IN);
	wh_sys_close(fds[0]);
	fds[0] = (int)wh_sys_eventfd2(2, 1);
	CHECK_EQ(wh_sys_read(fds[0], &v, 8), 8);
	CHECK_EQ(v, 1);
	wh_sys_close(fds[0]);
}

static void timerfd_expires(void)
{
	uint64_t n;
	struct lx_itimerspec t = { { 0, 1000 }, { 0, 5000 } }, now;
	int fd = (int)wh_sys_timerfd_create(1, 0);
	CHECK_EQ(wh_sys_timerfd_settime(fd, 0, &t, NULL), 0);
	CHECK_EQ(wh_sys_timerfd_gettime(fd, &now), 0);
	CHECK_EQ(now.value.nsec, 5000);
	struct lx_pollfd p = { fd, IN, 0 };
	CHECK_EQ(wh_sys_poll(&p, 1, 0), 0);
	fake_now += 7500;
	CHECK_EQ(wh_sys_poll(&p, 1, 0), 1);
	CHECK_EQ(wh_sys_read(fd, &n, 8), 8);
	CHECK_EQ(n, 3);
	CHECK_EQ(wh_sys_timerfd_gettime(fd, &now), 0);
	CHECK_EQ(now.value.nsec, 500);
	t = (struct lx_itimerspec){ { 0, 0 }, { 0, 0 } };
	CHECK_EQ(wh_sys_timerfd_settime(fd, 0, &t, &now), 0);
	CHECK_EQ(now.interval.nsec, 1000);
	CHECK_EQ(wh_sys_read(fd, &n, 8), -WH_EINTR);
	t.value.nsec = 1000000000;
	CHECK_EQ(wh_sys_timerfd_settime(fd, 0, &t, NULL), -WH_EINVAL);
	CHECK_EQ(wh_sys_timerfd_settime(1, 0, &t, NULL), -WH_EINVAL);
	CHECK_EQ(wh_sys_timerfd_create(99, 0), -WH_EINVAL);
	wh_sys_close(fd);
}

static void poll_waits(void)
{
	CHECK_EQ(wh_sys_pipe(fds), 0);
	struct lx_pollfd p[12] = { { fds[0], IN, 0 }, { -1, IN, 7 }, { 4000, IN, 0 } };
	CHECK_EQ(wh_sys_poll(p, 3, -1), 1);
	CHECK_EQ(p[2].revents, LX_POLLNVAL);
	CHECK_EQ(p[1].revents, 0);
	uint64_t before = fake_now;
	CHECK_EQ(wh_sys_poll(p, 2, 5), 0);
	CHECK_EQ(fake_now - before, 5000000);
	fake_on_wait = write_pipe;
	CHECK_EQ(wh_sys_poll(p, 1, -1), 1);
	CHECK_EQ(p[0].revents, IN);
	drain_pipe();
	for (int i = 0; i < 12; i++)
		p[i] = (struct lx_pollfd){ fds[0], IN, 0 };
	fake_on_wait = close_writer;
	CHECK_EQ(wh_sys_poll(p, 12, -1), 12);
	CHECK_EQ(p[11].revents, LX_POLLHUP);
	wh_sys_close(fds[0]);
	CHECK_EQ(wh_sys_poll(p, 100000, 0), -WH_EINVAL);
}

static void select_waits(void)
{
	uint64_t in[16] = { 0 }, out[16] = { 0 };
	struct lx_timeval timeout = { 0, 2000 };
	CHECK_EQ(wh_sys_pipe(fds), 0);
	in[0] = 1u << fds[0];
	out[0] = 1u << fds[1];
	CHECK_EQ(wh_sys_select(64, in, out, NULL, NULL), 1);
	CHECK_EQ(in[0], 0);
	CHECK_EQ(out[0], 1u << fds[1]);
	in[0] = 1u << fds[0];
	CHECK_EQ(wh_sys_select(64, in, NULL, NULL, &timeout), 0);
	CHECK_EQ(in[0], 0);
	CHECK_EQ(timeout.usec, 0);
	in[0] = 1u << fds[0];
	fake_on_wait = write_pipe;
	CHECK_EQ(wh_sys_select(64, in, NULL, NULL, NULL), 1);
	CHECK_EQ(in[0], 1u << fds[0]);
	in[1] = 1;
	CHECK_EQ(wh_sys_select(65, in, NULL, NULL, NULL), -WH_EBADF);
	CHECK_EQ(wh_sys_select(-1, in, NULL, NULL, NULL), -WH_EINVAL);
	wh_sys_close(fds[0]);
	wh_sys_close(fds[1]);
}

static void epoll_levels_edges_and_shots(void)
{
	int ep = (int)wh_sys_epoll_create1(0);
	CHECK_EQ(wh_sys_pipe(fds), 0);
	CHECK_EQ(watch(ep, fds[0], ADD, IN), 0);
	CHECK_EQ(watch(ep, fds[0], ADD, IN), -WH_EEXIST);
	CHECK_EQ(watch(ep, fds[1], DEL, 0), -WH_ENOENT);
	CHECK_EQ(watch(ep, ep, ADD, IN), -WH_EINVAL);
	CHECK_EQ(watch(ep, 999, ADD, IN), -WH_EBADF);
	CHECK_EQ(ready(ep), 0);
	write_pipe();
	CHECK_EQ(ready(ep), IN);
	CHECK_EQ(ready(ep), IN); /* level: as long as it is there */
	CHECK_EQ(watch(ep, fds[0], MOD, IN | ET), 0);
	CHECK_EQ(ready(ep), IN);
	CHECK_EQ(ready(ep), 0); /* edge: once */
	write_pipe();
	CHECK_EQ(ready(ep), IN);
	CHECK_EQ(watch(ep, fds[0], MOD, IN | ONESHOT), 0);
	CHECK_EQ(ready(ep), IN);
	write_pipe();
	CHECK_EQ(ready(ep), 0);
	CHECK_EQ(watch(ep, fds[0], MOD, IN | ONESHOT), 0);
	CHECK_EQ(ready(ep), IN);
	CHECK_EQ(watch(ep, fds[0], MOD, IN), 0);
	drain_pipe();
	CHECK_EQ(ready(ep), 0);
	close_writer();
	CHECK_EQ(ready(ep), LX_POLLHUP);
	wh_sys_close(fds[0]); /* the registration goes with the file */
	CHECK_EQ(ready(ep), 0);
	CHECK_EQ(wh_sys_pipe(fds), 0);
	CHECK_EQ(watch(ep, fds[0], ADD, IN), 0);
	wh_sys_close(ep);
	write_pipe();
	wh_sys_close(fds[0]);
	wh_sys_close(fds[1]);
}

static void epoll_waits_and_is_fair(void)
{
	struct lx_epoll_event e[2];
	int ep = (int)wh_sys_epoll_create1(LX_O_CLOEXEC), many[3];
	CHECK_EQ(wh_sys_epoll_wait(ep, e, 0, 0), -WH_EINVAL);
	CHECK_EQ(wh_sys_epoll_wait(1, e, 1, 0), -WH_EINVAL);
	CHECK_EQ(wh_sys_epoll_wait(ep, e, 1, -1), -WH_EINTR);
	uint64_t before = fake_now;
	CHECK_EQ(wh_sys_epoll_wait(ep, e, 1, 3), 0);
	CHECK_EQ(fake_now - before, 3000000);
	fds[0] = (int)wh_sys_eventfd(0);
	CHECK_EQ(watch(ep, fds[0], ADD, IN), 0);
	fake_on_wait = add_one;
	CHECK_EQ(wh_sys_epoll_wait(ep, e, 1, -1), 1);
	CHECK_EQ(e[0].data, fds[0]);
	for (int i = 0; i < 3; i++) {
		many[i] = (int)wh_sys_eventfd(1);
		CHECK_EQ(watch(ep, many[i], ADD, IN), 0);
	}
	unsigned seen = 0; /* four ready, two shown at a time */
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(wh_sys_epoll_wait(ep, e, 2, 0), 2);
		seen |= 1u << e[0].data | 1u << e[1].data;
	}
	CHECK_EQ(__builtin_popcount(seen), 4);
	/* A duplicate keeps the file, and with it the registration. */
	int copy = (int)wh_sys_dup(fds[0]);
	wh_sys_close(fds[0]);
	CHECK_EQ(wh_sys_epoll_wait(ep, e, 2, 0), 2);
	wh_sys_close(copy);
	CHECK_EQ(wh_sys_close_range(3, 100, 0), 0);
}

static void epoll_nests_without_loops(void)
{
	int ep[7];
	fds[0] = (int)wh_sys_eventfd(0);
	for (int i = 0; i < 7; i++)
		ep[i] = (int)wh_sys_epoll_create1(0);
	CHECK_EQ(watch(ep[0], fds[0], ADD, IN), 0);
	for (int i = 1; i < 5; i++)
		CHECK_EQ(watch(ep[i], ep[i - 1], ADD, IN), 0);
	CHECK_EQ(watch(ep[0], ep[4], ADD, IN), -WH_ELOOP);
	CHECK_EQ(ready(ep[4]), 0);
	add_one();
	CHECK_EQ(ready(ep[4]), IN);
	uint64_t v;
	CHECK_EQ(wh_sys_read(fds[0], &v, 8), 8);
	CHECK_EQ(ready(ep[4]), 0);
	CHECK_EQ(watch(ep[5], ep[4], ADD, IN), 0);
	CHECK_EQ(watch(ep[6], ep[5], ADD, IN), -WH_ELOOP);
	CHECK_EQ(wh_sys_close_range(3, 100, 0), 0);
}

int main(void)
{
	if (fs_init() < 0)
		return 1;
	RUN(pipes_carry_bytes);
	RUN(pipes_fill_up_and_wrap);
	RUN(a_blocking_writer_waits_for_room);
	RUN(sendfile_borrows_from_memory);
	RUN(eventfd_counts);
	RUN(timerfd_expires);
	RUN(poll_waits);
	RUN(select_waits);
	RUN(epoll_levels_edges_and_shots);
	RUN(epoll_waits_and_is_fair);
	RUN(epoll_nests_without_loops);
	return test_end();
}
