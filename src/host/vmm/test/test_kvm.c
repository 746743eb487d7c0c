/* SPDX-License-Identifier: ISC */
/* What the kvm engine works out by itself: CPUID, entry, start info. No /dev/kvm is needed. */
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/test.h>

#include "../kvm/kvm_priv.h"

static uint32_t leaves_max = 0x16;
static uint64_t xcr0 = 0x2e7;

static void read_all_ones(void *ctx, uint32_t leaf, uint32_t subleaf, uint32_t *ret_abcd)
{
	for (int i = 0; i < 4; i++)
		ret_abcd[i] = 0xffffffff;
	if (leaf == 0)
		ret_abcd[0] = leaves_max;
}

static uint64_t read_xcr0(void *ctx)
{
	return xcr0;
}

static const struct kvm_cpuid_source ones = { read_all_ones, read_xcr0, NULL };
static struct kvm_cpuid_entry2 entries[KVM_CPUID_MAX];
static uint32_t count;

static const struct kvm_cpuid_entry2 *entry(uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < count; i++)
		if (entries[i].function == leaf && entries[i].index == subleaf)
			return &entries[i];
	test_fail(__FILE__, __LINE__, "no leaf %x.%u", leaf, subleaf);
}

static void cpuid_passes_only_what_is_known(void)
{
	count = kvm_cpuid_make(&ones, 2000000, entries);
	CHECK(count <= KVM_CPUID_MAX);
	CHECK_EQ(entry(0, 0)->eax, 13);
	CHECK_EQ(entry(1, 0)->ecx & 1u << 5, 0);              /* no VMX */
	CHECK_EQ(entry(1, 0)->ecx & 1u << 3, 0);              /* no MWAIT */
	CHECK_EQ(entry(1, 0)->ecx >> 31, 1);                  /* hypervisor */
	CHECK(entry(1, 0)->ecx & 1u << 21);                   /* x2APIC */
	CHECK(entry(1, 0)->ecx & 1u << 24);                   /* TSC deadline */
	CHECK_EQ(entry(7, 0)->ebx & 1, 1);                    /* FSGSBASE */
	CHECK_EQ(entry(7, 0)->ebx & (1u << 7 | 1u << 20), 0); /* no SMEP, SMAP: one ring */
	CHECK_EQ(entry(13, 0)->eax, 0xe7);
	CHECK_EQ(entry(13, 1)->eax, 7);
	CHECK_EQ(entry(0x80000001, 0)->ecx & 1u << 2, 0); /* no SVM */
	CHECK_EQ(entry(0x40000010, 0)->eax, 2000000);
}

static void cpuid_without_xsave(void)
{
	leaves_max = 10;
	count = kvm_cpuid_make(&ones, 0, entries);
	CHECK_EQ(entry(0, 0)->eax, 10);
	CHECK_EQ(entry(1, 0)->ecx & (1u << 26 | 1u << 28), 0);
	leaves_max = 0x16;
	xcr0 = 3;
	count = kvm_cpuid_make(&ones, 0, entries);
	CHECK_EQ(entry(13, 0)->eax, 3);
	xcr0 = 0x2e7;
}

/* Enough of an ELF file for the note and the segments. */
static struct wh_vmm_image image;
static uint8_t file[512];

static void note(uint32_t size, uint64_t value)
{
	memset(file, 0, sizeof file);
	wh_store_le32(file, 4);
	wh_store_le32(file + 4, size);
	wh_store_le32(file + 8, 18);
	memcpy(file + 12, "Xen", 4);
	wh_store_le64(file + 16, value);
	image.elf = (struct wh_elf){
		.input = { .data = file, .fd = -1, .size = sizeof file },
		.segment_count = 3,
		.segment = { { .type = 4, .file_size = 16 + size, .align = 4 }, /* PT_NOTE */
			     { .type = 1,
			       .flags = 4,
			       .vaddr = 0,
			       .file_size = 64,
			       .paddr = 0x200000 },
			     { .type = 1,
			       .flags = 5,
			       .vaddr = 0x1000,
			       .file_size = 64,
			       .paddr = 0x201000 } },
	};
}

static void finds_the_entry(void)
{
	struct wh_diag diag;
	uint64_t address = 0;
	note(8, 0x201010);
	CHECK_EQ(kvm_image_entry(&image, &address, &diag), 0);
	CHECK_EQ(address, 0x1010);
	note(4, 0x201020);
	CHECK_EQ(kvm_image_entry(&image, &address, &diag), 0);
	CHECK_EQ(address, 0x1020);
	note(8, 0x200010); /* not executable */
	CHECK_EQ(kvm_image_entry(&image, &address, &diag), -WH_ENOEXEC);
	note(8, 0x1010);
	CHECK_EQ(kvm_image_entry(&image, &address, &diag), -WH_ENOEXEC);
	note(8, UINT64_MAX);
	CHECK_EQ(kvm_image_entry(&image, &address, &diag), -WH_ENOEXEC);
	note(2, 0x201010);
	CHECK_EQ(kvm_image_entry(&image, &address, &diag), -WH_ENOEXEC);
	note(400, 0x201010);
	CHECK_EQ(kvm_image_entry(&image, &address, &diag), -WH_ENOEXEC);
	image.elf.segment_count = 0;
	CHECK_EQ(kvm_image_entry(&image, &address, &diag), -WH_ENOEXEC);
	CHECK_EQ(address, 0x1020);
}

static void writes_the_start_info(void)
{
	static uint8_t page[VMM_PAGE];
	static struct wh_vmm_machine m;
	m.layout.info = 0x12345000;
	m.layout.ram_base = 0x12000000;
	m.layout.ram_size = 0x400000;
	kvm_start_info_write(page, &m);
	CHECK_EQ(wh_load_le32(page), 0x336ec578);
	CHECK_EQ(wh_load_le32(page + 12), 1);
	uint64_t module = wh_load_le64(page + 16) - KVM_START_INFO;
	CHECK(module < VMM_PAGE - 32);
	CHECK_EQ(wh_load_le64(page + module), 0x12345000);
}

int main(void)
{
	RUN(cpuid_passes_only_what_is_known);
	RUN(cpuid_without_xsave);
	RUN(finds_the_entry);
	RUN(writes_the_start_info);
	return test_end();
}
