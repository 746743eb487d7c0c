/* SPDX-License-Identifier: ISC */
#include <stdbool.h>
#include <kern/fault.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <kern/resume.h>
#include <wherry/base/diag.h>

/* The trap stack's code runs with whatever FS the program had. */
#define UNPROTECTED __attribute__((no_stack_protector))

enum { VECTOR_GENERAL_PROTECTION = 13, VECTOR_PAGE_FAULT = 14 };
#define CHK_FAIL_SIZE_MAX 16u /* the C library's own __stack_chk_fail is one HLT */

int (*kern_fault_hook)(const struct kern_fault *fault);
extern const char stack_chk_fail[] __asm__("__stack_chk_fail") __attribute__((weak));

UNPROTECTED uint32_t kern_backtrace(uint64_t rbp, uint64_t *ret_addresses, uint32_t max)
{
	const struct wh_boot_info *boot = kern_boot();
	uint32_t n = 0;
	while (n < max && rbp && !(rbp & 7) && kern_user_readable((const void *)rbp, 16)) {
		const uint64_t *frame = (const uint64_t *)rbp;
		if (frame[1] < boot->image_start || frame[1] >= boot->image_end)
			break;
		ret_addresses[n++] = frame[1];
		if (frame[0] <= rbp)
			break; /* frames go up */
		rbp = frame[0];
	}
	return n;
}

UNPROTECTED static const char *describe(const struct kern_fault *f)
{
	const struct wh_boot_info *boot = kern_boot();
	if (f->vector == VECTOR_GENERAL_PROTECTION && stack_chk_fail &&
	    f->rip - (uint64_t)(uintptr_t)stack_chk_fail < CHK_FAIL_SIZE_MAX)
		return "stack smashing detected";
	if (f->vector != VECTOR_PAGE_FAULT)
		return "";
	if (f->address >= boot->stack_low - KERN_PAGE && f->address < boot->stack_low)
		return "stack overflow";
	if (f->address < KERN_PAGE)
		return "null pointer";
	return "";
}

UNPROTECTED void kern_fault(const struct kern_fault *fault)
{
	static bool busy;
	struct wh_boot_control *control = kern_control();
	if (kern_resume_trap && kern_resume_trap(fault))
		return;
	if (!busy) {
		busy = true;
		if (kern_fault_hook && kern_fault_hook(fault)) {
			busy = false;
			return;
		}
		control->fault_vector = fault->vector;
		control->fault_address = fault->address;
		control->fault_rip = fault->rip;
		control->fault_rsp = fault->rsp;
		control->fault_rbp = fault->rbp;
		control->fault_error = fault->error;
		control->park_frame = (uint64_t)(uintptr_t)fault->context;
		const char *text = describe(fault);
		memcpy(control->message, text, wh_strlen(text) + 1);
		control->backtrace_count = kern_backtrace(fault->rbp, control->backtrace, 16);
	}
	kern_exit(WH_BOOT_EXIT_FAULT, fault->signo);
}
