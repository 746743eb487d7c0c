/* SPDX-License-Identifier: ISC */
/*
 * Switching stacks. A saved context is, from its rsp upwards: MXCSR and x87
 * control word (the two control registers that the ABI calls callee-saved), r15,
 * r14, r13, r12, rbx, rbp, return address. context.c builds the same image.
 */
	.macro function name
	.section .text.\name, "ax", @progbits
	.globl \name
	.hidden \name
	.type \name, @function
\name:
	.endm

	.macro restore
	ldmxcsr (%rsp)
	fldcw 4(%rsp)
	add $8, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	ret
	.endm

function cpu_switch
	push %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	sub $8, %rsp
	stmxcsr (%rsp)
	fnstcw 4(%rsp)
	mov %rsp, (%rdi)
	mov %rsi, %rsp
	restore
	.size cpu_switch, . - cpu_switch

/* cpu_switch to an empty stack: rdi = where to save rsp, rsi = stack, rdx = function
 * that never returns. */
function cpu_switch_fresh
	push %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	sub $8, %rsp
	stmxcsr (%rsp)
	fnstcw 4(%rsp)
	mov %rsp, (%rdi)
	mov %rsi, %rsp
	xor %ebp, %ebp
	xor %edi, %edi
	call *%rdx
	ud2
	.size cpu_switch_fresh, . - cpu_switch_fresh

function cpu_resume
	mov %rdi, %rsp
	restore
	.size cpu_resume, . - cpu_resume

function cpu_call_on
	push %rbp
	mov %rsp, %rbp
	mov %rdi, %rsp
	mov %rsi, %rax
	mov %rdx, %rdi
	call *%rax
	mov %rbp, %rsp
	pop %rbp
	ret
	.size cpu_call_on, . - cpu_call_on

function cpu_jump_on
	mov %rdi, %rsp
	xor %ebp, %ebp
	mov %rsi, %rax
	mov %rdx, %rdi
	call *%rax
	ud2
	.size cpu_jump_on, . - cpu_jump_on

/* First return of a made context: r12 = function, r13 = its argument. */
function cpu_context_start
	xor %ebp, %ebp
	mov %r13, %rdi
	call *%r12
	ud2
	.size cpu_context_start, . - cpu_context_start

	.section .note.GNU-stack, "", @progbits
