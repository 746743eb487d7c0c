/* SPDX-License-Identifier: ISC */
/* Entry of the boot contract (wherry/abi/boot.h): rdi = boot info, rsp as after a
 * call. rbp = 0 ends frame-pointer backtraces. */
	.section .text.wh_boot_entry, "ax", @progbits
	.globl wh_boot_entry
	.type wh_boot_entry, @function
wh_boot_entry:
	cld
	xor %ebp, %ebp
	rdtsc
	shl $32, %rdx
	lea (%rdx, %rax), %rsi
	jmp cpu_boot
	.size wh_boot_entry, . - wh_boot_entry

/* The restorer of the host's signal frame around wh_trap_entry. */
	.section .text.wh_trap_return, "ax", @progbits
	.globl wh_trap_return
	.type wh_trap_return, @function
wh_trap_return:
	mov $15, %eax /* rt_sigreturn */
	syscall
	hlt
	.size wh_trap_return, . - wh_trap_return

	.section .note.GNU-stack, "", @progbits
