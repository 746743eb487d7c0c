/* SPDX-License-Identifier: ISC */
#ifndef KERN_MEM_H
#define KERN_MEM_H

/*
 * Memory. RAM between heap_start and heap_end is managed in 4 KiB pages by one
 * page allocator; brk grows from the bottom, mmap and kernel memory are taken
 * first-fit. Addresses are the guest's; a buffer's "bus" address for a virtqueue
 * is kern_bus(pointer), on every engine.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/mem.h>

#define KERN_PAGE 4096u

/* Zeroed pages, contiguous; NULL = no memory. Freed with the same count. */
void *kern_pages_alloc(size_t count);
void kern_pages_free(void *pages, size_t count);
size_t kern_pages_free_count(void);
size_t kern_pages_total_count(void);

/* Small blocks (any size; above a page it becomes pages). Not zeroed. */
void *kern_alloc(size_t size);
void *kern_alloc_zero(size_t size);
void kern_free(void *memory, size_t size);   /* NULL allowed; size as given */
extern const struct wh_alloc kern_allocator; /* the same as an object */

/* Guest-physical (kvm) or guest-virtual (proc) address that a device understands. */
uint64_t kern_bus(const void *pointer);

/* Is [address, address+size) memory that the program may read (write)? For
 * handlers that want EFAULT; a cheap range check against image and RAM. */
bool kern_user_readable(const void *address, size_t size);
bool kern_user_writable(const void *address, size_t size);

#endif
