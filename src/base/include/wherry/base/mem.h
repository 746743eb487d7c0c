/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BASE_MEM_H
#define WHERRY_BASE_MEM_H

/*
 * The four memory functions that freestanding code may call (the compiler emits
 * calls to them in any case), small helpers on top, and the allocator
 * interface. Declared here because <string.h> is not a freestanding header.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__STDC_HOSTED__) && __STDC_HOSTED__
#include <string.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#if !defined(__STDC_HOSTED__) || !__STDC_HOSTED__
void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
#endif

#define WH_ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define WH_CONTAINER_OF(pointer, type, member) \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline size_t wh_strlen(const char *text)
{
	size_t n = 0;
	while (text[n])
		n++;
	return n;
}

/* Length of text, at most `max`; max = not terminated within it. */
static inline size_t wh_strnlen(const char *text, size_t max)
{
	size_t n = 0;
	while (n < max && text[n])
		n++;
	return n;
}

static inline bool wh_streq(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

/* Allocator given to portable code at init; thread rule = its user's. */
struct wh_alloc {
	void *(*alloc)(void *ctx, size_t size, size_t align); /* zeroed not; NULL = no memory */
	void (*free)(void *ctx, void *memory, size_t size);   /* NULL memory is allowed */
	void *ctx;
};

static inline void *wh_alloc(const struct wh_alloc *a, size_t size)
{
	return a->alloc(a->ctx, size, sizeof(void *) * 2);
}

static inline void *wh_alloc_zero(const struct wh_alloc *a, size_t size)
{
	void *p = wh_alloc(a, size);
	if (p)
		memset(p, 0, size);
	return p;
}

static inline void wh_free(const struct wh_alloc *a, void *memory, size_t size)
{
	if (memory)
		a->free(a->ctx, memory, size);
}

#ifdef __cplusplus
}
#endif
#endif
