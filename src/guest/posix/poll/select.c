/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <posix/poll.h>
#include <posix/time.h>

#define SETS 3
#define SELECT_MAX 1024 /* FD_SETSIZE: a set has no more bits */
#define IN (LX_POLLIN | LX_POLLRDNORM | LX_POLLRDBAND | LX_POLLHUP | LX_POLLERR)
#define OUT (LX_POLLOUT | LX_POLLWRNORM | LX_POLLWRBAND | LX_POLLERR)
#define EXCEPT LX_POLLPRI

static const uint32_t events_of_set[SETS] = { IN, OUT, EXCEPT };

static bool in_set(const uint64_t *set, int fd)
{
	return set && (set[fd / 64] >> (fd % 64) & 1);
}

/* The descriptors in any set as a poll array; their number or -WH_EBADF. */
static int gather(int count, uint64_t *const sets[SETS], struct lx_pollfd *fds)
{
	int n = 0;
	for (int fd = 0; fd < count; fd++) {
		uint32_t events = 0;
		for (int s = 0; s < SETS; s++)
			if (in_set(sets[s], fd))
				events |= events_of_set[s];
		if (!events)
			continue;
		if (!fs_fd_get(fd))
			return -WH_EBADF;
		fds[n++] = (struct lx_pollfd){ fd, (int16_t)events, 0 };
	}
	return n;
}

static long scatter(int count, uint64_t *const sets[SETS], const struct lx_pollfd *fds, int n)
{
	long bits = 0;
	for (int s = 0; s < SETS; s++) {
		if (!sets[s])
			continue;
		uint64_t *set = sets[s];
		uint64_t asked[SELECT_MAX / 64];
		int words = (count + 63) / 64;
		memcpy(asked, set, (size_t)words * sizeof *set);
		memset(set, 0, (size_t)words * sizeof *set);
		for (int i = 0; i < n; i++) {
			int fd = fds[i].fd;
			if (!((uint32_t)(uint16_t)fds[i].revents & events_of_set[s]) ||
			    !in_set(asked, fd))
				continue;
			set[fd / 64] |= 1ull << (fd % 64);
			bits++;
		}
	}
	return bits;
}

static long do_select(int count, uint64_t *const sets[SETS], uint64_t deadline_ns)
{
	size_t bytes = ((size_t)count + 63) / 64 * sizeof(uint64_t);
	if (count < 0)
		return -WH_EINVAL;
	if (count > SELECT_MAX)
		return -WH_EINVAL;
	for (int s = 0; s < SETS; s++)
		if (sets[s] && !kern_user_writable(sets[s], bytes))
			return -WH_EFAULT;
	size_t size = ((size_t)count + 1) * sizeof(struct lx_pollfd);
	struct lx_pollfd *fds = kern_alloc(size);
	if (!fds)
		return -WH_ENOMEM;
	int n = gather(count, sets, fds);
	long r = n < 0 ? n : posix_poll(fds, (uint32_t)n, deadline_ns);
	if (r >= 0)
		r = scatter(count, sets, fds, n);
	kern_free(fds, size);
	return r;
}

long wh_sys_select(int count, uint64_t *read, uint64_t *write, uint64_t *except,
		   struct lx_timeval *timeout)
{
	uint64_t *const sets[SETS] = { read, write, except };
	uint64_t deadline = KERN_FOREVER;
	if (timeout) {
		if (!kern_user_writable(timeout, sizeof *timeout))
			return -WH_EFAULT;
		if (timeout->sec < 0 || timeout->usec < 0)
			return -WH_EINVAL;
		struct lx_timespec t = { timeout->sec + timeout->usec / 1000000,
					 timeout->usec % 1000000 * 1000 };
		deadline = posix_deadline_in(posix_timespec_ns(&t));
	}
	long r = do_select(count, sets, deadline);
	if (timeout && r >= 0) { /* Linux says what is left */
		uint64_t now = kern_time_monotonic();
		*timeout = posix_timeval_of(deadline > now ? deadline - now : 0);
	}
	return r;
}

long wh_sys_pselect6(int count, uint64_t *read, uint64_t *write, uint64_t *except,
		     struct lx_timespec *timeout, const struct lx_sigset_argument *mask)
{
	uint64_t *const sets[SETS] = { read, write, except };
	uint64_t deadline, before;
	if (timeout && !kern_user_readable(timeout, sizeof *timeout))
		return -WH_EFAULT;
	if (mask && !kern_user_readable(mask, sizeof *mask))
		return -WH_EFAULT;
	const uint64_t *set = mask ? mask->mask : NULL;
	long r = posix_deadline(timeout, &deadline);
	if (r >= 0)
		r = posix_wait_mask_begin(set, mask ? mask->size : 0, &before);
	if (r < 0)
		return r;
	r = do_select(count, sets, deadline);
	posix_wait_mask_end(set, before);
	return r;
}
