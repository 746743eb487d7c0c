/* SPDX-License-Identifier: ISC */
/*
 * From the entry to the C library: memory, threads, the optional units, and the
 * first stack's contents as the System V ABI wants them for `_start`.
 */
#include <cpu/cpu.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <kern/start.h>
#include "kern_priv.h"

/* Layout of boot.entropy; the canary at 48 is taken by the entry code. */
enum { ENTROPY_KEY = 0, ENTROPY_AT_RANDOM = 32, ENTROPY_AT_RANDOM_SIZE = 16 };

/* The C library's entry: takes the vector below at the stack pointer. */
void _start(void);

#define WEAK __attribute__((weak))
WEAK int posix_signal_init(void);
WEAK int drv_console_init(void);
WEAK int drv_rng_init(void);
WEAK int fs_init(void);
WEAK int drv_blk_init(void);
WEAK int drv_9p_init(void);
WEAK int fs_mount_9p_init(void);
WEAK int fs_workdir_init(void);
WEAK int drv_net_init(void);
WEAK int net_guest_init(void);
WEAK int kern_preempt_init(void);
extern uint32_t kern_random_key[8] WEAK; /* only when somebody wants random bytes */

static void start_units(void)
{
	static const struct {
		const char *name;
		int (*init)(void);
	} units[] = {
		{ "signals", posix_signal_init },
		{ "console", drv_console_init },
		{ "rng", drv_rng_init },
		{ "files", fs_init },
		{ "block devices", drv_blk_init },
		{ "9p devices", drv_9p_init },
		{ "mounts", fs_mount_9p_init },
		{ "in the working directory", fs_workdir_init },
		{ "network device", drv_net_init },
		{ "network", net_guest_init },
		{ "ticks", kern_preempt_init },
	};
	for (size_t i = 0; i < WH_ARRAY_COUNT(units); i++) {
		int r = units[i].init ? units[i].init() : 0;
		if (r < 0)
			kern_panic("cannot start %s: error %d", units[i].name, -r);
	}
}

static void take_entropy(struct wh_boot_info *boot, uint8_t *at_random)
{
	memcpy(at_random, boot->entropy + ENTROPY_AT_RANDOM, ENTROPY_AT_RANDOM_SIZE);
	if (kern_random_key)
		memcpy(kern_random_key, boot->entropy + ENTROPY_KEY, sizeof kern_random_key);
	memset(boot->entropy, 0, sizeof boot->entropy);
}

/* Auxiliary vector (System V ABI 3.4.3, Linux's additions). */
enum {
	AUX_NULL = 0,
	AUX_PHDR = 3,
	AUX_PHENT = 4,
	AUX_PHNUM = 5,
	AUX_PAGESZ = 6,
	AUX_BASE = 7,
	AUX_FLAGS = 8,
	AUX_ENTRY = 9,
	AUX_UID = 11,
	AUX_EUID = 12,
	AUX_GID = 13,
	AUX_EGID = 14,
	AUX_CLKTCK = 17,
	AUX_SECURE = 23,
	AUX_RANDOM = 25,
	AUX_HWCAP2 = 26,
	AUX_EXECFN = 31,
};
#define AUX_ENTRIES 17u
#define HWCAP2_FSGSBASE 2u

/* ELF64 header fields (gABI, figure 4-3). */
enum { ELF_PHOFF = 32, ELF_PHENTSIZE = 54, ELF_PHNUM = 56 };

static uint64_t *put_aux(uint64_t *at, uint64_t type, uint64_t value)
{
	at[0] = type;
	at[1] = value;
	return at + 2;
}

static uint64_t *put_auxv(uint64_t *at, const struct wh_boot_info *boot, const uint8_t *at_random)
{
	const char *elf = (const char *)(uintptr_t)boot->image_start;
	at = put_aux(at, AUX_PHDR, boot->image_start + *(const uint64_t *)(elf + ELF_PHOFF));
	at = put_aux(at, AUX_PHENT, *(const uint16_t *)(elf + ELF_PHENTSIZE));
	at = put_aux(at, AUX_PHNUM, *(const uint16_t *)(elf + ELF_PHNUM));
	at = put_aux(at, AUX_PAGESZ, KERN_PAGE);
	at = put_aux(at, AUX_BASE, 0);
	at = put_aux(at, AUX_FLAGS, 0);
	at = put_aux(at, AUX_ENTRY, (uint64_t)(uintptr_t)_start);
	at = put_aux(at, AUX_UID, 0);
	at = put_aux(at, AUX_EUID, 0);
	at = put_aux(at, AUX_GID, 0);
	at = put_aux(at, AUX_EGID, 0);
	at = put_aux(at, AUX_CLKTCK, 100);
	at = put_aux(at, AUX_SECURE, 0);
	at = put_aux(at, AUX_RANDOM, (uint64_t)(uintptr_t)at_random);
	at = put_aux(at, AUX_HWCAP2, boot->flags & WH_BOOT_FSGSBASE ? HWCAP2_FSGSBASE : 0);
	if (boot->argc)
		at = put_aux(at, AUX_EXECFN, boot->strings);
	return put_aux(at, AUX_NULL, 0);
}

/* `count` pointers to the packed strings from *at on, then a null pointer. */
static uint64_t *put_strings(uint64_t *vector, uint32_t count, const char **at, const char *end)
{
	for (uint32_t i = 0; i < count; i++) {
		size_t length = wh_strnlen(*at, (size_t)(end - *at));
		if (*at + length == end)
			kern_panic("boot strings are cut short");
		*vector++ = (uint64_t)(uintptr_t)*at;
		*at += length + 1;
	}
	*vector++ = 0;
	return vector;
}

__attribute__((noreturn)) static void enter_program(void *stack)
{
	kern_timeline_mark(WH_BOOT_STAGE_KERNEL);
	__asm__ volatile(
		"mov %0, %%rsp\n\txor %%ebp, %%ebp\n\txor %%edx, %%edx\n\tjmp *%1" ::"r"(stack),
		"r"(_start)
		: "memory", "rdx");
	__builtin_unreachable();
}

void kern_start(struct wh_boot_info *boot, uint64_t tsc)
{
	kern_plat_init(boot);
	kern_control()->timeline[WH_BOOT_STAGE_ENTRY] = tsc;
	kern_time_init();
	kern_sched_init();
	kern_pages_init(boot->heap_start, boot->heap_end);

	/* argc, argv..., 0, envp..., 0, auxv. It lies below this function's frame,
	 * which stays: nobody returns into it. */
	uint64_t words = 3ull + boot->argc + boot->envc + 2 * AUX_ENTRIES;
	if (words * 8 > (boot->stack_top - boot->stack_low) / 2)
		kern_panic("arguments and environment do not fit on the stack");
	uint8_t at_random[ENTROPY_AT_RANDOM_SIZE];
	uint64_t *stack = __builtin_alloca_with_align(words * 8, 128);
	take_entropy(boot, at_random);
	start_units();

	const char *strings = (const char *)(uintptr_t)boot->strings;
	const char *end = strings + boot->strings_size;
	uint64_t *at = stack;
	*at++ = boot->argc;
	at = put_strings(at, boot->argc, &strings, end);
	at = put_strings(at, boot->envc, &strings, end);
	(void)put_auxv(at, boot, at_random);
	enter_program(stack);
}
