/* SPDX-License-Identifier: ISC */
/* arch_prctl(ARCH_SET_FS, rdi) */
	.text
	.globl __set_thread_area
	.hidden __set_thread_area
	.type __set_thread_area, @function
__set_thread_area:
	mov %rdi, %rsi
	mov $0x1002, %edi
	jmp wh_sys_arch_prctl
	.size __set_thread_area, . - __set_thread_area
	.section .note.GNU-stack, "", @progbits
