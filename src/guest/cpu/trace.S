/* SPDX-License-Identifier: ISC */
/*
 * Entered by a call that the host has put at a handler's entry (wherry/abi/observe.h): on the stack lie the
 * address behind that call and the handler's return address. Records the call around the handler's body, which gets its
 * arguments as they were; all six are in registers.
 */
	.section .text.cpu_trace_thunk, "ax", @progbits
	.globl cpu_trace_thunk
	.type cpu_trace_thunk, @function
cpu_trace_thunk:
	xchg %rbp, (%rsp)  /* struct kern_trace_frame from its end: rbp where the body's address was, */
	push %rbp          /* and the address below it */
	lea 8(%rsp), %rbp
	push %r9
	push %r8
	push %rcx
	push %rdx
	push %rsi
	push %rdi
	sub $8 + 96 + 16, %rsp /* begin; strings; what enter returned */
	/* rbp + 8 is the return address: rsp was 8 off a multiple of 16 there */
	lea 112(%rsp), %rdi
	lea 16(%rsp), %rsi
	call kern_trace_enter
	mov %eax, 8(%rsp)
	lea 120(%rsp), %rax
	mov (%rax), %rdi
	mov 8(%rax), %rsi
	mov 16(%rax), %rdx
	mov 24(%rax), %rcx
	mov 32(%rax), %r8
	mov 40(%rax), %r9
	mov 48(%rax), %rax
	call *%rax
	mov %rax, (%rsp)
	lea 112(%rsp), %rdi
	mov %rax, %rsi
	lea 16(%rsp), %rdx
	mov 8(%rsp), %ecx
	call kern_trace_leave
	mov (%rsp), %rax
	leave
	ret
	.size cpu_trace_thunk, . - cpu_trace_thunk

	.section .note.GNU-stack, "", @progbits
