/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_POOL_H
#define WHERRY_POOL_H

/*
 * Threads for what would hold up a loop: `work` runs on one of them, `done` afterwards on the loop's
 * thread. Jobs of one round of the loop are handed over together, right before it sleeps. Threads are
 * made when there is work for them and none is free, and have all signals blocked. Where the system
 * gives no thread, the loop does the work itself.
 *
 * Threads: all functions belong to the loop's thread. A job's memory is the pool's until done.
 */

#include <stdbool.h>
#include <stdint.h>
#include <wherry/loop.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_pool;

#define WH_POOL_THREADS_MAX 64u /* more only wait for the same disk */

struct wh_pool_job {
	struct wh_list node;
	void (*work)(
		struct wh_pool_job *job); /* no function of the loop or the pool may be called */
	void (*done)(struct wh_pool_job *job);
};

/* threads: at most so many, 1 .. WH_POOL_THREADS_MAX. -WH_EINVAL, -WH_ENOMEM or -errno of eventfd. */
int wh_pool_new(struct wh_loop *loop, uint32_t threads, struct wh_pool **ret_pool);
/* Called first in each thread that is made from now on. */
void wh_pool_thread_begins(struct wh_pool *pool, void (*fn)(void *ctx), void *ctx);
/* Ends the threads. No job may be under way. NULL is allowed. */
void wh_pool_free(struct wh_pool *pool);
void wh_pool_submit(struct wh_pool *pool, struct wh_pool_job *job);
/* Jobs submitted and not done. */
uint32_t wh_pool_busy(const struct wh_pool *pool);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
