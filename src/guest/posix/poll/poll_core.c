/* SPDX-License-Identifier: ISC */

/*
 * What poll and select wait with. First a look without waiting, then a waiter in the
 * queue of each file, a second look (something may have come between), and sleep.
 * A file that is closed meanwhile wakes its waiters and drops them.
 */

#include <fs/file.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <posix/poll.h>
#include <posix/time.h>

#define ALWAYS (LX_POLLERR | LX_POLLHUP | LX_POLLNVAL)
#define ON_STACK 8u

static uint32_t events_of(const struct lx_pollfd *p)
{
	struct fs_file *f = fs_fd_get(p->fd);
	uint32_t events = LX_POLLIN | LX_POLLOUT | LX_POLLRDNORM | LX_POLLWRNORM;
	if (p->fd < 0)
		return 0;
	if (!f)
		return LX_POLLNVAL;
	if (f->ops->poll)
		events = f->ops->poll(f);
	return events & ((uint16_t)p->events | ALWAYS);
}

static int look(struct lx_pollfd *fds, uint32_t count)
{
	int ready = 0;
	for (uint32_t i = 0; i < count; i++) {
		fds[i].revents = (int16_t)events_of(&fds[i]);
		ready += fds[i].revents != 0;
	}
	return ready;
}

static void wait_at_all(const struct lx_pollfd *fds, uint32_t count, struct kern_waiter *w)
{
	for (uint32_t i = 0; i < count; i++) {
		struct fs_file *f = fds[i].fd < 0 ? NULL : fs_fd_get(fds[i].fd);
		w[i] = (struct kern_waiter){ .thread = kern_self() };
		wh_list_init(&w[i].node);
		if (f)
			kern_waitq_add(&f->waitq, &w[i]);
	}
}

static int wait(struct lx_pollfd *fds, uint32_t count, uint64_t deadline_ns, struct kern_waiter *w)
{
	int ready = 0, r = 0;
	while (!ready && r >= 0) {
		wait_at_all(fds, count, w);
		ready = look(fds, count);
		if (!ready)
			r = kern_sleep(deadline_ns);
		for (uint32_t i = 0; i < count; i++)
			kern_waiter_remove(&w[i]);
		if (r < 0)
			ready = look(fds, count);
	}
	return ready ? ready : r == -WH_ETIMEDOUT ? 0 : r;
}

int posix_poll(struct lx_pollfd *fds, uint32_t count, uint64_t deadline_ns)
{
	struct kern_waiter few[ON_STACK], *w = few;
	int ready = look(fds, count);
	if (ready)
		return ready;
	(void)kern_poll();
	ready = look(fds, count);
	if (ready || deadline_ns <= kern_time_monotonic())
		return ready;
	if (count > ON_STACK)
		w = kern_alloc(count * sizeof *w);
	if (!w)
		return -WH_ENOMEM;
	ready = wait(fds, count, deadline_ns, w);
	if (w != few)
		kern_free(w, count * sizeof *w);
	return ready;
}

uint64_t posix_poll_deadline(int timeout_ms)
{
	if (timeout_ms < 0)
		return KERN_FOREVER;
	return timeout_ms ? posix_deadline_in((uint64_t)timeout_ms * 1000000) : 0;
}
