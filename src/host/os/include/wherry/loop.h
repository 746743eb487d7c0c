/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_LOOP_H
#define WHERRY_LOOP_H

/*
 * Event loop on epoll: descriptors, one-shot timers, and hooks around the sleep.
 *
 * One loop belongs to one thread; only wh_loop_wake may be called from others and
 * from signal handlers. Callbacks may add and remove anything, themselves
 * included. Nothing allocates after _new: callers embed the nodes.
 * A program with a loop of its own watches wh_loop_fd() and calls wh_loop_step(loop, 0).
 */

#include <stdbool.h>
#include <stdint.h>
#include <wherry/base/list.h>

#ifdef __cplusplus
extern "C" {
#endif

struct wh_loop;

#define WH_LOOP_READ 1u
#define WH_LOOP_WRITE 2u
#define WH_LOOP_HANGUP 4u /* also given when not asked for */
#define WH_LOOP_EDGE 8u   /* edge-triggered registration */

struct wh_loop_fd {
	int fd;
	uint32_t events; /* WH_LOOP_* asked for */
	void (*fn)(struct wh_loop_fd *watch, uint32_t events);
	void *ctx;
};

struct wh_loop_timer {
	uint64_t deadline_ns; /* CLOCK_MONOTONIC */
	void (*fn)(struct wh_loop_timer *timer);
	void *ctx;
	uint32_t slot; /* private; 0 = not running */
};

struct wh_loop_hook {
	struct wh_list node;
	/* Called before each sleep. true = there was work: do not sleep, go round again. */
	bool (*before_sleep)(struct wh_loop_hook *hook);
	/* Called after each sleep, before callbacks. May be NULL. */
	void (*after_sleep)(struct wh_loop_hook *hook);
	void *ctx;
};

int wh_loop_new(struct wh_loop **ret_loop); /* -errno of epoll_create1, -WH_ENOMEM */
void wh_loop_free(struct wh_loop *loop);

int wh_loop_add(struct wh_loop *loop,
		struct wh_loop_fd *watch); /* watch stays valid until removed */
int wh_loop_modify(struct wh_loop *loop, struct wh_loop_fd *watch, uint32_t events);
void wh_loop_remove(struct wh_loop *loop, struct wh_loop_fd *watch); /* before close(fd) */

void wh_loop_timer_init(struct wh_loop_timer *timer, void (*fn)(struct wh_loop_timer *), void *ctx);
void wh_loop_timer_start(struct wh_loop *loop, struct wh_loop_timer *timer, uint64_t deadline_ns);
void wh_loop_timer_stop(struct wh_loop *loop, struct wh_loop_timer *timer);

void wh_loop_hook_add(struct wh_loop *loop, struct wh_loop_hook *hook);
void wh_loop_hook_remove(struct wh_loop *loop, struct wh_loop_hook *hook);

/* Time when this round began (CLOCK_MONOTONIC, ns): no system call. */
uint64_t wh_loop_now(const struct wh_loop *loop);

/* One round; sleeps at most timeout_ms (-1 = no limit). Returns callbacks run or -errno. */
int wh_loop_step(struct wh_loop *loop, int timeout_ms);
/* Rounds until wh_loop_stop(status); returns status. */
int wh_loop_run(struct wh_loop *loop);
void wh_loop_stop(struct wh_loop *loop, int status);
void wh_loop_wake(struct wh_loop *loop); /* any thread, signal-safe */
int wh_loop_fd(const struct wh_loop *loop);

#ifdef __cplusplus
}
#endif
#endif
