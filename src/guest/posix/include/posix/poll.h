/* SPDX-License-Identifier: ISC */
#ifndef POSIX_POLL_H
#define POSIX_POLL_H

/* System calls that wait for descriptors, and the descriptors that exist to be waited for. */

#include <stddef.h>
#include <stdint.h>
#include <fs/linux.h>
#include <posix/signal.h>
#include <kern/trace.h>

struct lx_pollfd {
	int32_t fd;
	int16_t events, revents;
};

struct lx_epoll_event {
	uint32_t events;
	uint64_t data;
} __attribute__((packed)); /* as x86_64 Linux has it */

KERN_CALL long wh_sys_pipe(int *ret_fds);
KERN_CALL long wh_sys_pipe2(int *ret_fds, int flags);
KERN_CALL long wh_sys_eventfd(unsigned count);
KERN_CALL long wh_sys_eventfd2(unsigned count, int flags);
KERN_CALL long wh_sys_timerfd_create(int clock, int flags);
KERN_CALL long wh_sys_timerfd_settime(int fd, int flags, const struct lx_itimerspec *value,
				      struct lx_itimerspec *ret_old);
KERN_CALL long wh_sys_timerfd_gettime(int fd, struct lx_itimerspec *ret_value);

KERN_CALL long wh_sys_poll(struct lx_pollfd *fds, unsigned long count, int timeout_ms);
KERN_CALL long wh_sys_ppoll(struct lx_pollfd *fds, unsigned long count, struct lx_timespec *timeout,
			    const uint64_t *mask, size_t mask_size);
KERN_CALL long wh_sys_select(int count, uint64_t *read, uint64_t *write, uint64_t *except,
			     struct lx_timeval *timeout);
struct lx_sigset_argument {
	const uint64_t *mask;
	size_t size;
};
KERN_CALL long wh_sys_pselect6(int count, uint64_t *read, uint64_t *write, uint64_t *except,
			       struct lx_timespec *timeout, const struct lx_sigset_argument *mask);

KERN_CALL long wh_sys_epoll_create(int size);
KERN_CALL long wh_sys_epoll_create1(int flags);
KERN_CALL long wh_sys_epoll_ctl(int epfd, int operation, int fd,
				const struct lx_epoll_event *event);
KERN_CALL long wh_sys_epoll_wait(int epfd, struct lx_epoll_event *events, int max, int timeout_ms);
KERN_CALL long wh_sys_epoll_pwait(int epfd, struct lx_epoll_event *events, int max, int timeout_ms,
				  const uint64_t *mask, size_t mask_size);
KERN_CALL long wh_sys_epoll_pwait2(int epfd, struct lx_epoll_event *events, int max,
				   const struct lx_timespec *timeout, const uint64_t *mask,
				   size_t mask_size);

/* --- between the files of posix/poll --- */

/* Waits until one of `count` descriptors has an event, fills in revents; their number, 0 at the
 * deadline, -WH_EINTR, -WH_ENOMEM. */
int posix_poll(struct lx_pollfd *fds, uint32_t count, uint64_t deadline_ns);

/* Milliseconds as poll has them: negative = for ever. */
uint64_t posix_poll_deadline(int timeout_ms);

/* Signal mask for the time of a wait. `mask` NULL changes nothing. */
int posix_wait_mask_begin(const uint64_t *mask, size_t size, uint64_t *ret_before);
void posix_wait_mask_end(const uint64_t *mask, uint64_t before);

#endif
