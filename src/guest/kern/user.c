/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/plat.h>
#include <wherry/base/checked.h>

static bool inside(const void *address, size_t size, uint64_t start, uint64_t end)
{
	uint64_t a = (uint64_t)(uintptr_t)address;
	return a >= start && a <= end && size <= end - a;
}

__attribute__((no_stack_protector)) bool kern_user_readable(const void *address, size_t size)
{
	const struct wh_boot_info *boot = kern_boot();
	return inside(address, size, boot->image_start, boot->ram_base + boot->ram_size);
}

bool kern_user_writable(const void *address, size_t size)
{
	const struct wh_boot_info *boot = kern_boot();
	return inside(address, size, boot->ram_base, boot->ram_base + boot->ram_size);
}

uint64_t kern_bus(const void *pointer)
{
	return (uint64_t)(uintptr_t)pointer;
}
