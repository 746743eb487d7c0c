/* SPDX-License-Identifier: ISC */
/* Byte rings and sets of sequence ranges. */
#include "tcp_priv.h"

int tcp_ring_init(struct wh_net *net, struct tcp_ring *r)
{
	struct tcp_state *state = tcp_state(net);
	uint32_t size = net->config.tcp_buffer_start;
	wh_assert(!r->base && wh_is_power_of_two(size));
	r->base = state->spare_count ? state->spare[--state->spare_count]
				     : wh_alloc(net->config.alloc, size);
	if (!r->base)
		return -WH_ENOMEM;
	r->size = size;
	r->head = r->used = 0;
	return 0;
}

void tcp_ring_fini(struct wh_net *net, struct tcp_ring *r)
{
	struct tcp_state *state = tcp_state(net);
	if (r->base && r->size == net->config.tcp_buffer_start &&
	    state->spare_count < TCP_SPARE_MAX)
		state->spare[state->spare_count++] = r->base;
	else
		wh_free(net->config.alloc, r->base, r->size);
	memset(r, 0, sizeof *r);
}

void tcp_rings_spare_free(struct wh_net *net)
{
	struct tcp_state *state = tcp_state(net);
	while (state->spare_count)
		wh_free(net->config.alloc, state->spare[--state->spare_count],
			net->config.tcp_buffer_start);
}

uint32_t tcp_ring_slice(const struct tcp_ring *r, uint32_t offset, uint32_t size,
			struct wh_iov iov[2])
{
	wh_assert(offset + size <= r->size);
	iov[0] = iov[1] = (struct wh_iov){ 0, 0 };
	if (!size)
		return 0;
	uint32_t at = (r->head + offset) & (r->size - 1), first = r->size - at;
	if (first > size)
		first = size;
	iov[0] = (struct wh_iov){ r->base + at, first };
	if (first == size)
		return 1;
	iov[1] = (struct wh_iov){ r->base, size - first };
	return 2;
}

/* The first `keep` bytes from head (out-of-order ones behind `used` included) move. */
bool tcp_ring_grow(const struct wh_alloc *a, struct tcp_ring *r, uint32_t size, uint32_t keep)
{
	struct wh_iov iov[2];
	wh_assert(size > r->size && keep <= r->size && keep >= r->used);
	uint8_t *base = wh_alloc(a, size);
	if (!base)
		return false;
	uint32_t count = tcp_ring_slice(r, 0, keep, iov);
	size_t moved = wh_iov_read(iov, count, 0, base, keep);
	wh_assert(moved == keep);
	wh_free(a, r->base, r->size);
	r->base = base;
	r->size = size;
	r->head = 0;
	return true;
}

void tcp_ring_skip(struct tcp_ring *r, uint32_t size)
{
	wh_assert(size <= r->used);
	r->head = (r->head + size) & (r->size - 1);
	r->used -= size;
}

bool tcp_range_insert(struct tcp_range *r, uint32_t *count, uint32_t max, uint32_t start,
		      uint32_t end, uint32_t *ret_index)
{
	uint32_t i = 0;
	wh_assert(tcp_before(start, end) && *count <= max);
	while (i < *count && tcp_before(r[i].end, start))
		i++;
	uint32_t last = i; /* first range that does not touch the new one */
	while (last < *count && !tcp_before(end, r[last].start))
		last++;
	if (i == last) {
		if (*count == max)
			return false;
		memmove(&r[i + 1], &r[i], (*count - i) * sizeof *r);
		r[i] = (struct tcp_range){ start, end };
		++*count;
	} else {
		if (tcp_before(start, r[i].start))
			r[i].start = start;
		r[i].end = tcp_max(end, r[last - 1].end);
		memmove(&r[i + 1], &r[last], (*count - last) * sizeof *r);
		*count -= last - i - 1;
	}
	if (ret_index)
		*ret_index = i;
	return true;
}

void tcp_range_cut(struct tcp_range *r, uint32_t *count, uint32_t below)
{
	uint32_t gone = 0;
	while (gone < *count && !tcp_before(below, r[gone].end))
		gone++;
	memmove(r, &r[gone], (*count - gone) * sizeof *r);
	*count -= gone;
	if (*count && tcp_before(r[0].start, below))
		r[0].start = below;
}
