/* SPDX-License-Identifier: ISC */
/*
 * Puts a kernel, its initrd and what it is told into RAM, by the protocol of its kind: Linux's 64-bit
 * boot protocol (Documentation/arch/x86/boot.rst), PVH (Xen's docs/misc/pvh.pandoc), Multiboot 0.6.96.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "pc_priv.h"

#define E820_RAM 1u
#define E820_RESERVED 2u
#define MAP_MAX 8u

/* The zero page (Linux's Documentation/arch/x86/zero-page.rst). */
#define ZP_RSDP 0x070u
#define ZP_E820_COUNT 0x1e8u
#define ZP_HEADER 0x1f1u
#define ZP_LOADER 0x210u
#define ZP_INITRD 0x218u
#define ZP_INITRD_SIZE 0x21cu
#define ZP_COMMAND_LINE 0x228u
#define ZP_E820 0x2d0u

#define PVH_MAGIC 0x336ec578u
#define MULTIBOOT_INFO_MAGIC 0x2badb002u

struct map_entry {
	uint64_t start, size;
	uint32_t type;
};

struct told {
	struct map_entry map[MAP_MAX];
	uint32_t map_count;
	uint64_t initrd, initrd_size;
	uint64_t command_line_size; /* without NUL */
};

void *pc_ram_at(const struct pc *pc, uint64_t address, uint64_t size)
{
	return wh_range_inside(address, size, pc->low_size) ? pc->machine->ram + address : NULL;
}

/* Copies from a file that may change meanwhile. */
static int load(const struct wh_elf *file, uint64_t offset, uint64_t size, struct pc *pc,
		uint64_t address, struct wh_diag *diag)
{
	void *to = pc_ram_at(pc, address, size);
	if (!to)
		return wh_diag_set(diag, -WH_ENOMEM,
				   "too little memory: it needs %llu MiB to load; say more with "
				   "--memory",
				   (unsigned long long)((address + size) >> 20) + 1);
	int error = wh_elf_read(file, offset, to, size);
	return error < 0 ? wh_diag_set(diag, error, "cannot read it (errno %d)", -error) : 0;
}

static int load_kernel(struct pc *pc, const struct wh_vmm_kernel *k, uint64_t *ret_end,
		       struct wh_diag *diag)
{
	uint64_t end = 0;
	int error = 0;
	if (k->kind == WH_VMM_KERNEL_BZIMAGE) {
		if (!pc_ram_at(pc, k->load_address, k->load_size))
			return load(&k->elf, 0, k->load_size, pc, k->load_address, diag);
		*ret_end = k->load_address + k->load_size;
		return load(&k->elf, k->payload, k->payload_size, pc, k->load_address, diag);
	}
	for (uint32_t i = 0; error >= 0 && i < k->segment_count; i++) {
		const struct pc_segment *s = &k->segment[i];
		if (s->address + s->mem_size > end)
			end = s->address + s->mem_size;
		if (!pc_ram_at(pc, s->address, s->mem_size))
			return load(&k->elf, 0, s->mem_size, pc, s->address, diag);
		error = load(&k->elf, s->offset, s->file_size, pc, s->address, diag);
	}
	*ret_end = end;
	return error;
}

/* At the end of low RAM, as far up as the kernel takes it. */
static int load_initrd(struct pc *pc, const struct wh_vmm_kernel *k, const char *path,
		       uint64_t kernel_end, struct told *t, struct wh_diag *diag)
{
	struct stat st;
	if (!path)
		return 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return wh_diag_set(diag, -errno, "initrd %s: cannot open it (errno %d)", path,
				   errno);
	int error = fstat(fd, &st) ? -errno : S_ISREG(st.st_mode) ? 0 : -WH_EINVAL;
	uint64_t end = pc->low_size;
	uint64_t size = error < 0 ? 0 : (uint64_t)st.st_size;
	if (end > k->initrd_max)
		end = k->initrd_max + 1;
	if (error < 0)
		wh_diag_set(diag, error, "initrd %s: not a regular file", path);
	else if (size > end || wh_align_down(end - size, VMM_PAGE) < kernel_end)
		error = wh_diag_set(diag, -WH_ENOMEM,
				    "initrd %s: %llu MiB do not fit behind the kernel; say more "
				    "with --memory",
				    path, (unsigned long long)(size >> 20) + 1);
	if (error >= 0 && size) {
		t->initrd = wh_align_down(end - size, VMM_PAGE);
		t->initrd_size = size;
		error = wh_os_read_all(fd, pc_ram_at(pc, t->initrd, size), size);
		if (error < 0)
			wh_diag_set(diag, error, "initrd %s: cannot read it (errno %d)", path,
				    -error);
	}
	wh_os_close(&fd);
	return error;
}

static void map_add(struct told *t, uint64_t start, uint64_t end, uint32_t type)
{
	wh_assert(t->map_count < MAP_MAX);
	if (end > start)
		t->map[t->map_count++] = (struct map_entry){ start, end - start, type };
}

static void map_memory(const struct pc *pc, struct told *t)
{
	map_add(t, 0, PC_LOW_END, E820_RAM);
	map_add(t, PC_LOW_END, PC_HIGH_START, E820_RESERVED);
	map_add(t, PC_HIGH_START, pc->low_size, E820_RAM);
	map_add(t, PC_ECAM, PC_ECAM + PC_ECAM_SIZE, E820_RESERVED);
	map_add(t, PC_ABOVE_4G, PC_ABOVE_4G + pc->high_size, E820_RAM);
}

/* GDT with the selectors that Linux asks for (0x10 code, 0x18 data), and page tables of 2 MiB pages. */
static void write_long_mode(struct pc *pc)
{
	uint8_t *gdt = pc_ram_at(pc, PC_GDT, 32);
	uint8_t *tables = pc_ram_at(pc, PC_PAGE_TABLES, 6 * VMM_PAGE);
	wh_store_le64(gdt + 16, 0x00af9b000000ffffull);
	wh_store_le64(gdt + 24, 0x00cf93000000ffffull);
	wh_store_le64(tables, (PC_PAGE_TABLES + VMM_PAGE) | 3);
	for (uint64_t i = 0; i < 4; i++)
		wh_store_le64(tables + VMM_PAGE + 8 * i, (PC_PAGE_TABLES + (2 + i) * VMM_PAGE) | 3);
	for (uint64_t i = 0; i < 2048; i++)
		wh_store_le64(tables + 2ull * VMM_PAGE + 8 * i, i << 21 | 0x83);
}

static void write_zero_page(struct pc *pc, const struct wh_vmm_kernel *k, const struct told *t)
{
	uint8_t *z = pc_ram_at(pc, PC_ZERO_PAGE, VMM_PAGE);
	if (k->kind == WH_VMM_KERNEL_BZIMAGE) {
		/* the header ends where its jump at 0x200 leads */
		uint32_t end = 0x202u + k->setup[0x201];
		if (end > sizeof k->setup)
			end = sizeof k->setup;
		memcpy(z + ZP_HEADER, k->setup + ZP_HEADER, end > ZP_HEADER ? end - ZP_HEADER : 0);
	} else {
		memcpy(z + 0x202, "HdrS", 4);
		wh_store_le16(z + 0x1fe, 0xaa55);
		wh_store_le16(z + 0x206, 0x20f);
		wh_store_le32(z + 0x230, 0x1000000);
	}
	wh_store_le64(z + ZP_RSDP, PC_ACPI);
	z[ZP_LOADER] = 0xff; /* no registered boot loader */
	wh_store_le32(z + ZP_INITRD, (uint32_t)t->initrd);
	wh_store_le32(z + ZP_INITRD_SIZE, (uint32_t)t->initrd_size);
	wh_store_le32(z + ZP_COMMAND_LINE, (uint32_t)PC_COMMAND_LINE);
	z[ZP_E820_COUNT] = (uint8_t)t->map_count;
	for (uint32_t i = 0; i < t->map_count; i++) {
		uint8_t *e = z + ZP_E820 + 20 * i;
		wh_store_le64(e, t->map[i].start);
		wh_store_le64(e + 8, t->map[i].size);
		wh_store_le32(e + 16, t->map[i].type);
	}
	write_long_mode(pc);
	pc->entry = (struct pc_entry){ .long_mode = true, .rsi = PC_ZERO_PAGE };
	pc->entry.rip = k->kind == WH_VMM_KERNEL_BZIMAGE ? k->load_address + k->entry : k->entry;
}

static void write_pvh(struct pc *pc, const struct wh_vmm_kernel *k, const struct told *t)
{
	uint8_t *s = pc_ram_at(pc, PC_START_INFO, VMM_PAGE);
	const uint32_t module = 64, map = 128; /* offsets in the page */
	wh_store_le32(s, PVH_MAGIC);
	wh_store_le32(s + 4, 1);
	wh_store_le32(s + 12, t->initrd_size != 0);
	wh_store_le64(s + 16, PC_START_INFO + module);
	wh_store_le64(s + 24, PC_COMMAND_LINE);
	wh_store_le64(s + 32, PC_ACPI);
	wh_store_le64(s + 40, PC_START_INFO + map);
	wh_store_le32(s + 48, t->map_count);
	wh_store_le64(s + module, t->initrd);
	wh_store_le64(s + module + 8, t->initrd_size);
	for (uint32_t i = 0; i < t->map_count; i++) {
		uint8_t *e = s + map + 24 * i;
		wh_store_le64(e, t->map[i].start);
		wh_store_le64(e + 8, t->map[i].size);
		wh_store_le32(e + 16, t->map[i].type);
	}
	pc->entry = (struct pc_entry){ .rip = k->entry, .rbx = PC_START_INFO };
}

static void write_multiboot(struct pc *pc, const struct wh_vmm_kernel *k, const struct told *t)
{
	uint8_t *s = pc_ram_at(pc, PC_START_INFO, VMM_PAGE);
	const uint32_t module = 128, map = 160;
	uint32_t flags =
		1u << 0 | 1u << 2 | 1u << 6 | 1u << 9; /* memory, command line, map, loader */
	wh_store_le32(s + 4, (uint32_t)(PC_LOW_END >> 10));
	wh_store_le32(s + 8, (uint32_t)((pc->low_size - PC_HIGH_START) >> 10));
	wh_store_le32(s + 16, (uint32_t)PC_COMMAND_LINE);
	if (t->initrd_size) {
		flags |= 1u << 3;
		wh_store_le32(s + 20, 1);
		wh_store_le32(s + 24, (uint32_t)PC_START_INFO + module);
		wh_store_le32(s + module, (uint32_t)t->initrd);
		wh_store_le32(s + module + 4, (uint32_t)(t->initrd + t->initrd_size));
	}
	wh_store_le32(s + 44, t->map_count * 24);
	wh_store_le32(s + 48, (uint32_t)PC_START_INFO + map);
	for (uint32_t i = 0; i < t->map_count; i++) {
		uint8_t *e = s + map + 24 * i;
		wh_store_le32(e, 20);
		wh_store_le64(e + 4, t->map[i].start);
		wh_store_le64(e + 12, t->map[i].size);
		wh_store_le32(e + 20, t->map[i].type);
	}
	memcpy(s + 1024, "wherry", 7);
	wh_store_le32(s + 64, (uint32_t)PC_START_INFO + 1024);
	wh_store_le32(s, flags);
	pc->entry = (struct pc_entry){ .rip = k->entry,
				       .rbx = PC_START_INFO,
				       .rax = MULTIBOOT_INFO_MAGIC };
}

int pc_boot_load(struct pc *pc, const struct wh_vmm_kernel *k, const char *command_line,
		 const char *initrd, struct wh_diag *diag)
{
	struct told t = { 0 };
	uint64_t end = 0;
	size_t size = wh_strlen(command_line);
	uint32_t most = k->command_line_max && k->command_line_max < WH_VMM_PC_COMMAND_LINE_MAX
				? k->command_line_max
				: WH_VMM_PC_COMMAND_LINE_MAX;
	if (size > most)
		return wh_diag_set(diag, -WH_E2BIG,
				   "the command line is over the kernel's %u bytes", most);
	int error = load_kernel(pc, k, &end, diag);
	if (error >= 0)
		error = load_initrd(pc, k, initrd, end, &t, diag);
	if (error < 0)
		return error;
	memcpy(pc_ram_at(pc, PC_COMMAND_LINE, size + 1), command_line, size + 1);
	map_memory(pc, &t);
	pc_acpi_write(pc_ram_at(pc, PC_ACPI, PC_ACPI_SIZE), pc->vcpu_count);
	pc_generation_renew(pc);
	if (k->kind == WH_VMM_KERNEL_PVH)
		write_pvh(pc, k, &t);
	else if (k->kind == WH_VMM_KERNEL_MULTIBOOT)
		write_multiboot(pc, k, &t);
	else
		write_zero_page(pc, k, &t);
	return 0;
}
