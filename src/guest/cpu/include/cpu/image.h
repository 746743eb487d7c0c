/* SPDX-License-Identifier: ISC */
#ifndef CPU_IMAGE_H
#define CPU_IMAGE_H

/*
 * The running image's own ELF headers (gABI), which lie at its start: where its code, constants and
 * data are. Addresses in them are those of the link; boot info's image_base is added.
 */
#include <stdint.h>

struct elf_header {
	uint8_t ident[16];
	uint16_t type, machine;
	uint32_t version;
	uint64_t entry, phoff, shoff;
	uint32_t flags;
	uint16_t ehsize, phentsize, phnum;
};
struct elf_segment {
	uint32_t type, flags;
	uint64_t offset, vaddr, paddr, filesz, memsz, align;
};
enum { PT_LOAD = 1, PT_DYNAMIC = 2, PT_GNU_RELRO = 0x6474e552 };
enum { PF_X = 1, PF_W = 2 };

extern const struct elf_header cpu_image_header __asm__("__ehdr_start")
	__attribute__((visibility("hidden")));
extern char cpu_image_end[] __asm__("_end") __attribute__((visibility("hidden")));

static inline const struct elf_segment *cpu_image_segments(void)
{
	return (const struct elf_segment *)((const char *)&cpu_image_header +
					    cpu_image_header.phoff);
}

#endif
