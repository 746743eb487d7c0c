/* SPDX-License-Identifier: ISC */
#ifndef CPU_VM_PRIV_H
#define CPU_VM_PRIV_H

/* Ring 0: what the files of the virtual machine's platform share. */

#include <stdbool.h>
#include <stdint.h>

/* Interrupt vectors. Interrupts only end a halt, so one stub serves all. */
#define VM_VECTORS 64u
#define VM_VECTOR_TIMER 32u
#define VM_VECTOR_DEVICES 33u /* + interrupt line of the IOAPIC */
#define VM_VECTOR_SPURIOUS 63u

#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_APIC_BASE 0x1bu
#define MSR_FS_BASE 0xc0000100u

static inline uint64_t vm_rdmsr(uint32_t msr)
{
	uint32_t low, high;
	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static inline void vm_wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
			 : "memory");
}

static inline void vm_out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static inline void vm_out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

static inline uint8_t vm_in8(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

struct vm_cpuid {
	uint32_t a, b, c, d;
};

static inline struct vm_cpuid vm_cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct vm_cpuid r;
	__asm__ volatile("cpuid"
			 : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
			 : "a"(leaf), "c"(subleaf));
	return r;
}

/* GDT, IDT and TSS in one page of zeroed memory; loads them. trap_vm.c */
void vm_traps_init(uint64_t page, uint64_t trap_stack_top, bool x2apic);

/* Local APIC on, legacy interrupt controllers off, device lines routed; whatever the platform needs
 * later. plat_vm.c */
bool vm_apic_x2_enable(bool ours);
void vm_apic_init(bool ours, const uint32_t *lines, uint32_t line_count);
void vm_clock_init(bool ours, uint64_t *tsc_hz);
bool vm_timer_interrupt(uint64_t *rip);
void vm_serial_write(const char *text, uint32_t size);

#endif
