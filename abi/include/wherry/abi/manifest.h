/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_ABI_MANIFEST_H
#define WHERRY_ABI_MANIFEST_H

/*
 * The manifest: an ELF note that makes an ELF file a Wherry image, version 1.
 *
 * Note name "Wherry" (namesz 7), type WH_MANIFEST_NOTE_TYPE, in a PT_NOTE
 * segment of its own section `.note.wherry`. The descriptor is struct
 * wh_manifest. Addresses are the file's virtual addresses (before the load
 * bias). A reader refuses: another version, a size below the struct's, an entry
 * outside an executable segment, memory figures over their limits, unknown
 * bits in `flags`.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WH_MANIFEST_NOTE_NAME "Wherry"
#define WH_MANIFEST_NOTE_TYPE 0x57484d31u /* "1MHW" */
#define WH_MANIFEST_VERSION 1u

#define WH_MANIFEST_MEMORY_DEFAULT (64ull << 20)
#define WH_MANIFEST_MEMORY_MAX (64ull << 30)
#define WH_MANIFEST_STACK_DEFAULT (256ull << 10)
#define WH_MANIFEST_STACK_MAX (64ull << 20)

/* Which drivers the image holds: the machine gives it no device of the others unless it is told
 * to, because a device takes time at every start. */
#define WH_MANIFEST_USES_NET (1u << 0)
#define WH_MANIFEST_USES_RNG (1u << 1)
/* proc: the trap entry takes WH_BOOT_PARK_SIGNAL (wherry/abi/boot.h): the image can be snapshotted. */
#define WH_MANIFEST_PARKS (1u << 2)
/* proc: the trap entry takes WH_BOOT_TICK_SIGNAL: threads that compute can be preempted. */
#define WH_MANIFEST_TICKS (1u << 3)
/* The image knows boot.observe (wherry/abi/observe.h) and has the symbol wh_cpu_trace_thunk. */
#define WH_MANIFEST_OBSERVED (1u << 4)
#define WH_MANIFEST_FLAGS 31u /* all that are known */

struct wh_manifest {
	uint32_t version;        /* WH_MANIFEST_VERSION */
	uint32_t size;           /* bytes of this struct */
	uint32_t boot_version;   /* WH_BOOT_VERSION the image was built for */
	uint32_t flags;          /* WH_MANIFEST_USES_* */
	uint64_t boot_entry;     /* wherry/abi/boot.h entry, 64-bit */
	uint64_t trap_entry;     /* proc: SA_SIGINFO handler for processor faults */
	uint64_t trap_return;    /* proc: calls rt_sigreturn; the handler's restorer */
	uint64_t memory_min;     /* bytes of RAM below which the image refuses to start */
	uint64_t memory_default; /* bytes of RAM when the user says nothing */
	uint64_t stack_size;     /* least bytes of the first thread's stack: wh_manifest_stack */
	char name[64];           /* NUL-terminated, for people */
};

/* Bytes of the first thread's stack in a guest with ram_size bytes: Linux programs count on 8 MiB, which only
 * costs memory where it is touched, but a small guest needs its addresses for its heap. */
#define WH_MANIFEST_STACK_USUAL (8ull << 20)
static inline uint64_t wh_manifest_stack(uint64_t stack_size, uint64_t ram_size)
{
	uint64_t share =
		ram_size / 8 < WH_MANIFEST_STACK_USUAL ? ram_size / 8 : WH_MANIFEST_STACK_USUAL;
	uint64_t size = stack_size > share ? stack_size : share;
	return (size + 4095) & ~(uint64_t)4095;
}

/* Section (not loaded, kept by strip) that says which kernel units are inside:
 * text lines, see docs/spec/units.md. */
#define WH_MANIFEST_UNITS_SECTION ".wherry.units"

#ifdef __cplusplus
}
#endif
#endif
