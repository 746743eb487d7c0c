/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <kern/mem.h>
#include <posix/poll.h>
#include <posix/time.h>

static long check(struct lx_pollfd *fds, unsigned long count)
{
	if (count > FS_FDS_MAX)
		return -WH_EINVAL;
	return !count || kern_user_writable(fds, count * sizeof *fds) ? 0 : -WH_EFAULT;
}

long wh_sys_poll(struct lx_pollfd *fds, unsigned long count, int timeout_ms)
{
	long r = check(fds, count);
	return r < 0 ? r : posix_poll(fds, (uint32_t)count, posix_poll_deadline(timeout_ms));
}

long wh_sys_ppoll(struct lx_pollfd *fds, unsigned long count, struct lx_timespec *timeout,
		  const uint64_t *mask, size_t mask_size)
{
	uint64_t deadline, before;
	long r = check(fds, count);
	if (r < 0)
		return r;
	if (timeout && !kern_user_readable(timeout, sizeof *timeout))
		return -WH_EFAULT;
	r = posix_deadline(timeout, &deadline);
	if (r >= 0)
		r = posix_wait_mask_begin(mask, mask_size, &before);
	if (r < 0)
		return r;
	r = posix_poll(fds, (uint32_t)count, deadline);
	posix_wait_mask_end(mask, before);
	return r;
}
