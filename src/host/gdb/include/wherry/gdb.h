/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_GDB_H
#define WHERRY_GDB_H

/*
 * The far end of gdb's `target remote` for x86-64: GDB's manual, appendix E. Passive: bytes come in by
 * wh_gdb_input, answers go out by a callback, the guest is reached by operations. No sockets, no threads of its own.
 *
 *	wh_gdb_new(&config, &gdb);
 *	wh_gdb_input(gdb, bytes, size);		from the connection
 *	wh_gdb_stopped(gdb, &stop);		the guest stands still
 *
 * Known: ? g G p P m M X c C s S vCont z Z k D H T qSupported qXfer:features:read qOffsets qfThreadInfo qC qAttached
 * QStartNoAckMode !. Everything else is answered as unknown, which gdb takes well.
 *
 * Threads (those that gdb sees) are numbered from 1; what they are is the caller's: vCPUs.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* gdb's order: rax rbx rcx rdx rsi rdi rbp rsp r8..r15 rip (8 bytes each), eflags cs ss ds es fs gs (4), st0..st7
 * (10), fctrl fstat ftag fiseg fioff foseg fooff fop (4), xmm0..xmm15 (16), mxcsr (4). */
#define WH_GDB_REGISTERS_SIZE 536u
#define WH_GDB_PACKET_MAX 4096u /* a request's or an answer's content */

enum wh_gdb_point {
	WH_GDB_POINT_SOFTWARE,
	WH_GDB_POINT_HARDWARE,
	WH_GDB_POINT_WRITE,
	WH_GDB_POINT_READ,
	WH_GDB_POINT_ACCESS
};

struct wh_gdb_stop {
	uint32_t thread;
	int signal;              /* of Linux's first 31; 5 = breakpoint or step */
	enum wh_gdb_point watch; /* WRITE and so on: a watchpoint; 0 = none */
	uint64_t watch_address;
};

/* Results are 0 or -errno. Only called while the guest stands still, except interrupt and kill. */
struct wh_gdb_ops {
	int (*registers)(void *ctx, uint32_t thread, bool write, uint8_t *bytes);
	int (*memory)(void *ctx, uint32_t thread, bool write, uint64_t address, void *bytes,
		      size_t size);
	/* -WH_EOPNOTSUPP: not this kind (gdb then writes breakpoints into memory itself). NULL = none. */
	int (*point)(void *ctx, bool set, enum wh_gdb_point kind, uint64_t address, uint32_t size);
	/* All go on, or `thread` alone does one instruction; signal is given to `thread`, 0 = none. */
	void (*go)(void *ctx, uint32_t thread, bool step, int signal);
	void (*interrupt)(void *ctx);
	void (*kill)(void *ctx);
	/* gdb leaves: no points, the guest goes on. */
	void (*detach)(void *ctx);
	uint64_t (*text)(
		void *ctx); /* where the first segment of the program lies; NULL = where its file says */
	uint32_t threads;
};

struct wh_gdb_config {
	size_t size; /* sizeof(struct wh_gdb_config) */
	const struct wh_gdb_ops *ops;
	void *ctx;
	/* What goes to gdb; it must take all of it. */
	void (*send)(void *ctx, const void *bytes, size_t size);
};

struct wh_gdb;
int wh_gdb_new(const struct wh_gdb_config *config, struct wh_gdb **ret_gdb);
void wh_gdb_free(struct wh_gdb *gdb);
/* A new connection: forgets what is half read; a guest that runs is interrupted. Before the guest has stopped for the
 * first time it counts as running. */
void wh_gdb_reset(struct wh_gdb *gdb);
void wh_gdb_input(struct wh_gdb *gdb, const void *bytes, size_t size);
/* Tells gdb, if it waits for that, and remembers it. */
void wh_gdb_stopped(struct wh_gdb *gdb, const struct wh_gdb_stop *stop);
/* The guest has ended: by a signal, or (0) with a status. */
void wh_gdb_ended(struct wh_gdb *gdb, int signal, int status);
bool wh_gdb_running(const struct wh_gdb *gdb);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
