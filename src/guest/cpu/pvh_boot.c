/* SPDX-License-Identifier: ISC */
/*
 * From the PVH entry to the boot contract's entry: find or make the boot info,
 * relocate, build the final page tables and descriptor tables, turn on what the processor
 * has, and leave the scratch memory.
 *
 * Until relocate() has run nothing here may use a pointer from initialised data.
 */
#include <cpu/cpu.h>
#include <cpu/paging.h>
#include <cpu/plat.h>
#include <cpu/image.h>
#include <cpu/pvh.h>
#include <kern/plat.h>
#include <wherry/base/checked.h>
#include <wherry/base/mem.h>
#include "pvh_layout.h"
#include "vm_priv.h"

#define CR4_FSGSBASE (1ull << 16)
#define CR4_OSXSAVE (1ull << 18)
#define XCR0_WANTED 0xe7ull /* x87, SSE, AVX, AVX-512 */
#define XCR0_AVX512 0xe0ull
#define STACK_SIZE_FOREIGN (256ull << 10)
#define MMIO_DEVICE_ID 8u
#define IOAPIC_BASE 0xfec00000ull
#define LAPIC_BASE 0xfee00000ull

enum { DT_RELA = 7, DT_RELASZ = 8 };
#define R_RELATIVE 8u

void cpu_pvh_boot(const struct pvh_start_info *start, uint64_t tsc, uint64_t mapped_gibs);
__attribute__((noreturn)) void cpu_pvh_leave(uint64_t stack_top, struct wh_boot_info *boot,
					     uint64_t tsc);

/* Nobody is there to read a message: the monitor sees a triple fault. */
__attribute__((noreturn)) static void give_up(void)
{
	vm_serial_write("wherry: cannot start\n", 21);
	for (;;)
		__builtin_trap();
}

/* Wherry's own monitor passes the page that begins with its boot info as module 0. */
static struct wh_boot_info *own_boot_info(const struct pvh_start_info *start, uint64_t mapped_end)
{
	if (!start->module_count || start->modules > mapped_end - sizeof(struct pvh_module))
		return 0;
	const struct pvh_module *m = (const struct pvh_module *)(uintptr_t)start->modules;
	struct wh_boot_info *boot = (struct wh_boot_info *)(uintptr_t)m->address;
	if (!wh_range_inside(m->address, sizeof *boot, mapped_end) ||
	    boot->magic != WH_BOOT_MAGIC || boot->version != WH_BOOT_VERSION ||
	    boot->size < sizeof *boot)
		return 0;
	return boot;
}

static struct wh_boot_info *foreign_boot_info(const struct pvh_start_info *start,
					      uint64_t mapped_end)
{
	struct pvh_command scratch;
	struct pvh_image image = { .start = (uint64_t)(uintptr_t)&cpu_image_header,
				   .end = (uint64_t)(uintptr_t)cpu_image_end,
				   .stack_size = STACK_SIZE_FOREIGN,
				   .name = "wherry" };
	const struct elf_segment *s = cpu_image_segments();
	bool first = true;
	for (unsigned i = 0; i < cpu_image_header.phnum; i++) {
		if (s[i].type != PT_LOAD)
			continue;
		if (first)
			image.base = image.start - wh_align_down(s[i].vaddr, CPU_PAGE);
		first = false;
		if (s[i].flags & PF_W && !image.ram_base)
			image.ram_base = wh_align_down(image.base + s[i].vaddr, CPU_PAGE);
	}
	/* A monitor that followed the file to the letter has cleared .bss; RAM behind may be used. */
	return pvh_boot_info_make(start, mapped_end, &image, &scratch);
}

static void relocate(uint64_t base)
{
	const struct elf_segment *s = cpu_image_segments();
	uint64_t table = 0, size = 0;
	for (unsigned i = 0; i < cpu_image_header.phnum; i++) {
		if (s[i].type != PT_DYNAMIC)
			continue;
		const uint64_t *d = (const uint64_t *)(uintptr_t)(base + s[i].vaddr);
		for (; d[0]; d += 2) {
			if (d[0] == DT_RELA)
				table = base + d[1];
			if (d[0] == DT_RELASZ)
				size = d[1];
		}
	}
	const uint64_t *r = (const uint64_t *)(uintptr_t)table;
	for (; size >= 24; size -= 24, r += 3)
		if ((uint32_t)r[1] == R_RELATIVE)
			*(uint64_t *)(uintptr_t)(base + r[0]) = base + r[2];
}

static void map_image(struct cpu_paging *p, const struct wh_boot_info *boot)
{
	const struct elf_segment *s = cpu_image_segments();
	for (unsigned i = 0; i < cpu_image_header.phnum; i++) {
		uint64_t start = boot->image_base + s[i].vaddr;
		uint64_t end = start + s[i].memsz;
		start = wh_align_down(start, CPU_PAGE);
		if (s[i].type == PT_GNU_RELRO) /* comes behind the PT_LOADs */
			cpu_paging_map(p, start, wh_align_down(end, CPU_PAGE), CPU_PAGING_R, true);
		else if (s[i].type == PT_LOAD)
			cpu_paging_map(p, start, wh_align_up(end, CPU_PAGE),
				       s[i].flags & PF_X   ? CPU_PAGING_RX
				       : s[i].flags & PF_W ? CPU_PAGING_RW
							   : CPU_PAGING_R,
				       s[i].flags & PF_W);
	}
}

/* `tables` is where memory for tables begins, its first page taken by the descriptor tables. */
static uint64_t map_all(struct wh_boot_info *boot, uint64_t tables, bool x2apic)
{
	struct cpu_paging p;
	bool foreign = boot->engine == WH_BOOT_ENGINE_PVH;
	cpu_paging_init(&p, tables + CPU_PAGE, PVH_RESERVE - CPU_PAGE, foreign);
	map_image(&p, boot);
	uint64_t heap = tables + PVH_RESERVE;
	cpu_paging_map(&p, tables, heap, CPU_PAGING_RW, true);
	cpu_paging_map(&p, heap, boot->stack_low - CPU_PAGE, CPU_PAGING_RW, false);
	cpu_paging_map(&p, boot->stack_low, boot->ram_base + boot->ram_size, CPU_PAGING_RW, false);
	const struct wh_boot_device *d = (const struct wh_boot_device *)(uintptr_t)boot->devices;
	for (uint32_t i = 0; i < boot->device_count; i++)
		if (d[i].transport == WH_BOOT_TRANSPORT_MMIO) {
			uint64_t page = wh_align_down(d[i].regs, CPU_PAGE);
			cpu_paging_map(&p, page, page + CPU_PAGE, CPU_PAGING_IO, true);
		}
	if (!x2apic)
		cpu_paging_map(&p, LAPIC_BASE, LAPIC_BASE + CPU_PAGE, CPU_PAGING_IO, true);
	if (foreign)
		cpu_paging_map(&p, IOAPIC_BASE, IOAPIC_BASE + CPU_PAGE, CPU_PAGING_IO, true);
	/* The tables themselves: never written again. */
	boot->heap_start = p.next;
	cpu_paging_map(&p, tables, p.next, CPU_PAGING_R, true);
	if (p.failed || heap > boot->heap_end)
		give_up();
	return (uint64_t)(uintptr_t)p.root;
}

static void enable_features(struct wh_boot_info *boot)
{
	struct vm_cpuid basic = vm_cpuid(1, 0), extended = vm_cpuid(7, 0);
	uint64_t cr4;
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	if (extended.b & 1u)
		cr4 |= CR4_FSGSBASE;
	if (basic.c & 1u << 26)
		cr4 |= CR4_OSXSAVE;
	__asm__ volatile("mov %0, %%cr4" ::"r"(cr4));
	boot->flags =
		extended.b & 1u ? boot->flags | WH_BOOT_FSGSBASE : boot->flags & ~WH_BOOT_FSGSBASE;
	if (basic.c & 1u << 26) {
		uint64_t mask = vm_cpuid(13, 0).a & XCR0_WANTED;
		if ((mask & XCR0_AVX512) != XCR0_AVX512 || !(mask & 4))
			mask &= ~XCR0_AVX512;
		__asm__ volatile("xsetbv" ::"c"(0), "a"((uint32_t)mask), "d"(0));
	}
}

/* Start entropy on a monitor that gives none: RDRAND where it exists, and the jitter of the
 * time-stamp counter. virtio-rng adds to it later. */
static void gather_entropy(uint8_t *to, uint32_t size)
{
	bool rdrand = vm_cpuid(1, 0).c & 1u << 30;
	uint64_t state = cpu_tsc();
	for (uint32_t at = 0; at + 8 <= size; at += 8) {
		uint64_t word = 0;
		if (rdrand)
			__asm__ volatile("rdrand %0" : "=r"(word)::"cc");
		for (int i = 0; i < 64; i++) {
			(void)vm_cpuid(0, 0); /* leaves the machine: jitter */
			state = (state ^ cpu_tsc()) * 0x9e3779b97f4a7c15ull;
			state ^= state >> 29;
		}
		word ^= state;
		memcpy(to + at, &word, 8);
	}
}

static void find_foreign_devices(struct wh_boot_info *boot, uint32_t *lines)
{
	struct wh_boot_device *d = (struct wh_boot_device *)(uintptr_t)boot->devices;
	for (uint32_t i = 0; i < boot->device_count; i++) {
		const volatile uint8_t *regs = (const volatile uint8_t *)(uintptr_t)d[i].regs;
		d[i].virtio_id = *(const volatile uint32_t *)(regs + MMIO_DEVICE_ID);
		lines[i] = d[i].irq;
	}
}

void cpu_pvh_boot(const struct pvh_start_info *start, uint64_t tsc, uint64_t mapped_gibs)
{
	uint32_t lines[WH_BOOT_DEVICES_MAX];
	uint64_t mapped_end = mapped_gibs << 30;
	struct wh_boot_info *boot = own_boot_info(start, mapped_end);
	bool ours = boot != 0;
	if (!ours)
		boot = foreign_boot_info(start, mapped_end);
	if (!boot)
		give_up();
	if (!(boot->flags & WH_BOOT_RELOCATED)) {
		relocate(boot->image_base);
		boot->flags |= WH_BOOT_RELOCATED;
	}
	enable_features(boot);
	bool x2apic = vm_apic_x2_enable(ours);
	uint64_t tables = wh_align_up((uint64_t)(uintptr_t)cpu_image_end, CPU_PAGE);
	if (!ours)
		memset((void *)(uintptr_t)tables, 0, CPU_PAGE);
	vm_traps_init(tables, boot->trap_stack_top, x2apic);
	uint64_t cr3 = map_all(boot, tables, x2apic);
	__asm__ volatile("mov %0, %%cr3" ::"r"(cr3) : "memory");
	if (!ours) {
		find_foreign_devices(boot, lines);
		gather_entropy(boot->entropy, sizeof boot->entropy);
	}
	vm_apic_init(ours, lines, ours ? 0 : boot->device_count);
	vm_clock_init(ours, &boot->tsc_hz);
	kern_console_hook = vm_serial_write;
	cpu_pvh_leave(boot->stack_top, boot, tsc);
}
