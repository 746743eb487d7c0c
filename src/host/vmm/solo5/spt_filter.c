/* SPDX-License-Identifier: ISC */
/*
 * The calls of Solo5's spt ABI, with their arguments (tenders/spt/spt_core.c and its modules say which):
 *
 *	write(console, any, any)		exit_group(any)
 *	read, write(network device, any, any)	clock_gettime(0 or 1, any)
 *	epoll_pwait(the set, ...)		arch_prctl(ARCH_SET_FS, any)
 *	timerfd_settime(the timer, ...)
 *	pread64, pwrite64(disk, any, one block, up to the last block)
 *
 * Everything else ends the process. A refusal stands at the end of each part, in reach of an 8-bit jump.
 */
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <wherry/base/assert.h>

#include "spt_filter.h"

#define ARCH_SET_FS_CODE 0x1002 /* asm/prctl.h */
#define PART_CHECKS_MAX 16u

struct writer {
	struct sock_filter *to;
	uint32_t count;
	/* Jumps of this part that are taken when a check fails. */
	uint32_t when_false[PART_CHECKS_MAX], when_true[PART_CHECKS_MAX];
	uint32_t false_count, true_count;
};

static void put(struct writer *w, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	wh_assert(w->count < SPT_FILTER_MAX);
	w->to[w->count++] = (struct sock_filter){ code, jt, jf, k };
}

static void load(struct writer *w, uint32_t offset)
{
	put(w, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

static void load_low(struct writer *w, unsigned argument)
{
	load(w, (uint32_t)(offsetof(struct seccomp_data, args) + 8 * argument));
}

static void load_high(struct writer *w, unsigned argument)
{
	load(w, (uint32_t)(offsetof(struct seccomp_data, args) + 8 * argument + 4));
}

/* The comparison must hold, or the call is refused. */
static void must(struct writer *w, uint16_t comparison, uint32_t k)
{
	wh_assert(w->false_count < PART_CHECKS_MAX);
	w->when_false[w->false_count++] = w->count;
	put(w, BPF_JMP | BPF_K | comparison, k, 0, 0);
}

static void must_not(struct writer *w, uint16_t comparison, uint32_t k)
{
	wh_assert(w->true_count < PART_CHECKS_MAX);
	w->when_true[w->true_count++] = w->count;
	put(w, BPF_JMP | BPF_K | comparison, k, 0, 0);
}

static void must_be(struct writer *w, unsigned argument, uint64_t value)
{
	load_low(w, argument);
	must(w, BPF_JEQ, (uint32_t)value);
	load_high(w, argument);
	must(w, BPF_JEQ, (uint32_t)(value >> 32));
}

/* The part's end: allowed, and where its failed checks go. */
static void end_part(struct writer *w)
{
	put(w, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	for (uint32_t i = 0; i < w->false_count; i++)
		w->to[w->when_false[i]].jf = (uint8_t)(w->count - w->when_false[i] - 1);
	for (uint32_t i = 0; i < w->true_count; i++)
		w->to[w->when_true[i]].jt = (uint8_t)(w->count - w->when_true[i] - 1);
	w->false_count = w->true_count = 0;
	put(w, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
}

/* if (nr == number) { part } */
static uint32_t begin_call(struct writer *w, uint32_t number)
{
	put(w, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 0);
	return w->count - 1;
}

static void end_call(struct writer *w, uint32_t begin)
{
	end_part(w);
	w->to[begin].jf = (uint8_t)(w->count - begin - 1);
}

static void network_call(struct writer *w, const struct spt_filter *f, uint32_t number)
{
	uint32_t call = begin_call(w, number), console = 0;
	load_low(w, 0);
	if (number == SYS_write) {
		console = w->count;
		put(w, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)f->console_fd, 0, 0);
	}
	must(w, BPF_JGE, (uint32_t)f->net_first_fd);
	must_not(w, BPF_JGE, (uint32_t)f->net_first_fd + f->net_count);
	if (console)
		w->to[console].jt = (uint8_t)(w->count - console - 1);
	load_high(w, 0);
	must(w, BPF_JEQ, 0);
	end_call(w, call);
}

static void one_call(struct writer *w, uint32_t number, uint64_t first_argument)
{
	uint32_t call = begin_call(w, number);
	must_be(w, 0, first_argument);
	end_call(w, call);
}

/* The accumulator holds the descriptor. */
static void disk_part(struct writer *w, const struct spt_filter_disk *d)
{
	uint64_t last = d->capacity - d->block_size;
	uint32_t begin = begin_call(w, (uint32_t)d->fd);
	load_high(w, 0);
	must(w, BPF_JEQ, 0);
	must_be(w, 2, d->block_size);
	load_high(w, 3);
	must_not(w, BPF_JGT, (uint32_t)(last >> 32));
	put(w, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(last >> 32), 0, 2); /* below: allowed */
	load_low(w, 3);
	must_not(w, BPF_JGT, (uint32_t)last);
	end_call(w, begin);
}

uint32_t spt_filter_write(struct sock_filter *to, const struct spt_filter *f)
{
	struct writer w = { .to = to };
	load(&w, offsetof(struct seccomp_data, arch));
	put(&w, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	put(&w, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	load(&w, offsetof(struct seccomp_data, nr));
	network_call(&w, f, SYS_write);
	if (f->net_count)
		network_call(&w, f, SYS_read);
	one_call(&w, SYS_epoll_pwait, (uint64_t)f->epoll_fd);
	one_call(&w, SYS_timerfd_settime, (uint64_t)f->timer_fd);
	one_call(&w, SYS_arch_prctl, ARCH_SET_FS_CODE);

	uint32_t call = begin_call(&w, SYS_clock_gettime);
	load_low(&w, 0); /* CLOCK_REALTIME 0, CLOCK_MONOTONIC 1 */
	must_not(&w, BPF_JGT, 1);
	load_high(&w, 0);
	must(&w, BPF_JEQ, 0);
	end_call(&w, call);

	put(&w, BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1);
	put(&w, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	if (f->disk_count) {
		put(&w, BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 2, 0);
		put(&w, BPF_JMP | BPF_JEQ | BPF_K, SYS_pwrite64, 1, 0);
		put(&w, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
		load_low(&w, 0);
		for (uint32_t i = 0; i < f->disk_count; i++)
			disk_part(&w, &f->disk[i]);
	}
	put(&w, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	return w.count;
}

uint32_t spt_asking_filter_write(struct sock_filter *to, uint32_t first)
{
	struct writer w = { .to = to };
	load(&w, offsetof(struct seccomp_data, nr));
	put(&w, BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 1, 0);
	put(&w, BPF_JMP | BPF_JEQ | BPF_K, SYS_pwrite64, 0, 3);
	load_low(&w, 0);
	put(&w, BPF_JMP | BPF_JGE | BPF_K, first, 0, 1);
	put(&w, BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF, 0, 0);
	put(&w, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	return w.count;
}
