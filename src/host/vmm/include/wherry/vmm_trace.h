/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_VMM_TRACE_H
#define WHERRY_VMM_TRACE_H

/*
 * Debugging of a guest on the proc engine: its process is traced (ptrace) by the thread that owns the machine. The guest
 * itself knows nothing of it, needs no agent, and keeps its filter.
 *
 * Attach before the machine starts; the guest then stops before its first instruction. Each change of its state raises
 * SIGCHLD: the caller, who owns the process's signals, then calls wh_vmm_trace_look. A program that confines
 * itself (wherry/confine.h) needs WH_CONFINE_TRACE.
 */

#include <wherry/gdb.h>
#include <wherry/vmm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_vmm_trace;

/* stopped: the guest stands still, from _look. -WH_EOPNOTSUPP: not on this engine. */
int wh_vmm_trace_new(struct wh_vmm_machine *machine,
		     void (*stopped)(void *ctx, const struct wh_gdb_stop *stop), void *ctx,
		     struct wh_vmm_trace **ret_trace, struct wh_diag *diag);
void wh_vmm_trace_look(struct wh_vmm_trace *trace);
/* For wherry/gdb.h, with the trace as ctx. */
extern const struct wh_gdb_ops wh_vmm_trace_ops;
/* Before or after the machine is freed. NULL is allowed. */
void wh_vmm_trace_free(struct wh_vmm_trace *trace);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
