/* SPDX-License-Identifier: ISC */
/* Ends the calling thread and frees its stack; the kernel does it on another one. */
	.text
	.globl __unmapself
	.hidden __unmapself
	.type __unmapself, @function
__unmapself:
	jmp wh_thread_unmapself
	.size __unmapself, . - __unmapself
	.section .note.GNU-stack, "", @progbits
