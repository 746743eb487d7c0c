/* SPDX-License-Identifier: ISC */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int counter, turn;

static void *count(void *arg)
{
	for (int i = 0; i < 1000; i++) {
		pthread_mutex_lock(&mutex);
		counter++;
		if (i % 100 == 0)
			sched_yield(); /* with the lock held: others must block */
		pthread_mutex_unlock(&mutex);
	}
	return arg;
}

static void mutex_protects(void)
{
	pthread_t t[8];
	void *result;
	for (intptr_t i = 0; i < 8; i++)
		CHECK_EQ(pthread_create(&t[i], 0, count, (void *)i), 0);
	for (intptr_t i = 0; i < 8; i++) {
		CHECK_EQ(pthread_join(t[i], &result), 0);
		CHECK_EQ((intptr_t)result, i);
	}
	CHECK_EQ(counter, 8000);
}

static void *take_turns(void *arg)
{
	int me = (int)(intptr_t)arg;
	for (int i = 0; i < 50; i++) {
		pthread_mutex_lock(&mutex);
		while (turn % 3 != me)
			pthread_cond_wait(&cond, &mutex);
		turn++;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&mutex);
	}
	return 0;
}

static void condition_orders(void)
{
	pthread_t t[3];
	for (intptr_t i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&t[i], 0, take_turns, (void *)i), 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_join(t[i], 0), 0);
	CHECK_EQ(turn, 150);
}

static void condition_times_out(void)
{
	struct timespec t, now;
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += 20000000;
	if (t.tv_nsec >= 1000000000)
		t.tv_nsec -= 1000000000, t.tv_sec++;
	pthread_mutex_lock(&mutex);
	CHECK_EQ(pthread_cond_timedwait(&cond, &mutex, &t), ETIMEDOUT);
	pthread_mutex_unlock(&mutex);
	clock_gettime(CLOCK_REALTIME, &now);
	CHECK(now.tv_sec > t.tv_sec || (now.tv_sec == t.tv_sec && now.tv_nsec >= t.tv_nsec));
}

static __thread int local = 5;
static __thread char filler[3000];
static pthread_key_t key;
static int destroyed;

static void destroy(void *value)
{
	destroyed += (int)(intptr_t)value;
}

static void *use_locals(void *arg)
{
	CHECK_EQ(local, 5);
	CHECK_EQ(filler[2999], 0);
	local = (int)(intptr_t)arg;
	filler[2999] = 1;
	pthread_setspecific(key, arg);
	sched_yield();
	CHECK_EQ(local, (intptr_t)arg);
	return 0;
}

static void locals_and_destructors(void)
{
	pthread_t t[4];
	CHECK_EQ(pthread_key_create(&key, destroy), 0);
	for (intptr_t i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&t[i], 0, use_locals, (void *)(i + 1)), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], 0);
	CHECK_EQ(destroyed, 1 + 2 + 3 + 4);
	CHECK_EQ(local, 5);
}

static sem_t semaphore;

static void *post(void *arg)
{
	sem_post(&semaphore);
	return 0;
}

static void many_threads(void)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	CHECK_EQ(pthread_attr_setstacksize(&attr, 16384), 0);
	CHECK_EQ(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED), 0);
	sem_init(&semaphore, 0, 0);
	for (int round = 0; round < 10; round++) {
		pthread_t t;
		for (int i = 0; i < 100; i++)
			CHECK_EQ(pthread_create(&t, &attr, post, 0), 0);
		for (int i = 0; i < 100; i++)
			CHECK_EQ(sem_wait(&semaphore), 0);
	}
	pthread_attr_destroy(&attr);
}

static void *sleep_for_ever(void *arg)
{
	for (;;)
		pause();
	return 0;
}

static int cleaned;
static void clean(void *by)
{
	cleaned += (int)(intptr_t)by;
}

static void *read_until_cancelled(void *pipe_end)
{
	char c;
	pthread_cleanup_push(clean, (void *)7);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, 0);
	usleep(3000); /* cancelled meanwhile, and goes on */
	cleaned = 1;
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, 0);
	for (;;)
		(void)!read(*(int *)pipe_end, &c, 1);
	pthread_cleanup_pop(0);
	return 0;
}

static void *wait_until_cancelled(void *unused)
{
	pthread_mutex_lock(&mutex);
	pthread_cleanup_push((void (*)(void *))pthread_mutex_unlock, &mutex);
	for (;;)
		pthread_cond_wait(&cond, &mutex);
	pthread_cleanup_pop(0);
	return 0;
}

static void cancels_waits_and_cleans_up(void)
{
	pthread_t t, u;
	void *result;
	int ends[2];
	CHECK_EQ(pipe(ends), 0);
	CHECK_EQ(pthread_create(&t, 0, read_until_cancelled, &ends[0]), 0);
	CHECK_EQ(pthread_create(&u, 0, wait_until_cancelled, 0), 0);
	usleep(1000);
	CHECK_EQ(pthread_cancel(t), 0);
	CHECK_EQ(pthread_cancel(u), 0);
	CHECK_EQ(pthread_join(t, &result), 0);
	CHECK(result == PTHREAD_CANCELED);
	CHECK_EQ(cleaned, 8);
	CHECK_EQ(pthread_join(u, &result), 0);
	CHECK(result == PTHREAD_CANCELED);
	CHECK_EQ(pthread_mutex_trylock(&mutex), 0);
	CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
}

static void cancels(void)
{
	pthread_t t;
	void *result;
	CHECK_EQ(pthread_create(&t, 0, sleep_for_ever, 0), 0);
	sched_yield();
	CHECK_EQ(pthread_cancel(t), 0);
	CHECK_EQ(pthread_join(t, &result), 0);
	CHECK(result == PTHREAD_CANCELED);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int once_count;
static void do_once(void)
{
	once_count++;
}

static void once_and_barrier_and_rwlock(void)
{
	pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
	pthread_barrier_t barrier;
	pthread_once(&once, do_once);
	pthread_once(&once, do_once);
	CHECK_EQ(once_count, 1);
	CHECK_EQ(pthread_rwlock_rdlock(&lock), 0);
	CHECK_EQ(pthread_rwlock_trywrlock(&lock), EBUSY);
	CHECK_EQ(pthread_rwlock_unlock(&lock), 0);
	CHECK_EQ(pthread_barrier_init(&barrier, 0, 1), 0);
	CHECK_EQ(pthread_barrier_wait(&barrier), PTHREAD_BARRIER_SERIAL_THREAD);
}

static pthread_spinlock_t spin;
static void *spin_once(void *arg)
{
	CHECK_EQ(pthread_spin_lock(&spin), 0);
	CHECK_EQ(pthread_spin_unlock(&spin), 0);
	return 0;
}

static void spin_locks_let_the_holder_run(void)
{
	pthread_t t;
	CHECK_EQ(pthread_spin_init(&spin, 0), 0);
	CHECK_EQ(pthread_spin_lock(&spin), 0);
	CHECK_EQ(pthread_create(&t, 0, spin_once, 0), 0);
	usleep(1000);
	CHECK_EQ(pthread_spin_unlock(&spin), 0);
	CHECK_EQ(pthread_join(t, 0), 0);
}

static void *last_one(void *main_thread)
{
	CHECK_EQ(pthread_join(*(pthread_t *)main_thread, 0), 0);
	printf("ok\n");
	exit(0);
}

int main(void)
{
	static pthread_t self;
	pthread_t t;
	RUN(mutex_protects);
	RUN(condition_orders);
	RUN(condition_times_out);
	RUN(locals_and_destructors);
	RUN(many_threads);
	RUN(cancels);
	RUN(cancels_waits_and_cleans_up);
	RUN(once_and_barrier_and_rwlock);
	RUN(spin_locks_let_the_holder_run);
	self = pthread_self();
	CHECK_EQ(pthread_create(&t, 0, last_one, &self), 0);
	pthread_exit(0); /* the process goes on without its first thread */
}
