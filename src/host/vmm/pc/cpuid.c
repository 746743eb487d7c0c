/* SPDX-License-Identifier: ISC */
/*
 * The CPUID of a PC's processors: what kvm supports, with places for one socket of single-threaded
 * cores (Intel SDM 2A, CPUID, leaves 1, 4, 0xb; AMD APM 3, 0x80000008, 0x8000001e).
 */
#include "pc_priv.h"

#define HYPERVISOR (1u << 31)
#define DEADLINE (1u << 24)
#define X2APIC (1u << 21)
#define HTT (1u << 28)

static uint32_t bits_for(uint32_t cpus)
{
	uint32_t bits = 0;
	while ((1u << bits) < cpus)
		bits++;
	return bits;
}

static void put_topology(struct kvm_cpuid_entry2 *e, uint32_t level, uint32_t index, uint32_t cpus)
{
	*e = (struct kvm_cpuid_entry2){ .function = 0xb,
					.index = level,
					.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
					.eax = level ? bits_for(cpus) : 0,
					.ebx = level ? cpus : 1,
					.ecx = level ? 0x201 : 0x100,
					.edx = index };
}

uint32_t pc_cpuid_make(struct kvm_cpuid_entry2 *entries, uint32_t count, uint32_t index,
		       uint32_t cpus)
{
	uint32_t kept = 0, max = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct kvm_cpuid_entry2 *e = &entries[kept];
		*e = entries[i];
		switch (e->function) {
		case 0:
			max = e->eax;
			break;
		case 1:
			e->ebx = (e->ebx & 0xffff) | cpus << 16 | index << 24;
			e->ecx |= HYPERVISOR | DEADLINE | X2APIC;
			e->edx = (e->edx & ~HTT) | (cpus > 1 ? HTT : 0);
			break;
		case 4: /* caches: each core has its own */
			if (e->eax & 31)
				e->eax = (e->eax & 0x3fff) | ((1u << bits_for(cpus)) - 1) << 26;
			break;
		case 0xb:
		case 0x1f:
			continue;
		case 0x80000008:
			e->ecx = bits_for(cpus) << 12 | (cpus - 1);
			break;
		case 0x8000001e:
			e->eax = index;
			e->ebx = index;
			e->ecx = 0;
			break;
		}
		kept++;
	}
	for (uint32_t level = 0; max >= 0xb && level < 2 && kept < PC_CPUID_MAX; level++)
		put_topology(&entries[kept++], level, index, cpus);
	return kept;
}
