/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_LOOP_H
#define WHERRY_LOOP_H

/*
 * Event loop on epoll: descriptors, one-shot timers, and hooks around the sleep.
 *
 * One loop belongs to one thread; only wh_loop_wake may be called from others and
 * from signal handlers. Callbacks may add and remove anything, themselves
 * included; they must not call wh_loop_step or wh_loop_free. Nothing allocates after
 * _new: callers embed the nodes, zeroed before first use. _new makes one system call.
 * A program with a loop of its own watches wh_loop_fd(), calls wh_loop_step(loop, 0) when it is
 * readable, and again at wh_loop_deadline().
 *
 * A round: before_sleep hooks, sleep, after_sleep hooks, descriptors, due timers. A
 * wh_loop_step that must not sleep runs the before_sleep hooks once more at its end, since its caller
 * may sleep then.
 */

#include <stdbool.h>
#include <stdint.h>
#include <wherry/base/list.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_loop;

#define WH_LOOP_READ 1u
#define WH_LOOP_WRITE 2u
#define WH_LOOP_HANGUP 4u /* error or hang-up: also given when not asked for */
#define WH_LOOP_EDGE 8u   /* edge-triggered registration */
/* Given together with HANGUP: the peer of a socket has ended its side in order, and all that it sent is here: no error, no urgent
 * byte at which a read would stop. A read of less than was asked for has then come to the end. */
#define WH_LOOP_ENDED 16u

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
	/* Private: place in the loop's pairing heap; prev = NULL = not running. */
	struct wh_loop_timer *child, *next, *prev;
};

struct wh_loop_hook {
	struct wh_list node;
	/* Called before each sleep. true = there was work: do not sleep, go round again. */
	bool (*before_sleep)(struct wh_loop_hook *hook);
	/* Called after each sleep, before callbacks. May be NULL. */
	void (*after_sleep)(struct wh_loop_hook *hook);
	void *ctx;
};

/* -errno of epoll_create1, -WH_ENOMEM. */
int wh_loop_new(struct wh_loop **ret_loop);
/* Everything was removed before; NULL is allowed. */
void wh_loop_free(struct wh_loop *loop);

/* The watch stays valid until removed. -WH_EPERM: the descriptor cannot be waited for
 * (a regular file: it is always ready). */
int wh_loop_add(struct wh_loop *loop, struct wh_loop_fd *watch);
int wh_loop_modify(struct wh_loop *loop, struct wh_loop_fd *watch, uint32_t events);
/* Before close(fd). Events already collected for the watch are dropped. */
void wh_loop_remove(struct wh_loop *loop, struct wh_loop_fd *watch);
/* The same for a descriptor that the caller closes right after and of which no
 * duplicate exists: saves the system call. */
void wh_loop_forget(struct wh_loop *loop, struct wh_loop_fd *watch);

void wh_loop_timer_init(struct wh_loop_timer *timer, void (*fn)(struct wh_loop_timer *), void *ctx);
/* Starts or moves. A deadline that has passed fires in the next round. */
void wh_loop_timer_start(struct wh_loop *loop, struct wh_loop_timer *timer, uint64_t deadline_ns);
/* Harmless when it is not running. */
void wh_loop_timer_stop(struct wh_loop *loop, struct wh_loop_timer *timer);
bool wh_loop_timer_running(const struct wh_loop_timer *timer);

/* Hooks run in the order of their addition. */
void wh_loop_hook_add(struct wh_loop *loop, struct wh_loop_hook *hook);
void wh_loop_hook_remove(struct wh_loop *loop, struct wh_loop_hook *hook);

/* Time when this round's callbacks began, or first asked (CLOCK_MONOTONIC, ns): no system call. */
uint64_t wh_loop_now(struct wh_loop *loop);
/* Deadline of the first timer; UINT64_MAX = none. */
uint64_t wh_loop_deadline(const struct wh_loop *loop);

/* One round; sleeps at most timeout_ms (-1 = no limit). Returns callbacks run or -errno;
 * a signal or wh_loop_wake ends the sleep early with 0. */
int wh_loop_step(struct wh_loop *loop, int timeout_ms);
/* Rounds until wh_loop_stop(status); returns status, or -errno of a failed sleep. */
int wh_loop_run(struct wh_loop *loop);
/* Ends the running wh_loop_run after this round, or the next one at once. */
void wh_loop_stop(struct wh_loop *loop, int status);
/* The sleep under way or the next one ends at once. Any thread, signal-safe. */
void wh_loop_wake(struct wh_loop *loop);
/* Makes wh_loop_wake's eventfd now instead of at the first wake, for programs that may
 * be out of descriptors by then. 0 or -errno. */
int wh_loop_wake_prepare(struct wh_loop *loop);
int wh_loop_fd(const struct wh_loop *loop);
/* Looks for events for so long before each sleep, as long as that finds some; 0 = never, as at first. For loops whose
 * answers come within some ten microseconds: a processor that sleeps wakes up late. */
void wh_loop_spin(struct wh_loop *loop, uint32_t ns);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
