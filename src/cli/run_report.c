/* SPDX-License-Identifier: ISC */
/*
 * What `wherry run` tells about a guest's end and its start.
 */
#include <signal.h>

#include "run.h"

/* x86 exception vectors (Intel SDM volume 3, 6.3.1). */
static const char *vector_name(uint32_t vector)
{
	static const char *const names[] = {
		[0] = "divide error",
		[1] = "debug exception",
		[3] = "breakpoint",
		[4] = "overflow",
		[5] = "bound range exceeded",
		[6] = "invalid instruction",
		[7] = "device not available",
		[8] = "double fault",
		[12] = "stack fault",
		[13] = "general protection fault",
		[14] = "page fault",
		[16] = "x87 floating-point error",
		[17] = "misaligned access",
		[19] = "SIMD floating-point error",
		[21] = "control protection fault",
	};
	return vector < WH_ARRAY_COUNT(names) && names[vector] ? names[vector] : "processor fault";
}

/* "main+0x12", or the bare address. */
static void name_address(struct run *r, uint64_t address, char *to, size_t size)
{
	const char *name;
	uint64_t offset;
	uint64_t in_file = address - r->how.image_base;
	if (wh_vmm_image_symbol(r->image, in_file, &name, &offset) < 0)
		wh_format(to, size, "0x%llx", (unsigned long long)address);
	else
		wh_format(to, size, "%s+0x%llx", name, (unsigned long long)offset);
}

/* Who called: from the innermost call on. */
static void report_callers(struct run *r)
{
	char place[128];
	const struct wh_vmm_exit *how = &r->how;
	for (uint32_t i = 0; i < how->backtrace_count && how->backtrace[i]; i++) {
		/* the call, not its return */
		name_address(r, how->backtrace[i] - 1, place, sizeof place);
		cli_error("  called from %s", place);
	}
}

static void report_fault(struct run *r)
{
	char place[128], access[64] = "";
	const struct wh_vmm_exit *how = &r->how;
	const char *name = wh_vmm_image_manifest(r->image)->name;
	name_address(r, how->fault_rip, place, sizeof place);
	if (how->fault_vector == 14)
		wh_format(access, sizeof access, " %s 0x%llx",
			  how->fault_error & 16  ? "executing"
			  : how->fault_error & 2 ? "writing"
						 : "reading",
			  (unsigned long long)how->fault_address);
	cli_error("guest fault: %s%s at %s%s%s%s%s%s", vector_name(how->fault_vector), access,
		  place, *name ? " (" : "", name, *name ? ")" : "", how->message[0] ? ": " : "",
		  how->message);
	report_callers(r);
}

/* Signals that tell of a broken program; the others are ordinary ways to end. */
static void report_signal(struct run *r)
{
	static const struct {
		int signo;
		const char *name;
	} names[] = { { SIGABRT, "abort" },           { SIGSEGV, "segmentation fault" },
		      { SIGBUS, "bus error" },        { SIGILL, "illegal instruction" },
		      { SIGFPE, "arithmetic error" }, { SIGSYS, "bad system call" } };
	for (size_t i = 0; i < WH_ARRAY_COUNT(names); i++)
		if (names[i].signo == r->how.value) {
			cli_error("guest ended by signal %d (%s)", r->how.value, names[i].name);
			report_callers(r);
		}
}

/* The guest's process was ended by a signal from outside or by the kernel. */
static int report_killed(struct run *r)
{
	const struct wh_vmm_exit *how = &r->how;
	if (how->host_signal == SIGKILL && r->asked_to_stop)
		return CLI_SIGNAL_BASE + SIGKILL;
	if (how->host_signal == SIGSYS)
		cli_error("the guest made a forbidden system call and was ended");
	else if (how->host_signal == SIGKILL)
		cli_error("the guest was killed from outside (out of memory?)");
	else if (how->host_signal)
		cli_error("the guest broke beyond its own fault handler (signal %d)",
			  how->host_signal);
	else if (how->message[0])
		cli_error("%s", how->message);
	else
		cli_error("the guest ended without a word");
	return how->host_signal == SIGKILL ? CLI_SIGNAL_BASE + SIGKILL
	       : how->host_signal          ? CLI_GUEST_BROKE
					   : CLI_ERROR;
}

int run_report_exit(struct run *r)
{
	const struct wh_vmm_exit *how = &r->how;
	if (r->options.timeline)
		run_report_timeline(r);
	switch (how->kind) {
	case WH_BOOT_EXIT_STATUS:
		return how->value;
	case WH_BOOT_EXIT_SIGNAL:
		report_signal(r);
		return CLI_SIGNAL_BASE + how->value;
	case WH_BOOT_EXIT_FAULT:
		report_fault(r);
		return CLI_GUEST_BROKE;
	case WH_BOOT_EXIT_PANIC:
		cli_error("guest kernel panic: %s", how->message);
		report_callers(r);
		return CLI_GUEST_BROKE;
	case WH_BOOT_EXIT_NONE:
		break;
	}
	return report_killed(r);
}

void run_report_timeline(struct run *r)
{
	uint64_t hz;
	const uint64_t *t = wh_vmm_machine_timeline(r->machine, &hz);
	uint64_t last = t[WH_BOOT_STAGE_START];
	int first = r->timeline_shown ? WH_BOOT_STAGE_ACCEPT : WH_BOOT_STAGE_IMAGE;
	if (!hz || r->reply_shown)
		return;
	for (int i = WH_BOOT_STAGE_IMAGE; i < WH_BOOT_STAGE_COUNT; i++) {
		if (t[i] < last)
			continue; /* not reached */
		char name[12] = "           ";
		const char *from = wh_boot_stage_name((enum wh_boot_stage)i);
		for (int k = 0; from[k] && k < 8; k++)
			name[k] = from[k];
		if (i >= first)
			cli_error("%s %llu us (+%llu)", name,
				  (unsigned long long)((t[i] - t[WH_BOOT_STAGE_START]) * 1000000 /
						       hz),
				  (unsigned long long)((t[i] - last) * 1000000 / hz));
		last = t[i];
	}
	r->timeline_shown = true;
	r->reply_shown = t[WH_BOOT_STAGE_REPLY] != 0;
}
