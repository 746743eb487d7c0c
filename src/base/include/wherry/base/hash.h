/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BASE_HASH_H
#define WHERRY_BASE_HASH_H

/* SipHash-2-4: keyed hash for tables that a peer can fill, and for sequence
 * numbers (RFC 6528). CRC-32C for checksums of our own formats. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

uint64_t wh_siphash(const uint64_t key[2], const void *data, size_t size);

/* CRC-32C (Castagnoli); start with 0, feed parts in order. */
uint32_t wh_crc32c(uint32_t crc, const void *data, size_t size);

/* Small fast generator for tests, jitter and ids, not for secrets (splitmix64). */
static inline uint64_t wh_random_next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
