/* SPDX-License-Identifier: ISC */
/*
 * The smallest image that enters through PVH: 32-bit code without a stack, paging or SSE, so that it
 * runs on every KVM. The first letter of argv[0] says what it does (test_kvm_machine.c). Offsets
 * are of wherry/abi/boot.h; the test asserts them.
 */
#define START_MODULES 16
#define INFO_CONTROL 104
#define INFO_DEVICES 112
#define INFO_STRINGS 128
#define DEVICE_REGS 16
#define CONTROL_EVENTS 0
#define CONTROL_SLEEPING 64
#define CONTROL_KIND 68
#define CONTROL_VALUE 72
#define QUEUE_NOTIFY 0x50
#define ROUNDS 20000

	.text
	.code32
	.globl pvh_entry
pvh_entry:
	mov START_MODULES(%ebx), %esi
	mov (%esi), %esi
	mov INFO_CONTROL(%esi), %ebp
	mov INFO_DEVICES(%esi), %edi
	mov DEVICE_REGS(%edi), %edi
	mov INFO_STRINGS(%esi), %eax
	mov (%eax), %al
	cmp $'e', %al
	je exit
	cmp $'m', %al
	je registers
	cmp $'n', %al
	je notify
	cmp $'s', %al
	je serial
	cmp $'l', %al
	je spin
	cmp $'h', %al
	je halt
	cmp $'o', %al
	je outside
	cmp $'t', %al
	je text
	cmp $'f', %al
	je triple
	cmp $'w', %al
	je wait_event
	mov $99, %eax
	jmp exit_with

exit:
	mov $7, %eax
exit_with:
	mov %eax, CONTROL_VALUE(%ebp)
	movl $1, CONTROL_KIND(%ebp)
	mov $0xf4, %edx
	out %eax, (%dx)
	jmp exit_with

registers: /* what is written comes back */
	mov $ROUNDS, %ecx
1:	mov %ecx, 0x10(%edi)
	mov 0x10(%edi), %eax
	cmp %ecx, %eax
	jne 2f
	dec %ecx
	jnz 1b
	movw $0x1234, 0x104(%edi)
	movzwl 0x104(%edi), %eax
	cmp $0x1234, %eax
	je exit
2:	mov $1, %eax
	jmp exit_with

notify: /* two by eventfd, one that matches none */
	movl $0, QUEUE_NOTIFY(%edi)
	movl $1, QUEUE_NOTIFY(%edi)
	movl $5, QUEUE_NOTIFY(%edi)
	mov $20, %ecx
1:	mov 0x10(%edi), %eax
	dec %ecx
	jnz 1b
	jmp exit

serial: /* a line longer than the buffer, then one without an end */
	mov $0x3f8, %edx
	mov $600, %ecx
1:	mov $'a', %al
	out %al, (%dx)
	dec %ecx
	jnz 1b
	mov $'\n', %al
	out %al, (%dx)
	mov $'z', %al /* no line end: comes at the end */
	out %al, (%dx)
	mov $0x3fd, %edx
	in (%dx), %al
	movzbl %al, %eax
	jmp exit_with

spin:
	movl $0, 0x10(%edi) /* I am here */
1:	jmp 1b

halt:
	movl $0, 0x10(%edi)
	cli
	hlt
	jmp halt

outside:
	movl $1, 0xb0000000
	jmp exit

text:
	mov 24(%esi), %eax /* image_base: the first page is text */
	movl $1, (%eax)
	jmp exit

triple: /* no descriptor table at all */
	ud2

wait_event:
	movl $1, CONTROL_SLEEPING(%ebp)
	mov CONTROL_EVENTS(%ebp), %ecx
	movl $0, 0x10(%edi) /* the host answers with an interrupt */
1:	pause
	cmp CONTROL_EVENTS(%ebp), %ecx
	je 1b
	jmp exit

	.code64
	.globl boot_entry, trap_entry, trap_return
boot_entry:
trap_entry:
trap_return:
	ud2

	.data
	.quad 1
	.section .note.GNU-stack, "", @progbits
