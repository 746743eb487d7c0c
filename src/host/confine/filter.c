/* SPDX-License-Identifier: ISC */
/*
 * From the list to a seccomp filter: a tree of comparisons that finds the run of numbers in which a call's is, one
 * instruction a boundary between runs; behind it the checks of arguments, one block for all calls that share it; last
 * the answers. Most calls do not look at arguments, and the kernel finds out when the filter is installed that it need
 * not be run for them at all (its bitmap of constant answers).
 *
 * Small, because the kernel's translation takes a quarter of a microsecond an instruction, beside the guest's start.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <wherry/base/assert.h>
#include <wherry/base/mem.h>

#include "confine_priv.h"

#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000u
#endif
#ifndef SECCOMP_RET_LOG
#define SECCOMP_RET_LOG 0x7ffc0000u
#endif

#define KVM_IOCTL_TYPE 0xaeu
#define FAULT_IOCTL_TYPE 0xaau  /* userfaultfd's */
#define NOTIFY_IOCTL_TYPE 0x21u /* seccomp's questions: Solo5 spt guests */

/* asm-generic/ioctls.h, linux/sockios.h: TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCOUTQ (SIOCOUTQ), TIOCGWINSZ, FIONREAD,
 * FIONBIO. Never TIOCSTI and TIOCLINUX, which type on the user's terminal. */
static const uint32_t ioctls[] = { 0x5401, 0x5402, 0x5403, 0x5404, 0x5411, 0x5413, 0x541b, 0x5421 };
/* F_SETOWN, F_SETSIG, F_SETOWN_EX, F_NOTIFY */
static const uint32_t fcntls_refused[] = { 8, 10, 15, 1026 };

enum { TO_REFUSE = CONFINE_CHECKS, TO_ALLOW, TARGETS };

struct fix {
	uint16_t at;
	uint8_t when; /* the jump when the comparison was this */
	uint8_t target;
};

/* Numbers from `start` on to the next run. */
struct run {
	uint16_t start;
	uint8_t target;
};

struct writer {
	struct sock_filter *to;
	uint32_t count, parts, own_pid, fix_count, run_count;
	struct fix fix[CONFINE_FILTER_MAX];
	struct run run[CONFINE_FILTER_MAX];
};

static uint32_t put(struct writer *w, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	wh_assert(w->count < CONFINE_FILTER_MAX);
	w->to[w->count] = (struct sock_filter){ code, jt, jf, k };
	return w->count++;
}

static void jump(struct writer *w, uint32_t at, bool when, uint8_t target)
{
	wh_assert(w->fix_count < CONFINE_FILTER_MAX && target < TARGETS);
	w->fix[w->fix_count++] = (struct fix){ (uint16_t)at, when, target };
}

/* The lower half of an argument: where the kernel's parameter has 32 bits it looks at no more. */
static void load_argument(struct writer *w, unsigned index)
{
	put(w, BPF_LD | BPF_W | BPF_ABS,
	    (uint32_t)(offsetof(struct seccomp_data, args) + 8 * index), 0, 0);
}

/* To the target when the comparison with k holds; otherwise on. */
static void when(struct writer *w, uint16_t comparison, uint32_t k, uint8_t target)
{
	jump(w, put(w, BPF_JMP | comparison | BPF_K, k, 0, 0), true, target);
}

static void check_ioctl(struct writer *w)
{
	load_argument(w, 1);
	for (size_t i = 0; w->parts & WH_CONFINE_LOOP && i < WH_ARRAY_COUNT(ioctls); i++)
		when(w, BPF_JEQ, ioctls[i], TO_ALLOW);
	put(w, BPF_ALU | BPF_AND | BPF_K, 0xff00, 0, 0);
	if (w->parts & (WH_CONFINE_KVM | WH_CONFINE_VCPU))
		when(w, BPF_JEQ, KVM_IOCTL_TYPE << 8, TO_ALLOW);
	if (w->parts & WH_CONFINE_PROC)
		when(w, BPF_JEQ, NOTIFY_IOCTL_TYPE << 8, TO_ALLOW);
	if (w->parts & WH_CONFINE_FETCH)
		when(w, BPF_JEQ, FAULT_IOCTL_TYPE << 8, TO_ALLOW);
	when(w, BPF_JGE, 0, TO_REFUSE);
}

static void check_socket(struct writer *w)
{
	load_argument(w, 0);
	when(w, BPF_JEQ, AF_UNIX, TO_ALLOW);
	if (w->parts & WH_CONFINE_NETWORK) {
		when(w, BPF_JEQ, AF_INET, TO_ALLOW);
		when(w, BPF_JEQ, AF_INET6, TO_ALLOW);
	}
	when(w, BPF_JGE, 0, TO_REFUSE);
}

/* Only where argument `index` is `value`. */
static void must_be(struct writer *w, unsigned index, uint32_t value)
{
	load_argument(w, index);
	when(w, BPF_JEQ, value, TO_ALLOW);
	when(w, BPF_JGE, 0, TO_REFUSE);
}

static void put_check(struct writer *w, enum confine_check check)
{
	switch (check) {
	case CONFINE_NO_EXEC:
		load_argument(w, 2);
		when(w, BPF_JSET, PROT_EXEC, TO_REFUSE);
		when(w, BPF_JGE, 0, TO_ALLOW);
		break;
	case CONFINE_IOCTL:
		check_ioctl(w);
		break;
	case CONFINE_THREAD:
		load_argument(w, 0);
		when(w, BPF_JSET, CLONE_THREAD, TO_ALLOW);
		when(w, BPF_JGE, 0, TO_REFUSE);
		break;
	case CONFINE_SOCKET:
		check_socket(w);
		break;
	case CONFINE_STOP:
		must_be(w, 1, SIGUSR1);
		break;
	case CONFINE_SELF:
		must_be(w, 0, w->own_pid);
		break;
	case CONFINE_NO_NEW:
		must_be(w, 0, PR_SET_NO_NEW_PRIVS);
		break;
	case CONFINE_NARROW:
		must_be(w, 0, SECCOMP_SET_MODE_FILTER);
		break;
	case CONFINE_FCNTL:
		load_argument(w, 1);
		for (size_t i = 0; i < WH_ARRAY_COUNT(fcntls_refused); i++)
			when(w, BPF_JEQ, fcntls_refused[i], TO_REFUSE);
		when(w, BPF_JGE, 0, TO_ALLOW);
		break;
	default:
		wh_assert(check == CONFINE_ABSENT);
		put(w, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS, 0, 0);
	}
}

static void add_run(struct writer *w, uint32_t start, uint8_t target)
{
	if (w->run_count && w->run[w->run_count - 1].target == target)
		return;
	w->run[w->run_count++] = (struct run){ (uint16_t)start, target };
}

static void make_runs(struct writer *w)
{
	uint32_t next = 0; /* number behind the last one */
	for (uint32_t i = 0; i < confine_call_count; i++) {
		const struct confine_call *c = &confine_calls[i];
		wh_assert(!i || c[-1].number < c->number);
		if (!(c->parts & w->parts))
			continue;
		if (c->number > next || !w->run_count)
			add_run(w, next, TO_REFUSE);
		add_run(w, c->number, c->check == CONFINE_ANY ? TO_ALLOW : c->check);
		next = c->number + 1u;
	}
	add_run(w, next, TO_REFUSE);
}

static void put_tree(struct writer *w, uint32_t from, uint32_t to);

/* The side of a comparison that leads to runs [from, to). */
static void put_side(struct writer *w, uint32_t at, bool side, uint32_t from, uint32_t to)
{
	if (to - from == 1) {
		jump(w, at, side, w->run[from].target);
		return;
	}
	uint32_t distance = w->count - at - 1;
	wh_assert(distance < 256);
	if (side)
		w->to[at].jt = (uint8_t)distance;
	else
		w->to[at].jf = (uint8_t)distance;
	put_tree(w, from, to);
}

/* The accumulator holds the number. Depth: the logarithm. */
static void put_tree(struct writer *w, uint32_t from, uint32_t to)
{
	uint32_t middle = from + (to - from) / 2;
	uint32_t at = put(w, BPF_JMP | BPF_JGE | BPF_K, w->run[middle].start, 0, 0);
	put_side(w, at, false, from, middle);
	put_side(w, at, true, middle, to);
}

uint32_t confine_filter_write(uint32_t parts, enum wh_confine_violation violation, uint32_t own_pid,
			      struct sock_filter *to)
{
	uint32_t place[TARGETS] = { 0 };
	bool used[TARGETS] = { false };
	struct writer w = { .to = to, .parts = parts, .own_pid = own_pid };
	make_runs(&w);
	put(&w, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
	put(&w, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	put(&w, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	put(&w, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
	put_tree(&w, 0, w.run_count);
	for (uint32_t i = 0; i < w.fix_count; i++)
		used[w.fix[i].target] = true;
	for (uint8_t check = CONFINE_ANY + 1; check < CONFINE_CHECKS; check++) {
		place[check] = w.count;
		if (used[check])
			put_check(&w, (enum confine_check)check);
	}
	place[TO_ALLOW] = put(&w, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	place[TO_REFUSE] = put(&w, BPF_RET | BPF_K,
			       violation == WH_CONFINE_TRAP  ? SECCOMP_RET_TRAP
			       : violation == WH_CONFINE_LOG ? SECCOMP_RET_LOG
							     : SECCOMP_RET_KILL_PROCESS,
			       0, 0);
	for (uint32_t i = 0; i < w.fix_count; i++) {
		const struct fix *f = &w.fix[i];
		uint32_t distance = place[f->target] - f->at - 1;
		wh_assert(distance < 256);
		if (f->when)
			to[f->at].jt = (uint8_t)distance;
		else
			to[f->at].jf = (uint8_t)distance;
	}
	return w.count;
}
