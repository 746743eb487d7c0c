/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/resume.h>

#define UNPROTECTED __attribute__((no_stack_protector))
#define FP_LEGACY_SIZE 512u
#define FP_MAGIC_OFFSET 464u /* fx_sw_reserved: magic, then size with extensions */
#define FP_MAGIC 0x46505853u

extern const char kern_resume_at[];
__asm__(".section .text.kern_resume_at, \"ax\", @progbits\n"
	".globl kern_resume_at\n"
	".hidden kern_resume_at\n"
	"kern_resume_at: ud2\n"
	".previous\n");

UNPROTECTED uint32_t kern_fp_size(const uint8_t *fp)
{
	uint32_t size = *(const uint32_t *)(fp + FP_MAGIC_OFFSET + 4);
	if (*(const uint32_t *)(fp + FP_MAGIC_OFFSET) != FP_MAGIC || size < FP_LEGACY_SIZE)
		return FP_LEGACY_SIZE;
	return size < KERN_FP_SIZE_MAX ? size : KERN_FP_SIZE_MAX;
}

UNPROTECTED void kern_context_save(struct kern_context *to, uint8_t *fp,
				   const struct kern_context *trap)
{
	memset(to, 0, sizeof *to);
	memcpy(to->greg, trap->greg, sizeof to->greg);
	memcpy(fp, trap->fp, kern_fp_size(trap->fp));
	to->fp = fp;
}

/* rdi stays the context: kern_resume_trap finds it there again. */
void kern_resume(struct kern_context *context)
{
	__asm__ volatile("jmp *%0" ::"r"(kern_resume_at), "D"(context) : "memory");
	__builtin_unreachable();
}

UNPROTECTED int kern_resume_trap(const struct kern_fault *fault)
{
	struct kern_context *trap = fault->context;
	if (!trap || fault->rip != (uint64_t)(uintptr_t)kern_resume_at)
		return 0;
	const struct kern_context *from = (const struct kern_context *)trap->greg[KERN_GREG_RDI];
	memcpy(trap->greg, from->greg, sizeof trap->greg);
	memcpy(trap->fp, from->fp, kern_fp_size(from->fp));
	return 1;
}
