/* SPDX-License-Identifier: ISC */
#ifndef KERN_PAGES_H
#define KERN_PAGES_H

/*
 * The page allocator below kern_pages_alloc, for the memory calls of posix/. Page
 * ranges are [address, address + count pages), page-aligned; everything checks that
 * they are inside the heap.
 *
 *	heap_start [ group table ][ brk ->     ][ mmap, kernel pages: first fit -> ] heap_end
 *
 * brk has the lower quarter first; mmap goes there when the rest is full.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <kern/mem.h>

enum kern_pages_owner { KERN_PAGES_KERNEL, KERN_PAGES_USER };

/* `count` pages wherever they fit; NULL = no memory. Zeroed. */
void *kern_pages_take(size_t count, enum kern_pages_owner owner);

/* Exactly these pages: false when one of them is in use or outside. Zeroed. */
bool kern_pages_take_at(uint64_t address, size_t count, enum kern_pages_owner owner);

/* From now on the program gets no more than `count` pages in all, SIZE_MAX = no limit; what it has it keeps. */
void kern_pages_limit_user(size_t count);

/* Gives back those of the pages that belong to the program; others stay. */
void kern_pages_release_user(uint64_t address, size_t count);

/* Are all of them the program's? */
bool kern_pages_all_user(uint64_t address, size_t count);

/* Are all of them free? */
bool kern_pages_all_free(uint64_t address, size_t count);

/* First page behind the group table: where brk starts. */
uint64_t kern_pages_low(void);

#endif
