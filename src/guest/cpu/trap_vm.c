/* SPDX-License-Identifier: ISC */
/*
 * Exceptions in ring 0: descriptor tables, and the way from a trap frame to the
 * same struct kern_fault that a confined process reports.
 */
#include <kern/fault.h>
#include <kern/plat.h>
#include <kern/preempt.h>
#include <kern/trace.h>
#include <wherry/base/mem.h>
#include "vm_priv.h"

#define EXCEPTIONS 32u
#define STUB_SIZE 16u
#define SELECTOR_CODE 8u
#define SELECTOR_DATA 16u
#define SELECTOR_TSS 24u

/* One page: GDT, TSS, then the IDT. */
struct tables {
	uint64_t gdt[5]; /* null, code, data, TSS (two words) */
	uint64_t pad[3];
	uint32_t tss[32]; /* 104 bytes (Intel SDM 3A, 8.7) */
	struct {
		uint64_t low, high;
	} idt[VM_VECTORS];
};

struct table_pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

extern const char cpu_trap_stubs[], cpu_tick_stub[], cpu_irq_x2apic[], cpu_irq_xapic[];

static void set_gate(struct tables *t, unsigned vector, const char *handler)
{
	uint64_t a = (uint64_t)(uintptr_t)handler;
	/* present, 64-bit interrupt gate, IST 1 */
	t->idt[vector].low = (a & 0xffff) | SELECTOR_CODE << 16 | 1ull << 32 | 0x8eull << 40 |
			     (a >> 16 & 0xffff) << 48;
	t->idt[vector].high = a >> 32;
}

void vm_traps_init(uint64_t page, uint64_t trap_stack_top, bool x2apic)
{
	struct tables *t = (struct tables *)(uintptr_t)page;
	_Static_assert(sizeof *t <= 4096, "one page");
	uint64_t tss = (uint64_t)(uintptr_t)t->tss;
	t->gdt[1] = 0x00af9b000000ffff;
	t->gdt[2] = 0x00cf93000000ffff;
	t->gdt[3] = 103 | (tss & 0xffffff) << 16 | 0x89ull << 40 | (tss >> 24 & 0xff) << 56;
	t->gdt[4] = tss >> 32;
	memcpy(&t->tss[9], &trap_stack_top, sizeof trap_stack_top); /* IST 1 */
	t->tss[25] = 104u << 16;                                    /* no I/O bitmap */
	for (unsigned i = 0; i < EXCEPTIONS; i++)
		set_gate(t, i, cpu_trap_stubs + i * STUB_SIZE);
	for (unsigned i = EXCEPTIONS; i < VM_VECTORS; i++)
		set_gate(t, i, x2apic ? cpu_irq_x2apic : cpu_irq_xapic);
	if (kern_preempt_tick)
		set_gate(t, VM_VECTOR_TIMER, cpu_tick_stub);

	struct table_pointer gdt = { sizeof t->gdt - 1, (uint64_t)(uintptr_t)t->gdt };
	struct table_pointer idt = { sizeof t->idt - 1, (uint64_t)(uintptr_t)t->idt };
	__asm__ volatile("lgdt %0\n\t"
			 "lidt %1\n\t"
			 "ltr %w2\n\t"
			 "mov %w3, %%ss\n\t"
			 "mov %w3, %%ds\n\t"
			 "mov %w3, %%es" ::"m"(gdt),
			 "m"(idt), "r"(SELECTOR_TSS), "r"(SELECTOR_DATA)
			 : "memory");
}

/* As pushed by trap_common and the processor, lowest address first. */
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

enum {
	LINUX_SIGILL = 4,
	LINUX_SIGTRAP = 5,
	LINUX_SIGBUS = 7,
	LINUX_SIGFPE = 8,
	LINUX_SIGSEGV = 11,
	LINUX_SEGV_MAPERR = 1,
	LINUX_SEGV_ACCERR = 2,
	LINUX_SI_KERNEL = 0x80,
};
#define VECTOR_PAGE_FAULT 14u
#define FLAGS_PROGRAM 0x240dd5ull /* CF PF AF ZF SF TF DF OF AC ID */

/* The frame's registers in Linux's order, and back: a program's handler may change them. */
__attribute__((no_stack_protector)) static void exchange(struct trap_frame *f, uint64_t *greg,
							 bool to_frame)
{
	uint64_t *const member[] = { &f->r8,  &f->r9,  &f->r10, &f->r11, &f->r12, &f->r13,
				     &f->r14, &f->r15, &f->rdi, &f->rsi, &f->rbp, &f->rbx,
				     &f->rdx, &f->rax, &f->rcx, &f->rsp, &f->rip };
	for (unsigned i = 0; i < sizeof member / sizeof *member; i++)
		if (to_frame)
			*member[i] = greg[i];
		else
			greg[i] = *member[i];
	/* of the flags what a program may change */
	if (to_frame)
		f->rflags = (f->rflags & ~FLAGS_PROGRAM) | (greg[KERN_GREG_FLAGS] & FLAGS_PROGRAM);
	else
		greg[KERN_GREG_FLAGS] = f->rflags;
}

void cpu_trap(struct trap_frame *frame, uint64_t cr2, uint8_t *fp);

/* Never inlined: a fault must not pay for this in stack. */
static void tick(struct trap_frame *frame, struct kern_context *context)
{
	(void)frame;
	kern_trace_sample(context);
	if (kern_preempt_tick)
		kern_preempt_tick(context);
}

__attribute__((no_stack_protector)) void cpu_trap(struct trap_frame *frame, uint64_t cr2,
						  uint8_t *fp)
{
	struct kern_context context;

	/* Signals as Linux gives them (arch/x86/kernel/traps.c there). */
	static const uint8_t signals[EXCEPTIONS] = {
		[0] = LINUX_SIGFPE,  [1] = LINUX_SIGTRAP, [3] = LINUX_SIGTRAP, [6] = LINUX_SIGILL,
		[16] = LINUX_SIGFPE, [17] = LINUX_SIGBUS, [19] = LINUX_SIGFPE,
	};
	uint32_t vector = (uint32_t)frame->vector;
	uint8_t signo = vector < EXCEPTIONS && signals[vector] ? signals[vector] : LINUX_SIGSEGV;
	struct kern_fault fault = {
		.signo = signo,
		.code = vector != VECTOR_PAGE_FAULT ? LINUX_SI_KERNEL
			: frame->error & 1          ? LINUX_SEGV_ACCERR
						    : LINUX_SEGV_MAPERR,
		.vector = vector,
		.address = vector == VECTOR_PAGE_FAULT ? cr2 : 0,
		.error = frame->error,
		.rip = frame->rip,
		.rsp = frame->rsp,
		.rbp = frame->rbp,
		.context = &context,
	};
	memset(&context, 0, sizeof context);
	exchange(frame, context.greg, false);
	context.greg[KERN_GREG_ERROR] = frame->error;
	context.greg[KERN_GREG_TRAP] = vector;
	context.greg[KERN_GREG_CR2] = fault.address;
	context.fp = fp;
	if (vector != VM_VECTOR_TIMER)
		kern_fault(&fault);
	else if (vm_timer_interrupt(&frame->rip))
		tick(frame, &context);
	else
		return;
	exchange(frame, context.greg, true);
}
