/* SPDX-License-Identifier: ISC */
/*
 * The platform of a virtual machine: local APIC, halting, time, exit.
 *
 * Interrupts are off except between STI and HLT, so no kernel data is ever
 * touched by one; a device's or timer's interrupt that comes earlier stays pending and
 * ends the next halt at once. In images that tick (kern/preempt.h) they are on while anything runs, and
 * off from the last look until the halt: a device's still only ends a halt, and the timer's changes
 * nothing of the kernel's when it finds the kernel. On our own machine a device raises one only when guest_sleeping
 * is set (wherry/abi/vm.h). Another monitor raises lines; they stay up until InterruptStatus is
 * acknowledged, so that is done before each halt.
 */
#include <cpu/cpu.h>
#include <cpu/plat.h>
#include <kern/plat.h>
#include <kern/preempt.h>
#include <wherry/abi/vm.h>
#include <wherry/base/diag.h>
#include <wherry/base/mem.h>
#include "vm_priv.h"

/* Local APIC registers as offsets in the xAPIC page; x2APIC MSRs are 0x800 + offset / 16. */
enum {
	APIC_EOI = 0xb0,
	APIC_SPURIOUS = 0xf0,
	APIC_LVT_TIMER = 0x320,
	APIC_LVT_LINT0 = 0x350,
	APIC_LVT_LINT1 = 0x360,
	APIC_TIMER_INITIAL = 0x380,
	APIC_TIMER_CURRENT = 0x390,
	APIC_TIMER_DIVIDE = 0x3e0,
};
#define APIC_BASE 0xfee00000ull
#define APIC_BASE_X2 (3ull << 10)
#define LVT_MASKED (1u << 16)
#define LVT_DEADLINE (2u << 17)
#define DIVIDE_BY_1 11u
#define IOAPIC_BASE 0xfec00000ull
#define IOAPIC_LINES_MAX 30u /* as many as there are vectors for */

/* virtio-mmio registers (virtio 1.2, 4.2.2). */
enum { MMIO_INTERRUPT_STATUS = 0x60, MMIO_INTERRUPT_ACK = 0x64 };

#define NS_PER_S 1000000000ull
#define PIT_HZ 1193182ull
#define CALIBRATE_TICKS 11932u /* 10 ms */
enum { PIT_CHANNEL_0 = 0x40, PIT_COMMAND = 0x43 };

static struct {
	bool ours, x2apic, deadline;
	bool ticking;    /* interrupts are taken outside of halts as well */
	bool tick_armed; /* the timer's next interrupt is a tick */
	uint64_t tsc_hz, timer_hz;
} vm;

void cpu_halt(void);
extern const char cpu_halt_hlt[];

static void apic_write(uint32_t reg, uint32_t value)
{
	if (vm.x2apic)
		vm_wrmsr(0x800 + reg / 16, value);
	else
		*(volatile uint32_t *)(APIC_BASE + reg) = value;
}

static uint32_t apic_read(uint32_t reg)
{
	return vm.x2apic ? (uint32_t)vm_rdmsr(0x800 + reg / 16)
			 : *(volatile uint32_t *)(APIC_BASE + reg);
}

bool vm_apic_x2_enable(bool ours)
{
	vm.ours = ours;
	vm.x2apic = ours || (vm_cpuid(1, 0).c & 1u << 21);
	if (vm.x2apic)
		vm_wrmsr(MSR_APIC_BASE, APIC_BASE | APIC_BASE_X2);
	return vm.x2apic;
}

static void ioapic_write(uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)IOAPIC_BASE = reg;
	*(volatile uint32_t *)(IOAPIC_BASE + 0x10) = value;
}

void vm_apic_init(bool ours, const uint32_t *lines, uint32_t line_count)
{
	if (!ours) {
		vm_out8(0x21, 0xff); /* both 8259s: everything masked */
		vm_out8(0xa1, 0xff);
		apic_write(APIC_LVT_LINT0, LVT_MASKED);
		apic_write(APIC_LVT_LINT1, LVT_MASKED);
		for (uint32_t i = 0; i < line_count; i++)
			if (lines[i] < IOAPIC_LINES_MAX) { /* edge, to CPU 0 */
				ioapic_write(0x11 + 2 * lines[i], 0);
				ioapic_write(0x10 + 2 * lines[i], VM_VECTOR_DEVICES + lines[i]);
			}
	}
	apic_write(APIC_SPURIOUS, 0x100 | VM_VECTOR_SPURIOUS);
}

/* Ticks of the time-stamp counter and of the APIC's timer in CALIBRATE_TICKS of the PIT's channel 0, in mode
 * 0: its output rises at the end, read back as bit 7. (Channel 2 needs port 0x61, which small machines
 * do not have.) */
static void calibrate(void)
{
	apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	vm_out8(PIT_COMMAND, 0x30); /* channel 0, low and high byte, mode 0 */
	vm_out8(PIT_CHANNEL_0, CALIBRATE_TICKS & 255);
	vm_out8(PIT_CHANNEL_0, CALIBRATE_TICKS >> 8);
	apic_write(APIC_TIMER_INITIAL, UINT32_MAX);
	uint64_t start = cpu_tsc(), limit = 1ull << 31;
	do
		vm_out8(PIT_COMMAND, 0xe2); /* read back: status of channel 0 */
	while (!(vm_in8(PIT_CHANNEL_0) & 0x80) && cpu_tsc() - start < limit);
	uint64_t ticks = cpu_tsc() - start;
	uint64_t timer = UINT32_MAX - apic_read(APIC_TIMER_CURRENT);
	if (!vm.tsc_hz)
		vm.tsc_hz = ticks * PIT_HZ / CALIBRATE_TICKS;
	vm.timer_hz = timer * PIT_HZ / CALIBRATE_TICKS;
}

/* What a hypervisor says of the counter's rate (leaf 0x40000010, kHz), or the processor (leaf 0x15: crystal
 * in Hz, ratio). */
static uint64_t tsc_hz_told(void)
{
	if (vm_cpuid(1, 0).c & 1u << 31 && vm_cpuid(0x40000000, 0).a >= 0x40000010)
		return vm_cpuid(0x40000010, 0).a * 1000ull;
	if (vm_cpuid(0, 0).a >= 0x15) {
		struct vm_cpuid r = vm_cpuid(0x15, 0);
		return r.a ? (uint64_t)r.c * r.b / r.a : 0;
	}
	return 0;
}

void vm_clock_init(bool ours, uint64_t *tsc_hz)
{
	vm.deadline = ours || (vm_cpuid(1, 0).c & 1u << 24);
	vm.tsc_hz = *tsc_hz;
	if (!ours && !vm.tsc_hz)
		vm.tsc_hz = tsc_hz_told();
	if (!ours && (!vm.tsc_hz || !vm.deadline))
		calibrate();
	*tsc_hz = vm.tsc_hz;
	apic_write(APIC_LVT_TIMER, VM_VECTOR_TIMER | (vm.deadline ? LVT_DEADLINE : 0));
}

void vm_serial_write(const char *text, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++)
		vm_out8(WH_VM_SERIAL_PORT, (uint8_t)text[i]);
}

/* Is there something that a device said and nobody looked at? */
static bool lines_acknowledge(void)
{
	const struct wh_boot_info *boot = kern_boot();
	const struct wh_boot_device *d = (const struct wh_boot_device *)(uintptr_t)boot->devices;
	bool any = false;
	for (uint32_t i = 0; i < boot->device_count; i++) {
		volatile uint8_t *regs = (volatile uint8_t *)(uintptr_t)d[i].regs;
		uint32_t bits = *(volatile uint32_t *)(regs + MMIO_INTERRUPT_STATUS);
		if (bits)
			*(volatile uint32_t *)(regs + MMIO_INTERRUPT_ACK) = bits;
		any |= bits != 0;
	}
	return any;
}

static void timer_start(uint64_t timeout_ns)
{
	uint64_t hz = vm.deadline ? vm.tsc_hz : vm.timer_hz;
	__uint128_t ticks = (__uint128_t)timeout_ns * hz / NS_PER_S + 1;
	if (vm.deadline) {
		uint64_t most = 1ull << 62;
		vm_wrmsr(MSR_TSC_DEADLINE, cpu_tsc() + (ticks < most ? (uint64_t)ticks : most));
	} else {
		apic_write(APIC_TIMER_INITIAL, ticks < UINT32_MAX ? (uint32_t)ticks : UINT32_MAX);
	}
}

static void sleep(uint32_t seen, uint64_t timeout_ns)
{
	struct wh_boot_control *control = kern_control();
	if (!vm.ours && lines_acknowledge())
		return;
	__atomic_store_n(&control->guest_sleeping, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&control->host_events, __ATOMIC_SEQ_CST) == seen) {
		bool timed = timeout_ns != UINT64_MAX;
		if (timed) {
			timer_start(timeout_ns);
			vm.tick_armed = false;
		}
		cpu_halt();
		if (timed && vm.deadline)
			vm_wrmsr(MSR_TSC_DEADLINE, 0);
		else if (timed)
			apic_write(APIC_TIMER_INITIAL, 0);
	}
	__atomic_store_n(&control->guest_sleeping, 0, __ATOMIC_RELAXED);
}

/* With interrupts on, one could be taken between the last look and the halt. */
static void vm_wait(uint32_t seen, uint64_t timeout_ns)
{
	__asm__ volatile("cli" ::: "memory");
	sleep(seen, timeout_ns);
	if (vm.ticking)
		__asm__ volatile("sti" ::: "memory");
}

static void vm_tick_resume(void)
{
	if (!vm.ticking || vm.tick_armed)
		return;
	vm.tick_armed = true;
	timer_start(KERN_TICK_NS);
}

static void vm_tick_start(void)
{
	vm.ticking = true;
	vm_tick_resume();
	__asm__ volatile("sti" ::: "memory");
}

/* The timer's interrupt; *rip is what it interrupted. Ticks when that was no halt: who sleeps is woken by what he
 * waits for, and asks for the next tick when he goes on. */
bool vm_timer_interrupt(uint64_t *rip)
{
	apic_write(APIC_EOI, 0);
	vm.tick_armed = false;
	if (*rip == (uint64_t)(uintptr_t)cpu_halt_hlt) {
		++*rip;
		return false;
	}
	if (*rip == (uint64_t)(uintptr_t)cpu_halt_hlt + 1)
		return false;
	vm_tick_resume();
	return true;
}

/* Runs while FS is in between: no canary in its frame. */
__attribute__((no_stack_protector)) static void vm_set_fs_base(uint64_t base)
{
	vm_wrmsr(MSR_FS_BASE, base);
}

static void vm_doorbell(void)
{
}

/* On another monitor there is only the serial port to say why. */
static void report(struct wh_boot_control *control)
{
	char text[256];
	control->message[sizeof control->message - 1] = 0;
	size_t size = 0;
	if (control->exit_kind == WH_BOOT_EXIT_PANIC)
		size = wh_format(text, sizeof text, "wherry: panic: %s\n", control->message);
	else if (control->exit_kind == WH_BOOT_EXIT_FAULT)
		size = wh_format(text, sizeof text,
				 "wherry: fault %u at 0x%llx (file 0x%llx), address 0x%llx %s\n",
				 control->fault_vector, (unsigned long long)control->fault_rip,
				 (unsigned long long)(control->fault_rip - kern_boot()->image_base),
				 (unsigned long long)control->fault_address, control->message);
	vm_serial_write(text, size < sizeof text ? (uint32_t)size : sizeof text - 1);
}

__attribute__((noreturn)) static void vm_exit(int status)
{
	struct wh_boot_control *control = kern_control();
	if (!vm.ours)
		report(control);
	for (;;) {
		vm_out32(WH_VM_EXIT_PORT, (uint32_t)status);
		if (vm.ours)
			continue;
		vm_out8(0x64, 0xfe); /* keyboard controller: reset */
		struct {
			uint16_t limit;
			uint64_t base;
		} __attribute__((packed)) none = { 0, 0 };
		__asm__ volatile("lidt %0\n\tud2" ::"m"(none)); /* triple fault */
	}
}

const struct plat_ops plat_vm_ops = {
	.doorbell = vm_doorbell,
	.wait = vm_wait,
	.set_fs_base = vm_set_fs_base,
	.tick_start = vm_tick_start,
	.tick_resume = vm_tick_resume,
	.exit = vm_exit,
};
