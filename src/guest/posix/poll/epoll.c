/* SPDX-License-Identifier: ISC */

/*
 * epoll.
 *
 * An item stays in the wait queue of its file for as long as it is registered. When
 * the file wakes the queue, the item goes to its instance's ready list; epoll_wait
 * takes items off the list, asks the file what is really there and, for level-triggered
 * ones, puts them back. So the work of a call is that of the ready files, not of
 * the registered ones. A file that goes away says so through its queue
 * (KERN_POLLFREE) and takes its items with it.
 */

#include <fs/file.h>
#include <kern/mem.h>
#include <kern/thread.h>
#include <kern/plat.h>
#include <posix/poll.h>
#include <posix/time.h>
#include <wherry/base/assert.h>

#define EPOLLEXCLUSIVE (1u << 28)
#define EPOLLWAKEUP (1u << 29)
#define EPOLLONESHOT (1u << 30)
#define EPOLLET (1u << 31)
#define ALWAYS (LX_POLLERR | LX_POLLHUP)
#define NEST_MAX 5 /* as Linux */

enum { CTL_ADD = 1, CTL_DEL = 2, CTL_MOD = 3 };

struct epoll {
	struct fs_file file;
	struct wh_list ready;
	struct epoll_item **by_fd; /* first item of each number; more only after dup tricks */
	uint32_t by_fd_count;
};

struct epoll_item {
	struct kern_waiter waiter;
	struct wh_list ready_node;
	struct epoll_item *next; /* same descriptor number, another file */
	struct epoll *ep;
	struct fs_file *file;
	uint64_t data;
	uint32_t events;
	int fd;
	bool disabled; /* one-shot that has fired */
};

static const struct fs_file_ops epoll_ops;

static struct epoll *epoll_of(struct fs_file *f)
{
	return WH_CONTAINER_OF(f, struct epoll, file);
}

static void make_ready(struct epoll_item *i)
{
	if (!wh_list_empty(&i->ready_node))
		return;
	wh_list_push_back(&i->ep->ready, &i->ready_node);
	if (!wh_list_empty(&i->ep->file.waitq.waiters))
		kern_waitq_wake(&i->ep->file.waitq, LX_POLLIN | LX_POLLRDNORM, UINT32_MAX);
}

static void item_free(struct epoll_item *i)
{
	struct epoll_item **at = &i->ep->by_fd[i->fd];
	while (*at != i)
		at = &(*at)->next;
	*at = i->next;
	kern_waiter_remove(&i->waiter);
	wh_list_remove(&i->ready_node);
	kern_free(i, sizeof *i);
}

/* The file's queue is woken. Never takes the event away from somebody else. */
static bool item_wake(struct kern_waiter *w, uint32_t events)
{
	struct epoll_item *i = WH_CONTAINER_OF(w, struct epoll_item, waiter);
	if (events & KERN_POLLFREE)
		item_free(i);
	else if (!i->disabled && (!events || (events & (i->events | ALWAYS))))
		make_ready(i);
	return false;
}

static uint32_t item_events(const struct epoll_item *i)
{
	return i->disabled ? 0 : i->file->ops->poll(i->file) & (i->events | ALWAYS);
}

/* ---- the instance as a file ---- */

static uint32_t epoll_poll(struct fs_file *f)
{
	struct epoll *ep = epoll_of(f);
	WH_LIST_FOR_EACH_SAFE(it, &ep->ready) {
		struct epoll_item *i = WH_LIST_ENTRY(it, struct epoll_item, ready_node);
		if (item_events(i))
			return LX_POLLIN | LX_POLLRDNORM;
		wh_list_remove(&i->ready_node);
	}
	return 0;
}

static void epoll_release(struct fs_file *f)
{
	struct epoll *ep = epoll_of(f);
	for (uint32_t fd = 0; fd < ep->by_fd_count; fd++)
		while (ep->by_fd[fd])
			item_free(ep->by_fd[fd]);
	kern_free(ep->by_fd, ep->by_fd_count * sizeof *ep->by_fd);
	kern_free(ep, sizeof *ep);
}

static const struct fs_file_ops epoll_ops = {
	.poll = epoll_poll,
	.release = epoll_release,
	.kind = FS_KIND_EPOLL,
};

long wh_sys_epoll_create1(int flags)
{
	if ((uint32_t)flags & ~LX_O_CLOEXEC)
		return -WH_EINVAL;
	struct epoll *ep = kern_alloc_zero(sizeof *ep);
	if (!ep)
		return -WH_ENOMEM;
	fs_file_init(&ep->file, &epoll_ops, LX_O_RDWR);
	wh_list_init(&ep->ready);
	int r = fs_fd_install(&ep->file, 0, (uint32_t)flags & LX_O_CLOEXEC);
	if (r < 0)
		fs_file_unref(&ep->file);
	return r;
}

long wh_sys_epoll_create(int size)
{
	return size <= 0 ? -WH_EINVAL : wh_sys_epoll_create1(0);
}

/* ---- control ---- */

static int grow(struct epoll *ep, int fd)
{
	uint32_t count = ep->by_fd_count ? ep->by_fd_count : 16;
	while (count <= (uint32_t)fd)
		count *= 2;
	if (count == ep->by_fd_count)
		return 0;
	struct epoll_item **by_fd = kern_alloc_zero(count * sizeof *by_fd);
	if (!by_fd)
		return -WH_ENOMEM;
	if (ep->by_fd_count)
		memcpy(by_fd, ep->by_fd, ep->by_fd_count * sizeof *by_fd);
	kern_free(ep->by_fd, ep->by_fd_count * sizeof *by_fd);
	ep->by_fd = by_fd;
	ep->by_fd_count = count;
	return 0;
}

static struct epoll_item *find(struct epoll *ep, int fd, struct fs_file *f)
{
	struct epoll_item *i = (uint32_t)fd < ep->by_fd_count ? ep->by_fd[fd] : NULL;
	while (i && i->file != f)
		i = i->next;
	return i;
}

/* How deep instances are nested below `ep`; NEST_MAX + 1 when `looking_for` is among them. */
static int depth(struct epoll *ep, const struct epoll *looking_for, int level)
{
	int deepest = 0;
	if (ep == looking_for || level > NEST_MAX)
		return NEST_MAX + 1;
	for (uint32_t fd = 0; fd < ep->by_fd_count; fd++) {
		for (struct epoll_item *i = ep->by_fd[fd]; i; i = i->next) {
			if (i->file->ops != &epoll_ops)
				continue;
			int d = 1 + depth(epoll_of(i->file), looking_for, level + 1);
			if (d > deepest)
				deepest = d;
		}
	}
	return deepest;
}

static void arm(struct epoll_item *i, const struct lx_epoll_event *event)
{
	i->events = event->events;
	i->data = event->data;
	i->disabled = false;
	if (item_events(i))
		make_ready(i);
}

static int add(struct epoll *ep, int fd, struct fs_file *f, const struct lx_epoll_event *event)
{
	if (find(ep, fd, f))
		return -WH_EEXIST;
	if (f->ops == &epoll_ops && depth(epoll_of(f), ep, 1) >= NEST_MAX)
		return -WH_ELOOP;
	int r = grow(ep, fd);
	if (r < 0)
		return r;
	struct epoll_item *i = kern_alloc_zero(sizeof *i);
	if (!i)
		return -WH_ENOMEM;
	i->ep = ep;
	i->file = f;
	i->fd = fd;
	i->waiter.fn = item_wake;
	wh_list_init(&i->ready_node);
	i->next = ep->by_fd[fd];
	ep->by_fd[fd] = i;
	kern_waitq_add(&f->waitq, &i->waiter);
	arm(i, event);
	return 0;
}

long wh_sys_epoll_ctl(int epfd, int operation, int fd, const struct lx_epoll_event *event)
{
	struct fs_file *e = fs_fd_get(epfd), *f = fs_fd_get(fd);
	if (!e || !f)
		return -WH_EBADF;
	if (e->ops != &epoll_ops || e == f)
		return -WH_EINVAL;
	if (operation != CTL_DEL && !kern_user_readable(event, sizeof *event))
		return -WH_EFAULT;
	if (!f->ops->poll)
		return -WH_EPERM; /* always ready: Linux refuses files and directories */
	struct epoll *ep = epoll_of(e);
	if (operation == CTL_ADD)
		return add(ep, fd, f, event);
	struct epoll_item *i = find(ep, fd, f);
	if (operation != CTL_DEL && operation != CTL_MOD)
		return -WH_EINVAL;
	if (!i)
		return -WH_ENOENT;
	if (operation == CTL_DEL)
		item_free(i);
	else
		arm(i, event);
	return 0;
}

/* ---- waiting ---- */

static int collect(struct epoll *ep, struct lx_epoll_event *events, int max)
{
	struct wh_list again;
	int n = 0;
	wh_list_init(&again);
	while (n < max && !wh_list_empty(&ep->ready)) {
		struct epoll_item *i = WH_LIST_ENTRY(ep->ready.next, struct epoll_item, ready_node);
		wh_list_remove(&i->ready_node);
		uint32_t found = item_events(i);
		if (!found)
			continue;
		events[n].events = found;
		events[n++].data = i->data;
		if (i->events & EPOLLONESHOT)
			i->disabled = true;
		else if (!(i->events & EPOLLET) && wh_list_empty(&i->ready_node))
			wh_list_push_back(&again, &i->ready_node);
	}
	/* Behind the ones not shown yet: every file gets its turn. */
	struct wh_list *node;
	while ((node = wh_list_pop_front(&again)))
		wh_list_push_back(&ep->ready, node);
	return n;
}

static long wait(int epfd, struct lx_epoll_event *events, int max, uint64_t deadline_ns)
{
	struct fs_file *f = fs_fd_get(epfd);
	if (!f)
		return -WH_EBADF;
	if (f->ops != &epoll_ops || max <= 0)
		return -WH_EINVAL;
	if ((size_t)max > SIZE_MAX / sizeof *events ||
	    !kern_user_writable(events, (size_t)max * sizeof *events))
		return -WH_EFAULT;
	/* Once a call, also when something is ready: a busy loop must not starve the devices. */
	(void)kern_poll();
	for (;;) {
		int n = collect(epoll_of(f), events, max);
		if (n || !deadline_ns)
			return n;
		fs_file_ref(f);
		int r = kern_wait(&f->waitq, deadline_ns);
		bool last = f->refs == 1;
		fs_file_unref(f);
		if (last)
			return -WH_EBADF;
		if (r == -WH_ETIMEDOUT) {
			deadline_ns = 0; /* one more look */
		} else if (r < 0) {
			kern_self()->restartable =
				false; /* signal(7): never, whatever SA_RESTART says */
			return r;
		}
	}
}

long wh_sys_epoll_wait(int epfd, struct lx_epoll_event *events, int max, int timeout_ms)
{
	return wait(epfd, events, max, posix_poll_deadline(timeout_ms));
}

long wh_sys_epoll_pwait(int epfd, struct lx_epoll_event *events, int max, int timeout_ms,
			const uint64_t *mask, size_t mask_size)
{
	uint64_t before;
	if (!mask)
		return wait(epfd, events, max, posix_poll_deadline(timeout_ms));
	long r = posix_wait_mask_begin(mask, mask_size, &before);
	if (r < 0)
		return r;
	r = wait(epfd, events, max, posix_poll_deadline(timeout_ms));
	posix_wait_mask_end(mask, before);
	return r;
}

long wh_sys_epoll_pwait2(int epfd, struct lx_epoll_event *events, int max,
			 const struct lx_timespec *timeout, const uint64_t *mask, size_t mask_size)
{
	uint64_t before, deadline = 0;
	if (timeout && !kern_user_readable(timeout, sizeof *timeout))
		return -WH_EFAULT;
	long r = posix_deadline(timeout, &deadline);
	if (timeout && !timeout->sec && !timeout->nsec)
		deadline = 0;
	if (r >= 0)
		r = posix_wait_mask_begin(mask, mask_size, &before);
	if (r < 0)
		return r;
	r = wait(epfd, events, max, deadline);
	posix_wait_mask_end(mask, before);
	return r;
}
