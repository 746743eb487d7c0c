/* SPDX-License-Identifier: ISC */
#include <wherry/base/assert.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>

#include "virtq_priv.h"

int wh_virtq_driver_init(struct wh_virtq_driver *q, const struct wh_virtq_driver_config *config)
{
	uint32_t size = config->size;
	*q = (struct wh_virtq_driver){ 0 };
	if (!wh_is_power_of_two(size) || size > WH_VIRTQ_SIZE_MAX || !config->ring ||
	    !config->slots || (uintptr_t)config->ring % WH_VIRTQ_RING_ALIGN)
		return -WH_EINVAL;
	memset(config->ring, 0, wh_virtq_driver_ring_bytes(size));
	q->size = size;
	q->slots = config->slots;
	q->bias = config->bias;
	q->desc = config->ring;
	q->avail = q->desc + wh_virtq_desc_bytes(size);
	q->used = q->desc + wh_virtq_driver_ring_bytes(size) - wh_virtq_used_bytes(size);
	q->desc_address = (uintptr_t)q->desc + q->bias;
	q->driver_address = (uintptr_t)q->avail + q->bias;
	q->device_address = (uintptr_t)q->used + q->bias;
	q->event_idx = config->features & WH_VIRTQ_F_EVENT_IDX;
	q->free_count = (uint16_t)size;
	for (uint32_t i = 0; i < size; i++)
		q->slots[i] = (struct wh_virtq_driver_slot){ .next = (uint16_t)(i + 1) };
	return 0;
}

static void desc_store(struct wh_virtq_driver *q, uint16_t index, const struct wh_iov *v,
		       uint16_t flags)
{
	uint8_t *p = q->desc + (size_t)index * VIRTQ_DESC_SIZE;
	uint64_t address = (uintptr_t)v->base + q->bias;
	virtq_store32(p + VIRTQ_DESC_ADDR, (uint32_t)address);
	virtq_store32(p + VIRTQ_DESC_ADDR + 4, (uint32_t)(address >> 32));
	virtq_store32(p + VIRTQ_DESC_LEN, (uint32_t)v->size);
	virtq_store16(p + VIRTQ_DESC_FLAGS, flags);
	virtq_store16(p + VIRTQ_DESC_NEXT, q->slots[index].next);
}

int wh_virtq_driver_add(struct wh_virtq_driver *q, const struct wh_iov *iov, uint32_t out_count,
			uint32_t in_count, void *cookie)
{
	uint64_t count = (uint64_t)out_count + in_count;
	wh_assert(cookie);
	if (!count)
		return -WH_EINVAL;
	if (count > q->free_count)
		return -WH_EAGAIN;
	for (uint64_t i = 0; i < count; i++)
		if (!iov[i].size || iov[i].size > UINT32_MAX)
			return -WH_EINVAL;
	uint16_t head = q->free_head, index = head;
	for (uint64_t i = 0; i < count; i++) {
		uint16_t flags = (uint16_t)((i + 1 < count ? VIRTQ_DESC_F_NEXT : 0) |
					    (i >= out_count ? VIRTQ_DESC_F_WRITE : 0));
		wh_assert(index < q->size);
		desc_store(q, index, &iov[i], flags);
		index = q->slots[index].next;
	}
	q->free_head = index;
	q->free_count = (uint16_t)(q->free_count - count);
	wh_assert(!q->slots[head].count);
	q->slots[head].cookie = cookie;
	q->slots[head].count = (uint16_t)count;
	uint32_t slot = q->avail_index & (q->size - 1);
	virtq_store16(q->avail + VIRTQ_RING_ENTRIES + VIRTQ_AVAIL_ENTRY_SIZE * slot, head);
	q->avail_index++;
	virtq_index_store(q->avail, (uint16_t)q->avail_index);
	return 0;
}

bool wh_virtq_driver_kick_needed(struct wh_virtq_driver *q)
{
	if (q->kicked_index == q->avail_index)
		return false;
	uint32_t before = q->kicked_index;
	q->kicked_index = q->avail_index;
	virtq_fence(); /* the index is out before the device's wish is read (2.7.10.2) */
	if (!q->event_idx)
		return !(virtq_load16(q->used + VIRTQ_RING_FLAGS) & VIRTQ_F_NO_NOTICE);
	uint16_t event = virtq_load16(virtq_avail_event(q->used, q->size));
	return virtq_event_passed(event, q->avail_index, before);
}

/* Puts the chain that begins at head back into the free list and returns its cookie. */
static void *release(struct wh_virtq_driver *q, uint16_t head)
{
	void *cookie = q->slots[head].cookie;
	uint16_t last = head, count = q->slots[head].count;
	for (uint16_t i = 1; i < count; i++)
		last = q->slots[last].next;
	q->slots[last].next = q->free_head;
	q->slots[head].cookie = 0;
	q->slots[head].count = 0;
	q->free_head = head;
	q->free_count = (uint16_t)(q->free_count + count);
	wh_assert(q->free_count <= q->size);
	return cookie;
}

int wh_virtq_driver_get(struct wh_virtq_driver *q, void **ret_cookie, uint32_t *ret_written)
{
	if (q->broken)
		return -WH_EBADMSG;
	if (!wh_virtq_driver_pending(q))
		return 0;
	uint32_t slot = q->used_next & (q->size - 1);
	const uint8_t *entry = q->used + VIRTQ_RING_ENTRIES + VIRTQ_USED_ENTRY_SIZE * slot;
	uint32_t head = virtq_load32(entry), written = virtq_load32(entry + 4);
	if (head >= q->size || !q->slots[head].count) {
		q->broken = true;
		return -WH_EBADMSG;
	}
	q->used_next++;
	*ret_cookie = release(q, (uint16_t)head);
	*ret_written = written;
	return 1;
}

bool wh_virtq_driver_pending(const struct wh_virtq_driver *q)
{
	return q->size && virtq_index_load(q->used) != q->used_next;
}

void wh_virtq_driver_interrupts_off(struct wh_virtq_driver *q)
{
	if (q->event_idx) /* the farthest index ahead */
		virtq_store16(virtq_used_event(q->avail, q->size), (uint16_t)(q->used_next - 1));
	else
		virtq_store16(q->avail + VIRTQ_RING_FLAGS, VIRTQ_F_NO_NOTICE);
}

bool wh_virtq_driver_interrupts_on(struct wh_virtq_driver *q)
{
	if (q->event_idx)
		virtq_store16(virtq_used_event(q->avail, q->size), q->used_next);
	else
		virtq_store16(q->avail + VIRTQ_RING_FLAGS, 0);
	virtq_fence(); /* the wish is out before the index is read again */
	return wh_virtq_driver_pending(q);
}

void *wh_virtq_driver_detach(struct wh_virtq_driver *q)
{
	for (uint32_t i = 0; i < q->size; i++)
		if (q->slots[i].count)
			return release(q, (uint16_t)i);
	return 0;
}
