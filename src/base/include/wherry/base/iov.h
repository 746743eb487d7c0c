/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BASE_IOV_H
#define WHERRY_BASE_IOV_H

/* Scatter-gather lists. Layout equals POSIX struct iovec, so that the host may
 * hand one to readv() without a copy. */

#include <stddef.h>
#include <stdint.h>
#include <wherry/base/mem.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_iov {
	void *base;
	size_t size;
};

/* Bytes in all. */
static inline size_t wh_iov_size(const struct wh_iov *iov, size_t count)
{
	size_t n = 0;
	for (size_t i = 0; i < count; i++)
		n += iov[i].size;
	return n;
}

/* Copies up to `size` bytes that begin `offset` bytes into the list; returns
 * how many (less when the list is shorter). */
size_t wh_iov_read(const struct wh_iov *iov, size_t count, size_t offset, void *to, size_t size);
size_t wh_iov_write(const struct wh_iov *iov, size_t count, size_t offset, const void *from,
		    size_t size);

/* Describes [offset, offset+size) of `iov` in `to` (at most to_max entries);
 * returns the entries used, or -WH_E2BIG when to_max is too small. Ends early
 * where the list ends. */
int wh_iov_slice(const struct wh_iov *iov, size_t count, size_t offset, size_t size,
		 struct wh_iov *to, size_t to_max);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
