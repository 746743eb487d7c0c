/* SPDX-License-Identifier: ISC */
/* The kernel starts a thread: same arguments, same result. */
	.text
	.globl __clone
	.hidden __clone
	.type __clone, @function
__clone:
	jmp wh_thread_clone
	.size __clone, . - __clone
	.section .note.GNU-stack, "", @progbits
