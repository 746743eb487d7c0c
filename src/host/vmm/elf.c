/* SPDX-License-Identifier: ISC */
/*
 * Checked ELF reader. Fields are decoded at their offsets (System V ABI, chapter 4 and
 * 5; ELF-64 object file format) from a copied header; ranges are checked before use.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/elf.h>

#define EHDR_SIZE 64u
#define PHDR_SIZE 56u
#define SHDR_SIZE 64u
#define SYM_SIZE 24u

int wh_elf_read(const struct wh_elf *elf, uint64_t offset, void *to, size_t size)
{
	if (!wh_range_inside(offset, size, elf->input.size))
		return -WH_ENOEXEC;
	if (elf->input.data) {
		if (size)
			memcpy(to, (const uint8_t *)elf->input.data + offset, size);
		return 0;
	}
	while (size) {
		ssize_t n = pread(elf->input.fd, to, size, (off_t)(elf->input.base + offset));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -WH_EIO; /* the file shrank */
		to = (uint8_t *)to + n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

int wh_elf_read_at(const struct wh_elf *elf, uint64_t vaddr, void *to, size_t size)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		const struct wh_elf_segment *s = &elf->segment[i];
		if (s->type == PT_LOAD && vaddr >= s->vaddr &&
		    wh_range_inside(vaddr - s->vaddr, size, s->file_size))
			return wh_elf_read(elf, s->offset + (vaddr - s->vaddr), to, size);
	}
	return -WH_ENOEXEC;
}

static int check_segment(const struct wh_elf *elf, const struct wh_elf_segment *s, unsigned index,
			 struct wh_diag *diag)
{
	uint64_t end;
	if (!wh_range_inside(s->offset, s->file_size, elf->input.size))
		return wh_diag_set(diag, -WH_ENOEXEC,
				   "truncated ELF file: segment %u ends behind the end of the file",
				   index);
	if (s->type != PT_LOAD)
		return 0;
	if (s->file_size > s->mem_size)
		return wh_diag_set(diag, -WH_ENOEXEC,
				   "segment %u is larger in the file than in memory", index);
	if (wh_add_overflows(s->vaddr, s->mem_size, &end))
		return wh_diag_set(diag, -WH_ENOEXEC, "segment %u wraps around the address space",
				   index);
	if (!s->mem_size) /* it places nothing; linkers leave such ones */
		return 0;
	if (s->align > 1 &&
	    (!wh_is_power_of_two(s->align) || ((s->vaddr - s->offset) & (s->align - 1))))
		return wh_diag_set(diag, -WH_ENOEXEC, "segment %u has a bad alignment", index);
	return 0;
}

static int read_segments(struct wh_elf *elf, uint64_t offset, uint32_t count, struct wh_diag *diag)
{
	uint8_t table[WH_ELF_SEGMENTS_MAX * PHDR_SIZE];
	if (!count || count > WH_ELF_SEGMENTS_MAX)
		return wh_diag_set(diag, -WH_ENOEXEC, "%u program headers; 1 to %u are allowed",
				   count, WH_ELF_SEGMENTS_MAX);
	int error = wh_elf_read(elf, offset, table, count * PHDR_SIZE);
	if (error < 0)
		return wh_diag_set(diag, error, "truncated ELF file: no program headers");
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = table + i * PHDR_SIZE;
		struct wh_elf_segment *s = &elf->segment[i];
		*s = (struct wh_elf_segment){
			.type = wh_load_le32(p),
			.flags = wh_load_le32(p + 4),
			.offset = wh_load_le64(p + 8),
			.vaddr = wh_load_le64(p + 16),
			.paddr = wh_load_le64(p + 24),
			.file_size = wh_load_le64(p + 32),
			.mem_size = wh_load_le64(p + 40),
			.align = wh_load_le64(p + 48),
		};
		error = check_segment(elf, s, i, diag);
		if (error < 0)
			return error;
	}
	elf->segment_count = count;
	return 0;
}

static int check_ident(const uint8_t *h, struct wh_diag *diag)
{
	if (memcmp(h, ELFMAG, SELFMAG))
		return wh_diag_set(diag, -WH_ENOEXEC, "not an ELF file");
	if (h[EI_CLASS] != ELFCLASS64 || h[EI_DATA] != ELFDATA2LSB)
		return wh_diag_set(diag, -WH_ENOEXEC,
				   "wrong architecture: not a 64-bit little-endian ELF file");
	if (wh_load_le16(h + 18) != EM_X86_64)
		return wh_diag_set(diag, -WH_ENOEXEC,
				   "wrong architecture: ELF machine %u, this host runs x86-64 (%u)",
				   wh_load_le16(h + 18), EM_X86_64);
	if (h[EI_VERSION] != EV_CURRENT || wh_load_le16(h + 52) != EHDR_SIZE ||
	    wh_load_le16(h + 54) != PHDR_SIZE)
		return wh_diag_set(diag, -WH_ENOEXEC, "malformed ELF header");
	return 0;
}

int wh_elf_open(const struct wh_elf_input *input, struct wh_elf *ret_elf, struct wh_diag *diag)
{
	struct wh_elf elf = { .input = *input };
	uint8_t h[EHDR_SIZE] = { 0 };
	if (input->size < EHDR_SIZE)
		return wh_diag_set(diag, -WH_ENOEXEC, "not an ELF file: only %llu bytes",
				   (unsigned long long)input->size);
	int error = wh_elf_read(&elf, 0, h, sizeof h);
	if (error < 0)
		return wh_diag_set(diag, error, "cannot read the ELF header");
	error = check_ident(h, diag);
	if (error < 0)
		return error;
	elf.type = wh_load_le16(h + 16);
	elf.machine = wh_load_le16(h + 18);
	elf.entry = wh_load_le64(h + 24);
	error = read_segments(&elf, wh_load_le64(h + 32), wh_load_le16(h + 56), diag);
	if (error < 0)
		return error;
	elf.sections_offset = wh_load_le64(h + 40);
	elf.section_count = elf.sections_offset ? wh_load_le16(h + 60) : 0;
	elf.section_names = wh_load_le16(h + 62);
	if (elf.section_count &&
	    (wh_load_le16(h + 58) != SHDR_SIZE || elf.section_count > WH_ELF_SECTIONS_MAX ||
	     !wh_range_inside(elf.sections_offset, (uint64_t)elf.section_count * SHDR_SIZE,
			      input->size)))
		return wh_diag_set(diag, -WH_ENOEXEC,
				   "truncated ELF file: the section headers are not inside");
	*ret_elf = elf;
	return 0;
}

/* Walks the notes in `size` bytes; alignment 4 (8-aligned notes have 8-aligned descriptors,
 * System V ABI note sections and the GNU property extension). */
static int note_in(const uint8_t *notes, uint64_t size, uint64_t align, const char *name,
		   uint32_t type, uint64_t *ret_offset, uint32_t *ret_size)
{
	uint64_t at = 0, name_size = wh_strlen(name) + 1;
	while (size - at >= 12) {
		uint64_t n = wh_load_le32(notes + at), d = wh_load_le32(notes + at + 4);
		uint64_t desc = wh_align_up(at + 12 + n, align);
		if (desc > size || d > size - desc)
			return -WH_ENOEXEC;
		if (n == name_size && wh_load_le32(notes + at + 8) == type &&
		    !memcmp(notes + at + 12, name, name_size)) {
			*ret_offset = desc;
			*ret_size = (uint32_t)d;
			return 0;
		}
		at = wh_align_up(desc + d, align);
		if (at > size)
			break;
	}
	return -WH_ENOENT;
}

int wh_elf_note(const struct wh_elf *elf, const char *name, uint32_t type, void *to, size_t size,
		size_t *ret_size, struct wh_diag *diag)
{
	uint8_t notes[WH_ELF_NOTES_SIZE_MAX];
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		const struct wh_elf_segment *s = &elf->segment[i];
		uint64_t offset;
		uint32_t desc_size;
		if (s->type != PT_NOTE)
			continue;
		if (s->file_size > sizeof notes)
			return wh_diag_set(diag, -WH_ENOEXEC, "note segment %u is over %u bytes", i,
					   WH_ELF_NOTES_SIZE_MAX);
		int error = wh_elf_read(elf, s->offset, notes, s->file_size);
		if (error < 0)
			return wh_diag_set(diag, error, "cannot read note segment %u", i);
		error = note_in(notes, s->file_size, s->align == 8 ? 8 : 4, name, type, &offset,
				&desc_size);
		if (error == -WH_ENOENT)
			continue;
		if (error < 0)
			return wh_diag_set(diag, error, "note segment %u is malformed", i);
		memcpy(to, notes + offset, desc_size < size ? desc_size : size);
		*ret_size = desc_size;
		return 0;
	}
	return -WH_ENOENT;
}

int wh_elf_section(const struct wh_elf *elf, uint32_t index, struct wh_elf_section *ret_section)
{
	uint8_t h[SHDR_SIZE];
	if (index >= elf->section_count)
		return -WH_ENOENT;
	int error =
		wh_elf_read(elf, elf->sections_offset + (uint64_t)index * SHDR_SIZE, h, sizeof h);
	if (error < 0)
		return error;
	struct wh_elf_section s = {
		.index = index,
		.name = wh_load_le32(h),
		.type = wh_load_le32(h + 4),
		.flags = wh_load_le64(h + 8),
		.addr = wh_load_le64(h + 16),
		.offset = wh_load_le64(h + 24),
		.size = wh_load_le64(h + 32),
		.link = wh_load_le32(h + 40),
		.info = wh_load_le32(h + 44),
		.align = wh_load_le64(h + 48),
		.entry_size = wh_load_le64(h + 56),
	};
	if (s.type != SHT_NOBITS && !wh_range_inside(s.offset, s.size, elf->input.size))
		return -WH_ENOEXEC;
	*ret_section = s;
	return 0;
}

int wh_elf_section_name(const struct wh_elf *elf, const struct wh_elf_section *section, char *to,
			size_t size)
{
	struct wh_elf_section names;
	int error = wh_elf_section(elf, elf->section_names, &names);
	if (error < 0 || names.type != SHT_STRTAB || section->name >= names.size || !size)
		return -WH_ENOEXEC;
	uint64_t n = names.size - section->name;
	if (n > size - 1)
		n = size - 1;
	error = wh_elf_read(elf, names.offset + section->name, to, n);
	to[error < 0 ? 0 : n] = 0;
	return error;
}

int wh_elf_section_find(const struct wh_elf *elf, const char *name,
			struct wh_elf_section *ret_section)
{
	char found[64];
	if (wh_strlen(name) >= sizeof found - 1)
		return -WH_ENOENT;
	for (uint32_t i = 1; i < elf->section_count; i++) {
		struct wh_elf_section s;
		if (wh_elf_section(elf, i, &s) < 0 ||
		    wh_elf_section_name(elf, &s, found, sizeof found) < 0)
			continue;
		if (wh_streq(found, name)) {
			*ret_section = s;
			return 0;
		}
	}
	return -WH_ENOENT;
}

int wh_elf_section_load(const struct wh_elf *elf, const struct wh_elf_section *section,
			uint8_t **ret_data)
{
	if (section->type == SHT_NOBITS)
		return -WH_ENOEXEC;
	if (section->size > WH_ELF_TABLE_SIZE_MAX)
		return -WH_EFBIG;
	uint8_t *data = malloc(section->size + 1);
	if (!data)
		return -WH_ENOMEM;
	int error = wh_elf_read(elf, section->offset, data, section->size);
	if (error < 0) {
		free(data);
		return error;
	}
	data[section->size] = 0;
	*ret_data = data;
	return 0;
}

int wh_elf_symbols_load(const struct wh_elf *elf, struct wh_elf_symbols *ret_symbols)
{
	struct wh_elf_section table, strings;
	int error = wh_elf_section_find(elf, ".symtab", &table);
	if (error < 0)
		return error;
	if (table.type != SHT_SYMTAB || wh_elf_section(elf, table.link, &strings) < 0 ||
	    strings.type != SHT_STRTAB)
		return -WH_ENOEXEC;
	uint8_t *entries = NULL, *text = NULL;
	error = wh_elf_section_load(elf, &table, &entries);
	if (error < 0)
		return error;
	error = wh_elf_section_load(elf, &strings, &text);
	if (error < 0) {
		free(entries);
		return error;
	}
	*ret_symbols = (struct wh_elf_symbols){ .entries = entries,
						.count = (uint32_t)(table.size / SYM_SIZE),
						.strings = (char *)text,
						.strings_size = strings.size };
	return 0;
}

void wh_elf_symbols_free(struct wh_elf_symbols *symbols)
{
	if (!symbols)
		return;
	free(symbols->entries);
	free(symbols->strings);
	*symbols = (struct wh_elf_symbols){ 0 };
}

struct wh_elf_symbol wh_elf_symbol(const struct wh_elf_symbols *symbols, uint32_t index)
{
	if (index >= symbols->count)
		return (struct wh_elf_symbol){ .name = "" };
	const uint8_t *p = symbols->entries + (size_t)index * SYM_SIZE;
	uint32_t name = wh_load_le32(p);
	return (struct wh_elf_symbol){
		/* the byte behind the strings is NUL: every offset inside is a string */
		.name = name < symbols->strings_size ? symbols->strings + name : "",
		.type = p[4] & 15,
		.bind = p[4] >> 4,
		.section = wh_load_le16(p + 6),
		.value = wh_load_le64(p + 8),
		.size = wh_load_le64(p + 16),
	};
}

int wh_elf_symbol_at(const struct wh_elf_symbols *symbols, uint64_t address,
		     struct wh_elf_symbol *ret_symbol)
{
	struct wh_elf_symbol best = { 0 };
	for (uint32_t i = 0; i < symbols->count; i++) {
		struct wh_elf_symbol s = wh_elf_symbol(symbols, i);
		bool function = s.type == STT_FUNC || (s.type == STT_NOTYPE && !s.size);
		if (!function || s.section == SHN_UNDEF || s.section >= SHN_LORESERVE ||
		    !s.name[0] || address < s.value)
			continue;
		if (s.size ? address - s.value < s.size : !best.name || s.value > best.value)
			best = s;
		if (s.size && best.value == s.value && best.size == s.size) {
			*ret_symbol = s;
			return 0;
		}
	}
	if (!best.name)
		return -WH_ENOENT;
	*ret_symbol = best;
	return 0;
}
