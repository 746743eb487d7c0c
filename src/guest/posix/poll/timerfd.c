/* SPDX-License-Identifier: ISC */

/* timerfd. Real-time timers are turned into monotonic ones when they are set: nobody
 * changes the guest's wall clock. */

#include <fs/file.h>
#include <kern/mem.h>
#include <posix/poll.h>
#include <posix/time.h>

#define TFD_TIMER_ABSTIME 1
#define TFD_TIMER_CANCEL_ON_SET 2

enum { CLOCK_REALTIME = 0, CLOCK_MONOTONIC = 1, CLOCK_BOOTTIME = 7 };

struct timer_file {
	struct fs_file file;
	struct kern_timer timer;
	uint64_t deadline_ns; /* 0 = disarmed */
	uint64_t interval_ns;
	uint64_t expirations; /* not read yet */
	int clock;
};

static const struct fs_file_ops timer_ops;

static struct timer_file *timer_of(struct fs_file *f)
{
	return WH_CONTAINER_OF(f, struct timer_file, file);
}

static void expire(struct kern_timer *timer)
{
	struct timer_file *t = WH_CONTAINER_OF(timer, struct timer_file, timer);
	uint64_t now = kern_time_monotonic(), late = now - t->deadline_ns;
	if (t->interval_ns) {
		uint64_t periods = 1 + late / t->interval_ns;
		t->expirations += periods;
		t->deadline_ns += periods * t->interval_ns;
		kern_timer_start(timer, t->deadline_ns);
	} else {
		t->expirations++;
		t->deadline_ns = 0;
	}
	kern_waitq_wake(&t->file.waitq, LX_POLLIN | LX_POLLRDNORM, UINT32_MAX);
}

/* A timer that is due may not have been run yet: the caller has not waited. */
static void catch_up(struct timer_file *t)
{
	if (t->deadline_ns && t->deadline_ns <= kern_time_monotonic()) {
		kern_timer_stop(&t->timer);
		expire(&t->timer);
	}
}

static int64_t timer_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			  bool nonblock)
{
	struct timer_file *t = timer_of(f);
	if (wh_iov_size(iov, (size_t)count) < sizeof t->expirations)
		return -WH_EINVAL;
	catch_up(t);
	while (!t->expirations) {
		int r = fs_file_wait(f, nonblock);
		if (r < 0)
			return r;
	}
	uint64_t n = t->expirations;
	t->expirations = 0;
	return (int64_t)wh_iov_write(iov, (size_t)count, 0, &n, sizeof n);
}

static uint32_t timer_poll(struct fs_file *f)
{
	catch_up(timer_of(f));
	return timer_of(f)->expirations ? LX_POLLIN | LX_POLLRDNORM : 0;
}

static void timer_release(struct fs_file *f)
{
	kern_timer_stop(&timer_of(f)->timer);
	kern_free(timer_of(f), sizeof(struct timer_file));
}

static const struct fs_file_ops timer_ops = {
	.read = timer_read,
	.poll = timer_poll,
	.release = timer_release,
	.kind = FS_KIND_TIMER,
};

long wh_sys_timerfd_create(int clock, int flags)
{
	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME)
		return -WH_EINVAL;
	if ((uint32_t)flags & ~(LX_O_CLOEXEC | LX_O_NONBLOCK))
		return -WH_EINVAL;
	struct timer_file *t = kern_alloc_zero(sizeof *t);
	if (!t)
		return -WH_ENOMEM;
	fs_file_init(&t->file, &timer_ops, LX_O_RDWR | ((uint32_t)flags & LX_O_NONBLOCK));
	kern_timer_init(&t->timer, expire);
	t->clock = clock;
	int r = fs_fd_install(&t->file, 0, (uint32_t)flags & LX_O_CLOEXEC);
	if (r < 0)
		fs_file_unref(&t->file);
	return r;
}

static struct timer_file *get(int fd, int *ret_error)
{
	struct fs_file *f = fs_fd_get(fd);
	*ret_error = f ? -WH_EINVAL : -WH_EBADF;
	return f && f->ops == &timer_ops ? timer_of(f) : NULL;
}

static void current(struct timer_file *t, struct lx_itimerspec *ret)
{
	uint64_t now = kern_time_monotonic();
	catch_up(t);
	ret->interval = posix_timespec_of(t->interval_ns);
	ret->value = posix_timespec_of(t->deadline_ns > now ? t->deadline_ns - now : 0);
}

long wh_sys_timerfd_gettime(int fd, struct lx_itimerspec *ret_value)
{
	int r;
	struct timer_file *t = get(fd, &r);
	if (!t)
		return r;
	if (!kern_user_writable(ret_value, sizeof *ret_value))
		return -WH_EFAULT;
	current(t, ret_value);
	return 0;
}

static uint64_t deadline_of(const struct timer_file *t, uint64_t ns, bool absolute)
{
	if (!absolute)
		return posix_deadline_in(ns);
	if (t->clock != CLOCK_REALTIME)
		return ns;
	uint64_t now = kern_time_realtime();
	return posix_deadline_in(ns > now ? ns - now : 0);
}

long wh_sys_timerfd_settime(int fd, int flags, const struct lx_itimerspec *value,
			    struct lx_itimerspec *ret_old)
{
	int r;
	struct timer_file *t = get(fd, &r);
	if (!t)
		return r;
	if (!kern_user_readable(value, sizeof *value) ||
	    (ret_old && !kern_user_writable(ret_old, sizeof *ret_old)))
		return -WH_EFAULT;
	struct lx_itimerspec v = *value;
	if (flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) ||
	    !posix_timespec_valid(&v.value) || !posix_timespec_valid(&v.interval))
		return -WH_EINVAL;
	if (ret_old)
		current(t, ret_old);
	uint64_t ns = posix_timespec_ns(&v.value);
	kern_timer_stop(&t->timer);
	t->expirations = 0;
	t->interval_ns = posix_timespec_ns(&v.interval);
	t->deadline_ns = ns ? deadline_of(t, ns, flags & TFD_TIMER_ABSTIME) : 0;
	if (t->deadline_ns)
		kern_timer_start(&t->timer, t->deadline_ns);
	return 0;
}
