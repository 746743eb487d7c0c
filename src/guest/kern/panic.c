/* SPDX-License-Identifier: ISC */
/* Ways for a guest to end: by status, by signal, by the kernel's own mistake. */
#include <stdarg.h>
#include <kern/fault.h>
#include <kern/plat.h>
#include <wherry/base/assert.h>
#include <wherry/base/diag.h>
#include "kern_priv.h"

void (*kern_console_hook)(const char *text, uint32_t size);
void (*kern_exit_hook)(void);

void kern_console_write(const char *text, uint32_t size)
{
	if (kern_console_hook)
		kern_console_hook(text, size);
}

void kern_exit(enum wh_boot_exit kind, int value)
{
	struct wh_boot_control *control = kern_control();
	void (*hook)(void) = kern_exit_hook;
	kern_exit_hook = 0; /* once, even if it fails */
	if (hook && (kind == WH_BOOT_EXIT_STATUS || kind == WH_BOOT_EXIT_SIGNAL))
		hook();
	control->exit_value = value;
	__atomic_store_n(&control->exit_kind, kind, __ATOMIC_RELEASE);
	kern_plat->exit(kind == WH_BOOT_EXIT_STATUS   ? value & 0xff
			: kind == WH_BOOT_EXIT_SIGNAL ? 128 + (value & 0x7f)
						      : 139);
}

void kern_panic(const char *format, ...)
{
	struct wh_boot_control *control = kern_control();
	va_list args;
	va_start(args, format);
	(void)wh_vformat(control->message, sizeof control->message, format, args);
	va_end(args);
	kern_fault_here(control, __builtin_frame_address(0));
	control->backtrace_count = kern_backtrace((uint64_t)(uintptr_t)__builtin_frame_address(0),
						  control->backtrace, 16);
	kern_exit(WH_BOOT_EXIT_PANIC, 0);
}

void wh_assert_failed(const char *what, const char *file, int line)
{
	kern_panic("assertion failed: %s (%s:%d)", what, file, line);
}
