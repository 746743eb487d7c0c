/* SPDX-License-Identifier: ISC */
#ifndef VMM_SNAPSHOT_WIRE_H
#define VMM_SNAPSHOT_WIRE_H

/* Offsets in a snapshot file, docs/spec/snapshot.md. Little-endian. */

#include "vmm_priv.h"

#define SNAPSHOT_MAGIC_VALUE 0x31504e5359525257ull /* "WRRYSNP1" */
#define SNAPSHOT_VERSION_VALUE 1u
#define SNAPSHOT_HEADER_SIZE 4096u

#define SNAPSHOT_VERSION 8
#define SNAPSHOT_ENGINE 12
#define SNAPSHOT_CRC 16
#define SNAPSHOT_EXTENTS 20
#define SNAPSHOT_EXTENTS_CRC 24
#define SNAPSHOT_SLOTS 28
#define SNAPSHOT_IMAGE_OFFSET 32
#define SNAPSHOT_IMAGE_SIZE 40
#define SNAPSHOT_PARK_FRAME 48
#define SNAPSHOT_FS_BASE 56
#define SNAPSHOT_XCR0 64
#define SNAPSHOT_IMAGE_BASE 72
#define SNAPSHOT_RAM_BASE 80
#define SNAPSHOT_RAM_SIZE 88
#define SNAPSHOT_HEAP_START 96
#define SNAPSHOT_HEAP_END 104
#define SNAPSHOT_INFO 112
#define SNAPSHOT_CONTROL 120
#define SNAPSHOT_STRINGS 128
#define SNAPSHOT_MOUNTS 136
#define SNAPSHOT_SHM 144
#define SNAPSHOT_TRAP_LOW 152
#define SNAPSHOT_TRAP_TOP 160
#define SNAPSHOT_STACK_LOW 168
#define SNAPSHOT_STACK_TOP 176
#define SNAPSHOT_SLOT_TABLE 512
#define SNAPSHOT_SLOT_SIZE 48
#define SNAPSHOT_EXTENT_SIZE 24

#define SNAPSHOT_EXTENTS_MAX \
	65536u /* 1.5 MiB of table; runs of touched pages in the largest guests */
/* Where the proc engine puts images (proc.c). */
#define SNAPSHOT_BASE_MIN 0x100000000000ull
#define SNAPSHOT_BASE_MAX 0x300000000000ull
#define SNAPSHOT_TRAP_STACK_MIN (16u << 10)

_Static_assert(SNAPSHOT_SLOT_TABLE + WH_BOOT_DEVICES_MAX * SNAPSHOT_SLOT_SIZE <=
		       SNAPSHOT_HEADER_SIZE,
	       "the table of devices fits");

struct vmm_snapshot_header {
	uint32_t engine;
	uint64_t image_offset, image_size, park_frame, fs_base, xcr0;
	uint32_t extent_count, extents_crc, slot_count;
	struct vmm_layout layout;
	struct {
		uint32_t virtio_id, queue_count;
		char name[40];
	} slot[WH_BOOT_DEVICES_MAX];
};

struct vmm_extent {
	uint64_t ram_offset, size, file_offset;
};

#endif
