/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BASE_CHECKED_H
#define WHERRY_BASE_CHECKED_H

/* Arithmetic on numbers that somebody else chose: true = it overflowed. */

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline bool wh_add_overflows(uint64_t a, uint64_t b, uint64_t *ret_sum)
{
	return __builtin_add_overflow(a, b, ret_sum);
}

static inline bool wh_mul_overflows(uint64_t a, uint64_t b, uint64_t *ret_product)
{
	return __builtin_mul_overflow(a, b, ret_product);
}

/* Is [offset, offset+size) inside [0, limit)? Empty ranges at the end are. */
static inline bool wh_range_inside(uint64_t offset, uint64_t size, uint64_t limit)
{
	return size <= limit && offset <= limit - size;
}

static inline bool wh_is_power_of_two(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* align is a power of two; the caller has excluded overflow. */
static inline uint64_t wh_align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline uint64_t wh_align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

#ifdef __cplusplus
}
#endif
#endif
