/* SPDX-License-Identifier: ISC */
/*
 * The stub: the program that is exec'ed and becomes the guest. A whole ELF file, written out
 * here, so that it needs no linking and no installed file; spawn.c puts its bytes in
 * front of the guest's RAM. It has one page, no C, no libc and, after its first steps, no stack.
 *
 * It holds no policy. argv[0] names two descriptors, the doorbell and the guest's RAM. The
 * stub is started while the monitor still builds the machine; it waits until the
 * monitor writes a page number to the doorbell. That page of RAM holds a list of system
 * calls (struct proc_step in plan.h). The stub runs the list, clears every register
 * and returns into the guest. The list's last call installs the filter; before it,
 * everything but this page and the guest's memory has been unmapped.
 *
 * A call that fails ends the stub with status 1, its result is left in the list for the
 * monitor to read.
 */
#include "stub.h"

	.section .rodata.vmm_stub, "a", @progbits
	.globl	vmm_proc_stub_start
	.globl	vmm_proc_stub_end
	.hidden	vmm_proc_stub_start
	.hidden	vmm_proc_stub_end
	.balign	16
vmm_proc_stub_start:
#define HERE(label) (label - vmm_proc_stub_start)

/* ELF header */
	.byte	0x7f, 'E', 'L', 'F', 2, 1, 1, 0
	.quad	0
	.short	2, 62			/* ET_EXEC, EM_X86_64 */
	.long	1
	.quad	PROC_STUB_ADDRESS + HERE(entry)
	.quad	HERE(phdrs)
	.quad	0
	.long	0
	.short	64, 56, 2, 64, 0, 0
phdrs:	/* PT_LOAD r-x; PT_GNU_STACK rw- */
	.long	1, 5
	.quad	0, PROC_STUB_ADDRESS, PROC_STUB_ADDRESS
	.quad	HERE(vmm_proc_stub_end), HERE(vmm_proc_stub_end), 4096
	.long	0x6474e551, 6
	.quad	0, 0, 0, 0, 0, 16

entry:
	mov	8(%rsp), %rbx		/* argv[0] */
	call	number
	mov	%rax, %rdi		/* doorbell */
	call	number
	mov	%rax, %r8		/* RAM */
	push	%rax
	mov	%rsp, %rsi
	mov	$8, %edx
	xor	%eax, %eax		/* read */
	syscall
	cmp	$8, %rax
	jne	fail
	pop	%r9
	shl	$12, %r9		/* page number -> offset */
	xor	%edi, %edi
	mov	$PROC_PLAN_SIZE, %esi
	mov	$3, %edx		/* PROT_READ | PROT_WRITE */
	mov	$1, %r10d		/* MAP_SHARED */
	mov	$9, %eax		/* mmap */
	syscall
	cmp	$-4096, %rax
	ja	fail
	mov	%rax, %r15

step:
	mov	PROC_STEP_CALL(%r15), %ebx
	cmp	$PROC_STEP_ENTER, %ebx
	je	enter
	cmp	$PROC_STEP_MOVE, %ebx
	je	move
	movzwl	%bx, %eax
	mov	PROC_STEP_ARGS(%r15), %rdi
	mov	PROC_STEP_ARGS + 8(%r15), %rsi
	mov	PROC_STEP_ARGS + 16(%r15), %rdx
	mov	PROC_STEP_ARGS + 24(%r15), %r10
	mov	PROC_STEP_ARGS + 32(%r15), %r8
	mov	PROC_STEP_ARGS + 40(%r15), %r9
	syscall
	mov	%rax, PROC_STEP_RESULT(%r15)
	cmp	$-4096, %rax
	jbe	1f
	test	$PROC_STEP_MAY_FAIL, %ebx
	jz	fail
1:	add	$PROC_STEP_SIZE, %r15
	jmp	step

move:	/* to the same list at its final address */
	mov	PROC_STEP_ARGS(%r15), %r15
	jmp	step

fail:
	mov	$1, %edi
	mov	$231, %eax		/* exit_group */
	syscall
	hlt

enter:	/* the top of the stack is the entry's address, then a slot of zero */
	mov	PROC_STEP_ARGS(%r15), %rdi
	mov	PROC_STEP_ARGS + 8(%r15), %rsp
	xor	%eax, %eax
	xor	%ebx, %ebx
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%ebp, %ebp
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
	cld
	ret

/* 16 letters a..p at %rbx, most significant first -> %rax */
number:
	xor	%eax, %eax
	mov	$16, %ecx
1:	movzbl	(%rbx), %edx
	inc	%rbx
	sub	$'a', %edx
	shl	$4, %rax
	or	%rdx, %rax
	dec	%ecx
	jnz	1b
	ret
vmm_proc_stub_end:
	.section .note.GNU-stack, "", @progbits
