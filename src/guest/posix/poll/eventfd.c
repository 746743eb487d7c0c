/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <fs/linux.h>
#include <kern/mem.h>
#include <posix/poll.h>
#include <wherry/base/errors.h>

#define EFD_SEMAPHORE 1u
#define COUNT_MAX (UINT64_MAX - 1)

struct event_file {
	struct fs_file file;
	uint64_t count;
	bool semaphore;
};

static struct event_file *event_of(struct fs_file *f)
{
	return WH_CONTAINER_OF(f, struct event_file, file);
}

static int64_t event_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			  bool nonblock)
{
	struct event_file *e = event_of(f);
	if (wh_iov_size(iov, (size_t)count) < sizeof e->count)
		return -WH_EINVAL;
	while (!e->count) {
		int r = fs_file_wait(f, nonblock);
		if (r < 0)
			return r;
	}
	uint64_t value = e->semaphore ? 1 : e->count;
	e->count -= value;
	kern_waitq_wake(&f->waitq, LX_POLLOUT | LX_POLLWRNORM, UINT32_MAX);
	return (int64_t)wh_iov_write(iov, (size_t)count, 0, &value, sizeof value);
}

static int64_t event_write(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			   bool nonblock)
{
	struct event_file *e = event_of(f);
	uint64_t value;
	if (wh_iov_read(iov, (size_t)count, 0, &value, sizeof value) < sizeof value ||
	    value == UINT64_MAX)
		return -WH_EINVAL;
	while (value > COUNT_MAX - e->count) {
		int r = fs_file_wait(f, nonblock);
		if (r < 0)
			return r;
	}
	e->count += value;
	if (e->count)
		kern_waitq_wake(&f->waitq, LX_POLLIN | LX_POLLRDNORM, UINT32_MAX);
	return sizeof value;
}

static uint32_t event_poll(struct fs_file *f)
{
	struct event_file *e = event_of(f);
	return (e->count ? LX_POLLIN | LX_POLLRDNORM : 0) |
	       (e->count < COUNT_MAX ? LX_POLLOUT | LX_POLLWRNORM : 0);
}

static void event_release(struct fs_file *f)
{
	kern_free(event_of(f), sizeof(struct event_file));
}

static const struct fs_file_ops event_ops = {
	.read = event_read,
	.write = event_write,
	.poll = event_poll,
	.release = event_release,
	.kind = FS_KIND_EVENT,
};

long wh_sys_eventfd2(unsigned count, int flags)
{
	if ((uint32_t)flags & ~(EFD_SEMAPHORE | LX_O_CLOEXEC | LX_O_NONBLOCK))
		return -WH_EINVAL;
	struct event_file *e = kern_alloc(sizeof *e);
	if (!e)
		return -WH_ENOMEM;
	fs_file_init(&e->file, &event_ops, LX_O_RDWR | ((uint32_t)flags & LX_O_NONBLOCK));
	e->count = count;
	e->semaphore = (uint32_t)flags & EFD_SEMAPHORE;
	int r = fs_fd_install(&e->file, 0, (uint32_t)flags & LX_O_CLOEXEC);
	if (r < 0)
		fs_file_unref(&e->file);
	return r;
}

long wh_sys_eventfd(unsigned count)
{
	return wh_sys_eventfd2(count, 0);
}
