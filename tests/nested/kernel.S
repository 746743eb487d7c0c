/* SPDX-License-Identifier: ISC */
/*
 * The smallest kernel: entered in 32-bit protected mode by Multiboot (32-bit ELF) or PVH (64-bit ELF, -DPVH), it looks at what it was
 * given, says what it found on the serial port, and turns the machine off.
 */
	.code32
#ifdef PVH
	.section .note.Xen, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long _start
#else
	.section .multiboot, "a"
	.balign 4
	.long 0x1badb002, 3, -(0x1badb002 + 3)
#endif
	.text
	.globl _start
_start:
#ifdef PVH
	cmpl $0x336ec578, (%ebx)
	jne off
	movl 24(%ebx), %esi	/* command line */
#else
	cmpl $0x2badb002, %eax
	jne off
	testl $4, (%ebx)
	jz off
	movl 16(%ebx), %esi
#endif
	movl $0x3f8, %edx
1:	movb (%esi), %al
	testb %al, %al
	jz 2f
	outb %al, %dx
	incl %esi
	jmp 1b
2:	movb $'\n', %al
	outb %al, %dx
off:	movl $0x604, %edx
	movl $0x3400, %eax
	outw %ax, %dx
3:	hlt
	jmp 3b
