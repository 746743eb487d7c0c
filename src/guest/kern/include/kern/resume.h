/* SPDX-License-Identifier: ISC */
#ifndef KERN_RESUME_H
#define KERN_RESUME_H

/*
 * Going on with an interrupted context, every register as it was.
 *
 * Only the way out of a trap restores all of them, so kern_resume executes an undefined
 * instruction at an address of its own, and the trap code puts the saved context into that trap's frame.
 */

#include <kern/fault.h>

#define KERN_FP_SIZE_MAX 4096u

/* Bytes of an FXSAVE image with the extensions that it says are behind it, at most KERN_FP_SIZE_MAX. */
uint32_t kern_fp_size(const uint8_t *fp);

/* Copies what a trap saved: registers, and the x87 and vector state to `fp` (64-byte aligned,
 * KERN_FP_SIZE_MAX bytes), where to->fp points afterwards. */
void kern_context_save(struct kern_context *to, uint8_t *fp, const struct kern_context *trap);

/* Restores registers and *context->fp. May be called on any stack. */
__attribute__((noreturn)) void kern_resume(struct kern_context *context);

/* kern_fault's part: 1 = this trap was kern_resume's, its frame now holds the saved context. */
int kern_resume_trap(const struct kern_fault *fault) __attribute__((weak));

#endif
