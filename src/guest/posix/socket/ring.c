/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <wherry/base/assert.h>
#include "sock.h"

#define SIZE_FIRST 4096u

static void copy_out(const struct sock_ring *r, uint32_t offset, uint8_t *to, uint32_t size)
{
	uint32_t at = (r->head + offset) & (r->size - 1);
	uint32_t first = r->size - at < size ? r->size - at : size;
	memcpy(to, r->base + at, first);
	memcpy(to + first, r->base, size - first);
}

static bool grow(struct sock_ring *r, uint32_t size)
{
	uint8_t *base = kern_alloc(size);
	if (!base)
		return false;
	if (r->base)
		copy_out(r, 0, base, r->used);
	kern_free(r->base, r->size);
	r->base = base;
	r->size = size;
	r->head = 0;
	return true;
}

bool sock_ring_room(struct sock_ring *r, uint32_t size)
{
	while (r->size - r->used < size) {
		uint32_t more = r->size ? r->size * 2 : SIZE_FIRST;
		if (more > r->limit || !grow(r, more))
			return false;
	}
	return true;
}

void sock_ring_put(struct sock_ring *r, const void *from, uint32_t size)
{
	wh_assert(size <= r->size - r->used);
	uint32_t at = (r->head + r->used) & (r->size - 1);
	uint32_t first = r->size - at < size ? r->size - at : size;
	memcpy(r->base + at, from, first);
	memcpy(r->base, (const uint8_t *)from + first, size - first);
	r->used += size;
}

void sock_ring_put_iov(struct sock_ring *r, const struct wh_iov *iov, uint32_t count,
		       uint32_t offset, uint32_t size)
{
	for (uint32_t i = 0; i < count && size; i++) {
		if (offset >= iov[i].size) {
			offset -= (uint32_t)iov[i].size;
			continue;
		}
		size_t n = iov[i].size - offset < size ? iov[i].size - offset : size;
		sock_ring_put(r, (const uint8_t *)iov[i].base + offset, (uint32_t)n);
		size -= (uint32_t)n;
		offset = 0;
	}
	wh_assert(!size);
}

void sock_ring_peek(const struct sock_ring *r, uint32_t offset, void *to, uint32_t size)
{
	wh_assert(offset + size <= r->used);
	copy_out(r, offset, to, size);
}

void sock_ring_peek_iov(const struct sock_ring *r, uint32_t offset, const struct wh_iov *iov,
			int count, uint32_t size)
{
	wh_assert(offset + size <= r->used);
	for (int i = 0; i < count && size; i++) {
		uint32_t n = iov[i].size < size ? (uint32_t)iov[i].size : size;
		copy_out(r, offset, iov[i].base, n);
		offset += n;
		size -= n;
	}
}

void sock_ring_skip(struct sock_ring *r, uint32_t size)
{
	wh_assert(size <= r->used);
	r->used -= size;
	r->head = r->used ? (r->head + size) & (r->size - 1) : 0;
}

void sock_ring_fini(struct sock_ring *r)
{
	kern_free(r->base, r->size);
	memset(r, 0, sizeof *r);
}
