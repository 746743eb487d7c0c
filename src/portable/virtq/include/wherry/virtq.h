/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_VIRTQ_H
#define WHERRY_VIRTQ_H

/*
 * Split virtqueues (virtio 1.2, 2.7), both halves. The device half reads rings that
 * a hostile driver writes, through wherry/gmem.h; the driver half lives in memory of
 * its own and believes the device no more than it has to.
 *
 * Threads: a queue belongs to one thread; the other half may run in another
 * thread, process or processor at the same time. No allocation, no globals.
 *
 * Device half, in the device's notify handler:
 *
 *	struct wh_iov iov[QUEUE_SIZE];
 *	struct wh_virtq_chain chain = { .iov = iov, .iov_max = QUEUE_SIZE };
 *	do {
 *		wh_virtq_device_kicks_off(q);
 *		while ((n = wh_virtq_device_pop(q, &chain)) > 0)
 *			wh_virtq_device_push(q, chain.head, serve(&chain));
 *	} while (n == 0 && wh_virtq_device_kicks_on(q));
 *	if (n < 0)
 *		...the driver broke the contract: set DEVICE_NEEDS_RESET...
 *	if (wh_virtq_device_interrupt_needed(q))
 *		...raise the interrupt...
 *
 * Driver half:
 *
 *	wh_virtq_driver_add(q, iov, out_count, in_count, request);
 *	if (wh_virtq_driver_kick_needed(q))
 *		...notify the device...
 *	while (wh_virtq_driver_get(q, &cookie, &size) > 0)
 *		...`size` bytes were written into cookie's in buffers...
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/iov.h>
#include <wherry/gmem.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WH_VIRTQ_SIZE_MAX 32768u /* virtio 1.2, 2.7 */

/* Negotiated feature bits that change a queue; the others are ignored. */
#define WH_VIRTQ_F_INDIRECT (1ull << 28)
#define WH_VIRTQ_F_EVENT_IDX (1ull << 29)

/* Bytes of each part of a ring with `size` entries. */
static inline size_t wh_virtq_desc_bytes(uint32_t size)
{
	return 16u * (size_t)size;
}
static inline size_t wh_virtq_avail_bytes(uint32_t size)
{
	return 6u + 2u * (size_t)size;
}
static inline size_t wh_virtq_used_bytes(uint32_t size)
{
	return 6u + 8u * (size_t)size;
}

/* ---- device half ---- */

struct wh_virtq_device_config {
	const struct wh_gmem *mem; /* borrowed until _reset */
	uint32_t size;             /* entries, a power of two up to WH_VIRTQ_SIZE_MAX */
	wh_gaddr desc, driver, device;
	uint64_t features; /* negotiated */
};

struct wh_virtq_device {
	/* All private. */
	const struct wh_gmem *mem;
	const uint8_t *desc;
	uint8_t *avail, *used;
	uint32_t used_next;  /* entries filled since set-up */
	uint32_t used_index; /* entries published */
	uint32_t used_told;  /* used_index at the last interrupt decision */
	uint16_t size;       /* 0 = not set up */
	uint16_t avail_seen; /* driver's index when last read */
	uint16_t avail_next; /* next entry to pop */
	bool indirect, event_idx, broken;
};

/* One request. The device gives iov and iov_max (the queue's size is always
 * enough); pop fills in the rest. The bytes behind iov are shared with the driver: copy what
 * you check. Descriptors of length 0 leave no entry. */
struct wh_virtq_chain {
	struct wh_iov *iov; /* out (device reads) entries first, then in (device writes) */
	uint32_t iov_max;
	uint32_t out_count, in_count; /* entries */
	uint64_t out_size, in_size;   /* bytes; together at most UINT32_MAX */
	uint16_t head;                /* for push */
};

/* Checks sizes, alignment and that all three parts lie in guest memory. 0 or -WH_EINVAL; on
 * error the queue is as after _reset. */
int wh_virtq_device_init(struct wh_virtq_device *q, const struct wh_virtq_device_config *config);
/* A queue that was in use before (vhost): `next` is the place in the available ring from which to go on; what the
 * used ring says it holds is believed. Right after _init. */
void wh_virtq_device_seek(struct wh_virtq_device *q, uint16_t next);
/* The same where every chain that was taken was given back in order. */
void wh_virtq_device_resume(struct wh_virtq_device *q);
/* Every chain that was taken was given back. */
static inline bool wh_virtq_device_idle(const struct wh_virtq_device *q)
{
	return q->avail_next == (uint16_t)q->used_index;
}
/* The place from which a successor goes on. */
static inline uint16_t wh_virtq_device_next(const struct wh_virtq_device *q)
{
	return q->avail_next;
}
/* Forgets the rings: every other call is then harmless and finds nothing. */
void wh_virtq_device_reset(struct wh_virtq_device *q);

static inline bool wh_virtq_device_ready(const struct wh_virtq_device *q)
{
	return q->size != 0 && !q->broken;
}

/* 1 = chain is filled in, 0 = nothing there, -WH_EBADMSG = the driver broke the contract
 * (index jumped, descriptor out of range, loop, buffer outside memory or not writable, out after in,
 * indirect inside indirect or not negotiated, more entries than iov_max): the queue
 * stays broken, and gives this answer, until it is set up again. Nothing of a bad chain is
 * given out. Each field of a descriptor is read exactly once. */
int wh_virtq_device_pop(struct wh_virtq_device *q, struct wh_virtq_chain *chain);
/* Undoes the last `count` pops that were not pushed; no push may have come between. */
void wh_virtq_device_unpop(struct wh_virtq_device *q, uint16_t count);

/* Gives a chain back; `written` = bytes written to its in buffers. */
void wh_virtq_device_push(struct wh_virtq_device *q, uint16_t head, uint32_t written);
/* The same in two steps: fill several, then let the driver see all of them at once. */
void wh_virtq_device_fill(struct wh_virtq_device *q, uint16_t head, uint32_t written);
void wh_virtq_device_publish(struct wh_virtq_device *q);

/* After a burst of pushes: does the driver want to hear of them? Full barrier inside. */
bool wh_virtq_device_interrupt_needed(struct wh_virtq_device *q);

/* Asks the driver for no kicks / for kicks. _on returns true when chains came that no pop has
 * looked for yet: pop again. Chains left or put back on purpose do not count. */
void wh_virtq_device_kicks_off(struct wh_virtq_device *q);
bool wh_virtq_device_kicks_on(struct wh_virtq_device *q);

/* Chains given back since set-up, modulo 2^16: _next minus this is how many are in hand. */
static inline uint16_t wh_virtq_device_given(const struct wh_virtq_device *q)
{
	return (uint16_t)q->used_index;
}

/* Does the driver have anything for us? Changes nothing. */
bool wh_virtq_device_pending(struct wh_virtq_device *q);

/* ---- driver half ---- */

/* One per ring entry, in memory the device cannot see. */
struct wh_virtq_driver_slot {
	void *cookie;
	uint16_t next;  /* chain of descriptors, or of free ones */
	uint16_t count; /* descriptors of the chain that begins here, 0 = none does */
};

struct wh_virtq_driver_config {
	uint32_t size; /* entries, a power of two */
	void *ring;    /* wh_virtq_driver_ring_bytes(size), aligned to WH_VIRTQ_RING_ALIGN */
	struct wh_virtq_driver_slot *slots; /* `size` of them */
	/* Guest address of a byte = its pointer + bias: 0 where they are the same. */
	uint64_t bias;
	uint64_t features; /* negotiated; WH_VIRTQ_F_INDIRECT is not used by this half */
};

#define WH_VIRTQ_RING_ALIGN 16u

struct wh_virtq_driver {
	/* To tell the device (virtio 1.2: queue_size, queue_desc, queue_driver, queue_device). */
	uint32_t size;
	wh_gaddr desc_address, driver_address, device_address;

	/* Private. */
	struct wh_virtq_driver_slot *slots;
	uint8_t *desc, *avail, *used;
	uint64_t bias;
	uint32_t avail_index, kicked_index; /* chains offered / at the last kick decision */
	uint16_t free_head, free_count;
	uint16_t used_next;
	bool event_idx, broken;
};

/* Bytes of the whole ring (descriptors, available, used), for `size` entries. */
static inline size_t wh_virtq_driver_ring_bytes(uint32_t size)
{
	size_t n = wh_virtq_desc_bytes(size) + wh_virtq_avail_bytes(size);
	return ((n + 3u) & ~(size_t)3u) + wh_virtq_used_bytes(size);
}

/* Clears ring and slots. 0 or -WH_EINVAL (size, alignment, no memory given). */
int wh_virtq_driver_init(struct wh_virtq_driver *q, const struct wh_virtq_driver_config *config);

/* Descriptors that are free: an add needs out_count + in_count of them. */
static inline uint32_t wh_virtq_driver_free_count(const struct wh_virtq_driver *q)
{
	return q->free_count;
}

/* Offers one chain: out_count entries the device reads, then in_count it writes. The memory
 * stays the device's until get returns `cookie` (not NULL). 0, -WH_EAGAIN (no descriptors free),
 * -WH_EINVAL (no entry, or an entry of 0 or over 4 GiB - 1 bytes). */
int wh_virtq_driver_add(struct wh_virtq_driver *q, const struct wh_iov *iov, uint32_t out_count,
			uint32_t in_count, void *cookie);
/* After a burst of adds: must the device be notified? Full barrier inside. */
bool wh_virtq_driver_kick_needed(struct wh_virtq_driver *q);

/* 1 = a chain came back, 0 = none, -WH_EBADMSG = the device answered something that is not
 * in flight: the queue stays broken. ret_written is at most what the device claims:
 * compare it with your buffer. */
int wh_virtq_driver_get(struct wh_virtq_driver *q, void **ret_cookie, uint32_t *ret_written);
/* Would get find something? */
bool wh_virtq_driver_pending(const struct wh_virtq_driver *q);

/* Asks the device for no interrupts / for interrupts. _on returns true when something came
 * between: get again. */
void wh_virtq_driver_interrupts_off(struct wh_virtq_driver *q);
bool wh_virtq_driver_interrupts_on(struct wh_virtq_driver *q);

/* After a reset of the device: the cookie of some chain that never came back, NULL when
 * there is none left. */
void *wh_virtq_driver_detach(struct wh_virtq_driver *q);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
