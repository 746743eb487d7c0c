/* SPDX-License-Identifier: ISC */
#include <wherry/pool.h>

#include <pthread.h>
#include <wherry/base/errors.h>
#include <wherry/test.h>

#define JOBS 500

struct job {
	struct wh_pool_job job;
	pthread_t by;
	unsigned worked, done;
	bool again;
};

static struct wh_loop *loop;
static struct wh_pool *pool;
static struct job jobs[JOBS];
static unsigned done_count;

static void work(struct wh_pool_job *j)
{
	struct job *job = WH_CONTAINER_OF(j, struct job, job);
	job->by = pthread_self();
	job->worked++;
}

static void done(struct wh_pool_job *j)
{
	struct job *job = WH_CONTAINER_OF(j, struct job, job);
	job->done++;
	done_count++;
	if (job->again) {
		job->again = false;
		wh_pool_submit(pool, j);
	}
}

static void run(uint32_t threads)
{
	CHECK_EQ(wh_loop_new(&loop), 0);
	CHECK_EQ(wh_pool_new(loop, threads, &pool), 0);
	memset(jobs, 0, sizeof jobs);
	done_count = 0;
	for (unsigned i = 0; i < JOBS; i++) {
		jobs[i].job = (struct wh_pool_job){ .work = work, .done = done };
		jobs[i].again = i % 3 == 0;
		wh_pool_submit(pool, &jobs[i].job);
	}
	CHECK_EQ(wh_pool_busy(pool), JOBS);
	while (wh_pool_busy(pool))
		CHECK(wh_loop_step(loop, 10000) >= 0);
	CHECK_EQ(done_count, JOBS + (JOBS + 2) / 3);
	for (unsigned i = 0; i < JOBS; i++) {
		CHECK_EQ(jobs[i].worked, i % 3 ? 1 : 2);
		CHECK_EQ(jobs[i].done, jobs[i].worked);
		CHECK(!pthread_equal(jobs[i].by, pthread_self()));
	}
	wh_pool_free(pool);
	wh_loop_free(loop);
}

static void one_thread(void)
{
	run(1);
}

static void many_threads(void)
{
	run(8);
}

static void limits(void)
{
	CHECK_EQ(wh_loop_new(&loop), 0);
	CHECK_EQ(wh_pool_new(loop, 0, &pool), -WH_EINVAL);
	CHECK_EQ(wh_pool_new(loop, WH_POOL_THREADS_MAX + 1, &pool), -WH_EINVAL);
	CHECK_EQ(wh_pool_new(loop, WH_POOL_THREADS_MAX, &pool), 0);
	wh_pool_free(pool); /* without a job: without a thread */
	wh_pool_free(NULL);
	wh_loop_free(loop);
}

int main(void)
{
	RUN(one_thread);
	RUN(many_threads);
	RUN(limits);
	return test_end();
}
