/* SPDX-License-Identifier: ISC */
/*
 * The guest's CPUID: what the processor has and an image can use, made from a list of known
 * features. Asking kvm (KVM_GET_SUPPORTED_CPUID) takes 400 us inside another virtual machine,
 * because it executes CPUID a hundred times; this takes ten. Only features that kvm passes through
 * without any set-up are on the list: instructions of ring 3, and what the guest's kernel uses.
 */
#include "kvm_priv.h"

/* Feature bits by leaf and register (Intel SDM 2A, CPUID; AMD APM 3, appendix E). */
#define LEAF1_ECX                                                                             \
	(1u << 0 | 1u << 1 | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 22 | \
	 1u << 23 | 1u << 25 | 1u << 26 | 1u << 28 | 1u << 29 | 1u << 30)
#define LEAF1_ECX_X2APIC (1u << 21)
#define LEAF1_ECX_DEADLINE (1u << 24)
#define LEAF1_ECX_XSAVE (1u << 26)
#define LEAF1_ECX_HYPERVISOR (1u << 31)
/* x87, DE, PSE, TSC, MSR, PAE, CX8, APIC, PGE, CMOV, PAT, PSE36, CLFSH, MMX, FXSR, SSE, SSE2 */
#define LEAF1_EDX                                                                                \
	(1u << 0 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 9 |         \
	 1u << 13 | 1u << 15 | 1u << 16 | 1u << 17 | 1u << 19 | 1u << 23 | 1u << 24 | 1u << 25 | \
	 1u << 26)
/* FSGSBASE, BMI1, AVX2, BMI2, ERMS, AVX-512 F DQ IFMA CD BW VL, RDSEED, ADX, CLFLUSHOPT, CLWB, SHA */
#define LEAF7_EBX                                                                           \
	(1u << 0 | 1u << 3 | 1u << 5 | 1u << 8 | 1u << 9 | 1u << 16 | 1u << 17 | 1u << 18 | \
	 1u << 19 | 1u << 21 | 1u << 23 | 1u << 24 | 1u << 28 | 1u << 29 | 1u << 30 | 1u << 31)
/* AVX-512 VBMI VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ */
#define LEAF7_ECX \
	(1u << 1 | 1u << 6 | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 14)
#define LEAF7_EDX (1u << 4)                       /* FSRM */
#define EXT1_ECX (1u << 0 | 1u << 5 | 1u << 8)    /* LAHF, ABM, 3DNow prefetch */
#define EXT1_EDX (1u << 20 | 1u << 26 | 1u << 29) /* NX, 1 GiB pages, long mode */
#define XCR0_KNOWN 0xe7ull                        /* x87, SSE, AVX, AVX-512 */
#define XSAVE_KNOWN 7u                            /* XSAVEOPT, XSAVEC, XGETBV 1 */

#define LEAF_MAX 0xdu
#define HYPERVISOR_LEAF 0x40000000u
#define HYPERVISOR_TIMING_LEAF 0x40000010u

struct writer {
	struct kvm_cpuid_entry2 *to;
	uint32_t count;
};

static void put(struct writer *w, uint32_t leaf, int subleaf, const uint32_t *abcd)
{
	w->to[w->count++] = (struct kvm_cpuid_entry2){
		.function = leaf,
		.index = subleaf < 0 ? 0 : (uint32_t)subleaf,
		.flags = subleaf < 0 ? 0 : KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = abcd[0],
		.ebx = abcd[1],
		.ecx = abcd[2],
		.edx = abcd[3],
	};
}

static void put_xsave(struct writer *w, const struct kvm_cpuid_source *host)
{
	uint32_t r[4];
	uint64_t enabled = host->xcr0(host->ctx) & XCR0_KNOWN;
	host->read(host->ctx, 13, 0, r);
	r[0] &= (uint32_t)enabled;
	r[3] = 0;
	uint32_t components = r[0];
	put(w, 13, 0, r);
	host->read(host->ctx, 13, 1, r);
	r[0] &= XSAVE_KNOWN;
	r[2] = r[3] = 0;
	put(w, 13, 1, r);
	for (int i = 2; i < 8; i++) {
		if (!(components & 1u << i))
			continue;
		host->read(host->ctx, 13, (uint32_t)i, r);
		put(w, 13, i, r);
	}
}

uint32_t kvm_cpuid_make(const struct kvm_cpuid_source *host, uint32_t tsc_khz,
			struct kvm_cpuid_entry2 *to)
{
	struct writer w = { .to = to };
	uint32_t r[4], max;
	host->read(host->ctx, 0, 0, r);
	max = r[0];
	r[0] = max < LEAF_MAX ? max : LEAF_MAX;
	put(&w, 0, -1, r);
	host->read(host->ctx, 1, 0, r);
	bool xsave = r[2] & LEAF1_ECX_XSAVE && max >= 13;
	r[1] = (r[1] & 0xff00) | 1u << 16; /* CLFLUSH size, one processor, APIC id 0 */
	r[2] = (r[2] & LEAF1_ECX) | LEAF1_ECX_X2APIC | LEAF1_ECX_DEADLINE | LEAF1_ECX_HYPERVISOR;
	r[3] &= LEAF1_EDX;
	if (!xsave)
		r[2] &= ~(LEAF1_ECX_XSAVE | 1u << 28); /* nor AVX */
	put(&w, 1, -1, r);
	if (max >= 7) {
		host->read(host->ctx, 7, 0, r);
		r[0] = 0;
		r[1] &= LEAF7_EBX;
		r[2] &= LEAF7_ECX;
		r[3] &= LEAF7_EDX;
		put(&w, 7, 0, r);
	}
	if (xsave)
		put_xsave(&w, host);

	const uint32_t hypervisor[4] = { HYPERVISOR_TIMING_LEAF, 0x72656857, 0x00007972, 0 };
	const uint32_t timing[4] = { tsc_khz, 0, 0, 0 };
	put(&w, HYPERVISOR_LEAF, -1, hypervisor); /* "Wherry" */
	put(&w, HYPERVISOR_TIMING_LEAF, -1, timing);

	const uint32_t extended[4] = { 0x80000008, 0, 0, 0 };
	put(&w, 0x80000000, -1, extended);
	host->read(host->ctx, 0x80000001, 0, r);
	r[0] = r[1] = 0;
	r[2] &= EXT1_ECX;
	r[3] &= EXT1_EDX;
	put(&w, 0x80000001, -1, r);
	host->read(host->ctx, 0x80000008, 0, r);
	r[0] &= 0xffff; /* physical and virtual address bits */
	r[1] = r[2] = r[3] = 0;
	put(&w, 0x80000008, -1, r);
	return w.count;
}

static void read_host(void *ctx, uint32_t leaf, uint32_t subleaf, uint32_t *ret_abcd)
{
	__asm__ volatile("cpuid"
			 : "=a"(ret_abcd[0]), "=b"(ret_abcd[1]), "=c"(ret_abcd[2]),
			   "=d"(ret_abcd[3])
			 : "a"(leaf), "c"(subleaf));
}

static uint64_t xcr0_host(void *ctx)
{
	uint32_t low, high;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

const struct kvm_cpuid_source kvm_cpuid_host = { read_host, xcr0_host, NULL };
