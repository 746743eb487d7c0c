/* SPDX-License-Identifier: ISC */
#include <wherry/os.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

static void *alloc_memory(void *ctx, size_t size, size_t align)
{
	if (align <= _Alignof(max_align_t))
		return malloc(size);
	return aligned_alloc(align, (size + align - 1) & ~(align - 1));
}

static void free_memory(void *ctx, void *memory, size_t size)
{
	free(memory);
}

const struct wh_alloc wh_os_allocator = { .alloc = alloc_memory, .free = free_memory };

static uint64_t clock_read(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t wh_os_now(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

uint64_t wh_os_wall_clock(void)
{
	return clock_read(CLOCK_REALTIME);
}

void wh_os_random(void *to, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = getrandom((char *)to + done, size - done, 0);
		wh_assert(n > 0 || (n < 0 && errno == EINTR));
		done += n > 0 ? (size_t)n : 0;
	}
}

void wh_os_close(int *fd)
{
	int saved = errno;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

/* After a failed call: 0 = try again, else the error. */
static int wait_ready(int fd, short events)
{
	if (errno == EINTR)
		return 0;
	if (errno != EAGAIN)
		return -errno;
	struct pollfd p = { .fd = fd, .events = events };
	return poll(&p, 1, -1) < 0 && errno != EINTR ? -errno : 0;
}

int wh_os_write_all(int fd, const void *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, (const char *)data + done, size - done);
		int error = n < 0 ? wait_ready(fd, POLLOUT) : 0;
		if (error)
			return error;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int wh_os_read_all(int fd, void *to, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = read(fd, (char *)to + done, size - done);
		if (n == 0)
			return -WH_ENODATA;
		int error = n < 0 ? wait_ready(fd, POLLIN) : 0;
		if (error)
			return error;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int wh_os_read_text(const char *path, char *to, size_t size)
{
	wh_assert(size > 0 && size <= INT32_MAX);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size_t done = 0;
	int error = 0;
	while (done < size - 1) {
		ssize_t n = read(fd, to + done, size - 1 - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			error = -errno;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	to[done] = 0;
	close(fd);
	return error ? error : (int)done;
}
