/* SPDX-License-Identifier: ISC */
/* The C library's entry, entered by the kernel with the vector of the System V ABI
 * (argc, argv..., 0, envp..., 0, auxv) at the stack pointer. */
	.section .text._start, "ax", @progbits
	.globl _start
	.hidden _start
	.type _start, @function
_start:
	xor %ebp, %ebp
	mov (%rsp), %esi           /* argc */
	lea 8(%rsp), %rdx          /* argv */
	lea main(%rip), %rdi
	xor %ecx, %ecx
	xor %r8d, %r8d
	xor %r9d, %r9d
	and $-16, %rsp
	call __libc_start_main
	hlt
	.size _start, . - _start

/* e_entry: somebody executed the image as a Linux program. */
	.section .text.wh_native_start, "ax", @progbits
	.globl wh_native_start
	.hidden wh_native_start
	.type wh_native_start, @function
wh_native_start:
	xor %ebp, %ebp
	mov %rsp, %rdi
	and $-16, %rsp
	call wh_native_main
	hlt
	.size wh_native_start, . - wh_native_start

/* First and last part of the manifest (wherry/abi/manifest.h); the linker script puts
 * the addresses and sizes between them, as plain numbers that need no relocation. */
	.section .note.wherry.head, "a", @note
	.balign 4
	.long 7, 128, 0x57484d31
	.asciz "Wherry"
	.balign 4
	.long 1, 128, 1 /* version, size, boot_version; the linker script knows the flags */
	.section .note.wherry.name, "a", @note
	.zero 64

	.section .note.GNU-stack, "", @progbits
