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
