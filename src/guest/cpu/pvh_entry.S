/* SPDX-License-Identifier: ISC */
/*
 * PVH entry (Xen's "HVM direct boot": docs/misc/pvh.pandoc there): 32-bit protected mode without
 * paging, flat segments, ebx = struct hvm_start_info, no stack, everything else unknown. Image and
 * start info lie below 4 GiB where physical addresses are also the image's addresses.
 *
 * Leaves for cpu_pvh_boot() in long mode on temporary tables that map the low GiBs one to one,
 * with a stack, SSE, and FS on memory that may be read (the stack protector reads a canary).
 *
 * Scratch memory behind the image, PVH_RESERVE bytes above _end: what lies between is where
 * cpu_pvh_boot() puts the final tables; the scratch becomes heap again.
 *
 *	0x0000 PML4   0x1000 PDPT   0x2000..0x5fff page directories   0x6000 GDT, TLS   0x8000 stack top
 */
#include "pvh_layout.h"

	.section .text.wh_pvh_entry, "ax", @progbits
	.code32
	.globl wh_pvh_entry
	.type wh_pvh_entry, @function
wh_pvh_entry:
	cld
	/* Where are we? The start info's first word (its magic) is the stack for one call. */
	lea 4(%ebx), %esp
	call 1f
1:	pop %ebp
	movl $PVH_MAGIC, (%ebx)

	lea _end - 1b(%ebp), %edi
	add $PVH_RESERVE + 4095, %edi
	and $~4095, %edi
	lea PVH_SCRATCH_SIZE(%edi), %esp
	rdtsc
	push %edx
	push %eax

	/* Map every GiB up to the highest thing that is needed before the final tables; all four when
	 * that is not known. */
	mov $0xffffffff, %eax
	cmpl $0, PVH_START_MODULE_COUNT(%ebx)
	je 2f
	mov PVH_START_MODULES(%ebx), %eax
	mov (%eax), %eax /* the first module's address */
	cmp %ebx, %eax
	cmovb %ebx, %eax
	cmp %edi, %eax
	cmovb %edi, %eax
2:	shr $30, %eax
	inc %eax
	push $0
	push %eax /* GiBs mapped, as 64 bits */
	mov %eax, %ecx
	shl $9, %ecx

	lea 0x2000(%edi), %edx
	mov $0x83, %eax /* present, writable, 2 MiB */
3:	mov %eax, (%edx)
	movl $0, 4(%edx)
	add $0x200000, %eax
	add $8, %edx
	dec %ecx
	jnz 3b

	lea 0x2003(%edi), %eax
	lea 0x1000(%edi), %edx
	mov $4, %ecx
4:	mov %eax, (%edx)
	movl $0, 4(%edx)
	add $0x1000, %eax
	add $8, %edx
	dec %ecx
	jnz 4b
	lea 0x1003(%edi), %eax
	mov %eax, (%edi)
	movl $0, 4(%edi)

	/* Null, 64-bit code, data; then the pointer for lgdt. */
	lea 0x6000(%edi), %edx
	movl $0, 0(%edx)
	movl $0, 4(%edx)
	movl $0x0000ffff, 8(%edx)
	movl $0x00af9b00, 12(%edx)
	movl $0x0000ffff, 16(%edx)
	movl $0x00cf9300, 20(%edx)
	movw $23, 32(%edx)
	mov %edx, 34(%edx)
	lgdt 32(%edx)

	mov $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
	mov %eax, %cr4
	mov %edi, %cr3
	mov $0xc0000080, %ecx
	mov $0x900, %eax /* EFER: LME, NXE */
	xor %edx, %edx
	wrmsr
	mov $0x80010033, %eax /* PG, WP, NE, ET, MP, PE */
	mov %eax, %cr0
	lea 5f - 1b(%ebp), %eax
	push $8
	push %eax
	lret

	.code64
5:	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	mov %esp, %esp
	fninit
	mov $0xc0000100, %ecx /* FS base */
	lea 0x6100(%rdi), %eax
	xor %edx, %edx
	wrmsr
	mov %ebx, %edi
	pop %rdx /* GiBs */
	pop %rsi /* time-stamp counter */
	xor %ebp, %ebp
	call cpu_pvh_boot
	ud2
	.size wh_pvh_entry, . - wh_pvh_entry

/* Traps. Every exception pushes the same frame, struct trap_frame of trap_vm.c: error code or 0, vector,
 * general registers, x87 and SSE state. All run on the trap stack (IST 1), so the red zone
 * and a bad stack pointer are safe. */
	.macro trap vector, error=0
	.balign 16
	.if \error == 0
	push $0
	.endif
	push $\vector
	jmp trap_common
	.endm

	.section .text.cpu_trap, "ax", @progbits
	.balign 16
	.globl cpu_trap_stubs
	.hidden cpu_trap_stubs
	.type cpu_trap_stubs, @function
cpu_trap_stubs:
	.irp vector, 0, 1, 2, 3, 4, 5, 6, 7
	trap \vector
	.endr
	trap 8, 1
	trap 9
	.irp vector, 10, 11, 12, 13, 14
	trap \vector, 1
	.endr
	trap 15
	trap 16
	trap 17, 1
	.irp vector, 18, 19, 20
	trap \vector
	.endr
	trap 21, 1
	.irp vector, 22, 23, 24, 25, 26, 27, 28
	trap \vector
	.endr
	.irp vector, 29, 30
	trap \vector, 1
	.endr
	trap 31

	.globl cpu_tick_stub
	.hidden cpu_tick_stub
	.balign 16
cpu_tick_stub: /* VM_VECTOR_TIMER */
	trap 32

trap_common:
	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, %rbx
	sub $512, %rsp
	and $-16, %rsp
	fxsave64 (%rsp)
	cld
	movq $0, 464(%rsp) /* no extended state behind it */
	mov %rbx, %rdi
	mov %cr2, %rsi
	mov %rsp, %rdx
	call cpu_trap
	fxrstor64 (%rsp)
	mov %rbx, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rbp
	pop %rbx
	pop %rdx
	pop %rcx
	pop %rax
	add $16, %rsp
	iretq
	.size cpu_trap_stubs, . - cpu_trap_stubs

/* Interrupts only end a halt (cpu_halt below): acknowledge, nothing else. One that is taken between sti
 * and hlt must end the hlt as well. Processors do not take it there (sti's shadow), but nested virtual
 * machines under emulation have been seen to. */
	.macro skip_halt rip
	lea cpu_halt_hlt(%rip), %rax
	cmp %rax, \rip
	jne 1f
	incq \rip
1:
	.endm

	.section .text.cpu_irq, "ax", @progbits
	.globl cpu_irq_x2apic, cpu_irq_xapic
	.hidden cpu_irq_x2apic, cpu_irq_xapic
	.type cpu_irq_x2apic, @function
	.balign 16
cpu_irq_x2apic:
	push %rax
	push %rcx
	push %rdx
	skip_halt 24(%rsp)
	mov $0x80b, %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	pop %rdx
	pop %rcx
	pop %rax
	iretq
	.size cpu_irq_x2apic, . - cpu_irq_x2apic

	.type cpu_irq_xapic, @function
	.balign 16
cpu_irq_xapic:
	push %rax
	skip_halt 8(%rsp)
	mov $0xfee000b0, %eax
	movl $0, (%rax)
	pop %rax
	iretq
	.size cpu_irq_xapic, . - cpu_irq_xapic

/* Sleeps until an interrupt; one that came before counts: sti takes effect behind hlt. */
	.section .text.cpu_halt, "ax", @progbits
	.globl cpu_halt
	.hidden cpu_halt
	.type cpu_halt, @function
cpu_halt:
	sti
	.globl cpu_halt_hlt
	.hidden cpu_halt_hlt
cpu_halt_hlt:
	hlt
	cli
	ret
	.size cpu_halt, . - cpu_halt

/* rdi = stack, rsi = boot info, rdx = time-stamp counter: leaves the scratch memory. */
	.section .text.cpu_pvh_leave, "ax", @progbits
	.globl cpu_pvh_leave
	.hidden cpu_pvh_leave
	.type cpu_pvh_leave, @function
cpu_pvh_leave:
	mov %rdi, %rsp
	mov %rsi, %r8
	mov %rdx, %rsi
	/* The scratch memory becomes heap, and that is zero. */
	lea _end + PVH_RESERVE + 4095(%rip), %rdi
	and $~4095, %rdi
	mov $PVH_SCRATCH_SIZE / 8, %ecx
	xor %eax, %eax
	rep stosq
	mov %r8, %rdi
	xor %ebp, %ebp
	push $0
	jmp cpu_boot
	.size cpu_pvh_leave, . - cpu_pvh_leave

	.section .note.GNU-stack, "", @progbits
