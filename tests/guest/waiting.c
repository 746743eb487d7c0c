/* SPDX-License-Identifier: ISC */

/* Pipes, eventfd, timerfd; poll, select and epoll, with threads on the other end. */

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static int ends[2], event_fd;

static void sleep_ms(int ms)
{
	struct timespec t = { 0, ms * 1000000 };
	nanosleep(&t, NULL);
}

static void *writer(void *arg)
{
	static char block[300000];
	sleep_ms(5);
	CHECK_EQ(write(ends[1], block, sizeof block), sizeof block);
	close(ends[1]);
	return NULL;
}

static void pipe_between_threads(void)
{
	static char back[70000];
	pthread_t t;
	long total = 0, n;
	CHECK_EQ(pipe(ends), 0);
	CHECK_EQ(pthread_create(&t, NULL, writer, NULL), 0);
	while ((n = read(ends[0], back, sizeof back)) > 0)
		total += n;
	CHECK_EQ(n, 0);
	CHECK_EQ(total, 300000);
	pthread_join(t, NULL);
	close(ends[0]);
}

static void broken_pipe(void)
{
	signal(SIGPIPE, SIG_IGN);
	CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
	CHECK(read(ends[0], (char[1]){ 0 }, 1) < 0 && errno == EAGAIN);
	close(ends[0]);
	CHECK(write(ends[1], "x", 1) < 0 && errno == EPIPE);
	close(ends[1]);
	signal(SIGPIPE, SIG_DFL);
}

static void *kicker(void *arg)
{
	sleep_ms(5);
	CHECK_EQ(eventfd_write(event_fd, 7), 0);
	return NULL;
}

static void wake_by(bool (*wait)(void))
{
	pthread_t t;
	eventfd_t value;
	event_fd = eventfd(0, EFD_NONBLOCK);
	CHECK(event_fd >= 0);
	CHECK_EQ(pthread_create(&t, NULL, kicker, NULL), 0);
	CHECK(wait());
	CHECK_EQ(eventfd_read(event_fd, &value), 0);
	CHECK_EQ(value, 7);
	pthread_join(t, NULL);
	close(event_fd);
}

static bool by_poll(void)
{
	struct pollfd p[2] = { { event_fd, POLLIN, 0 }, { -1, POLLIN, 0 } };
	CHECK_EQ(poll(p, 2, 1), 0);
	return poll(p, 2, -1) == 1 && p[0].revents == POLLIN;
}

static bool by_select(void)
{
	fd_set set;
	struct timeval t = { 5, 0 };
	FD_ZERO(&set);
	FD_SET(event_fd, &set);
	return select(event_fd + 1, &set, NULL, NULL, &t) == 1 && FD_ISSET(event_fd, &set);
}

static bool by_epoll(void)
{
	int ep = epoll_create1(0);
	struct epoll_event e = { EPOLLIN | EPOLLET, { .u64 = 0x123456789abcdef } };
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, event_fd, &e), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 1), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 5000), 1);
	CHECK(e.events == EPOLLIN && e.data.u64 == 0x123456789abcdef);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
	close(ep);
	return true;
}

static bool by_nested_epoll(void)
{
	int inner = epoll_create1(0), outer = epoll_create1(0);
	struct epoll_event e = { EPOLLIN, { .fd = event_fd } };
	CHECK_EQ(epoll_ctl(inner, EPOLL_CTL_ADD, event_fd, &e), 0);
	CHECK_EQ(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &e), 0);
	CHECK(epoll_ctl(inner, EPOLL_CTL_ADD, outer, &e) < 0 && errno == ELOOP);
	CHECK_EQ(epoll_wait(outer, &e, 1, 5000), 1);
	CHECK_EQ(epoll_wait(inner, &e, 1, 0), 1);
	close(inner);
	close(outer);
	return true;
}

static void wakes(void)
{
	wake_by(by_poll);
	wake_by(by_select);
	wake_by(by_epoll);
	wake_by(by_nested_epoll);
}

static void timers(void)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	struct itimerspec t = { { 0, 2000000 }, { 0, 5000000 } };
	uint64_t n;
	CHECK_EQ(timerfd_settime(fd, 0, &t, NULL), 0);
	CHECK_EQ(read(fd, &n, 8), 8);
	CHECK(n >= 1);
	struct pollfd p = { fd, POLLIN, 0 };
	CHECK_EQ(poll(&p, 1, 1000), 1);
	CHECK_EQ(read(fd, &n, 8), 8);
	CHECK(n >= 1);
	close(fd);
}

static volatile int alarms;

static void on_alarm(int signo)
{
	alarms++;
}

static void interrupted(void)
{
	struct sigaction a = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	sigset_t blocked, before;
	struct timespec t = { 5, 0 };
	sigaction(SIGALRM, &a, NULL);
	ualarm(3000, 0);
	CHECK(poll(NULL, 0, 5000) < 0 && errno == EINTR); /* never restarted */
	CHECK_EQ(alarms, 1);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGALRM);
	sigprocmask(SIG_BLOCK, &blocked, &before);
	ualarm(3000, 0);
	sleep_ms(6);
	CHECK_EQ(alarms, 1);
	CHECK(ppoll(NULL, 0, &t, &before) < 0 && errno == EINTR);
	CHECK_EQ(alarms, 2);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

static void many_descriptors(void)
{
	enum { COUNT = 400 };
	int ep = epoll_create1(0), fds[COUNT];
	struct epoll_event e[COUNT];
	for (int i = 0; i < COUNT; i++) {
		fds[i] = eventfd(i % 2, 0);
		CHECK(fds[i] >= 0);
		e[0] = (struct epoll_event){ EPOLLIN, { .fd = fds[i] } };
		CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &e[0]), 0);
	}
	CHECK_EQ(epoll_wait(ep, e, COUNT, 0), COUNT / 2);
	for (int i = 0; i < COUNT; i++)
		close(fds[i]);
	CHECK_EQ(epoll_wait(ep, e, COUNT, 0), 0);
	close(ep);
}

int main(void)
{
	RUN(pipe_between_threads);
	RUN(broken_pipe);
	RUN(wakes);
	RUN(timers);
	RUN(interrupted);
	RUN(many_descriptors);
	printf("ok\n");
	return 0;
}
