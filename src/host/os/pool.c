/* SPDX-License-Identifier: ISC */
/*
 * One queue, one lock, two conditions of waking: a worker is woken when there is a job and somebody
 * sleeps (and wakes the next one when it takes a job and leaves others); the loop is woken by the
 * eventfd when the first finished job appears.
 */
#include <wherry/pool.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#define STACK_SIZE (128u << 10) /* a system call's worth, and some */

struct wh_pool {
	struct wh_loop *loop;
	struct wh_loop_fd watch;
	struct wh_loop_hook hook;
	struct wh_list pending; /* of this round, the loop's own */
	uint32_t pending_count, busy;

	pthread_mutex_t lock; /* all below */
	pthread_cond_t wake;
	struct wh_list queue, done;
	uint32_t queue_count, idle;
	bool ending;

	void (*begins)(void *ctx); /* in each thread */
	void *begins_ctx;
	uint32_t threads, threads_max;
	pthread_t thread[WH_POOL_THREADS_MAX];
};

static struct wh_pool_job *job_of(struct wh_list *node)
{
	return WH_LIST_ENTRY(node, struct wh_pool_job, node);
}

static void append(struct wh_list *to, struct wh_list *from)
{
	while (!wh_list_empty(from)) {
		struct wh_list *n = from->next;
		wh_list_remove(n);
		wh_list_push_back(to, n);
	}
}

static void *worker(void *arg)
{
	struct wh_pool *p = arg;
	if (p->begins)
		p->begins(p->begins_ctx);
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->queue_count && !p->ending) {
			p->idle++;
			pthread_cond_wait(&p->wake, &p->lock);
			p->idle--;
		}
		if (!p->queue_count)
			break;
		struct wh_pool_job *j = job_of(p->queue.next);
		wh_list_remove(&j->node);
		if (--p->queue_count && p->idle)
			pthread_cond_signal(&p->wake);
		pthread_mutex_unlock(&p->lock);
		j->work(j);
		pthread_mutex_lock(&p->lock);
		bool first = wh_list_empty(&p->done);
		wh_list_push_back(&p->done, &j->node);
		if (first) {
			uint64_t one = 1;
			/* Cannot fail: the counter is read back to zero long before it is full. */
			(void)!write(p->watch.fd, &one, sizeof one);
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void add_thread(struct wh_pool *p)
{
	pthread_attr_t attr;
	sigset_t all, old;
	if (pthread_attr_init(&attr))
		return;
	(void)pthread_attr_setstacksize(&attr, STACK_SIZE); /* else the default: larger */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!pthread_create(&p->thread[p->threads], &attr, worker, p))
		p->threads++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
}

static bool before_sleep(struct wh_loop_hook *hook)
{
	struct wh_pool *p = hook->ctx;
	if (wh_list_empty(&p->pending))
		return false;
	pthread_mutex_lock(&p->lock);
	append(&p->queue, &p->pending);
	p->queue_count += p->pending_count;
	p->pending_count = 0;
	uint32_t queued = p->queue_count, idle = p->idle;
	if (idle)
		pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	if (queued > idle && p->threads < p->threads_max)
		add_thread(p);
	if (p->threads)
		return false;
	struct wh_list list;
	wh_list_init(&list);
	append(&list, &p->queue); /* no thread at all: nobody else is there */
	p->queue_count = 0;
	while (!wh_list_empty(&list)) {
		struct wh_pool_job *j = job_of(list.next);
		wh_list_remove(&j->node);
		j->work(j);
		p->busy--;
		j->done(j);
	}
	return true;
}

static void collect(struct wh_loop_fd *watch, uint32_t events)
{
	struct wh_pool *p = watch->ctx;
	struct wh_list list;
	uint64_t count;
	wh_list_init(&list);
	(void)!read(watch->fd, &count, sizeof count); /* nothing there: nothing to do */
	pthread_mutex_lock(&p->lock);
	append(&list, &p->done);
	pthread_mutex_unlock(&p->lock);
	while (!wh_list_empty(&list)) {
		struct wh_pool_job *j = job_of(list.next);
		wh_list_remove(&j->node);
		p->busy--;
		j->done(j);
	}
}

int wh_pool_new(struct wh_loop *loop, uint32_t threads, struct wh_pool **ret_pool)
{
	if (!threads || threads > WH_POOL_THREADS_MAX)
		return -WH_EINVAL;
	struct wh_pool *p = calloc(1, sizeof *p);
	if (!p)
		return -WH_ENOMEM;
	p->loop = loop;
	p->threads_max = threads;
	p->watch = (struct wh_loop_fd){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
					.events = WH_LOOP_READ,
					.fn = collect,
					.ctx = p };
	int r = p->watch.fd < 0 ? -errno : wh_loop_add(loop, &p->watch);
	if (r < 0) {
		if (p->watch.fd >= 0)
			close(p->watch.fd);
		free(p);
		return r;
	}
	wh_list_init(&p->pending);
	wh_list_init(&p->queue);
	wh_list_init(&p->done);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	p->hook = (struct wh_loop_hook){ .before_sleep = before_sleep, .ctx = p };
	wh_loop_hook_add(loop, &p->hook);
	*ret_pool = p;
	return 0;
}

void wh_pool_thread_begins(struct wh_pool *pool, void (*fn)(void *ctx), void *ctx)
{
	pool->begins = fn;
	pool->begins_ctx = ctx;
}

void wh_pool_free(struct wh_pool *pool)
{
	if (!pool)
		return;
	wh_assert(!pool->busy);
	pthread_mutex_lock(&pool->lock);
	pool->ending = true;
	pthread_cond_broadcast(&pool->wake);
	pthread_mutex_unlock(&pool->lock);
	for (uint32_t i = 0; i < pool->threads; i++)
		pthread_join(pool->thread[i], NULL);
	wh_loop_hook_remove(pool->loop, &pool->hook);
	wh_loop_remove(pool->loop, &pool->watch);
	close(pool->watch.fd);
	pthread_cond_destroy(&pool->wake);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

void wh_pool_submit(struct wh_pool *pool, struct wh_pool_job *job)
{
	wh_list_push_back(&pool->pending, &job->node);
	pool->pending_count++;
	pool->busy++;
}

uint32_t wh_pool_busy(const struct wh_pool *pool)
{
	return pool->busy;
}
