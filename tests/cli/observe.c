/* SPDX-License-Identifier: ISC */
/* What observe.py looks at. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int calls(void)
{
	char text[80];
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
	struct timespec moment = { 0, 3000000 };
	int fd = open("/tmp/x\"y", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (write(fd, "hello\nworld\a", 12) != 12 || lseek(fd, 0, SEEK_SET) ||
	    read(fd, text, sizeof text) != 12)
		return 1;
	(void)!open("/no/such", O_RDONLY);
	mkdir("/tmp/d", 0755);
	(void)!openat(AT_FDCWD, "/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	(void)!connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to);
	nanosleep(&moment, 0);
	puts("done");
	return 3;
}

static void *seek_much(void *arg)
{
	for (int i = 0; i < 5000; i++)
		lseek(0, i, SEEK_SET);
	return arg;
}

static int many(void)
{
	pthread_t t[4];
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], 0, seek_much, 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], 0);
	return 0;
}

__attribute__((noinline)) static double hot_function(unsigned rounds)
{
	volatile double sum = 0;
	for (unsigned i = 0; i < rounds; i++)
		sum = sum + i * 0.5;
	return sum;
}

static uint64_t used_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int compute(void)
{
	volatile double sum = 0;
	for (uint64_t end = used_ns() + 400000000; used_ns() < end;)
		sum = sum + hot_function(3000000);
	return sum < 0;
}

__attribute__((noinline)) static void *wait_for_ever(void *arg)
{
	pthread_setname_np(pthread_self(), "sleeper");
	for (;;)
		pause();
	return arg;
}

static void *spin(void *arg)
{
	pthread_setname_np(pthread_self(), "spinner");
	puts("ready");
	fflush(stdout);
	for (;;)
		__asm__ volatile("");
	return arg;
}

static int wait_there(void)
{
	pthread_t t;
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(4711) };
	int fd = open("/tmp/looked", O_RDWR | O_CREAT, 0600), s = socket(AF_INET, SOCK_STREAM, 0);
	if (write(fd, "12345", 5) != 5 || bind(s, (struct sockaddr *)&any, sizeof any) ||
	    listen(s, 1))
		return 1;
	pthread_create(&t, 0, wait_for_ever, 0);
	usleep(1000);
	pthread_create(&t, 0, spin, 0);
	return accept(s, 0, 0);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	return !strcmp(what, "calls")     ? calls()
	       : !strcmp(what, "many")    ? many()
	       : !strcmp(what, "compute") ? compute()
					  : wait_there();
}
