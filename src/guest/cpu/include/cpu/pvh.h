/* SPDX-License-Identifier: ISC */
#ifndef CPU_PVH_H
#define CPU_PVH_H

/*
 * PVH boot (Xen's docs/misc/pvh.pandoc, xen/include/public/arch-x86/hvm/start_info.h):
 * what a monitor hands over, and the boot info made from it when the monitor is not ours.
 */

#include <stdbool.h>
#include <stdint.h>
#include <wherry/abi/boot.h>
#include <wherry/base/diag.h>

struct pvh_start_info {
	uint32_t magic; /* PVH_MAGIC */
	uint32_t version;
	uint32_t flags;
	uint32_t module_count;
	uint64_t modules; /* struct pvh_module */
	uint64_t command_line;
	uint64_t rsdp;
	uint64_t memory_map; /* version 1: struct pvh_memory */
	uint32_t memory_count;
	uint32_t reserved;
};

struct pvh_module {
	uint64_t address, size, command_line, reserved;
};

struct pvh_memory {
	uint64_t address, size;
	uint32_t type; /* PVH_MEMORY_RAM */
	uint32_t reserved;
};
#define PVH_MEMORY_RAM 1u

/* Where an image lies that its monitor knows nothing about. */
struct pvh_image {
	uint64_t base, start, end; /* load bias, first byte, end of .bss */
	uint64_t ram_base;         /* first writable page */
	uint64_t stack_size;
	const char *name;
};

/* The command line `text` of `size` bytes, cut at a NUL: devices and arguments.
 *
 *	virtio_mmio.device=<size>[K]@0x<address>:<irq>	   a device (Linux's syntax), at most
 *							   WH_BOOT_DEVICES_MAX; also behind --,
 *							   where QEMU appends them
 *	-- word...		      arguments; words in double quotes may hold blanks
 *	KEY=VALUE before --	      environment, when KEY has only A-Z, 0-9 and _
 *
 * Other words are ignored. Writes the devices' regs and irq, and argv (`name` first) and envp, packed, to
 * `strings`. 0 or -WH_E2BIG. */
struct pvh_command {
	struct wh_boot_device device[WH_BOOT_DEVICES_MAX];
	uint32_t device_count;
	uint32_t argc, envc;
	uint32_t strings_size;
};
int pvh_command_parse(const char *text, uint32_t size, const char *name, char *strings,
		      uint32_t strings_size_max, struct pvh_command *ret_command);

/* RAM of the memory map that holds the image: from image->ram_base up, at most to `limit`.
 * Returns the end, or 0 when the map names no such RAM. */
uint64_t pvh_ram_end(const struct pvh_memory *map, uint32_t count, const struct pvh_image *image,
		     uint64_t limit);

/* Makes boot info, control, devices, strings and stacks at the top of RAM. Pointers of `start` are followed
 * below `mapped_end` only. NULL: not enough memory, or nonsense. */
struct wh_boot_info *pvh_boot_info_make(const struct pvh_start_info *start, uint64_t mapped_end,
					const struct pvh_image *image, struct pvh_command *scratch);

#endif
