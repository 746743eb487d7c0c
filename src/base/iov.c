/* SPDX-License-Identifier: ISC */
#include <wherry/base/errors.h>
#include <wherry/base/iov.h>

/* Both directions walk alike: `to_list` says which side the list is. */
static size_t copy(const struct wh_iov *iov, size_t count, size_t offset, char *flat, size_t size,
		   int to_list)
{
	size_t done = 0;
	for (size_t i = 0; i < count && done < size; i++) {
		if (offset >= iov[i].size) {
			offset -= iov[i].size;
			continue;
		}
		size_t n = iov[i].size - offset;
		if (n > size - done)
			n = size - done;
		char *part = (char *)iov[i].base + offset;
		memcpy(to_list ? part : flat + done, to_list ? flat + done : part, n);
		done += n;
		offset = 0;
	}
	return done;
}

size_t wh_iov_read(const struct wh_iov *iov, size_t count, size_t offset, void *to, size_t size)
{
	return copy(iov, count, offset, to, size, 0);
}

size_t wh_iov_write(const struct wh_iov *iov, size_t count, size_t offset, const void *from,
		    size_t size)
{
	return copy(iov, count, offset, (char *)(uintptr_t)from, size, 1); /* only read */
}

int wh_iov_slice(const struct wh_iov *iov, size_t count, size_t offset, size_t size,
		 struct wh_iov *to, size_t to_max)
{
	size_t used = 0;
	for (size_t i = 0; i < count && size; i++) {
		if (offset >= iov[i].size) {
			offset -= iov[i].size;
			continue;
		}
		size_t n = iov[i].size - offset;
		if (n > size)
			n = size;
		if (used == to_max)
			return -WH_E2BIG;
		to[used++] = (struct wh_iov){ (char *)iov[i].base + offset, n };
		size -= n;
		offset = 0;
	}
	return (int)used;
}
