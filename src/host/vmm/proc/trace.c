/* SPDX-License-Identifier: ISC */
/*
 * ptrace, for gdb.
 *
 * Why ptrace and no agent in the guest: the guest's trap code is the guest's, it may be what is broken, and an agent would
 * need calls that the filter refuses. The monitor is the process's parent and owns its user namespace, so the kernel
 * allows it although the process is not dumpable. It attaches while the process waits in the stub (proc/stub.S), sets a
 * hardware breakpoint at the guest's entry, and lets it go; the first stop is there.
 *
 * Memory is read through the machine's own view of it. Writes to text (breakpoints) go through the kernel, which gives the guest's private
 * mapping a copy of the page: neither the file nor another guest sees them.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/vmm_trace.h>

#include "proc_priv.h"

#ifndef PTRACE_SEIZE
#define PTRACE_SEIZE 0x4206
#define PTRACE_INTERRUPT 0x4207
#endif
#define EVENT_STOP 128
#define POINTS 4u
#define LOOK_NS 100000
#define LOOKS 50000 /* 5 s: it waits for a processor */

struct wh_vmm_trace {
	struct wh_vmm_machine *machine;
	struct proc *proc;
	void (*stopped)(void *ctx, const struct wh_gdb_stop *stop);
	void *ctx;
	pid_t pid;
	bool at_entry; /* it has been there */
	bool still, interrupting;
	struct {
		bool used;
		enum wh_gdb_point kind;
		uint64_t address;
		uint32_t size;
	} point[POINTS];
};

/* By number: glibc's and musl's prototypes differ. */
static long trace_call(long request, pid_t pid, uint64_t address, uint64_t data)
{
	return syscall(SYS_ptrace, request, (long)pid, (long)address, (long)data) < 0 ? -errno : 0;
}

/* The stop of the process, if there is one: the status as of waitpid, without the low byte. 0 = none. */
static int take_stop(const struct wh_vmm_trace *t)
{
	siginfo_t info = { 0 };
	if (waitid(P_PID, (id_t)t->pid, &info, WSTOPPED | WNOHANG | __WALL) || !info.si_pid)
		return 0;
	return info.si_status;
}

static int debug_register(const struct wh_vmm_trace *t, unsigned index, uint64_t value)
{
	return (int)trace_call(PTRACE_POKEUSER, t->pid,
			       offsetof(struct user, u_debugreg) + 8 * index, value);
}

/* DR7: kind 0 execution, 1 writes, 3 accesses; Intel SDM 3B, 18.2.4. */
static int write_points(const struct wh_vmm_trace *t)
{
	uint64_t control = 0;
	int error = debug_register(t, 7, 0);
	for (unsigned i = 0; i < POINTS && error >= 0; i++) {
		static const uint8_t lengths[] = { 0, 0, 1, 0, 3, 0, 0, 0, 2 };
		if (!t->point[i].used)
			continue;
		bool execute = t->point[i].kind <= WH_GDB_POINT_HARDWARE;
		uint64_t what = execute ? 0 : t->point[i].kind == WH_GDB_POINT_WRITE ? 1 : 3;
		if (!execute)
			what |= (uint64_t)lengths[t->point[i].size] << 2;
		control |= 1ull << (2 * i) | what << (16 + 4 * i);
		error = debug_register(t, i, t->point[i].address);
	}
	return error < 0 ? error : debug_register(t, 7, control);
}

static int in_stub(const struct wh_vmm_trace *t)
{
	struct user_regs_struct r;
	long error = trace_call(PTRACE_GETREGS, t->pid, 0, (uintptr_t)&r);
	return error < 0 ? (int)error
			 : r.rip >= PROC_STUB_ADDRESS && r.rip < PROC_STUB_ADDRESS + PROC_STUB_SIZE;
}

/* Stopped in the stub: an exec before that would take the breakpoint away. */
static int reach_stub(const struct wh_vmm_trace *t)
{
	const struct timespec moment = { 0, LOOK_NS };
	for (int i = 0; i < LOOKS; i++) {
		long error = trace_call(PTRACE_INTERRUPT, t->pid, 0, 0);
		for (; error >= 0 && !take_stop(t) && i < LOOKS; i++)
			nanosleep(&moment, NULL);
		if (error >= 0)
			error = in_stub(t);
		if (error)
			return error < 0 ? (int)error : 0;
		error = trace_call(PTRACE_CONT, t->pid, 0, 0);
		if (error < 0)
			return (int)error;
		nanosleep(&moment, NULL);
	}
	return -WH_ETIMEDOUT;
}

int wh_vmm_trace_new(struct wh_vmm_machine *m,
		     void (*stopped)(void *ctx, const struct wh_gdb_stop *stop), void *ctx,
		     struct wh_vmm_trace **ret_trace, struct wh_diag *diag)
{
	wh_assert(!m->started);
	if (m->engine != &vmm_engine_proc || m->snapshot)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "only a fresh image on the proc engine can be debugged");
	struct wh_vmm_trace *t = calloc(1, sizeof *t);
	if (!t)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory");
	t->machine = m;
	t->proc = m->engine_state;
	t->pid = t->proc->process->pid;
	t->stopped = stopped;
	t->ctx = ctx;
	t->point[0].used = true;
	t->point[0].address = m->layout.image_base + m->image->manifest.boot_entry;
	int error = (int)trace_call(PTRACE_SEIZE, t->pid, 0, 0);
	if (error >= 0)
		error = reach_stub(t);
	if (error >= 0)
		error = write_points(t);
	if (error >= 0)
		error = (int)trace_call(PTRACE_CONT, t->pid, 0, 0);
	t->point[0].used = false;
	if (error >= 0) {
		m->traced = true;
		*ret_trace = t;
		return 0;
	}
	free(t);
	return wh_diag_set(diag, error,
			   "the guest's process cannot be traced (errno %d): the host forbids it "
			   "(kernel.yama.ptrace_scope, a container's rules)",
			   -error);
}

void wh_vmm_trace_free(struct wh_vmm_trace *t)
{
	free(t);
}

/* ---- stops ---- */

static enum wh_gdb_point which_point(const struct wh_vmm_trace *t, uint64_t *ret_address)
{
	errno = 0;
	uint64_t status = 0;
	if (syscall(SYS_ptrace, PTRACE_PEEKUSER, (long)t->pid,
		    offsetof(struct user, u_debugreg) + 8 * 6, &status) < 0)
		return WH_GDB_POINT_SOFTWARE;
	(void)debug_register(t, 6, 0); /* sticky otherwise; nothing is lost */
	for (unsigned i = 0; i < POINTS; i++)
		if (status & 1u << i && t->point[i].used &&
		    t->point[i].kind >= WH_GDB_POINT_WRITE) {
			*ret_address = t->point[i].address;
			return t->point[i].kind;
		}
	return WH_GDB_POINT_SOFTWARE;
}

void wh_vmm_trace_look(struct wh_vmm_trace *t)
{
	int status = take_stop(t);
	int signal = status & 0xff;
	struct wh_gdb_stop stop = { .thread = 1, .signal = signal };
	if (!status || t->machine->ended)
		return;
	if (status >> 8 == EVENT_STOP) {
		if (!t->interrupting) {
			(void)trace_call(PTRACE_CONT, t->pid, 0, 0);
			return;
		}
		stop.signal = SIGINT;
	} else if (signal == WH_BOOT_PARK_SIGNAL) {
		(void)trace_call(PTRACE_CONT, t->pid, 0,
				 (uint64_t)signal); /* the monitor's own business */
		return;
	}
	t->interrupting = false;
	t->still = true;
	if (signal == SIGTRAP && t->at_entry)
		stop.watch = which_point(t, &stop.watch_address);
	if (!t->at_entry)
		(void)write_points(t); /* without the one at the entry */
	t->at_entry = true;
	t->stopped(t->ctx, &stop);
}

/* ---- operations ---- */

static void put(uint8_t **at, const void *from, size_t size)
{
	memcpy(*at, from, size);
	*at += size;
}

static void take(const uint8_t **at, void *to, size_t size)
{
	memcpy(to, *at, size);
	*at += size;
}

#define GENERAL 17u
typedef __typeof__(((struct user_regs_struct *)0)->rax) general; /* the libcs differ in its name */
static void general_places(struct user_regs_struct *r, general *places[GENERAL + 7])
{
	general *p[] = { &r->rax, &r->rbx,    &r->rcx, &r->rdx, &r->rsi, &r->rdi, &r->rbp, &r->rsp,
			 &r->r8,  &r->r9,     &r->r10, &r->r11, &r->r12, &r->r13, &r->r14, &r->r15,
			 &r->rip, &r->eflags, &r->cs,  &r->ss,  &r->ds,  &r->es,  &r->fs,  &r->gs };
	memcpy(places, p, sizeof p);
}

static void encode(struct user_regs_struct *r, const struct user_fpregs_struct *f, uint8_t *bytes)
{
	general *places[GENERAL + 7];
	uint8_t *at = bytes;
	general_places(r, places);
	for (unsigned i = 0; i < GENERAL + 7; i++)
		put(&at, places[i], i < GENERAL ? 8 : 4);
	for (unsigned i = 0; i < 8; i++)
		put(&at, (const uint8_t *)f->st_space + 16 * i, 10);
	const uint32_t x87[8] = { f->cwd,           f->swd,
				  f->ftw,           (uint32_t)(f->rip >> 32),
				  (uint32_t)f->rip, (uint32_t)(f->rdp >> 32),
				  (uint32_t)f->rdp, f->fop };
	put(&at, x87, sizeof x87);
	put(&at, f->xmm_space, 256);
	put(&at, &f->mxcsr, 4);
	wh_assert(at == bytes + WH_GDB_REGISTERS_SIZE);
}

static void decode(const uint8_t *bytes, struct user_regs_struct *r, struct user_fpregs_struct *f)
{
	general *places[GENERAL + 7];
	const uint8_t *at = bytes;
	uint32_t x87[8];
	general_places(r, places);
	for (unsigned i = 0; i < GENERAL + 7; i++)
		take(&at, places[i], i < GENERAL ? 8 : 4);
	for (unsigned i = 0; i < 8; i++)
		take(&at, (uint8_t *)f->st_space + 16 * i, 10);
	take(&at, x87, sizeof x87);
	f->cwd = (uint16_t)x87[0];
	f->swd = (uint16_t)x87[1];
	f->ftw = (uint16_t)x87[2];
	take(&at, f->xmm_space, 256);
	take(&at, &f->mxcsr, 4);
}

static int trace_registers(void *ctx, uint32_t thread, bool write, uint8_t *bytes)
{
	struct wh_vmm_trace *t = ctx;
	struct user_regs_struct r;
	struct user_fpregs_struct f;
	long error = trace_call(PTRACE_GETREGS, t->pid, 0, (uintptr_t)&r);
	if (error >= 0)
		error = trace_call(PTRACE_GETFPREGS, t->pid, 0, (uintptr_t)&f);
	if (error >= 0 && !write)
		encode(&r, &f, bytes);
	if (error < 0 || !write)
		return (int)error;
	decode(bytes, &r, &f);
	error = trace_call(PTRACE_SETREGS, t->pid, 0, (uintptr_t)&r);
	return (int)(error < 0 ? error : trace_call(PTRACE_SETFPREGS, t->pid, 0, (uintptr_t)&f));
}

/* One word through the kernel, of which [from, to) changes. */
static long poke(const struct wh_vmm_trace *t, uint64_t word, unsigned from, unsigned to,
		 const uint8_t *bytes)
{
	uint8_t value[8];
	if (syscall(SYS_ptrace, PTRACE_PEEKDATA, (long)t->pid, (long)word, value) < 0)
		return -errno;
	memcpy(value + from, bytes, to - from);
	return trace_call(PTRACE_POKEDATA, t->pid, word, wh_load_le64(value));
}

static long peek(const struct wh_vmm_trace *t, uint64_t word, unsigned from, unsigned to,
		 uint8_t *bytes)
{
	uint8_t value[8];
	if (syscall(SYS_ptrace, PTRACE_PEEKDATA, (long)t->pid, (long)word, value) < 0)
		return -errno;
	memcpy(bytes, value + from, to - from);
	return 0;
}

static int trace_memory(void *ctx, uint32_t thread, bool write, uint64_t address, void *bytes,
			size_t size)
{
	struct wh_vmm_trace *t = ctx;
	uint8_t *p = bytes;
	while (size) {
		uint64_t word = address & ~7ull;
		unsigned from = (unsigned)(address - word);
		unsigned to = size < 8 - from ? from + (unsigned)size : 8;
		long error = write ? poke(t, word, from, to, p) : peek(t, word, from, to, p);
		if (error < 0)
			return -WH_EFAULT;
		p += to - from;
		address += to - from;
		size -= to - from;
	}
	return 0;
}

static int trace_point(void *ctx, bool set, enum wh_gdb_point kind, uint64_t address, uint32_t size)
{
	struct wh_vmm_trace *t = ctx;
	if (kind == WH_GDB_POINT_SOFTWARE ||
	    kind == WH_GDB_POINT_READ) /* x86 knows no reads alone */
		return -WH_EOPNOTSUPP;
	bool data = kind != WH_GDB_POINT_HARDWARE;
	if (data && size != 1 && size != 2 && size != 4 && size != 8)
		return -WH_EINVAL;
	for (unsigned i = 0; i < POINTS; i++) {
		bool same = t->point[i].used && t->point[i].kind == kind &&
			    t->point[i].address == address && t->point[i].size == size;
		if (set ? t->point[i].used : !same)
			continue;
		t->point[i].used = set;
		t->point[i].kind = kind;
		t->point[i].address = address;
		t->point[i].size = size;
		int error = write_points(t);
		if (error < 0)
			t->point[i].used = false;
		return error;
	}
	return set ? -WH_ENOSPC : 0;
}

static void trace_go(void *ctx, uint32_t thread, bool step, int signal)
{
	struct wh_vmm_trace *t = ctx;
	t->still = false;
	if (signal == SIGINT || signal == SIGTRAP) /* ours, not the guest's */
		signal = 0;
	(void)trace_call(step ? PTRACE_SINGLESTEP : PTRACE_CONT, t->pid, 0, (uint64_t)signal);
}

static void trace_interrupt(void *ctx)
{
	struct wh_vmm_trace *t = ctx;
	if (t->still || !t->at_entry)
		return;
	t->interrupting = true;
	(void)trace_call(PTRACE_INTERRUPT, t->pid, 0, 0);
}

static void trace_kill(void *ctx)
{
	struct wh_vmm_trace *t = ctx;
	wh_vmm_machine_kill(t->machine);
}

static void trace_detach(void *ctx)
{
	struct wh_vmm_trace *t = ctx;
	if (!t->still)
		return;
	memset(t->point, 0, sizeof t->point);
	(void)write_points(t); /* it goes on in any case */
	trace_go(t, 1, false, 0);
}

static uint64_t trace_text(void *ctx)
{
	const struct wh_vmm_trace *t = ctx;
	return t->machine->layout.image_base + t->machine->image->start;
}

const struct wh_gdb_ops wh_vmm_trace_ops = {
	.registers = trace_registers,
	.memory = trace_memory,
	.point = trace_point,
	.go = trace_go,
	.interrupt = trace_interrupt,
	.kill = trace_kill,
	.detach = trace_detach,
	.text = trace_text,
	.threads = 1,
};
