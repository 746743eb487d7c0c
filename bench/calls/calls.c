/* SPDX-License-Identifier: ISC */
/* What system calls, thread switches and memory cost: the same program as an image
 * and natively. Prints NAME<tab>nanoseconds. */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile int stop;
static int there[2], back[2];
static sem_t ping, pong;

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void measure(const char *name, long count, void (*step)(void))
{
	double best = 1e18;
	for (int round = 0; round < 3; round++) {
		double start = now_ns();
		for (long i = 0; i < count; i++)
			step();
		double each = (now_ns() - start) / (double)count;
		best = each < best ? each : best;
	}
	printf("%s\t%.1f\n", name, best);
}

static void call(void)
{
	getppid();
}

static void read_clock(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
}

static void yield(void)
{
	sched_yield();
}

static void *yield_until_stopped(void *unused)
{
	while (!stop)
		sched_yield();
	return unused;
}

static void semaphores(void)
{
	sem_post(&ping);
	sem_wait(&pong);
}

static void *answer_semaphore(void *unused)
{
	while (!sem_wait(&ping) && !stop)
		sem_post(&pong);
	return unused;
}

static void pipes(void)
{
	char c = 0;
	if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
		exit(1);
}

static void *answer_pipe(void *unused)
{
	char c;
	while (read(there[0], &c, 1) == 1 && write(back[1], &c, 1) == 1)
		;
	return unused;
}

static void *nothing(void *unused)
{
	return unused;
}

static void thread(void)
{
	pthread_t t;
	if (pthread_create(&t, 0, nothing, 0))
		exit(1);
	pthread_join(t, 0);
}

static void small_block(void)
{
	void *volatile p = malloc(100);
	free(p);
}

static void map(void)
{
	char *p = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 65536; i += 4096)
		p[i] = 1;
	munmap(p, 65536);
}

static void sleep_1us(void)
{
	struct timespec t = { 0, 1000 };
	nanosleep(&t, 0);
}

static void sleep_100us(void)
{
	struct timespec t = { 0, 100000 };
	nanosleep(&t, 0);
}

int main(void)
{
	pthread_t t;
	usleep(30000); /* the guest has calibrated its clock */
	measure("getppid", 1000000, call);
	measure("clock_gettime", 1000000, read_clock);
	pthread_create(&t, 0, yield_until_stopped, 0);
	measure("sched_yield, two threads", 50000, yield);
	stop = 1;
	pthread_join(t, 0);
	stop = 0;
	sem_init(&ping, 0, 0);
	sem_init(&pong, 0, 0);
	pthread_create(&t, 0, answer_semaphore, 0);
	measure("semaphore there and back", 20000, semaphores);
	stop = 1;
	sem_post(&ping);
	pthread_join(t, 0);
	if (pipe(there) || pipe(back))
		return 1;
	pthread_create(&t, 0, answer_pipe, 0);
	measure("pipe there and back", 5000, pipes);
	measure("thread create and join", 2000, thread);
	measure("malloc and free 100 B", 1000000, small_block);
	measure("map, touch, unmap 64 KiB", 2000, map);
	measure("nanosleep 1 us", 1000, sleep_1us);
	measure("nanosleep 100 us", 200, sleep_100us);
	return 0;
}
