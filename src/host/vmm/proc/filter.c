/* SPDX-License-Identifier: ISC */
/*
 * The guest's seccomp filter (wherry/abi/boot.h lists the calls):
 *
 *	exit_group(any)			rt_sigreturn()
 *	clock_gettime(0 or 1, any)	write(doorbell, any, 8)
 *	futex(&host_events, FUTEX_WAIT, any, any)
 *	arch_prctl(ARCH_SET_FS, any)	only where WRFSBASE does not exist
 *
 * Everything else ends the process: no result that a guest could probe. The
 * architecture is checked first; a number with the x32 bit is above every number here.
 *
 * The kernel runs a filter once for each number of each architecture when it is
 * installed, so what matters at start is how few instructions a refused
 * number takes: two for the other architecture, four for numbers above exit_group.
 */
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <wherry/base/assert.h>

#include "plan.h"

#define ARCH_SET_FS_CODE 0x1002 /* asm/prctl.h */

struct writer {
	struct sock_filter *to;
	uint32_t count;
	uint32_t refuse_fix[PROC_FILTER_MAX]; /* instructions that jump to the refusal when false */
	uint32_t refuse_count;
};

static void put(struct writer *w, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	wh_assert(w->count < PROC_FILTER_MAX);
	w->to[w->count++] = (struct sock_filter){ code, jt, jf, k };
}

static void load(struct writer *w, uint32_t offset)
{
	put(w, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

/* The accumulator must equal k, or the call is refused. */
static void must_equal(struct writer *w, uint32_t k)
{
	w->refuse_fix[w->refuse_count++] = w->count;
	put(w, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 0);
}

static void allow(struct writer *w)
{
	put(w, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

static uint32_t low(unsigned argument)
{
	return (uint32_t)(offsetof(struct seccomp_data, args) + 8 * argument);
}

static void argument_is(struct writer *w, unsigned argument, uint64_t value)
{
	load(w, low(argument));
	must_equal(w, (uint32_t)value);
	load(w, low(argument) + 4);
	must_equal(w, (uint32_t)(value >> 32));
}

/* `if (nr == number) { body }` around what is put between begin and end. */
static uint32_t begin_call(struct writer *w, uint32_t number)
{
	put(w, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 0);
	return w->count - 1;
}

static void end_call(struct writer *w, uint32_t begin)
{
	allow(w);
	w->to[begin].jf = (uint8_t)(w->count - begin - 1);
}

uint32_t proc_filter_write(struct sock_filter *to, uint64_t control_events, int doorbell_fd,
			   bool may_set_fs)
{
	struct writer w = { .to = to };
	load(&w, offsetof(struct seccomp_data, arch));
	must_equal(&w, AUDIT_ARCH_X86_64);
	load(&w, offsetof(struct seccomp_data, nr));
	/* above exit_group: refuse (jt is set below); above arch_prctl: the upper half */
	uint32_t top = w.count;
	put(&w, BPF_JMP | BPF_JGT | BPF_K, SYS_exit_group, 0, 0);
	uint32_t half = w.count;
	put(&w, BPF_JMP | BPF_JGT | BPF_K, SYS_arch_prctl, 0, 0);

	uint32_t call = begin_call(&w, SYS_write);
	argument_is(&w, 0, (uint64_t)doorbell_fd);
	argument_is(&w, 2, 8);
	end_call(&w, call);
	if (may_set_fs) {
		call = begin_call(&w, SYS_arch_prctl);
		argument_is(&w, 0, ARCH_SET_FS_CODE);
		end_call(&w, call);
	}
	must_equal(&w, SYS_rt_sigreturn);
	allow(&w);

	w.to[half].jt = (uint8_t)(w.count - half - 1);
	call = begin_call(&w, SYS_futex);
	argument_is(&w, 0, control_events);
	argument_is(&w, 1, FUTEX_WAIT);
	end_call(&w, call);
	call = begin_call(&w, SYS_clock_gettime);
	load(&w, low(0));
	put(&w, BPF_ALU | BPF_AND | BPF_K, ~1u, 0, 0); /* CLOCK_REALTIME 0, CLOCK_MONOTONIC 1 */
	must_equal(&w, 0);
	load(&w, low(0) + 4);
	must_equal(&w, 0);
	end_call(&w, call);
	must_equal(&w, SYS_exit_group);
	allow(&w);

	uint32_t refuse = w.count;
	put(&w, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	w.to[top].jt = (uint8_t)(refuse - top - 1);
	for (uint32_t i = 0; i < w.refuse_count; i++)
		w.to[w.refuse_fix[i]].jf = (uint8_t)(refuse - w.refuse_fix[i] - 1);
	return w.count;
}
