/* SPDX-License-Identifier: ISC */
/*
 * What kind of kernel is a file? Told from its headers, never from its name; all that is in them is checked here,
 * so that loading only copies. The order: Linux's boot header (its magic lies at a fixed place),
 * Multiboot (in the first 8 KiB), ELF with a PVH note, other ELF.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "pc_priv.h"

#define NOTE_PVH_ENTRY 18u
#define MULTIBOOT_MAGIC 0x1badb002u
#define MULTIBOOT_SEARCH 8192u
#define MULTIBOOT_ADDRESSES (1u << 16)
#define MULTIBOOT_UNKNOWN 0xfff8u /* must-understand bits besides modules, memory, video */

/* Linux's Documentation/arch/x86/boot.rst. */
#define LINUX_SECTORS 0x1f1u
#define LINUX_MAGIC 0x202u
#define LINUX_VERSION 0x206u
#define LINUX_LOADFLAGS 0x211u
#define LINUX_INITRD_MAX 0x22cu
#define LINUX_ALIGNMENT 0x230u
#define LINUX_RELOCATABLE 0x234u
#define LINUX_XLOADFLAGS 0x236u
#define LINUX_COMMAND_LINE_MAX 0x238u
#define LINUX_PREFERRED 0x258u
#define LINUX_INIT_SIZE 0x260u

static int bad(struct wh_diag *diag, const char *what)
{
	return wh_diag_set(diag, -WH_ENOEXEC, "damaged kernel: %s", what);
}

static bool inside_low(uint64_t address, uint64_t size)
{
	return address >= PC_HIGH_START &&
	       wh_range_inside(address - PC_HIGH_START, size, PC_BAR_BASE - PC_HIGH_START);
}

static int read_linux(struct wh_vmm_kernel *k, struct wh_diag *diag)
{
	const uint8_t *h = k->setup;
	uint32_t version = wh_load_le16(h + LINUX_VERSION);
	uint32_t setup = ((h[LINUX_SECTORS] ? h[LINUX_SECTORS] : 4u) + 1) * 512;
	if (version < 0x20c || !(wh_load_le16(h + LINUX_XLOADFLAGS) & 1))
		return wh_diag_set(
			diag, -WH_ENOEXEC,
			"a Linux kernel without a 64-bit entry (boot protocol %u.%u; 2.12 is "
			"needed)",
			version >> 8, version & 255);
	if (!(h[LINUX_LOADFLAGS] & 1))
		return bad(diag, "a Linux zImage");
	if (setup >= k->input.size)
		return bad(diag, "the file ends within its set-up code");
	k->kind = WH_VMM_KERNEL_BZIMAGE;
	k->payload = setup;
	k->payload_size = k->input.size - setup;
	k->load_address = wh_load_le64(h + LINUX_PREFERRED);
	uint64_t align = wh_load_le32(h + LINUX_ALIGNMENT);
	if (!wh_is_power_of_two(align) || k->load_address & (align - 1))
		return bad(diag, "alignment of the load address");
	k->load_size = wh_load_le32(h + LINUX_INIT_SIZE);
	if (k->load_size < k->payload_size)
		k->load_size = k->payload_size;
	if (!inside_low(k->load_address, k->load_size))
		return bad(diag, "load address or size");
	k->entry = 0x200;
	k->initrd_max = wh_load_le32(h + LINUX_INITRD_MAX);
	k->command_line_max = wh_load_le32(h + LINUX_COMMAND_LINE_MAX);
	return 0;
}

static int add_segment(struct wh_vmm_kernel *k, uint64_t offset, uint64_t file_size,
		       uint64_t address, uint64_t mem_size, struct wh_diag *diag)
{
	if (!mem_size)
		return 0;
	if (file_size > mem_size || !wh_range_inside(offset, file_size, k->input.size))
		return bad(diag, "a segment ends behind the end of the file");
	if (!inside_low(address, mem_size))
		return bad(diag, "a segment lies below 1 MiB or above 3 GiB");
	if (k->segment_count == WH_ELF_SEGMENTS_MAX)
		return bad(diag, "too many segments");
	k->segment[k->segment_count++] =
		(struct pc_segment){ offset, file_size, address, mem_size };
	return 0;
}

static bool entry_inside(const struct wh_vmm_kernel *k)
{
	for (uint32_t i = 0; i < k->segment_count; i++)
		if (k->entry >= k->segment[i].address &&
		    k->entry - k->segment[i].address < k->segment[i].file_size)
			return true;
	return false;
}

static int read_elf64(struct wh_vmm_kernel *k, struct wh_diag *diag)
{
	uint8_t note[8] = { 0 };
	size_t size = 0;
	int error = wh_elf_open(&k->input, &k->elf, diag);
	if (error < 0)
		return error;
	for (uint32_t i = 0; i < k->elf.segment_count; i++) {
		const struct wh_elf_segment *s = &k->elf.segment[i];
		if (s->type == PT_LOAD)
			error = add_segment(k, s->offset, s->file_size, s->paddr, s->mem_size,
					    diag);
		if (error < 0)
			return error;
	}
	error = wh_elf_note(&k->elf, "Xen", NOTE_PVH_ENTRY, note, sizeof note, &size, diag);
	if (error < 0 && error != -WH_ENOENT)
		return error;
	if (error >= 0 && size != 4 && size != 8)
		return bad(diag, "the PVH note's size");
	if (error >= 0) {
		k->kind = WH_VMM_KERNEL_PVH;
		k->entry = size == 4 ? wh_load_le32(note) : wh_load_le64(note);
	} else {
		k->kind = WH_VMM_KERNEL_ELF;
		k->entry = k->elf.entry;
		if (k->elf.type != ET_EXEC)
			return wh_diag_set(diag, -WH_ENOEXEC,
					   "an ELF file that is neither an image nor a kernel");
	}
	if (!entry_inside(k) || k->entry > UINT32_MAX)
		return bad(diag, "the entry lies outside its segments");
	k->initrd_max = UINT32_MAX;
	return 0;
}

static int read_elf32(struct wh_vmm_kernel *k, struct wh_diag *diag)
{
	uint8_t h[52], p[32];
	if (wh_elf_read(&k->elf, 0, h, sizeof h) < 0 || h[EI_CLASS] != ELFCLASS32 ||
	    h[EI_DATA] != ELFDATA2LSB || wh_load_le16(h + 18) != EM_386 ||
	    wh_load_le16(h + 42) != sizeof p)
		return bad(diag, "its Multiboot header needs a 32-bit ELF file");
	k->entry = wh_load_le32(h + 24);
	uint64_t at = wh_load_le32(h + 28);
	for (uint32_t i = 0; i < wh_load_le16(h + 44); i++, at += sizeof p) {
		if (wh_elf_read(&k->elf, at, p, sizeof p) < 0)
			return bad(diag, "truncated program headers");
		int error = 0;
		if (wh_load_le32(p) == PT_LOAD)
			error = add_segment(k, wh_load_le32(p + 4), wh_load_le32(p + 16),
					    wh_load_le32(p + 12), wh_load_le32(p + 20), diag);
		if (error < 0)
			return error;
	}
	return 0;
}

/* Multiboot 0.6.96, section 3.1: the header's own addresses, or an ELF file. */
static int read_multiboot(struct wh_vmm_kernel *k, uint64_t at, const uint8_t *h, uint64_t have,
			  struct wh_diag *diag)
{
	uint32_t flags = wh_load_le32(h + 4);
	uint8_t ident[EI_NIDENT] = { 0 };
	int error;
	k->kind = WH_VMM_KERNEL_MULTIBOOT;
	k->initrd_max = UINT32_MAX;
	if (flags & MULTIBOOT_UNKNOWN)
		return bad(diag, "Multiboot flags that nobody knows");
	if (flags & MULTIBOOT_ADDRESSES) {
		if (have < 32)
			return bad(diag, "truncated Multiboot header");
		uint64_t header = wh_load_le32(h + 12), load = wh_load_le32(h + 16);
		uint64_t load_end = wh_load_le32(h + 20), bss_end = wh_load_le32(h + 24);
		uint64_t offset = at - (header - load);
		if (load > header || header - load > at)
			return bad(diag, "Multiboot load address");
		uint64_t size = load_end ? load_end - load : k->input.size - offset;
		uint64_t mem = bss_end ? bss_end - load : size;
		if ((load_end && load_end < load) || (bss_end && bss_end < load) || mem < size)
			return bad(diag, "Multiboot addresses");
		k->entry = wh_load_le32(h + 28);
		error = add_segment(k, offset, size, load, mem, diag);
	} else if (wh_elf_read(&k->elf, 0, ident, sizeof ident) >= 0 &&
		   ident[EI_CLASS] == ELFCLASS64) {
		error = wh_elf_open(&k->input, &k->elf, diag);
		for (uint32_t i = 0; error >= 0 && i < k->elf.segment_count; i++) {
			const struct wh_elf_segment *s = &k->elf.segment[i];
			if (s->type == PT_LOAD)
				error = add_segment(k, s->offset, s->file_size, s->paddr,
						    s->mem_size, diag);
		}
		k->entry = k->elf.entry;
	} else {
		error = read_elf32(k, diag);
	}
	if (error < 0)
		return error;
	return entry_inside(k) ? 0 : bad(diag, "the entry lies outside its segments");
}

static int find_multiboot(struct wh_vmm_kernel *k, struct wh_diag *diag)
{
	uint8_t *head = malloc(MULTIBOOT_SEARCH);
	uint64_t size = k->input.size < MULTIBOOT_SEARCH ? k->input.size : MULTIBOOT_SEARCH;
	int error = head ? wh_elf_read(&k->elf, 0, head, size) : -WH_ENOMEM;
	for (uint64_t at = 0; error >= 0 && at + 12 <= size; at += 4) {
		const uint8_t *h = head + at;
		if (wh_load_le32(h) != MULTIBOOT_MAGIC ||
		    wh_load_le32(h) + wh_load_le32(h + 4) + wh_load_le32(h + 8))
			continue;
		error = read_multiboot(k, at, h, size - at, diag);
		free(head);
		return error < 0 ? error : 1;
	}
	free(head);
	return error;
}

static int detect(struct wh_vmm_kernel *k, struct wh_diag *diag)
{
	uint64_t size = k->input.size < sizeof k->setup ? k->input.size : sizeof k->setup;
	k->elf.input = k->input;
	int error = wh_elf_read(&k->elf, 0, k->setup, size);
	if (error < 0)
		return wh_diag_set(diag, error, "cannot read it (errno %d)", -error);
	if (size == sizeof k->setup && wh_load_le16(k->setup + 0x1fe) == 0xaa55 &&
	    !memcmp(k->setup + LINUX_MAGIC, "HdrS", 4))
		return read_linux(k, diag);
	error = find_multiboot(k, diag);
	if (error)
		return error < 0 ? error : 0;
	if (size >= SELFMAG && !memcmp(k->setup, ELFMAG, SELFMAG))
		return read_elf64(k, diag);
	return wh_diag_set(diag, -WH_ENOEXEC,
			   "neither an image nor a kernel (bzImage, vmlinux, PVH, Multiboot)");
}

static int open_input(int fd, const struct wh_elf_input *input, struct wh_vmm_kernel **ret_kernel,
		      struct wh_diag *diag)
{
	struct wh_vmm_kernel *k = calloc(1, sizeof *k);
	if (!k) {
		wh_os_close(&fd);
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a kernel");
	}
	k->fd = fd;
	k->input = *input;
	int error = detect(k, diag);
	if (error < 0) {
		wh_vmm_kernel_close(k);
		return error;
	}
	*ret_kernel = k;
	return 0;
}

/* Takes the descriptor. */
static int open_own(int fd, struct wh_vmm_kernel **ret_kernel, struct wh_diag *diag)
{
	struct stat st;
	int error = fstat(fd, &st) ? -errno : 0;
	if (!error && !S_ISREG(st.st_mode))
		error = -WH_ENOEXEC;
	if (error) {
		wh_os_close(&fd);
		return wh_diag_set(diag, error, "not a regular file");
	}
	struct wh_elf_input input = { .fd = fd, .size = (uint64_t)st.st_size };
	return open_input(fd, &input, ret_kernel, diag);
}

int wh_vmm_kernel_open(const char *path, struct wh_vmm_kernel **ret_kernel, struct wh_diag *diag)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return wh_diag_set(diag, -errno, "cannot open it (errno %d)", errno);
	return open_own(fd, ret_kernel, diag);
}

int wh_vmm_kernel_open_fd(int fd, struct wh_vmm_kernel **ret_kernel, struct wh_diag *diag)
{
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return wh_diag_set(diag, -errno, "cannot keep it open (errno %d)", errno);
	return open_own(fd, ret_kernel, diag);
}

int wh_vmm_kernel_open_memory(const void *data, size_t size, struct wh_vmm_kernel **ret_kernel,
			      struct wh_diag *diag)
{
	struct wh_elf_input input = { .data = data, .fd = -1, .size = size };
	return open_input(-1, &input, ret_kernel, diag);
}

void wh_vmm_kernel_close(struct wh_vmm_kernel *k)
{
	if (!k)
		return;
	wh_os_close(&k->fd);
	free(k);
}

enum wh_vmm_kernel_kind wh_vmm_kernel_kind(const struct wh_vmm_kernel *k)
{
	return k->kind;
}

const char *wh_vmm_kernel_kind_name(enum wh_vmm_kernel_kind kind)
{
	static const char *const names[] = { "bzImage", "PVH", "ELF", "Multiboot" };
	_Static_assert(WH_ARRAY_COUNT(names) == WH_VMM_KERNEL_KINDS, "a name each");
	return kind - 1u < WH_VMM_KERNEL_KINDS ? names[kind - 1] : "unknown";
}
