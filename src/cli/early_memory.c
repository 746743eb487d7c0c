/* SPDX-License-Identifier: ISC */
/*
 * Memory for the start. musl's allocator takes a mapping and two page faults for each
 * size of block it is asked for the first time; a start asks for a dozen sizes, which is a
 * tenth of its time. The linker (--wrap) leads malloc and its kin here: the first
 * ARENA_SIZE bytes come from one array, in order, and are never given back; everything after
 * that is musl's.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ARENA_SIZE (96u << 10)
#define BLOCK_MAX (32u << 10) /* larger blocks would end the arena at once */
#define ALIGN 16u

struct header {
	size_t size;
	size_t pad;
};

_Alignas(64) static unsigned char arena[ARENA_SIZE];
static size_t used;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);

static int is_ours(const void *memory)
{
	return (uintptr_t)memory - (uintptr_t)arena < ARENA_SIZE;
}

/* Zeroed, because no byte is given out twice. NULL = ask musl. */
static void *take(size_t size)
{
	if (size > BLOCK_MAX)
		return NULL;
	size_t need = sizeof(struct header) + ((size + ALIGN - 1) & ~(size_t)(ALIGN - 1));
	size_t at = __atomic_fetch_add(&used, need, __ATOMIC_RELAXED);
	if (at > ARENA_SIZE - need) {
		__atomic_store_n(&used, ARENA_SIZE, __ATOMIC_RELAXED); /* so that it never wraps */
		return NULL;
	}
	struct header *h = (struct header *)(void *)(arena + at);
	h->size = size;
	return h + 1;
}

void *__wrap_malloc(size_t size)
{
	void *p = take(size);
	return p ? p : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	size_t bytes;
	if (!__builtin_mul_overflow(count, size, &bytes)) {
		void *p = take(bytes);
		if (p)
			return p;
	}
	return __real_calloc(count, size);
}

void __wrap_free(void *memory)
{
	if (!is_ours(memory))
		__real_free(memory);
}

void *__wrap_realloc(void *memory, size_t size)
{
	if (!is_ours(memory))
		return __real_realloc(memory, size);
	size_t old = ((struct header *)memory - 1)->size;
	void *p = __wrap_malloc(size);
	if (p)
		memcpy(p, memory, old < size ? old : size);
	return p;
}
