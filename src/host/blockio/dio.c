/* SPDX-License-Identifier: ISC */
/* Alone here: the kernel's struct statx and the C library's do not go together. */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "blockio_priv.h"

#ifndef STATX_DIOALIGN /* Linux 6.1 */
#define STATX_DIOALIGN 0x2000u
#endif
/* Offsets in the kernel's struct statx, whose headers may be older. */
#define DIO_MEMORY 0x98
#define DIO_OFFSET 0x9c
#define STATX_ROOM 0x100
#define EMPTY_PATH 0x1000 /* AT_EMPTY_PATH */

#define CAREFUL 4096u /* no disk asks for more */

static bool usable(uint32_t align)
{
	return align && !(align & (align - 1)) && align <= CAREFUL;
}

void blockio_direct_align(int fd, uint32_t *ret_memory, uint32_t *ret_offset)
{
	union {
		struct statx x;
		unsigned char bytes[STATX_ROOM];
	} u = { .bytes = { 0 } };
	uint32_t memory = 0, offset = 0;
	int sector = 0;
	if (!syscall(SYS_statx, fd, "", EMPTY_PATH, STATX_DIOALIGN, &u) &&
	    u.x.stx_mask & STATX_DIOALIGN) {
		memcpy(&memory, u.bytes + DIO_MEMORY, sizeof memory);
		memcpy(&offset, u.bytes + DIO_OFFSET, sizeof offset);
	} else if (!ioctl(fd, BLKSSZGET, &sector)) {
		memory = offset = (uint32_t)sector;
	}
	*ret_memory = usable(memory) ? memory : CAREFUL;
	*ret_offset = usable(offset) ? offset : CAREFUL;
}
