/* SPDX-License-Identifier: ISC */
#ifndef KERN_POLL_H
#define KERN_POLL_H

/* The events that go through wait queues: Linux's POLL* bits, which are EPOLL* bits too. */

#define LX_POLLIN 0x001u
#define LX_POLLPRI 0x002u
#define LX_POLLOUT 0x004u
#define LX_POLLERR 0x008u
#define LX_POLLHUP 0x010u
#define LX_POLLNVAL 0x020u
#define LX_POLLRDNORM 0x040u
#define LX_POLLRDBAND 0x080u
#define LX_POLLWRNORM 0x100u
#define LX_POLLWRBAND 0x200u
#define LX_POLLMSG 0x400u
#define LX_POLLRDHUP 0x2000u

/* Sent through a file's wait queue when the file is going away: whoever stays in
 * the queue on his own account (epoll) must leave it in his waiter function. */
#define KERN_POLLFREE 0x4000u

#endif
