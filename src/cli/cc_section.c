/* SPDX-License-Identifier: ISC */
/*
 * Adds a section to a linked ELF file: behind the file's end come the data, a new
 * table of section names and a new section header table; the ELF header then points
 * to that one. Segments do not move, so the program is the same.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/abi/manifest.h>
#include <wherry/base/checked.h>

#include "cc.h"
#include "cli.h"

#define SECTIONS_MAX 60000u /* below the escape values (gABI, SHN_LORESERVE) */

static int fail(const char *path, const char *what)
{
	cli_error("cc: %s: %s (errno %d)", path, what, errno);
	return CLI_ERROR;
}

static bool read_at(int fd, void *to, size_t size, uint64_t offset)
{
	return pread(fd, to, size, (off_t)offset) == (ssize_t)size;
}

static bool write_at(int fd, const void *from, size_t size, uint64_t offset)
{
	return pwrite(fd, from, size, (off_t)offset) == (ssize_t)size;
}

/* Everything is laid out from `end` on; the header is written last. */
static bool append(int fd, Elf64_Ehdr *eh, Elf64_Shdr *sections, char *names, uint64_t end,
		   const char *name, const void *data, size_t size)
{
	Elf64_Shdr *strings = &sections[eh->e_shstrndx], *added = &sections[eh->e_shnum];
	size_t name_at = strings->sh_size;
	memcpy(names + name_at, name, strlen(name) + 1);
	*added = (Elf64_Shdr){ .sh_name = (Elf64_Word)name_at,
			       .sh_type = SHT_PROGBITS,
			       .sh_offset = end,
			       .sh_size = size,
			       .sh_addralign = 1 };
	strings->sh_offset = end + size;
	strings->sh_size = name_at + strlen(name) + 1;
	eh->e_shoff = wh_align_up(strings->sh_offset + strings->sh_size, 8);
	eh->e_shnum++;
	/* GNU ld says ET_EXEC when a position-independent program is linked at an
	 * address of its own, which PVH loaders need (sysroot/lib/image.ld). */
	eh->e_type = ET_DYN;
	return write_at(fd, data, size, added->sh_offset) &&
	       write_at(fd, names, strings->sh_size, strings->sh_offset) &&
	       write_at(fd, sections, eh->e_shnum * sizeof *sections, eh->e_shoff) &&
	       write_at(fd, eh, sizeof *eh, 0);
}

int cc_section_add(const char *path, const char *name, const void *data, size_t size)
{
	Elf64_Ehdr eh;
	Elf64_Shdr *sections = NULL;
	char *names = NULL;
	struct stat st;
	int status = CLI_ERROR, fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return fail(path, "cannot open what was linked");
	if (fstat(fd, &st) || !read_at(fd, &eh, sizeof eh, 0) ||
	    memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_shentsize != sizeof *sections ||
	    !eh.e_shnum || eh.e_shnum > SECTIONS_MAX || eh.e_shstrndx >= eh.e_shnum) {
		fail(path, "the linker's output has no section table");
		goto out;
	}
	sections = calloc(eh.e_shnum + 1u, sizeof *sections);
	if (!sections || !read_at(fd, sections, eh.e_shnum * sizeof *sections, eh.e_shoff)) {
		fail(path, "cannot read the section table");
		goto out;
	}
	Elf64_Shdr *strings = &sections[eh.e_shstrndx];
	if (!wh_range_inside(strings->sh_offset, strings->sh_size, (uint64_t)st.st_size)) {
		fail(path, "the section names lie outside of the file");
		goto out;
	}
	names = malloc(strings->sh_size + strlen(name) + 1);
	if (!names || !read_at(fd, names, strings->sh_size, strings->sh_offset) ||
	    !append(fd, &eh, sections, names, (uint64_t)st.st_size, name, data, size)) {
		fail(path, "cannot write the list of units");
		goto out;
	}
	status = 0;
out:
	free(names);
	free(sections);
	close(fd);
	return status;
}

/* The manifest's note is in the first page: headers, then .note.wherry (sysroot/lib/image.ld). */
static ssize_t find_manifest(const char *page, ssize_t size)
{
	static const uint32_t note[3] = { sizeof WH_MANIFEST_NOTE_NAME, sizeof(struct wh_manifest),
					  WH_MANIFEST_NOTE_TYPE };
	enum { DESCRIPTOR = sizeof note + 8 }; /* the name, padded to 8 */
	for (ssize_t at = 0; at + DESCRIPTOR + (ssize_t)sizeof(struct wh_manifest) <= size; at += 4)
		if (!memcmp(page + at, note, sizeof note) &&
		    !memcmp(page + at + sizeof note, WH_MANIFEST_NOTE_NAME,
			    sizeof WH_MANIFEST_NOTE_NAME))
			return at + DESCRIPTOR;
	return -1;
}

int cc_manifest_set(const char *path, const struct wh_manifest *values)
{
	struct wh_manifest m;
	char page[4096];
	int status = CLI_ERROR, fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return fail(path, "cannot open what was linked");
	ssize_t at = find_manifest(page, read(fd, page, sizeof page));
	if (at < 0) {
		fail(path, "the linker's output has no manifest");
		goto out;
	}
	memcpy(&m, page + at, sizeof m);
	m.memory_min = values->memory_min ? values->memory_min : m.memory_min;
	m.memory_default = values->memory_default ? values->memory_default : m.memory_default;
	if (!values->memory_min && m.memory_min > m.memory_default)
		m.memory_min = m.memory_default;
	m.stack_size = values->stack_size ? values->stack_size : m.stack_size;
	memcpy(m.name, values->name, sizeof m.name);
	status = write_at(fd, &m, sizeof m, (uint64_t)at) ? 0 : fail(path, "cannot write");
out:
	close(fd);
	return status;
}
