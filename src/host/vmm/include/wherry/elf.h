/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_ELF_H
#define WHERRY_ELF_H

/*
 * A bounds-checked reader of 64-bit little-endian x86-64 ELF files. The file is
 * hostile: nothing of it is used before it was copied and checked, and no offset
 * leads outside. It never maps the file, so a file that shrinks while it is read
 * is an error and not a SIGBUS.
 *
 * Threads: none of its own; a struct wh_elf may be read by many.
 * Ownership: input bytes and descriptor stay the caller's and must outlive it.
 */

#include <stddef.h>
#include <stdint.h>
#include <wherry/base/diag.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Limits; a file over them is refused. */
#define WH_ELF_SEGMENTS_MAX 16u             /* linkers make 5 to 12 */
#define WH_ELF_SECTIONS_MAX 65279u          /* SHN_LORESERVE - 1: no extended numbering */
#define WH_ELF_TABLE_SIZE_MAX (64ull << 20) /* symbol or string table */
#define WH_ELF_NOTES_SIZE_MAX 2048u         /* on the stack; ours are under 300 bytes */

/* Where the file is: `data`, or when NULL a descriptor that is read with pread. */
struct wh_elf_input {
	const void *data;
	int fd;
	uint64_t size;
	uint64_t base; /* fd: where in it the ELF file begins */
};

struct wh_elf_segment {
	uint32_t type, flags; /* PT_*, PF_* */
	uint64_t offset, vaddr, file_size, mem_size, align, paddr;
};

struct wh_elf_section {
	uint32_t index;
	uint32_t name; /* offset in the section name table */
	uint32_t type, link, info;
	uint64_t flags, addr, offset, size, align, entry_size;
};

struct wh_elf_symbol {
	const char *name; /* borrowed from the table, "" for none */
	uint64_t value, size;
	uint16_t section;   /* SHN_* */
	uint8_t type, bind; /* STT_*, STB_* */
};

struct wh_elf {
	struct wh_elf_input input;
	uint16_t type, machine; /* ET_*, EM_* */
	uint64_t entry;
	uint32_t segment_count;
	uint32_t section_count, section_names; /* 0 sections when there is no table */
	uint64_t sections_offset;
	struct wh_elf_segment segment[WH_ELF_SEGMENTS_MAX];
};

/* A symbol table with its strings, in memory. */
struct wh_elf_symbols {
	uint8_t *entries;
	uint32_t count;
	char *strings;
	uint64_t strings_size;
};

/* Reads and checks the header and every segment: inside the file, file_size <= mem_size, addresses
 * that do not wrap, a power-of-two alignment that address and offset agree on.
 * 0, -WH_ENOEXEC (not such a file; diag says what is wrong), -WH_EIO. */
int wh_elf_open(const struct wh_elf_input *input, struct wh_elf *ret_elf, struct wh_diag *diag);

/* Copies bytes of the file. 0, -WH_ENOEXEC (outside), -WH_EIO. */
int wh_elf_read(const struct wh_elf *elf, uint64_t offset, void *to, size_t size);

/* Copies bytes at a virtual address that lie in the file part of one PT_LOAD. As wh_elf_read. */
int wh_elf_read_at(const struct wh_elf *elf, uint64_t vaddr, void *to, size_t size);

/* Looks for a note in the PT_NOTE segments and copies its descriptor: all of it when it fits into
 * `size`. *ret_size = its true size. 0, -WH_ENOENT, -WH_ENOEXEC (malformed). */
int wh_elf_note(const struct wh_elf *elf, const char *name, uint32_t type, void *to, size_t size,
		size_t *ret_size, struct wh_diag *diag);

/* Section by index or name. 0, -WH_ENOENT, -WH_ENOEXEC. Contents are inside the file (SHT_NOBITS
 * has none). */
int wh_elf_section(const struct wh_elf *elf, uint32_t index, struct wh_elf_section *ret_section);
int wh_elf_section_find(const struct wh_elf *elf, const char *name,
			struct wh_elf_section *ret_section);
/* The section's name into `to`, NUL-terminated, cut when too long. 0 or -WH_ENOEXEC. */
int wh_elf_section_name(const struct wh_elf *elf, const struct wh_elf_section *section, char *to,
			size_t size);
/* Contents in malloc'ed memory with a NUL behind them; free() it. 0, -WH_ENOEXEC, -WH_ENOMEM,
 * -WH_EFBIG (over WH_ELF_TABLE_SIZE_MAX). */
int wh_elf_section_load(const struct wh_elf *elf, const struct wh_elf_section *section,
			uint8_t **ret_data);

/* Loads .symtab. 0, -WH_ENOENT (stripped), or as wh_elf_section_load. */
int wh_elf_symbols_load(const struct wh_elf *elf, struct wh_elf_symbols *ret_symbols);
void wh_elf_symbols_free(struct wh_elf_symbols *symbols); /* zeroed is fine */
struct wh_elf_symbol wh_elf_symbol(const struct wh_elf_symbols *symbols, uint32_t index);
/* The function that covers `address`, else the nearest one below in the table that has no size.
 * 0 or -WH_ENOENT. */
int wh_elf_symbol_at(const struct wh_elf_symbols *symbols, uint64_t address,
		     struct wh_elf_symbol *ret_symbol);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
