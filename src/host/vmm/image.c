/* SPDX-License-Identifier: ISC */
/*
 * Images: an ELF file becomes a list of read-only pieces, one writable part and a list of
 * relocations, all checked; nothing is left to reject when it is loaded.
 *
 * What a file must be (wherry/abi/boot.h, wherry/abi/manifest.h): static and
 * position-independent, a manifest note, segments in rising order without shared pages, first those
 * that are never written (mapped from the file), then those that are, no segment both
 * writable and executable, and no relocations but R_X86_64_RELATIVE.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>

#include "vmm_priv.h"

#define DYNAMIC_COUNT_MAX 64u
#define RELA_SIZE 24u
#define DT_RELR_TAG 36u /* not in every libc's elf.h */

static bool in_executable(const struct wh_elf *elf, uint64_t address)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		const struct wh_elf_segment *s = &elf->segment[i];
		if (s->type == PT_LOAD && (s->flags & PF_X) && address >= s->vaddr &&
		    address - s->vaddr < s->file_size)
			return true;
	}
	return false;
}

static int check_manifest(const struct wh_elf *elf, const struct wh_manifest *m,
			  struct wh_diag *diag)
{
	if (m->boot_version != WH_BOOT_VERSION)
		return wh_diag_set(diag, -WH_ENOEXEC,
				   "the image was built for boot contract %u, this wherry has %u; "
				   "build it again",
				   m->boot_version, WH_BOOT_VERSION);
	if (m->flags & ~WH_MANIFEST_FLAGS)
		return wh_diag_set(diag, -WH_ENOEXEC, "manifest: unknown flags 0x%x", m->flags);
	if (!in_executable(elf, m->boot_entry) || !in_executable(elf, m->trap_entry) ||
	    !in_executable(elf, m->trap_return))
		return wh_diag_set(diag, -WH_ENOEXEC, "manifest: an entry lies outside the text");
	if (m->memory_min > WH_MANIFEST_MEMORY_MAX || m->memory_default > WH_MANIFEST_MEMORY_MAX ||
	    m->memory_default < m->memory_min)
		return wh_diag_set(diag, -WH_ENOEXEC, "manifest: impossible memory figures");
	if (m->stack_size < VMM_PAGE || m->stack_size > WH_MANIFEST_STACK_MAX)
		return wh_diag_set(diag, -WH_ENOEXEC, "manifest: impossible stack size");
	if (wh_strnlen(m->name, sizeof m->name) == sizeof m->name)
		return wh_diag_set(diag, -WH_ENOEXEC, "manifest: the name has no end");
	return 0;
}

static int read_manifest(struct wh_vmm_image *image, struct wh_diag *diag)
{
	struct wh_manifest m = { 0 };
	size_t size = 0;
	int error = wh_elf_note(&image->elf, WH_MANIFEST_NOTE_NAME, WH_MANIFEST_NOTE_TYPE, &m,
				sizeof m, &size, diag);
	if (error == -WH_ENOENT)
		return wh_diag_set(
			diag, -WH_ENOEXEC,
			"not a Wherry image: it has no manifest; build it with wherry cc");
	if (error < 0)
		return error;
	if (size < sizeof m || m.size < sizeof m || m.size > size)
		return wh_diag_set(diag, -WH_ENOEXEC, "manifest: %zu bytes, needed are %zu", size,
				   sizeof m);
	if (m.version != WH_MANIFEST_VERSION)
		return wh_diag_set(diag, -WH_ENOEXEC, "manifest: version %u, known is %u",
				   m.version, WH_MANIFEST_VERSION);
	error = check_manifest(&image->elf, &m, diag);
	if (error < 0)
		return error;
	image->manifest = m;
	return 0;
}

static int add_piece(struct wh_vmm_image *image, const struct wh_elf_segment *s, unsigned index,
		     struct wh_diag *diag)
{
	uint64_t shift = s->vaddr & (VMM_PAGE - 1);
	if (s->file_size != s->mem_size || (s->offset & (VMM_PAGE - 1)) != shift)
		return wh_diag_set(diag, -WH_ENOEXEC, "segment %u cannot be mapped from the file",
				   index);
	image->piece[image->piece_count++] = (struct vmm_piece){
		.start = s->vaddr - shift,
		.size = wh_align_up(s->mem_size + shift, VMM_PAGE),
		.offset = image->elf.input.base + s->offset - shift,
		.executable = s->flags & PF_X,
	};
	return 0;
}

/* Order, overlap, W^X; fills pieces, start, ram_start and end. */
static int read_layout(struct wh_vmm_image *image, struct wh_diag *diag)
{
	uint64_t next = 0; /* first page behind the segments so far */
	bool any = false, writable = false;
	for (uint32_t i = 0; i < image->elf.segment_count; i++) {
		const struct wh_elf_segment *s = &image->elf.segment[i];
		if (s->type == PT_INTERP)
			return wh_diag_set(diag, -WH_ENOEXEC,
					   "dynamically linked; link it with wherry cc");
		if (s->type == PT_GNU_STACK && (s->flags & PF_X))
			return wh_diag_set(diag, -WH_ENOEXEC, "asks for an executable stack");
		if (s->type != PT_LOAD || !s->mem_size)
			continue;
		uint64_t first = wh_align_down(s->vaddr, VMM_PAGE);
		if (s->vaddr + s->mem_size > VMM_IMAGE_SIZE_MAX)
			return wh_diag_set(diag, -WH_ENOEXEC, "segment %u lies too high", i);
		if (any && first < next)
			return wh_diag_set(
				diag, -WH_ENOEXEC,
				"segment %u shares pages with, or lies below, the one before", i);
		if ((s->flags & PF_W) && (s->flags & PF_X))
			return wh_diag_set(diag, -WH_ENOEXEC,
					   "segment %u is both writable and executable", i);
		if (!(s->flags & PF_W) && writable)
			return wh_diag_set(diag, -WH_ENOEXEC,
					   "segment %u is read-only but lies among writable ones",
					   i);
		if (!any)
			image->start = first;
		if ((s->flags & PF_W) && !writable)
			image->ram_start = first;
		if (!(s->flags & PF_W)) {
			int error = add_piece(image, s, i, diag);
			if (error < 0)
				return error;
		}
		any = true;
		writable |= s->flags & PF_W;
		image->end = s->vaddr + s->mem_size;
		next = wh_align_up(image->end, VMM_PAGE);
	}
	if (!writable)
		image->ram_start = image->end = next;
	return 0;
}

/* PT_GNU_RELRO: the pages that it covers wholly, from the start of the writable part. */
static int read_relro(struct wh_vmm_image *image, struct wh_diag *diag)
{
	image->relro_end = image->ram_start;
	for (uint32_t i = 0; i < image->elf.segment_count; i++) {
		const struct wh_elf_segment *s = &image->elf.segment[i];
		uint64_t end;
		if (s->type != PT_GNU_RELRO || !s->mem_size)
			continue;
		if (wh_align_down(s->vaddr, VMM_PAGE) != image->ram_start ||
		    wh_add_overflows(s->vaddr, s->mem_size, &end) ||
		    end > wh_align_up(image->end, VMM_PAGE))
			return wh_diag_set(diag, -WH_ENOEXEC,
					   "RELRO is not the start of the writable part");
		image->relro_end = wh_align_down(end, VMM_PAGE);
	}
	return 0;
}

static int read_relocations(struct wh_vmm_image *image, uint64_t table, uint64_t size,
			    struct wh_diag *diag)
{
	if (!size)
		return 0;
	if (size % RELA_SIZE || size / RELA_SIZE > VMM_RELOCATIONS_MAX)
		return wh_diag_set(diag, -WH_ENOEXEC, "relocations: impossible table size %llu",
				   (unsigned long long)size);
	uint8_t *rela = malloc(size);
	if (!rela)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for %llu bytes of relocations",
				   (unsigned long long)size);
	int error = wh_elf_read_at(&image->elf, table, rela, size);
	if (error < 0) {
		free(rela);
		return wh_diag_set(diag, error, "relocations: the table is not in the file");
	}
	/* Checked entries replace the table in place: 16 bytes for 24. */
	struct vmm_relocation *out = (struct vmm_relocation *)(void *)rela;
	uint32_t count = (uint32_t)(size / RELA_SIZE);
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = rela + (size_t)i * RELA_SIZE;
		struct vmm_relocation r = { wh_load_le64(p), wh_load_le64(p + 16) };
		uint64_t info = wh_load_le64(p + 8);
		if (info != R_X86_64_RELATIVE || r.where < image->ram_start ||
		    r.where > image->end || image->end - r.where < 8) {
			free(rela);
			return wh_diag_set(diag, -WH_ENOEXEC,
					   "relocation %u is of type %llu or outside the data; "
					   "link it with wherry cc",
					   i, (unsigned long long)info);
		}
		memcpy(&out[i], &r, sizeof r);
	}
	image->relocation = out;
	image->relocation_count = count;
	return 0;
}

static int read_dynamic(struct wh_vmm_image *image, struct wh_diag *diag)
{
	uint8_t entries[DYNAMIC_COUNT_MAX * 16];
	const struct wh_elf_segment *dynamic = NULL;
	uint64_t table = 0, size = 0, entry_size = RELA_SIZE;
	for (uint32_t i = 0; i < image->elf.segment_count; i++)
		if (image->elf.segment[i].type == PT_DYNAMIC)
			dynamic = &image->elf.segment[i];
	if (!dynamic)
		return 0;
	if (dynamic->file_size > sizeof entries)
		return wh_diag_set(diag, -WH_ENOEXEC, "dynamic section: over %u entries",
				   DYNAMIC_COUNT_MAX);
	int error = wh_elf_read(&image->elf, dynamic->offset, entries, dynamic->file_size);
	if (error < 0)
		return wh_diag_set(diag, error, "cannot read the dynamic section");
	for (uint64_t at = 0; at + 16 <= dynamic->file_size; at += 16) {
		uint64_t tag = wh_load_le64(entries + at), value = wh_load_le64(entries + at + 8);
		if (tag == DT_NULL)
			break;
		if (tag == DT_NEEDED || tag == DT_TEXTREL || tag == DT_REL || tag == DT_RELR_TAG ||
		    (tag == DT_PLTRELSZ && value))
			return wh_diag_set(diag, -WH_ENOEXEC,
					   "dynamic section: tag %llu is not supported; link it "
					   "with wherry cc",
					   (unsigned long long)tag);
		if (tag == DT_RELA)
			table = value;
		if (tag == DT_RELASZ)
			size = value;
		if (tag == DT_RELAENT)
			entry_size = value;
	}
	if (entry_size != RELA_SIZE)
		return wh_diag_set(diag, -WH_ENOEXEC, "dynamic section: bad relocation size");
	return read_relocations(image, table, size, diag);
}

static bool has_dynamic(const struct wh_elf *elf)
{
	for (uint32_t i = 0; i < elf->segment_count; i++)
		if (elf->segment[i].type == PT_DYNAMIC)
			return true;
	return false;
}

static int read_image(struct wh_vmm_image *image, const struct wh_elf_input *input,
		      struct wh_diag *diag)
{
	int error = wh_elf_open(input, &image->elf, diag);
	if (error < 0)
		return error;
	error = read_manifest(image, diag);
	if (error < 0)
		return error;
	/* GNU ld marks a position-independent program ET_EXEC when its first address is not 0;
	 * without a dynamic section it is none. */
	if (image->elf.type != ET_DYN && (image->elf.type != ET_EXEC || !has_dynamic(&image->elf)))
		return wh_diag_set(diag, -WH_ENOEXEC,
				   "not position-independent; build it with wherry cc");
	error = read_layout(image, diag);
	if (error < 0)
		return error;
	error = read_relro(image, diag);
	if (error < 0)
		return error;
	return read_dynamic(image, diag);
}

/* Takes fd over, also when it fails. */
static int open_input(int fd, const struct wh_elf_input *input, struct wh_vmm_image **ret_image,
		      struct wh_diag *diag)
{
	struct wh_vmm_image *image = calloc(1, sizeof *image);
	if (!image) {
		if (fd >= 0)
			close(fd);
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the image");
	}
	image->fd = fd;
	int error = read_image(image, input, diag);
	if (error < 0) {
		wh_vmm_image_close(image);
		return error;
	}
	*ret_image = image;
	return 0;
}

static int open_own(int fd, struct wh_vmm_image **ret_image, struct wh_diag *diag)
{
	struct stat st;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return wh_diag_set(diag, -WH_ENOEXEC, "not an image: not a regular file");
	}
	struct wh_elf_input input = { .fd = fd, .size = (uint64_t)st.st_size };
	return open_input(fd, &input, ret_image, diag);
}

int wh_vmm_image_file(const char *path, struct wh_diag *diag)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		return fd;
	int error = -errno;
	return wh_diag_set(diag, error,
			   error == -WH_ENOENT    ? "no such file"
			   : error == -WH_EACCES  ? "no permission to read it"
			   : error == -WH_ENOTDIR ? "a part of the path is no folder"
						  : "cannot be opened (errno %d)",
			   -error);
}

int wh_vmm_image_open(const char *path, struct wh_vmm_image **ret_image, struct wh_diag *diag)
{
	int fd = wh_vmm_image_file(path, diag);
	return fd < 0 ? fd : open_own(fd, ret_image, diag);
}

int wh_vmm_image_open_fd(int fd, struct wh_vmm_image **ret_image, struct wh_diag *diag)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (own < 0)
		return wh_diag_set(diag, -errno, "cannot keep the image's descriptor");
	return open_own(own, ret_image, diag);
}

int wh_vmm_image_open_memory(const void *data, size_t size, struct wh_vmm_image **ret_image,
			     struct wh_diag *diag)
{
	struct wh_elf_input input = { .data = data, .fd = -1, .size = size };
	return open_input(-1, &input, ret_image, diag);
}

int vmm_image_open_part(int fd, uint64_t base, uint64_t size, struct wh_vmm_image **ret_image,
			struct wh_diag *diag)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (own < 0)
		return wh_diag_set(diag, -errno, "cannot keep the image's descriptor");
	struct wh_elf_input input = { .fd = own, .size = size, .base = base };
	return open_input(own, &input, ret_image, diag);
}

void wh_vmm_image_close(struct wh_vmm_image *image)
{
	if (!image)
		return;
	if (image->fd >= 0)
		close(image->fd);
	wh_elf_symbols_free(&image->symbols);
	free(image->relocation);
	free(image);
}

const struct wh_manifest *wh_vmm_image_manifest(const struct wh_vmm_image *image)
{
	return &image->manifest;
}

const struct wh_elf *wh_vmm_image_elf(const struct wh_vmm_image *image)
{
	return &image->elf;
}

int wh_vmm_image_symbol(struct wh_vmm_image *image, uint64_t address, const char **ret_name,
			uint64_t *ret_offset)
{
	struct wh_elf_symbol symbol;
	if (!image->symbols_tried)
		(void)wh_elf_symbols_load(&image->elf, &image->symbols); /* none: no names */
	image->symbols_tried = true;
	if (!in_executable(&image->elf, address))
		return -WH_ENOENT;
	int error = wh_elf_symbol_at(&image->symbols, address, &symbol);
	if (error < 0)
		return error;
	*ret_name = symbol.name;
	*ret_offset = address - symbol.value;
	return 0;
}

int vmm_image_load(const struct wh_vmm_image *image, uint8_t *ram, uint64_t bias, bool relocate)
{
	for (uint32_t i = 0; i < image->elf.segment_count; i++) {
		const struct wh_elf_segment *s = &image->elf.segment[i];
		if (s->type != PT_LOAD || !(s->flags & PF_W) || !s->file_size)
			continue;
		wh_assert(s->vaddr >= image->ram_start && s->vaddr + s->mem_size <= image->end);
		int error = wh_elf_read(&image->elf, s->offset, ram + (s->vaddr - image->ram_start),
					s->file_size);
		if (error < 0)
			return error;
	}
	for (uint32_t i = 0; relocate && i < image->relocation_count; i++) {
		const struct vmm_relocation *r = &image->relocation[i];
		wh_store_le64(ram + (r->where - image->ram_start), bias + r->addend);
	}
	return 0;
}
