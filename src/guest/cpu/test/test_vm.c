/* SPDX-License-Identifier: ISC */
/* Page tables and foreign boot info: memory work that runs on the host as well. */
#include <sys/mman.h>

#include <cpu/paging.h>
#include <cpu/pvh.h>
#include <wherry/base/diag.h>
#include <wherry/base/errors.h>
#include <wherry/test.h>

#define TABLES_SIZE (64u * 4096)
#define NOT_MAPPED 0ull
enum { WRITABLE = 1, EXECUTABLE = 2, UNCACHED = 4, MAPPED = 8 };

static uint8_t *tables;

/* Walks the tables as the processor does; MAPPED and the rights, or NOT_MAPPED. */
static uint64_t rights(const struct cpu_paging *p, uint64_t address)
{
	const uint64_t *table = p->root;
	uint64_t result = MAPPED | WRITABLE | EXECUTABLE;
	for (int shift = 39;; shift -= 9) {
		uint64_t e = table[(address >> shift) & 511];
		if (!(e & 1))
			return NOT_MAPPED;
		if (!(e & 2))
			result &= ~(uint64_t)WRITABLE;
		if (e >> 63)
			result &= ~(uint64_t)EXECUTABLE;
		uint64_t to = e & 0x000ffffffffff000ull;
		if (shift == 12 || (shift == 21 && e & 0x80)) {
			uint64_t mask = (1ull << shift) - 1;
			CHECK_EQ(to, address & ~mask); /* one to one */
			return result | (e & 0x18 ? UNCACHED : 0);
		}
		table = (const uint64_t *)(uintptr_t)to;
	}
}

static void start(struct cpu_paging *p, uint64_t size, bool clear)
{
	if (!tables)
		tables = mmap(NULL, TABLES_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(tables, clear ? 0xff : 0, TABLES_SIZE);
	cpu_paging_init(p, (uint64_t)(uintptr_t)tables, size, clear);
}

static void maps_what_is_named(void)
{
	for (int clear = 0; clear < 2; clear++) {
		struct cpu_paging p;
		start(&p, TABLES_SIZE, clear);
		cpu_paging_map(&p, 0x200000, 0x203000, CPU_PAGING_RX, false);
		cpu_paging_map(&p, 0x203000, 0x204000, CPU_PAGING_R, false);
		cpu_paging_map(&p, 0x204000, 0x5ff000, CPU_PAGING_RW, true);
		cpu_paging_map(&p, 0x204000, 0x206000, CPU_PAGING_R, true);
		cpu_paging_map(&p, 0x5ff000, 0xfffff000, CPU_PAGING_RW, false);
		CHECK(!p.failed);
		CHECK_EQ(rights(&p, 0), NOT_MAPPED);
		CHECK_EQ(rights(&p, 0x1fffff), NOT_MAPPED);
		CHECK_EQ(rights(&p, 0x200000), MAPPED | EXECUTABLE);
		CHECK_EQ(rights(&p, 0x203fff), MAPPED);
		CHECK_EQ(rights(&p, 0x205fff), MAPPED);
		CHECK_EQ(rights(&p, 0x206000), MAPPED | WRITABLE);
		CHECK_EQ(rights(&p, 0x5ff000), MAPPED | WRITABLE);
		CHECK_EQ(rights(&p, 0x40000000), MAPPED | WRITABLE);
		CHECK_EQ(rights(&p, 0xffffefff), MAPPED | WRITABLE);
		CHECK_EQ(rights(&p, 0xfffff000), NOT_MAPPED);
		CHECK_EQ(rights(&p, 1ull << 40), NOT_MAPPED);
	}
}

static void leaves_a_guard_page(void)
{
	struct cpu_paging p;
	start(&p, TABLES_SIZE, false);
	cpu_paging_map(&p, 0x400000, 0xa01000, CPU_PAGING_RW, false);
	cpu_paging_map(&p, 0xa02000, 0xc00000, CPU_PAGING_RW, false);
	cpu_paging_map(&p, 0xd0000000, 0xd0001000, CPU_PAGING_IO, true);
	CHECK(!p.failed);
	CHECK_EQ(rights(&p, 0xa00fff), MAPPED | WRITABLE);
	CHECK_EQ(rights(&p, 0xa01000), NOT_MAPPED);
	CHECK_EQ(rights(&p, 0xa01fff), NOT_MAPPED);
	CHECK_EQ(rights(&p, 0xa02000), MAPPED | WRITABLE);
	CHECK_EQ(rights(&p, 0xd0000000), MAPPED | WRITABLE | UNCACHED);
}

static void fails_without_memory(void)
{
	struct cpu_paging p;
	start(&p, 3 * 4096, false);
	cpu_paging_map(&p, 0x200000, 0x201000, CPU_PAGING_RW, false);
	CHECK(p.failed);
	start(&p, TABLES_SIZE, false);
	cpu_paging_map(&p, 0x200000, 0x400000, CPU_PAGING_RW, false);
	CHECK(!p.failed);
	cpu_paging_map(&p, 0x200000, 0x201000, CPU_PAGING_R, true); /* inside a large page */
	CHECK(p.failed);
	start(&p, TABLES_SIZE, false);
	cpu_paging_map(&p, 0x200001, 0x201000, CPU_PAGING_RW, false);
	CHECK(p.failed);
	start(&p, TABLES_SIZE, false);
	cpu_paging_map(&p, 0x201000, 0x200000, CPU_PAGING_RW, false);
	CHECK(p.failed);
}

static struct pvh_command command;
static char strings[256];

static int parse(const char *line)
{
	return pvh_command_parse(line, 4096, "image", strings, sizeof strings, &command);
}

static void reads_the_command_line(void)
{
	CHECK_EQ(parse("quiet virtio_mmio.device=4K@0xd0000000:5 A_B=c d\n"
		       " virtio_mmio.device=512@0xfeb00e00:12 X=\"1 2\" -- one \"two three\" V=1 "
		       "--"),
		 0);
	CHECK_EQ(command.device_count, 2);
	CHECK_EQ(command.device[0].regs, 0xd0000000);
	CHECK_EQ(command.device[0].irq, 5);
	CHECK_EQ(command.device[0].transport, WH_BOOT_TRANSPORT_MMIO);
	CHECK_EQ(command.device[1].regs, 0xfeb00e00);
	CHECK_EQ(command.device[1].irq, 12);
	CHECK_EQ(command.argc, 5);
	CHECK_EQ(command.envc, 2);
	static const char wanted[] = "image\0one\0two three\0V=1\0--\0A_B=c\0X=1 2";
	CHECK_EQ(command.strings_size, sizeof wanted);
	CHECK_MEM(strings, wanted, sizeof wanted);
}

static void ignores_bad_devices(void)
{
	static const char *const bad[] = {
		"",
		"4K",
		"4K@",
		"4K@0x",
		"4K@0xd0000000",
		"4K@0xd000:",
		"16@0xd000:5",
		"4K@0xd001:5",
		"4K@0xd000:256",
		"x@0xd000:5",
		"4K@99999999999999999999:5",
		"4K@0xffffffffffffff00:5",
	};
	for (size_t i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		char line[80];
		wh_format(line, sizeof line, "virtio_mmio.device=%s", bad[i]);
		CHECK_EQ(parse(line), 0);
		CHECK_EQ(command.device_count, 0);
	}
	char many[2048];
	size_t n = 0;
	for (int i = 0; i < 40; i++)
		n += wh_format(many + n, sizeof many - n, " virtio_mmio.device=4K@0x%x000:5",
			       i + 1);
	CHECK_EQ(parse(many), 0);
	CHECK_EQ(command.device_count, WH_BOOT_DEVICES_MAX);
}

static void command_line_has_limits(void)
{
	char line[600];
	memset(line, 'a', sizeof line);
	memcpy(line, "-- ", 3);
	CHECK_EQ(pvh_command_parse(line, sizeof line, "image", strings, sizeof strings, &command),
		 -WH_E2BIG);
	CHECK_EQ(parse(""), 0);
	CHECK_EQ(command.argc, 1);
	char *exact = test_guarded(5); /* not terminated */
	memcpy(exact, "-- ab", 5);
	CHECK_EQ(pvh_command_parse(exact, 5, "image", strings, sizeof strings, &command), 0);
	CHECK_EQ(command.argc, 2);
	test_guarded_free(exact, 5);
}

static void finds_ram(void)
{
	const struct pvh_image image = { .start = 0x200000, .end = 0x300000, .ram_base = 0x280000 };
	const struct pvh_memory map[] = {
		{ 0, 0x9fc00, PVH_MEMORY_RAM, 0 },
		{ 0x100000, 0x100000, PVH_MEMORY_RAM, 0 },
		{ 0x200000, UINT64_MAX, PVH_MEMORY_RAM, 0 },
		{ 0x200000, 0x1000000, 2, 0 },
		{ 0x200000, 0x1000800, PVH_MEMORY_RAM, 0 },
	};
	CHECK_EQ(pvh_ram_end(map, 5, &image, 1ull << 32), 0x1200000);
	CHECK_EQ(pvh_ram_end(map, 5, &image, 0x400000), 0x400000);
	CHECK_EQ(pvh_ram_end(map, 4, &image, 1ull << 32), 0);
}

static void makes_boot_info(void)
{
	const uint64_t size = 4u << 20, image_size = 0x10000;
	uint8_t *ram = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (ram == MAP_FAILED)
		test_skip("no memory below 2 GiB");
	uint64_t base = (uint64_t)(uintptr_t)ram;
	struct {
		struct pvh_start_info start;
		struct pvh_memory memory;
		char line[16];
	} *low = (void *)(ram + image_size);
	low->memory = (struct pvh_memory){ base, size, PVH_MEMORY_RAM, 0 };
	low->start = (struct pvh_start_info){ .version = 1,
					      .memory_map = (uint64_t)(uintptr_t)&low->memory,
					      .command_line = (uint64_t)(uintptr_t)low->line,
					      .memory_count = 1 };
	memcpy(low->line, "K=v -- x", 9);
	struct pvh_image image = { .base = base,
				   .start = base,
				   .end = base + image_size,
				   .ram_base = base + 0x8000,
				   .stack_size = 0x10000,
				   .name = "image" };
	const struct wh_boot_info *b =
		pvh_boot_info_make(&low->start, 1ull << 32, &image, &command);
	CHECK(b != NULL);
	CHECK_EQ(b->magic, WH_BOOT_MAGIC);
	CHECK_EQ(b->engine, WH_BOOT_ENGINE_PVH);
	CHECK_EQ(b->ram_base + b->ram_size, base + size);
	CHECK_EQ(b->stack_top - b->stack_low, 0x7f000); /* an eighth of the memory */
	CHECK(b->heap_start >= image.end && b->heap_end > b->heap_start);
	CHECK(b->control >= b->heap_end && b->strings + b->strings_size < b->trap_stack_top);
	CHECK(b->trap_stack_top <= b->stack_low - 4096);
	CHECK_EQ(b->argc, 2);
	CHECK_EQ(b->envc, 1);
	CHECK_STR((const char *)(uintptr_t)b->strings, "image");

	struct pvh_start_info bad = low->start;
	bad.version = 0;
	CHECK(!pvh_boot_info_make(&bad, 1ull << 32, &image, &command));
	bad = low->start;
	bad.memory_count = UINT32_MAX;
	CHECK(!pvh_boot_info_make(&bad, 1ull << 32, &image, &command));
	bad = low->start;
	bad.memory_map = 1ull << 32;
	CHECK(!pvh_boot_info_make(&bad, 1ull << 32, &image, &command));
	low->memory.size = 0x38000; /* too little */
	CHECK(!pvh_boot_info_make(&low->start, 1ull << 32, &image, &command));
	munmap(ram, size);
}

int main(void)
{
	RUN(maps_what_is_named);
	RUN(leaves_a_guard_page);
	RUN(fails_without_memory);
	RUN(reads_the_command_line);
	RUN(ignores_bad_devices);
	RUN(command_line_has_limits);
	RUN(finds_ram);
	RUN(makes_boot_info);
	return test_end();
}
