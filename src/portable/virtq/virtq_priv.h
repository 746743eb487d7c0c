/* SPDX-License-Identifier: ISC */
#ifndef VIRTQ_PRIV_H
#define VIRTQ_PRIV_H

/*
 * Layout of a split ring and single-copy access to it. The other side may write at
 * any moment, so each access is one relaxed atomic: the compiler can neither repeat nor
 * tear it. Ordering is made with acquire loads and release stores of the two
 * indices, and with full fences where one side writes an index and then
 * reads the other side's wish (2.7.7, 2.7.10).
 */

#include <stdint.h>
#include <wherry/base/bytes.h>
#include <wherry/virtq.h>

/* Descriptor (2.7.5). */
#define VIRTQ_DESC_ADDR 0u
#define VIRTQ_DESC_LEN 8u
#define VIRTQ_DESC_FLAGS 12u
#define VIRTQ_DESC_NEXT 14u
#define VIRTQ_DESC_SIZE 16u
#define VIRTQ_DESC_F_NEXT 1u
#define VIRTQ_DESC_F_WRITE 2u
#define VIRTQ_DESC_F_INDIRECT 4u

/* Available and used ring (2.7.6, 2.7.8); the event word follows the last entry. */
#define VIRTQ_RING_FLAGS 0u
#define VIRTQ_RING_INDEX 2u
#define VIRTQ_RING_ENTRIES 4u
#define VIRTQ_AVAIL_ENTRY_SIZE 2u
#define VIRTQ_USED_ENTRY_SIZE 8u
#define VIRTQ_F_NO_NOTICE 1u /* AVAIL_F_NO_INTERRUPT and USED_F_NO_NOTIFY */

static inline uint16_t virtq_load16(const void *p)
{
	return WH_BYTES_LE(16, __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED));
}

static inline uint32_t virtq_load32(const void *p)
{
	return WH_BYTES_LE(32, __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED));
}

/* Two halves, each read once: 64-bit atomics are not lock-free everywhere. */
static inline uint64_t virtq_load64(const uint8_t *p)
{
	return virtq_load32(p) | (uint64_t)virtq_load32(p + 4) << 32;
}

static inline void virtq_store16(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, WH_BYTES_LE(16, v), __ATOMIC_RELAXED);
}

static inline void virtq_store32(void *p, uint32_t v)
{
	__atomic_store_n((uint32_t *)p, WH_BYTES_LE(32, v), __ATOMIC_RELAXED);
}

static inline uint16_t virtq_index_load(const uint8_t *ring)
{
	const void *p = ring + VIRTQ_RING_INDEX;
	return WH_BYTES_LE(16, __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));
}

static inline void virtq_index_store(uint8_t *ring, uint16_t v)
{
	void *p = ring + VIRTQ_RING_INDEX;
	__atomic_store_n((uint16_t *)p, WH_BYTES_LE(16, v), __ATOMIC_RELEASE);
}

static inline void virtq_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Event word of a ring: in the available ring written by the driver (used_event), in the used
 * ring by the device (avail_event). */
static inline uint8_t *virtq_used_event(uint8_t *avail, uint32_t size)
{
	return avail + VIRTQ_RING_ENTRIES + VIRTQ_AVAIL_ENTRY_SIZE * size;
}

static inline uint8_t *virtq_avail_event(uint8_t *used, uint32_t size)
{
	return used + VIRTQ_RING_ENTRIES + VIRTQ_USED_ENTRY_SIZE * size;
}

/* Did the index pass `event` on its way from `before` to `now`? The arguments count from
 * set-up and do not wrap at 16 bits, so that 65536 entries at once are not taken for none. */
static inline bool virtq_event_passed(uint16_t event, uint32_t now, uint32_t before)
{
	if (now - before > UINT16_MAX)
		return true;
	return (uint16_t)((uint16_t)now - event - 1) < (uint16_t)(now - before);
}

#endif
