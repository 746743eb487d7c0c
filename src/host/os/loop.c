/* SPDX-License-Identifier: ISC */
/*
 * Timers are a pairing heap whose nodes the callers own: start is O(1), stop and expiry
 * O(log n) amortised, and nothing can fail. A node's prev is its left sibling, or its parent when
 * it is the first child, or itself when it is the root; NULL when it is not running.
 *
 * wh_loop_wake: an eventfd registered edge-triggered, so that waking is one write
 * and no read ever; the flag saves the write when a wake is already on its way.
 */
#include <wherry/loop.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

/* Events taken per sleep: more than a busy gateway has ready at once, 768 bytes. */
#define SETTLE_ROUNDS_MAX 16 /* then the caller is called back instead */
#define LOOP_EVENTS_MAX 64
/* Looks before sleeps that found nothing in a row: from then on only each so-many-th sleep is preceded by one. */
#define SPIN_MISSES_MAX 6u
/* Longer work than this, or events of others than the last few, are no ping-pong: whoever is fed needs the processor,
 * and a loop that looks around has used up its turn when work comes. So many sleeps are then without a look. */
#define SPIN_WORK_NS 60000u
#define SPIN_WATCHES 4u
#define SPIN_STRANGER_SKIP 32u

struct wh_loop {
	int epoll_fd;
	int wake_fd; /* -1 until the first wake */
	int wake_pending;
	bool stepping, expiring, stopped;
	int status;
	bool no_pwait2; /* kernel before 5.11: milliseconds only */
	uint32_t spin_ns, spin_misses, spin_skip;
	struct wh_loop_fd *spin_recent[SPIN_WATCHES];
	uint32_t spin_place;
	uint64_t now_ns;
	struct wh_loop_timer *timers; /* root: the earliest */
	struct wh_list hooks;
	struct wh_list *hook_next; /* cursor of the walk under way */
	int event_count, event_next;
	struct epoll_event events[LOOP_EVENTS_MAX];
};

static uint64_t clock_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int wh_loop_new(struct wh_loop **ret_loop)
{
	struct wh_loop *loop = malloc(sizeof *loop);
	if (!loop)
		return -WH_ENOMEM;
	memset(loop, 0, offsetof(struct wh_loop, events));
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		int error = errno;
		free(loop);
		return -error;
	}
	loop->wake_fd = -1;
	wh_list_init(&loop->hooks);
	*ret_loop = loop;
	return 0;
}

void wh_loop_free(struct wh_loop *loop)
{
	if (!loop)
		return;
	wh_assert(!loop->stepping);
	close(loop->epoll_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	free(loop);
}

static int control(struct wh_loop *loop, int operation, struct wh_loop_fd *watch)
{
	struct epoll_event event = { .data.ptr = watch };
	if (watch->events & WH_LOOP_READ)
		event.events |= EPOLLIN;
	if (watch->events & WH_LOOP_WRITE)
		event.events |= EPOLLOUT;
	if (watch->events & WH_LOOP_HANGUP)
		event.events |= EPOLLRDHUP | EPOLLPRI;
	if (watch->events & WH_LOOP_EDGE)
		event.events |= EPOLLET;
	return epoll_ctl(loop->epoll_fd, operation, watch->fd, &event) ? -errno : 0;
}

int wh_loop_add(struct wh_loop *loop, struct wh_loop_fd *watch)
{
	return control(loop, EPOLL_CTL_ADD, watch);
}

int wh_loop_modify(struct wh_loop *loop, struct wh_loop_fd *watch, uint32_t events)
{
	if (watch->events == events && !(events & WH_LOOP_EDGE))
		return 0;
	watch->events = events;
	return control(loop, EPOLL_CTL_MOD, watch);
}

void wh_loop_forget(struct wh_loop *loop, struct wh_loop_fd *watch)
{
	for (int i = loop->event_next; i < loop->event_count; i++)
		if (loop->events[i].data.ptr == watch)
			loop->events[i].data.ptr = NULL;
}

void wh_loop_remove(struct wh_loop *loop, struct wh_loop_fd *watch)
{
	/* Fails only for what was never added: nothing to undo then. */
	(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	wh_loop_forget(loop, watch);
}

/* Both are roots; the earlier becomes the parent. */
static struct wh_loop_timer *heap_meld(struct wh_loop_timer *a, struct wh_loop_timer *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (b->deadline_ns < a->deadline_ns) {
		struct wh_loop_timer *swap = a;
		a = b;
		b = swap;
	}
	b->next = a->child;
	if (b->next)
		b->next->prev = b;
	b->prev = a;
	a->child = b;
	a->prev = a;
	a->next = NULL;
	return a;
}

/* Melds a list of siblings into one heap: pairs from the left, then all from the right. */
static struct wh_loop_timer *heap_merge_siblings(struct wh_loop_timer *first)
{
	struct wh_loop_timer *pairs = NULL, *root = NULL;
	while (first) {
		struct wh_loop_timer *a = first, *b = a->next;
		first = b ? b->next : NULL;
		a->next = NULL;
		if (b)
			b->next = NULL;
		a = heap_meld(a, b);
		a->next = pairs;
		pairs = a;
	}
	while (pairs) {
		struct wh_loop_timer *next = pairs->next;
		pairs->next = NULL;
		root = heap_meld(root, pairs);
		pairs = next;
	}
	if (root)
		root->prev = root;
	return root;
}

void wh_loop_timer_init(struct wh_loop_timer *timer, void (*fn)(struct wh_loop_timer *), void *ctx)
{
	*timer = (struct wh_loop_timer){ .fn = fn, .ctx = ctx };
}

bool wh_loop_timer_running(const struct wh_loop_timer *timer)
{
	return timer->prev != NULL;
}

void wh_loop_timer_stop(struct wh_loop *loop, struct wh_loop_timer *timer)
{
	if (!timer->prev)
		return;
	if (timer == loop->timers) {
		wh_assert(timer->prev == timer && !timer->next);
		loop->timers = heap_merge_siblings(timer->child);
	} else {
		wh_assert(timer->prev != timer);
		if (timer->prev->child == timer)
			timer->prev->child = timer->next;
		else
			timer->prev->next = timer->next;
		if (timer->next)
			timer->next->prev = timer->prev;
		loop->timers = heap_meld(loop->timers, heap_merge_siblings(timer->child));
	}
	timer->child = timer->next = timer->prev = NULL;
}

uint64_t wh_loop_now(struct wh_loop *loop)
{
	if (!loop->now_ns)
		loop->now_ns = clock_now();
	return loop->now_ns;
}

void wh_loop_timer_start(struct wh_loop *loop, struct wh_loop_timer *timer, uint64_t deadline_ns)
{
	if (timer->prev && timer->deadline_ns == deadline_ns)
		return;
	wh_loop_timer_stop(loop, timer);
	/* Past deadlines wait for the next round, or a timer that restarts itself would hog this. */
	if (loop->expiring && deadline_ns <= wh_loop_now(loop))
		deadline_ns = wh_loop_now(loop) + 1;
	timer->deadline_ns = deadline_ns;
	timer->prev = timer;
	loop->timers = heap_meld(loop->timers, timer);
}

void wh_loop_hook_add(struct wh_loop *loop, struct wh_loop_hook *hook)
{
	wh_list_push_back(&loop->hooks, &hook->node);
}

void wh_loop_hook_remove(struct wh_loop *loop, struct wh_loop_hook *hook)
{
	if (loop->hook_next == &hook->node)
		loop->hook_next = hook->node.next;
	wh_list_remove(&hook->node);
}

/* Walks the hooks; the cursor survives removal of any of them. */
static bool hooks_run(struct wh_loop *loop, bool before)
{
	bool busy = false;
	for (loop->hook_next = loop->hooks.next; loop->hook_next != &loop->hooks;) {
		struct wh_loop_hook *hook =
			WH_LIST_ENTRY(loop->hook_next, struct wh_loop_hook, node);
		loop->hook_next = hook->node.next;
		if (before && hook->before_sleep)
			busy |= hook->before_sleep(hook);
		else if (!before && hook->after_sleep)
			hook->after_sleep(hook);
	}
	loop->hook_next = NULL;
	return busy;
}

uint64_t wh_loop_deadline(const struct wh_loop *loop)
{
	return loop->timers ? loop->timers->deadline_ns : UINT64_MAX;
}

int wh_loop_fd(const struct wh_loop *loop)
{
	return loop->epoll_fd;
}

/* Nanoseconds to sleep at most; -1 = no limit. */
static int64_t sleep_limit(struct wh_loop *loop, int timeout_ms)
{
	int64_t limit_ns = timeout_ms < 0 ? -1 : (int64_t)timeout_ms * 1000000;
	if (!limit_ns || !loop->timers)
		return limit_ns;
	uint64_t now_ns = clock_now(), deadline_ns = loop->timers->deadline_ns;
	int64_t left_ns = deadline_ns <= now_ns                  ? 0
			  : deadline_ns - now_ns > INT64_MAX / 2 ? INT64_MAX / 2
								 : (int64_t)(deadline_ns - now_ns);
	return limit_ns < 0 || left_ns < limit_ns ? left_ns : limit_ns;
}

/* Only a finite, non-zero limit needs the nanosecond call. */
static int sleep_wait(struct wh_loop *loop, int64_t limit_ns)
{
#ifdef SYS_epoll_pwait2
	if (limit_ns > 0 && !loop->no_pwait2) {
		int64_t spec[2] = { limit_ns / 1000000000, limit_ns % 1000000000 };
		int n = (int)syscall(SYS_epoll_pwait2, loop->epoll_fd, loop->events,
				     LOOP_EVENTS_MAX, spec, NULL, 0);
		if (n >= 0 || errno != ENOSYS)
			return n < 0 ? -errno : n;
		loop->no_pwait2 = true;
	}
#endif
	int64_t ms = limit_ns < 0 ? -1 : (limit_ns + 999999) / 1000000;
	int n = epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS_MAX,
			   ms > INT32_MAX ? INT32_MAX : (int)ms);
	return n < 0 ? -errno : n;
}

/* Looks for events for a while before it sleeps: waking a processor that has halted takes longer than many an answer
 * takes to come. Others that want this processor have it. Looks that find nothing become rare, so that who has no such
 * answers pays nothing. */
static int spin_wait(struct wh_loop *loop, int64_t limit_ns)
{
	if (limit_ns > 0 && limit_ns < loop->spin_ns)
		return 0;
	if (loop->spin_skip) {
		loop->spin_skip--;
		return 0;
	}
	uint64_t now_ns = clock_now(), end_ns = now_ns + loop->spin_ns;
	if (loop->now_ns && now_ns - loop->now_ns > SPIN_WORK_NS)
		return 0;
	do {
		int n = epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS_MAX, 0);
		if (n) {
			loop->spin_misses = 0;
			return n < 0 ? -errno : n;
		}
		sched_yield();
	} while (clock_now() < end_ns);
	if (loop->spin_misses < SPIN_MISSES_MAX)
		loop->spin_misses++;
	loop->spin_skip = (1u << loop->spin_misses) - 1;
	return 0;
}

void wh_loop_spin(struct wh_loop *loop, uint32_t ns)
{
	loop->spin_ns = ns;
}

/* Is it one of the few that take turns? */
static void spin_note(struct wh_loop *loop, struct wh_loop_fd *watch)
{
	for (uint32_t i = 0; i < SPIN_WATCHES; i++)
		if (loop->spin_recent[i] == watch)
			return;
	loop->spin_recent[loop->spin_place++ % SPIN_WATCHES] = watch;
	loop->spin_skip = SPIN_STRANGER_SKIP;
}

static int dispatch(struct wh_loop *loop)
{
	int ran = 0;
	while (loop->event_next < loop->event_count) {
		struct epoll_event *event = &loop->events[loop->event_next++];
		struct wh_loop_fd *watch = event->data.ptr;
		if (!watch)
			continue; /* the wake descriptor, or removed meanwhile */
		uint32_t events = 0;
		if (event->events & EPOLLIN)
			events |= WH_LOOP_READ;
		if (event->events & EPOLLOUT)
			events |= WH_LOOP_WRITE;
		if (event->events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP))
			events |= WH_LOOP_HANGUP;
		if ((event->events & EPOLLRDHUP) &&
		    !(event->events & (EPOLLERR | EPOLLHUP | EPOLLPRI)))
			events |= WH_LOOP_ENDED;
		if (loop->spin_ns)
			spin_note(loop, watch);
		watch->fn(watch, events);
		ran++;
	}
	loop->event_count = loop->event_next = 0;
	return ran;
}

static int expire(struct wh_loop *loop)
{
	int ran = 0;
	loop->expiring = true;
	while (loop->timers && loop->timers->deadline_ns <= wh_loop_now(loop)) {
		struct wh_loop_timer *timer = loop->timers;
		wh_loop_timer_stop(loop, timer);
		timer->fn(timer);
		ran++;
	}
	loop->expiring = false;
	return ran;
}

static int round_once(struct wh_loop *loop, int timeout_ms)
{
	wh_assert(!loop->stepping);
	loop->stepping = true;
	bool busy = hooks_run(loop, true);
	if (busy || loop->stopped || __atomic_load_n(&loop->wake_pending, __ATOMIC_ACQUIRE))
		timeout_ms = 0;
	int64_t limit_ns = sleep_limit(loop, timeout_ms);
	int n = loop->spin_ns && limit_ns ? spin_wait(loop, limit_ns) : 0;
	if (!n)
		n = sleep_wait(loop, limit_ns);
	loop->now_ns = 0; /* asked for when somebody wants it: a short life needs no clock */
	__atomic_store_n(&loop->wake_pending, 0, __ATOMIC_RELEASE);
	if (n < 0 && n != -EINTR) {
		loop->stepping = false;
		return n;
	}
	loop->event_next = 0;
	loop->event_count = n > 0 ? n : 0;
	(void)hooks_run(loop, false);
	int ran = dispatch(loop);
	ran += expire(loop);
	loop->stepping = false;
	return ran;
}

/* The caller may sleep on wh_loop_fd now: what hooks announce before a sleep must hold until then. */
static void settle(struct wh_loop *loop)
{
	loop->stepping = true;
	bool busy = true;
	for (int i = 0; busy && i < SETTLE_ROUNDS_MAX; i++)
		busy = hooks_run(loop, true);
	loop->stepping = false;
	if (busy)
		wh_loop_wake(loop);
}

int wh_loop_step(struct wh_loop *loop, int timeout_ms)
{
	int ran = round_once(loop, timeout_ms);
	if (ran >= 0 && !timeout_ms)
		settle(loop);
	return ran;
}

int wh_loop_run(struct wh_loop *loop)
{
	while (!loop->stopped) {
		int n = round_once(loop, -1);
		if (n < 0)
			return n;
	}
	loop->stopped = false;
	return loop->status;
}

void wh_loop_stop(struct wh_loop *loop, int status)
{
	loop->stopped = true;
	loop->status = status;
}

int wh_loop_wake_prepare(struct wh_loop *loop)
{
	if (__atomic_load_n(&loop->wake_fd, __ATOMIC_ACQUIRE) >= 0)
		return 0;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), none = -1;
	if (fd < 0)
		return -errno;
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
		int error = errno;
		close(fd);
		return -error;
	}
	/* Two threads at once: the second one's descriptor goes. */
	if (!__atomic_compare_exchange_n(&loop->wake_fd, &none, fd, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE))
		close(fd);
	return 0;
}

void wh_loop_wake(struct wh_loop *loop)
{
	int saved = errno;
	if (!__atomic_exchange_n(&loop->wake_pending, 1, __ATOMIC_ACQ_REL) &&
	    wh_loop_wake_prepare(loop) == 0) {
		uint64_t one = 1;
		/* The counter is never read and cannot fill: 2^64 wakes. */
		(void)!write(__atomic_load_n(&loop->wake_fd, __ATOMIC_ACQUIRE), &one, sizeof one);
	}
	errno = saved;
}
