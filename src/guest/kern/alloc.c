/* SPDX-License-Identifier: ISC */
/*
 * Small blocks. A slab is one page: blocks of one size from its start, the slab's
 * own record at its end. A slab with free blocks is in its class's list; an empty
 * one goes back to the page allocator unless it is the list's last.
 * Larger blocks are whole pages.
 */
#include <kern/mem.h>
#include <wherry/base/assert.h>
#include <wherry/base/list.h>

struct slab {
	struct wh_list node; /* in its class's list while it has a free block */
	void *free;          /* first free block; each holds the next */
	uint16_t free_count, block_count;
	uint16_t fresh; /* blocks from here on were never given out */
	uint16_t class;
	uint32_t magic;
	uint32_t reserved;
};
#define SLAB_MAGIC 0x62616c73u
#define SLAB_ROOM (KERN_PAGE - sizeof(struct slab))

/* Multiples of 16 that leave little over in SLAB_ROOM. */
static const uint16_t class_size[] = { 16,  32,  48,  64,  80,  96,  128,  160,  192, 256,
				       320, 400, 496, 576, 672, 800, 1008, 1344, 2016 };
#define CLASS_COUNT WH_ARRAY_COUNT(class_size)
#define SMALL_MAX 2016u

static struct wh_list partial[CLASS_COUNT]; /* next == NULL: not initialised yet */

static size_t class_of(size_t size, size_t align)
{
	for (size_t c = 0; c < CLASS_COUNT; c++)
		if (class_size[c] >= size && class_size[c] % align == 0)
			return c;
	return CLASS_COUNT;
}

static size_t page_count(size_t size)
{
	return (size + KERN_PAGE - 1) / KERN_PAGE;
}

static struct slab *slab_of(const void *block)
{
	uintptr_t page = (uintptr_t)block & ~(uintptr_t)(KERN_PAGE - 1);
	return (struct slab *)(page + SLAB_ROOM);
}

static struct slab *slab_new(size_t class)
{
	char *page = kern_pages_alloc(1);
	if (!page)
		return 0;
	struct slab *s = (struct slab *)(void *)(page + SLAB_ROOM);
	s->class = (uint16_t) class;
	s->block_count = s->free_count = (uint16_t)(SLAB_ROOM / class_size[class]);
	s->magic = SLAB_MAGIC;
	wh_list_push_front(&partial[class], &s->node);
	return s;
}

static void *alloc_small(size_t class)
{
	struct wh_list *list = &partial[class];
	if (!list->next)
		wh_list_init(list);
	struct slab *s = wh_list_empty(list) ? slab_new(class)
					     : WH_LIST_ENTRY(list->next, struct slab, node);
	if (!s)
		return 0;
	void *block = s->free;
	if (block)
		s->free = *(void **)block;
	else
		block = (char *)s - SLAB_ROOM + (size_t)s->fresh++ * class_size[class];
	if (--s->free_count == 0)
		wh_list_remove(&s->node);
	return block;
}

static void free_small(void *block)
{
	struct slab *s = slab_of(block);
	wh_assert(s->magic == SLAB_MAGIC && s->free_count < s->block_count);
	struct wh_list *list = &partial[s->class];
	*(void **)block = s->free;
	s->free = block;
	if (s->free_count++ == 0)
		wh_list_push_front(list, &s->node);
	if (s->free_count == s->block_count && list->next->next != list) {
		wh_list_remove(&s->node);
		s->magic = 0;
		kern_pages_free((char *)s - SLAB_ROOM, 1);
	}
}

static void *alloc_aligned(void *ctx, size_t size, size_t align)
{
	(void)ctx;
	if (size <= SMALL_MAX) {
		size_t class = class_of(size, align ? align : 1);
		return class < CLASS_COUNT ? alloc_small(class) : 0;
	}
	return align <= KERN_PAGE && size < SIZE_MAX - KERN_PAGE
		       ? kern_pages_alloc(page_count(size))
		       : 0;
}

static void free_sized(void *ctx, void *memory, size_t size)
{
	(void)ctx;
	kern_free(memory, size);
}

const struct wh_alloc kern_allocator = { alloc_aligned, free_sized, 0 };

void *kern_alloc(size_t size)
{
	return alloc_aligned(0, size, 16);
}

void *kern_alloc_zero(size_t size)
{
	void *p = kern_alloc(size);
	if (p && size <= SMALL_MAX) /* pages are zeroed already */
		memset(p, 0, size);
	return p;
}

void kern_free(void *memory, size_t size)
{
	if (!memory)
		return;
	if (size <= SMALL_MAX)
		free_small(memory);
	else
		kern_pages_free(memory, page_count(size));
}
