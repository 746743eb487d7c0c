/* SPDX-License-Identifier: ISC */
#include "gateway_priv.h"

#include <wherry/base/assert.h>

struct block {
	struct wh_list node;
	size_t size;
	max_align_t objects[];
};

void pool_init(struct pool *pool, uint32_t object_size, uint32_t block_objects)
{
	wh_assert(object_size >= sizeof(void *) && block_objects > 0);
	const uint32_t align = _Alignof(max_align_t);
	*pool = (struct pool){ .object_size = (object_size + align - 1) / align * align,
			       .block_objects = block_objects };
	wh_list_init(&pool->blocks);
}

void pool_fini(struct pool *pool, const struct wh_alloc *alloc)
{
	struct wh_list *node;
	while (pool->blocks.next && (node = wh_list_pop_front(&pool->blocks))) {
		struct block *block = WH_LIST_ENTRY(node, struct block, node);
		wh_free(alloc, block, block->size);
	}
	pool->free_list = NULL;
}

void *pool_get(struct pool *pool, const struct wh_alloc *alloc)
{
	if (!pool->free_list) {
		size_t size =
			sizeof(struct block) + (size_t)pool->object_size * pool->block_objects;
		struct block *block = wh_alloc(alloc, size);
		if (!block)
			return NULL;
		block->size = size;
		wh_list_push_front(&pool->blocks, &block->node);
		for (uint32_t i = 0; i < pool->block_objects; i++)
			pool_put(pool, (char *)block->objects + (size_t)i * pool->object_size);
	}
	void *object = pool->free_list;
	memcpy(&pool->free_list, object, sizeof(void *));
	return memset(object, 0, pool->object_size);
}

void pool_put(struct pool *pool, void *object)
{
	memcpy(object, &pool->free_list, sizeof(void *));
	pool->free_list = object;
}

/* ---- cache ---- */

static uint32_t class_of(size_t size)
{
	uint32_t class_ = 0;
	while (class_ < CACHE_CLASSES && ((size_t)CACHE_SIZE_MIN << class_) < size)
		class_++;
	return class_;
}

/* At the start of CACHE_SLAB_SIZE bytes that are aligned to their size. */
struct slab {
	struct wh_list node; /* in cache->slabs, unless all blocks are taken */
	void *free;
	uint32_t used, fresh; /* fresh = index of the first block that was never taken */
};
#define SLAB_BLOCKS (CACHE_SLAB_SIZE / CACHE_SLAB_BLOCK) /* index 0 holds the slab itself */

static void *slab_get(struct cache *cache)
{
	struct slab *slab;
	if (wh_list_empty(&cache->slabs)) {
		slab = cache->base->alloc(cache->base->ctx, CACHE_SLAB_SIZE, CACHE_SLAB_SIZE);
		if (!slab)
			return NULL;
		*slab = (struct slab){ .fresh = 1 };
		wh_list_push_front(&cache->slabs, &slab->node);
		cache->slabs_empty++;
	}
	slab = WH_LIST_ENTRY(cache->slabs.next, struct slab, node);
	if (!slab->used++)
		cache->slabs_empty--;
	void *block = slab->free;
	if (block)
		memcpy(&slab->free, block, sizeof(void *));
	else
		block = (char *)slab + (size_t)CACHE_SLAB_BLOCK * slab->fresh++;
	if (slab->used == SLAB_BLOCKS - 1)
		wh_list_remove(&slab->node);
	return block;
}

static void slab_put(struct cache *cache, void *block)
{
	struct slab *slab = (void *)((uintptr_t)block & ~(uintptr_t)(CACHE_SLAB_SIZE - 1));
	wh_assert(slab->used > 0 && slab->used < SLAB_BLOCKS);
	memcpy(block, &slab->free, sizeof(void *));
	slab->free = block;
	if (slab->used-- == SLAB_BLOCKS - 1)
		wh_list_push_front(&cache->slabs, &slab->node);
	if (slab->used)
		return;
	wh_list_remove(&slab->node);
	if (cache->slabs_empty == CACHE_SLABS_SPARE) {
		wh_free(cache->base, slab, CACHE_SLAB_SIZE);
		return;
	}
	wh_list_push_back(&cache->slabs, &slab->node);
	cache->slabs_empty++;
}

/* Blocks always have the size of their class, whatever they are aligned to. */
static void *cache_alloc(void *ctx, size_t size, size_t align)
{
	struct cache *cache = ctx;
	uint32_t class_ = class_of(size);
	if (size == CACHE_SLAB_BLOCK)
		return slab_get(cache);
	if (class_ == CACHE_CLASSES)
		return cache->base->alloc(cache->base->ctx, size, align);
	void *memory = cache->free[class_];
	if (!memory || align > _Alignof(max_align_t))
		return cache->base->alloc(cache->base->ctx, (size_t)CACHE_SIZE_MIN << class_,
					  align);
	memcpy(&cache->free[class_], memory, sizeof(void *));
	cache->bytes -= CACHE_SIZE_MIN << class_;
	return memory;
}

static void cache_free(void *ctx, void *memory, size_t size)
{
	struct cache *cache = ctx;
	uint32_t class_ = class_of(size);
	if (!memory)
		return;
	if (size == CACHE_SLAB_BLOCK) {
		slab_put(cache, memory);
		return;
	}
	if (class_ == CACHE_CLASSES) {
		wh_free(cache->base, memory, size);
		return;
	}
	size = (size_t)CACHE_SIZE_MIN << class_;
	if (cache->bytes + size > CACHE_BYTES_MAX) {
		wh_free(cache->base, memory, size);
		return;
	}
	memcpy(memory, &cache->free[class_], sizeof(void *));
	cache->free[class_] = memory;
	cache->bytes += (uint32_t)size;
}

void cache_init(struct cache *cache, const struct wh_alloc *base)
{
	*cache = (struct cache){
		.base = base, .alloc = { .alloc = cache_alloc, .free = cache_free, .ctx = cache }
	};
	wh_list_init(&cache->slabs);
}

void cache_fini(struct cache *cache)
{
	for (uint32_t i = 0; i < CACHE_CLASSES; i++) {
		void *memory;
		while ((memory = cache->free[i])) {
			memcpy(&cache->free[i], memory, sizeof(void *));
			wh_free(cache->base, memory, (size_t)CACHE_SIZE_MIN << i);
		}
	}
	cache->bytes = 0;
	while (cache->slabs.next && !wh_list_empty(&cache->slabs))
		wh_free(cache->base,
			WH_LIST_ENTRY(wh_list_pop_front(&cache->slabs), struct slab, node),
			CACHE_SLAB_SIZE);
	cache->slabs_empty = 0;
}
