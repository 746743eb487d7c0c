/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_ABI_OBSERVE_H
#define WHERRY_ABI_OBSERVE_H

/*
 * Looking into a running guest from outside: struct wh_observe at boot.observe, in RAM. Behind it `capacity` records of a
 * ring, then `text_size` bytes of text. What the guest writes is hostile to the host like all of RAM.
 *
 * Text: the host counts `asked` up (and host_events); the guest's next poll writes lines about itself and then
 * sets `answered` to what it saw in `asked`.
 *
 * Ring: the guest writes record head % capacity and counts `head` up; the host takes records up to
 * `head` and says so in `tail`. A guest that finds the ring full rings the doorbell and waits for calls; samples are
 * lost and counted.
 *
 * Calls are recorded only when the host has made each handler's entry, five NOPs (attribute patchable_function_entry), a call of
 * the image's symbol wh_cpu_trace_thunk, in its copy of the image and before the guest runs.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WH_OBSERVE_PATCH_SIZE 5u
#define WH_OBSERVE_TEXT_SIZE 49152u
#define WH_OBSERVE_STRING 48u /* bytes of what an argument points to */

#define WH_OBSERVE_PROFILE (1u << 0) /* record a sample at each tick */
#define WH_OBSERVE_PROFILE_US 4000   /* the tick then */

struct wh_observe {
	uint32_t capacity;  /* IN records; a power of two, or 0 */
	uint32_t text_size; /* IN */
	uint32_t flags;     /* IN WH_OBSERVE_* */
	uint32_t asked;     /* IN, counts up */
	uint32_t tail;      /* IN, counts up */
	uint32_t reserved0[11];
	uint32_t head;        /* OUT, counts up */
	uint32_t lost;        /* OUT samples */
	uint32_t answered;    /* OUT */
	uint32_t text_length; /* OUT */
	uint32_t reserved1[12];
};

enum wh_observe_kind {
	WH_OBSERVE_CALL = 1,   /* a call that came back */
	WH_OBSERVE_ENDING = 2, /* a call that will not */
	WH_OBSERVE_SAMPLE = 3, /* argument[0..count) is a backtrace, innermost first */
};

#define WH_OBSERVE_FRAMES 24u

struct wh_observe_record {
	uint32_t kind; /* enum wh_observe_kind */
	int32_t tid;
	uint64_t begin, end; /* time-stamp counter */
	uint64_t handler;    /* call: run-time address behind the patch of its entry */
	int64_t result;
	uint32_t count; /* sample: return addresses */
	uint32_t
		readable; /* bit i: string[i] was copied from where argument i points; bit 2: string[2] from argument 1
			    * when the call had come back */
	union {
		struct {
			uint64_t argument[6];
			uint8_t string[3][WH_OBSERVE_STRING];
		} call;
		uint64_t frame[WH_OBSERVE_FRAMES];
	} u;
	uint64_t reserved;
};

#ifdef __cplusplus
}
#endif
#endif
