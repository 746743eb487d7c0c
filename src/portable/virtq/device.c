/* SPDX-License-Identifier: ISC */
#include <wherry/base/assert.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>

#include "virtq_priv.h"

void wh_virtq_device_reset(struct wh_virtq_device *q)
{
	*q = (struct wh_virtq_device){ 0 };
}

int wh_virtq_device_init(struct wh_virtq_device *q, const struct wh_virtq_device_config *config)
{
	uint32_t size = config->size;
	wh_virtq_device_reset(q);
	if (!wh_is_power_of_two(size) || size > WH_VIRTQ_SIZE_MAX)
		return -WH_EINVAL;
	if (config->desc % 16 || config->driver % 2 || config->device % 4)
		return -WH_EINVAL;
	/* The two event words are always inside: a driver lays its rings out with them (2.7.6). */
	uint8_t *desc = wh_gmem_at(config->mem, config->desc, wh_virtq_desc_bytes(size), false);
	uint8_t *avail = wh_gmem_at(config->mem, config->driver, wh_virtq_avail_bytes(size), false);
	uint8_t *used = wh_gmem_at(config->mem, config->device, wh_virtq_used_bytes(size), true);
	if (!desc || !avail || !used)
		return -WH_EINVAL;
	/* A region that is itself not aligned on the host would make our atomics unaligned. */
	if ((uintptr_t)desc % 4 || (uintptr_t)avail % 2 || (uintptr_t)used % 4)
		return -WH_EINVAL;
	q->mem = config->mem;
	q->desc = desc;
	q->avail = avail;
	q->used = used;
	q->size = (uint16_t)size;
	q->indirect = config->features & WH_VIRTQ_F_INDIRECT;
	q->event_idx = config->features & WH_VIRTQ_F_EVENT_IDX;
	return 0;
}

void wh_virtq_device_seek(struct wh_virtq_device *q, uint16_t next)
{
	if (!wh_virtq_device_ready(q))
		return;
	q->avail_seen = q->avail_next = next;
	q->used_next = q->used_index = q->used_told = virtq_index_load(q->used);
}

void wh_virtq_device_resume(struct wh_virtq_device *q)
{
	if (wh_virtq_device_ready(q))
		wh_virtq_device_seek(q, virtq_index_load(q->used));
}

static int broken(struct wh_virtq_device *q)
{
	q->broken = true;
	return -WH_EBADMSG;
}

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* The only reads of a descriptor. Indirect tables have no stated alignment: those that are not
 * aligned are refused by the caller. */
static struct desc desc_load(const uint8_t *table, uint32_t index)
{
	const uint8_t *p = table + (size_t)index * VIRTQ_DESC_SIZE;
	return (struct desc){ .addr = virtq_load64(p + VIRTQ_DESC_ADDR),
			      .len = virtq_load32(p + VIRTQ_DESC_LEN),
			      .flags = virtq_load16(p + VIRTQ_DESC_FLAGS),
			      .next = virtq_load16(p + VIRTQ_DESC_NEXT) };
}

/* Adds one buffer to the chain; false = against the contract. */
static bool chain_add(const struct wh_virtq_device *q, struct wh_virtq_chain *c,
		      const struct desc *d)
{
	bool write = d->flags & VIRTQ_DESC_F_WRITE;
	if (!write && (c->in_count || c->in_size))
		return false; /* 2.7.4.2: in after out */
	if (!d->len)
		return true;
	uint64_t size = c->out_size + c->in_size + d->len;
	uint32_t count = c->out_count + c->in_count;
	void *p = wh_gmem_at(q->mem, d->addr, d->len, write);
	if (!p || count == c->iov_max || size > UINT32_MAX)
		return false;
	c->iov[count] = (struct wh_iov){ .base = p, .size = d->len };
	if (write) {
		c->in_count++;
		c->in_size += d->len;
	} else {
		c->out_count++;
		c->out_size += d->len;
	}
	return true;
}

/* Follows a chain from the ring's table into at most one indirect table. `left` bounds the walk, so
 * that a loop ends. */
static bool chain_walk(const struct wh_virtq_device *q, uint16_t head, struct wh_virtq_chain *c)
{
	const uint8_t *table = q->desc;
	uint32_t count = q->size, left = q->size, index = head;
	bool inside = false; /* an indirect table */
	for (;;) {
		if (index >= count || !left--)
			return false;
		struct desc d = desc_load(table, index);
		if (d.flags & VIRTQ_DESC_F_INDIRECT) {
			if (inside || !q->indirect || d.flags & VIRTQ_DESC_F_NEXT)
				return false;
			if (!d.len || d.len % VIRTQ_DESC_SIZE || d.addr % 4 ||
			    d.len / VIRTQ_DESC_SIZE > q->size)
				return false;
			table = wh_gmem_at(q->mem, d.addr, d.len, false);
			if (!table || (uintptr_t)table % 4)
				return false;
			inside = true;
			index = 0;
			count = left = d.len / VIRTQ_DESC_SIZE;
			continue;
		}
		if (!chain_add(q, c, &d))
			return false;
		if (!(d.flags & VIRTQ_DESC_F_NEXT))
			return true;
		index = d.next;
	}
}

/* true = avail_seen is ahead of avail_next; false = empty or newly broken */
static bool look(struct wh_virtq_device *q)
{
	q->avail_seen = virtq_index_load(q->avail);
	if ((uint16_t)(q->avail_seen - q->avail_next) > q->size)
		q->broken = true;
	return !q->broken && q->avail_seen != q->avail_next;
}

int wh_virtq_device_pop(struct wh_virtq_device *q, struct wh_virtq_chain *chain)
{
	if (q->broken)
		return -WH_EBADMSG;
	if (!q->size)
		return 0;
	if (q->avail_seen == q->avail_next && !look(q))
		return q->broken ? -WH_EBADMSG : 0;
	uint32_t slot = q->avail_next & (q->size - 1u);
	uint16_t head = virtq_load16(q->avail + VIRTQ_RING_ENTRIES + VIRTQ_AVAIL_ENTRY_SIZE * slot);
	chain->out_count = chain->in_count = 0;
	chain->out_size = chain->in_size = 0;
	chain->head = head;
	if (!chain_walk(q, head, chain)) {
		chain->out_count = chain->in_count = 0;
		chain->out_size = chain->in_size = 0;
		return broken(q);
	}
	wh_assert(chain->out_count + chain->in_count <= chain->iov_max);
	q->avail_next++;
	return 1;
}

void wh_virtq_device_unpop(struct wh_virtq_device *q, uint16_t count)
{
	if (!wh_virtq_device_ready(q))
		return;
	q->avail_next = (uint16_t)(q->avail_next - count);
	wh_assert((uint16_t)(q->avail_seen - q->avail_next) <= q->size);
}

void wh_virtq_device_fill(struct wh_virtq_device *q, uint16_t head, uint32_t written)
{
	if (!wh_virtq_device_ready(q))
		return;
	uint32_t slot = q->used_next & (q->size - 1u);
	uint8_t *entry = q->used + VIRTQ_RING_ENTRIES + VIRTQ_USED_ENTRY_SIZE * slot;
	virtq_store32(entry, head);
	virtq_store32(entry + 4, written);
	q->used_next++;
}

void wh_virtq_device_publish(struct wh_virtq_device *q)
{
	if (!wh_virtq_device_ready(q))
		return;
	q->used_index = q->used_next;
	virtq_index_store(q->used, (uint16_t)q->used_index);
}

void wh_virtq_device_push(struct wh_virtq_device *q, uint16_t head, uint32_t written)
{
	wh_virtq_device_fill(q, head, written);
	wh_virtq_device_publish(q);
}

bool wh_virtq_device_interrupt_needed(struct wh_virtq_device *q)
{
	if (!wh_virtq_device_ready(q) || q->used_told == q->used_index)
		return false;
	uint32_t before = q->used_told;
	q->used_told = q->used_index;
	virtq_fence(); /* the index is out before the driver's wish is read (2.7.7.2) */
	if (!q->event_idx)
		return !(virtq_load16(q->avail + VIRTQ_RING_FLAGS) & VIRTQ_F_NO_NOTICE);
	uint16_t event = virtq_load16(virtq_used_event(q->avail, q->size));
	return virtq_event_passed(event, q->used_index, before);
}

void wh_virtq_device_kicks_off(struct wh_virtq_device *q)
{
	/* With event indices an index that lies behind asks for nothing: leave it there. */
	if (wh_virtq_device_ready(q) && !q->event_idx)
		virtq_store16(q->used + VIRTQ_RING_FLAGS, VIRTQ_F_NO_NOTICE);
}

bool wh_virtq_device_kicks_on(struct wh_virtq_device *q)
{
	if (!wh_virtq_device_ready(q))
		return false;
	if (q->event_idx)
		virtq_store16(virtq_avail_event(q->used, q->size), q->avail_seen);
	else
		virtq_store16(q->used + VIRTQ_RING_FLAGS, 0);
	virtq_fence(); /* the wish is out before the index is read again */
	return virtq_index_load(q->avail) != q->avail_seen;
}

bool wh_virtq_device_pending(struct wh_virtq_device *q)
{
	if (!wh_virtq_device_ready(q))
		return false;
	return q->avail_seen != q->avail_next || virtq_index_load(q->avail) != q->avail_next;
}
