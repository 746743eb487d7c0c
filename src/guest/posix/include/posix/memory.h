/* SPDX-License-Identifier: ISC */
#ifndef POSIX_MEMORY_H
#define POSIX_MEMORY_H

/*
 * Memory calls. All memory is RAM of the one address space, readable and
 * writable, never executable: protections other than PROT_EXEC (refused) are
 * accepted and not enforced. Each returns >= 0 or -errno as Linux does.
 */

#include <stddef.h>
#include <stdint.h>
#include <kern/trace.h>

#define LX_PROT_EXEC 4
#define LX_MAP_SHARED 1
#define LX_MAP_PRIVATE 2
#define LX_MAP_TYPE 15
#define LX_MAP_FIXED 0x10
#define LX_MAP_ANONYMOUS 0x20
#define LX_MAP_FIXED_NOREPLACE 0x100000
#define LX_MREMAP_MAYMOVE 1
#define LX_MREMAP_FIXED 2
#define LX_MADV_DONTNEED 4

uint64_t wh_sys_brk(uint64_t end);
KERN_CALL long wh_sys_mmap(uint64_t address, size_t size, int protection, int flags, int fd,
			   uint64_t offset);
KERN_CALL long wh_sys_munmap(uint64_t address, size_t size);
KERN_CALL long wh_sys_mremap(uint64_t old, size_t old_size, size_t size, int flags, uint64_t to);
KERN_CALL long wh_sys_mprotect(uint64_t address, size_t size, int protection);
KERN_CALL long wh_sys_madvise(uint64_t address, size_t size, int advice);
KERN_CALL long wh_sys_mincore(uint64_t address, size_t size, uint8_t *ret_resident);
KERN_CALL long wh_sys_msync(uint64_t address, size_t size, int flags);
KERN_CALL long wh_sys_mlock(uint64_t address, size_t size);
KERN_CALL long wh_sys_mlock2(uint64_t address, size_t size, unsigned flags);
KERN_CALL long wh_sys_munlock(uint64_t address, size_t size);
KERN_CALL long wh_sys_mlockall(int flags);
KERN_CALL long wh_sys_munlockall(void);

#endif
