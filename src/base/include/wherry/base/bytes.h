/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BASE_BYTES_H
#define WHERRY_BASE_BYTES_H

/* Unaligned loads and stores in a stated byte order: the only way bytes of a
 * wire or a disk become integers. The caller has checked the length. */

#include <stdint.h>
#include <wherry/base/mem.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline uint16_t wh_bswap16(uint16_t v)
{
	return __builtin_bswap16(v);
}
static inline uint32_t wh_bswap32(uint32_t v)
{
	return __builtin_bswap32(v);
}
static inline uint64_t wh_bswap64(uint64_t v)
{
	return __builtin_bswap64(v);
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WH_BYTES_LE(bits, v) (v)
#define WH_BYTES_BE(bits, v) wh_bswap##bits(v)
#else
#define WH_BYTES_LE(bits, v) wh_bswap##bits(v)
#define WH_BYTES_BE(bits, v) (v)
#endif

#define WH_BYTES_DEFINE(bits)                                           \
	static inline uint##bits##_t wh_load_le##bits(const void *p)    \
	{                                                               \
		uint##bits##_t v;                                       \
		memcpy(&v, p, sizeof v);                                \
		return WH_BYTES_LE(bits, v);                            \
	}                                                               \
	static inline uint##bits##_t wh_load_be##bits(const void *p)    \
	{                                                               \
		uint##bits##_t v;                                       \
		memcpy(&v, p, sizeof v);                                \
		return WH_BYTES_BE(bits, v);                            \
	}                                                               \
	static inline void wh_store_le##bits(void *p, uint##bits##_t v) \
	{                                                               \
		v = WH_BYTES_LE(bits, v);                               \
		memcpy(p, &v, sizeof v);                                \
	}                                                               \
	static inline void wh_store_be##bits(void *p, uint##bits##_t v) \
	{                                                               \
		v = WH_BYTES_BE(bits, v);                               \
		memcpy(p, &v, sizeof v);                                \
	}

WH_BYTES_DEFINE(16)
WH_BYTES_DEFINE(32)
WH_BYTES_DEFINE(64)

#ifdef __cplusplus
}
#endif
#endif
