/* SPDX-License-Identifier: ISC */
#include <stdlib.h>

#include "nbd_priv.h"

#define SMALLEST 4096u

struct nbd_buffer *nbd_buffer_get(struct nbd_buffers *pool, size_t size)
{
	uint8_t class = 0;
	while (((size_t)SMALLEST << class) < size)
		class ++;
	wh_assert(size && class < NBD_BUFFER_CLASSES);
	struct nbd_buffer *b = pool->free[class];
	if (b) {
		pool->free[class] = b->next;
		pool->kept -= b->size;
		b->refs = 1;
		return b;
	}
	b = malloc(sizeof *b);
	if (!b)
		return NULL;
	*b = (struct nbd_buffer){ .size = SMALLEST << class, .refs = 1, .class = class };
	void *data;
	if (posix_memalign(&data, SMALLEST, b->size)) {
		free(b);
		return NULL;
	}
	b->data = data;
	return b;
}

static void destroy(struct nbd_buffer *b)
{
	free(b->data);
	free(b);
}

void nbd_buffer_unref(struct nbd_buffers *pool, struct nbd_buffer *b)
{
	if (!b)
		return;
	wh_assert(b->refs);
	if (--b->refs)
		return;
	if (pool->kept + b->size > NBD_BUFFERS_KEPT) {
		destroy(b);
		return;
	}
	b->next = pool->free[b->class];
	pool->free[b->class] = b;
	pool->kept += b->size;
}

void nbd_buffers_fini(struct nbd_buffers *pool)
{
	for (unsigned i = 0; i < NBD_BUFFER_CLASSES; i++)
		while (pool->free[i]) {
			struct nbd_buffer *b = pool->free[i];
			pool->free[i] = b->next;
			destroy(b);
		}
	pool->kept = 0;
}
