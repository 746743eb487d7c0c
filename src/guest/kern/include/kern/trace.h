/* SPDX-License-Identifier: ISC */
#ifndef KERN_TRACE_H
#define KERN_TRACE_H

/*
 * Records of calls and samples for the host (wherry/abi/observe.h). Nothing here runs unless the host asks for it.
 */

#include <stdbool.h>
#include <stdint.h>

/* In front of each handler's declaration: five NOPs at its entry, which the host may turn into a call of
 * cpu_trace_thunk before the guest runs. */
#define KERN_CALL __attribute__((patchable_function_entry(5, 0)))

struct kern_context;

/* What cpu_trace_thunk keeps on the stack: the order is that of its pushes. */
struct kern_trace_frame {
	uint64_t begin;
	uint64_t argument[6];
	uint64_t handler; /* behind the patch */
	uint64_t rbp;
	uint64_t return_address;
};

/* Before and behind the handler; `strings`: 2 * WH_OBSERVE_STRING bytes for what arguments point to. */
uint32_t kern_trace_enter(struct kern_trace_frame *frame, uint8_t *strings);
void kern_trace_leave(const struct kern_trace_frame *frame, long result, const uint8_t *strings,
		      uint32_t readable);

/* A tick: records where the processor is, when the host wants samples. */
void kern_trace_sample(const struct kern_context *context);

#endif
