/* SPDX-License-Identifier: ISC */
/* Signals as a readable file. Reading takes what is pending for the process or the
 * reading thread; the program has blocked these signals before. */
#include <fs/file.h>
#include <fs/linux.h>
#include <kern/mem.h>
#include <kern/thread.h>
#include <posix/signal.h>
#include <wherry/base/errors.h>

/* signalfd_siginfo: 128 bytes, these first. */
struct record {
	uint32_t signo;
	int32_t error, code;
	uint32_t pid, uid;
	int32_t fd;
	uint32_t tid, band, overrun, trap;
	int32_t status, value;
	uint64_t pointer;
	uint8_t rest[72];
};
_Static_assert(sizeof(struct record) == 128, "Linux ABI");

struct signal_file {
	struct fs_file file;
	struct wh_list node; /* in `all` */
	uint64_t mask;
};

static struct wh_list all = { &all, &all };

static struct signal_file *signal_of(struct fs_file *f)
{
	return WH_CONTAINER_OF(f, struct signal_file, file);
}

static void notify(uint64_t bit)
{
	WH_LIST_FOR_EACH(it, &all) {
		struct signal_file *s = WH_LIST_ENTRY(it, struct signal_file, node);
		if (s->mask & bit)
			kern_waitq_wake(&s->file.waitq, LX_POLLIN | LX_POLLRDNORM, UINT32_MAX);
	}
}

static struct record take(uint64_t ready)
{
	struct kern_thread *t = kern_self();
	int signo = __builtin_ctzll(ready) + 1;
	struct lx_siginfo info;
	t->signal_pending &= ~LX_SIG_BIT(signo);
	posix_siginfo_get(signo, &info);
	struct record r = { .signo = (uint32_t)signo, .code = info.code };
	r.pid = (uint32_t)info.u.from.pid;
	r.value = (int32_t)info.u.from.value;
	r.pointer = info.u.from.value;
	return r;
}

static int64_t signal_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			   bool nonblock)
{
	const struct kern_thread *t = kern_self();
	uint64_t mask = signal_of(f)->mask, ready;
	size_t room = wh_iov_size(iov, (size_t)count), done = 0;
	if (room < sizeof(struct record))
		return -WH_EINVAL;
	for (;;) {
		posix_signal_adopt(mask);
		if (t->signal_pending & mask)
			break;
		int r = fs_file_wait(f, nonblock);
		if (r < 0)
			return r;
	}
	while ((ready = t->signal_pending & mask) && room - done >= sizeof(struct record)) {
		struct record r = take(ready);
		done += wh_iov_write(iov, (size_t)count, done, &r, sizeof r);
	}
	return (int64_t)done;
}

static uint32_t signal_poll(struct fs_file *f)
{
	uint64_t pending = kern_self()->signal_pending | posix_signal_pending_process();
	return pending & signal_of(f)->mask ? LX_POLLIN | LX_POLLRDNORM : 0;
}

static void signal_release(struct fs_file *f)
{
	struct signal_file *s = signal_of(f);
	wh_list_remove(&s->node);
	kern_free(s, sizeof *s);
}

static const struct fs_file_ops signal_ops = {
	.read = signal_read,
	.poll = signal_poll,
	.release = signal_release,
	.kind = FS_KIND_SIGNAL,
};

long wh_sys_signalfd4(int fd, const uint64_t *mask, size_t size, int flags)
{
	if (size != sizeof *mask || (uint32_t)flags & ~(LX_O_CLOEXEC | LX_O_NONBLOCK))
		return -WH_EINVAL;
	if (!kern_user_readable(mask, sizeof *mask))
		return -WH_EFAULT;
	if (fd >= 0) {
		struct fs_file *f = fs_fd_get(fd);
		if (!f)
			return -WH_EBADF;
		if (f->ops != &signal_ops)
			return -WH_EINVAL;
		signal_of(f)->mask = *mask;
		return fd;
	}
	struct signal_file *s = kern_alloc(sizeof *s);
	if (!s)
		return -WH_ENOMEM;
	fs_file_init(&s->file, &signal_ops, LX_O_RDONLY | ((uint32_t)flags & LX_O_NONBLOCK));
	s->mask = *mask;
	wh_list_push_back(&all, &s->node);
	posix_signal_notify = notify;
	int r = fs_fd_install(&s->file, 0, (uint32_t)flags & LX_O_CLOEXEC);
	if (r < 0)
		fs_file_unref(&s->file);
	return r;
}

long wh_sys_signalfd(int fd, const uint64_t *mask, size_t size)
{
	return wh_sys_signalfd4(fd, mask, size, 0);
}
