/* SPDX-License-Identifier: ISC */
/*
 * The four memory functions, which compilers call as well. The kernel has its own (they become wh_memcpy and
 * so on in the archive): a tick must know by the address that the kernel runs, and a program may
 * have its own memcpy.
 */
#define REP_MIN 512 /* from here on the string instructions are faster */

	.macro function name
	.section .text.\name, "ax", @progbits
	.globl \name
	.type \name, @function
\name:
	.endm

/* rdi to, rsi from, rdx size. Overlapping loads before stores: what is below 32 bytes may overlap. */
function memcpy
	mov %rdi, %rax
	cmp $16, %rdx
	jb 3f
	movups -16(%rsi, %rdx), %xmm0
	cmp $REP_MIN, %rdx
	jae 2f
	lea -16(%rdi, %rdx), %rcx /* where the last 16 go */
1:	movups (%rsi), %xmm1
	movups %xmm1, (%rdi)
	add $16, %rsi
	add $16, %rdi
	cmp %rcx, %rdi
	jb 1b
	movups %xmm0, (%rcx)
	ret
2:	mov %rdx, %rcx
	rep movsb
	ret
3:	cmp $8, %edx
	jb 4f
	mov (%rsi), %rcx
	mov -8(%rsi, %rdx), %r8
	mov %rcx, (%rdi)
	mov %r8, -8(%rdi, %rdx)
	ret
4:	cmp $4, %edx
	jb 5f
	mov (%rsi), %ecx
	mov -4(%rsi, %rdx), %r8d
	mov %ecx, (%rdi)
	mov %r8d, -4(%rdi, %rdx)
	ret
5:	test %edx, %edx
	jz 6f
	movzbl (%rsi), %ecx
	movzbl -1(%rsi, %rdx), %r8d
	cmp $3, %edx
	jne 7f
	movzbl 1(%rsi), %r9d
	mov %r9b, 1(%rdi)
7:	mov %cl, (%rdi)
	mov %r8b, -1(%rdi, %rdx)
6:	ret
	.size memcpy, . - memcpy

/* Downwards only where `to` lies inside [from, from + size). */
function memmove
	mov %rdi, %rcx
	sub %rsi, %rcx
	cmp %rdx, %rcx
	jb 1f
	cmp $16, %rdx
	jb memcpy /* loads everything first; and above, forward is right for to < from: */
	mov %rdi, %rax
	mov %rdx, %rcx
	rep movsb
	ret
1:	cmp $16, %rdx
	jb 4f
	mov %rdi, %rax
2:	movups -16(%rsi, %rdx), %xmm0
	movups %xmm0, -16(%rdi, %rdx)
	sub $16, %rdx
	cmp $16, %rdx
	jae 2b
4:	mov %rdi, %rax
	test %edx, %edx
	jz 6f
5:	movzbl -1(%rsi, %rdx), %ecx
	mov %cl, -1(%rdi, %rdx)
	dec %edx
	jnz 5b
6:	ret
	.size memmove, . - memmove

/* rdi to, sil byte, rdx size */
function memset
	mov %rdi, %r8
	movzbl %sil, %eax
	mov %rdx, %rcx
	cmp $16, %rdx
	jb 2f
	cmp $REP_MIN, %rdx
	jae 3f
	mov $0x0101010101010101, %r9
	imul %r9, %rax
	movq %rax, %xmm0
	punpcklqdq %xmm0, %xmm0
	lea -16(%rdi, %rdx), %rcx
1:	movups %xmm0, (%rdi)
	add $16, %rdi
	cmp %rcx, %rdi
	jb 1b
	movups %xmm0, (%rcx)
	mov %r8, %rax
	ret
2:	jrcxz 4f
5:	mov %al, -1(%rdi, %rcx)
	dec %ecx
	jnz 5b
4:	mov %r8, %rax
	ret
3:	rep stosb
	mov %r8, %rax
	ret
	.size memset, . - memset

/* rdi, rsi, rdx size: < 0, 0, > 0 */
function memcmp
	xor %ecx, %ecx
1:	lea 8(%rcx), %r8
	cmp %rdx, %r8
	ja 2f
	mov (%rdi, %rcx), %rax
	mov (%rsi, %rcx), %r9
	cmp %r9, %rax
	jne 3f
	mov %r8, %rcx
	jmp 1b
3:	bswap %rax
	bswap %r9
	cmp %r9, %rax
	sbb %eax, %eax
	or $1, %eax
	ret
2:	xor %eax, %eax
	cmp %rdx, %rcx
	jae 4f
	movzbl (%rdi, %rcx), %eax
	movzbl (%rsi, %rcx), %r9d
	inc %rcx
	sub %r9d, %eax
	jz 2b
4:	ret
	.size memcmp, . - memcmp

	.section .note.GNU-stack, "", @progbits
