/* SPDX-License-Identifier: ISC */
/* The guest's system call filter, in an interpreter: exactly the calls of wherry/abi/boot.h. */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <wherry/test.h>

#include "proc/plan.h"
#include "solo5/spt_filter.h"

#define EVENTS 0x123456789a00ull
#define DOORBELL 7

static struct sock_filter program[SPT_FILTER_MAX];
static uint32_t length;
static unsigned steps; /* of the last run */

static uint32_t load(const struct seccomp_data *d, uint32_t offset)
{
	uint32_t v;
	CHECK(offset % 4 == 0 && offset + 4 <= sizeof *d);
	memcpy(&v, (const char *)d + offset, 4);
	return v;
}

/* Seccomp's subset of classic BPF, as far as the filter uses it. */
static uint32_t run(const struct seccomp_data *d)
{
	uint32_t a = 0;
	steps = 0;
	for (uint32_t pc = 0; pc < length; steps++) {
		const struct sock_filter *i = &program[pc++];
		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			a = load(d, i->k);
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += a >= i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			pc += a > i->k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			test_fail(__FILE__, __LINE__, "instruction 0x%x", i->code);
		}
	}
	test_fail(__FILE__, __LINE__, "ran over the end");
}

static bool lets(int nr, uint64_t a0, uint64_t a1, uint64_t a2)
{
	struct seccomp_data d = { .nr = nr,
				  .arch = AUDIT_ARCH_X86_64,
				  .args = { a0, a1, a2, 1, 2, 3 } };
	uint32_t result = run(&d);
	CHECK(result == SECCOMP_RET_ALLOW || result == SECCOMP_RET_KILL_PROCESS);
	return result == SECCOMP_RET_ALLOW;
}

static bool lets_disk(int nr, uint64_t fd, uint64_t size, uint64_t offset)
{
	struct seccomp_data d = { .nr = nr,
				  .arch = AUDIT_ARCH_X86_64,
				  .args = { fd, 0x1000, size, offset } };
	return run(&d) == SECCOMP_RET_ALLOW;
}

static void lets_the_calls_through(void)
{
	length = proc_filter_write(program, EVENTS, DOORBELL, false);
	CHECK(lets(SYS_exit_group, 5, 0, 0));
	CHECK(lets(SYS_rt_sigreturn, 0, 0, 0));
	CHECK(lets(SYS_write, DOORBELL, 0x1000, 8));
	CHECK(lets(SYS_futex, EVENTS, FUTEX_WAIT, 99));
	CHECK(lets(SYS_clock_gettime, 0, 0x1000, 0));
	CHECK(lets(SYS_clock_gettime, 1, 0x1000, 0));
	CHECK(!lets(SYS_arch_prctl, 0x1002, 0x1000, 0));
	length = proc_filter_write(program, EVENTS, DOORBELL, true);
	CHECK(lets(SYS_arch_prctl, 0x1002, 0x1000, 0));
	CHECK(!lets(SYS_arch_prctl, 0x1003, 0x1000, 0));
	CHECK(!lets(SYS_arch_prctl, 0x100001002, 0x1000, 0));
}

static void refuses_other_numbers(void)
{
	static const int known[] = { SYS_exit_group, SYS_rt_sigreturn, SYS_write, SYS_futex,
				     SYS_clock_gettime };
	length = proc_filter_write(program, EVENTS, DOORBELL, false);
	unsigned all = 0, count = 0;
	for (int nr = -2; nr < 1024; nr++) {
		bool is_known = false;
		for (unsigned i = 0; i < WH_ARRAY_COUNT(known); i++)
			is_known |= known[i] == nr;
		if (is_known)
			continue;
		CHECK(!lets(nr, DOORBELL, 0, 8));
		CHECK(!lets(nr | 0x40000000, DOORBELL, 0, 8));
		all += steps;
		count++;
	}
	CHECK(all / count <= 6); /* the cost of installing it */
	for (unsigned i = 0; i < WH_ARRAY_COUNT(known); i++)
		CHECK(!lets(known[i] | 0x40000000, DOORBELL, 0, 8)); /* x32 */
}

static void refuses_other_arguments(void)
{
	length = proc_filter_write(program, EVENTS, DOORBELL, false);
	CHECK(!lets(SYS_write, DOORBELL + 1, 0, 8));
	CHECK(!lets(SYS_write, DOORBELL | 1ull << 32, 0, 8));
	CHECK(!lets(SYS_write, DOORBELL, 0, 7));
	CHECK(!lets(SYS_write, DOORBELL, 0, 8 | 1ull << 32));
	CHECK(!lets(SYS_futex, EVENTS + 4, FUTEX_WAIT, 0));
	CHECK(!lets(SYS_futex, (uint32_t)EVENTS, FUTEX_WAIT, 0));
	CHECK(!lets(SYS_futex, EVENTS, FUTEX_WAKE, 0));
	CHECK(!lets(SYS_futex, EVENTS, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0));
	CHECK(!lets(SYS_clock_gettime, 2, 0, 0));
	CHECK(!lets(SYS_clock_gettime, ~0ull, 0, 0));
	CHECK(!lets(SYS_clock_gettime, 1ull << 32, 0, 0));
}

static void refuses_other_architectures(void)
{
	struct seccomp_data d = { .nr = SYS_exit_group, .arch = AUDIT_ARCH_I386 };
	length = proc_filter_write(program, EVENTS, DOORBELL, true);
	CHECK_EQ(run(&d), SECCOMP_RET_KILL_PROCESS);
	CHECK(steps <= 2);
}

/* Solo5's spt: as many devices as there can be. */
static void lets_the_calls_of_spt_through(void)
{
	struct spt_filter f = { .console_fd = 1, .epoll_fd = 3, .timer_fd = 4, .net_first_fd = 6 };
	const uint64_t capacity = 5ull << 32;
	f.net_count = 2;
	for (f.disk_count = 0; f.disk_count < 61; f.disk_count++)
		f.disk[f.disk_count] =
			(struct spt_filter_disk){ 8 + (int)f.disk_count, 512, capacity + 512 };
	f.disk[60].block_size = 4096;
	f.disk[60].capacity = 4096;
	length = spt_filter_write(program, &f);
	for (int nr = -2; nr < 1024; nr++)
		CHECK_EQ(lets(nr, 1, 0, 0),
			 nr == SYS_write || nr == SYS_exit_group || nr == SYS_clock_gettime);
	for (uint64_t fd = 0; fd < 12; fd++) {
		CHECK_EQ(lets(SYS_read, fd, 0, 100), fd == 6 || fd == 7);
		CHECK_EQ(lets(SYS_write, fd, 0, 100), fd == 1 || fd == 6 || fd == 7);
		CHECK_EQ(lets(SYS_epoll_pwait, fd, 0, 0), fd == 3);
		CHECK_EQ(lets(SYS_timerfd_settime, fd, 0, 0), fd == 4);
		CHECK(!lets(SYS_write, fd | 1ull << 32, 0, 100));
		CHECK(!lets(SYS_read, fd | 1ull << 32, 0, 100));
	}
	CHECK(lets(SYS_arch_prctl, 0x1002, 0, 0) && !lets(SYS_arch_prctl, 0x1001, 0, 0));
	CHECK(!lets(SYS_clock_gettime, 2, 0, 0) && !lets(SYS_clock_gettime, 1ull << 32, 0, 0));
	for (uint64_t fd = 8; fd < 68; fd++)
		for (int write = 0; write < 2; write++) {
			int nr = write ? SYS_pwrite64 : SYS_pread64;
			CHECK(lets_disk(nr, fd, 512, 0) && lets_disk(nr, fd, 512, capacity));
			CHECK(lets_disk(nr, fd, 512, capacity - 1));
			CHECK(!lets_disk(nr, fd, 512, capacity + 1));
			CHECK(!lets_disk(nr, fd, 512, 6ull << 32));
			CHECK(!lets_disk(nr, fd, 512, ~0ull));
			CHECK(!lets_disk(nr, fd, 1024, 0) && !lets_disk(nr, fd, 0, 0));
			CHECK(!lets_disk(nr, fd, 512 | 1ull << 32, 0));
			CHECK(!lets_disk(nr, fd | 1ull << 32, 512, 0));
		}
	CHECK(lets_disk(SYS_pread64, 68, 4096, 0) && !lets_disk(SYS_pread64, 68, 4096, 1));
	CHECK(!lets_disk(SYS_pread64, 69, 512, 0) && !lets_disk(SYS_pwrite64, 7, 512, 0));
}

static void asks_about_disks_without_a_file(void)
{
	struct seccomp_data d = { .nr = SYS_pread64, .args = { 4096 } };
	length = spt_asking_filter_write(program, 4096);
	CHECK_EQ(run(&d), SECCOMP_RET_USER_NOTIF);
	d.nr = SYS_pwrite64;
	CHECK_EQ(run(&d), SECCOMP_RET_USER_NOTIF);
	d.args[0] = 4095;
	CHECK_EQ(run(&d), SECCOMP_RET_ALLOW);
	d.nr = SYS_write;
	d.args[0] = 4096;
	CHECK_EQ(run(&d), SECCOMP_RET_ALLOW);
}

int main(void)
{
	RUN(lets_the_calls_through);
	RUN(refuses_other_numbers);
	RUN(refuses_other_arguments);
	RUN(refuses_other_architectures);
	RUN(lets_the_calls_of_spt_through);
	RUN(asks_about_disks_without_a_file);
	return test_end();
}
