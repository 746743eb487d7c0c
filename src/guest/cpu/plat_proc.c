/* SPDX-License-Identifier: ISC */
/*
 * The platform of a confined process: the handful of host system calls that its
 * filter lets through (end of wherry/abi/boot.h), and nothing else.
 */
#include <cpu/cpu.h>
#include <cpu/plat.h>
#include <kern/plat.h>

enum { HOST_WRITE = 1, HOST_ARCH_PRCTL = 158, HOST_FUTEX = 202, HOST_CLOCK_GETTIME = 228 };
#define HOST_FUTEX_WAIT 0
#define HOST_ARCH_SET_FS 0x1002
#define NS_PER_S 1000000000ull

struct host_timespec {
	int64_t seconds, nanoseconds;
};

static inline long host_call(long number, long a, long b, long c, long d)
{
	long result;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}

static void proc_doorbell(void)
{
	uint64_t one = 1;
	(void)host_call(HOST_WRITE, kern_boot()->doorbell_fd, (long)&one, sizeof one, 0);
}

static void proc_wait(uint32_t seen, uint64_t timeout_ns)
{
	struct wh_boot_control *control = kern_control();
	struct host_timespec t = { (int64_t)(timeout_ns / NS_PER_S),
				   (int64_t)(timeout_ns % NS_PER_S) };
	/* Sequentially consistent: the host raises host_events, then looks at
	 * guest_sleeping; we do the two in the other order, and the futex call
	 * compares once more. */
	__atomic_store_n(&control->guest_sleeping, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&control->host_events, __ATOMIC_SEQ_CST) == seen)
		(void)host_call(HOST_FUTEX, (long)&control->host_events, HOST_FUTEX_WAIT,
				(long)seen, timeout_ns == UINT64_MAX ? 0 : (long)&t);
	__atomic_store_n(&control->guest_sleeping, 0, __ATOMIC_RELAXED);
}

static uint64_t proc_clock(bool realtime)
{
	struct host_timespec t = { 0, 0 };
	(void)host_call(HOST_CLOCK_GETTIME, realtime ? 0 : 1, (long)&t, 0, 0);
	return (uint64_t)t.seconds * NS_PER_S + (uint64_t)t.nanoseconds;
}

/* Runs while FS is in between: no canary in its frame. */
__attribute__((no_stack_protector)) static void proc_set_fs_base(uint64_t base)
{
	(void)host_call(HOST_ARCH_PRCTL, HOST_ARCH_SET_FS, (long)base, 0, 0);
}

/* The host reads exit_kind and ends this process. Until then it sleeps: taking it apart earlier costs
 * the host, which shares its memory and waits for its own end, a tenth of a short run. */
__attribute__((noreturn)) static void proc_exit(int status)
{
	struct wh_boot_control *control = kern_control();
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* exit_kind before host_sleeping */
	if (__atomic_load_n(&control->host_sleeping, __ATOMIC_SEQ_CST))
		proc_doorbell();
	for (;;)
		(void)host_call(HOST_FUTEX, (long)&control->host_events, HOST_FUTEX_WAIT,
				(long)__atomic_load_n(&control->host_events, __ATOMIC_RELAXED), 0);
}

/* Stands still until the host lets go. A copy of us in another process begins with `first` false:
 * registers other than the stack's are those of its start, the frame is where it was. */
__attribute__((no_stack_protector)) void plat_proc_park(uint64_t frame, bool first)
{
	struct wh_boot_control *control = kern_control();
	if (first) {
		control->park_frame = frame;
		control->park_fs_base = kern_boot()->flags & WH_BOOT_FSGSBASE ? cpu_rdfsbase() : 0;
		__atomic_store_n(&control->parked, 1, __ATOMIC_SEQ_CST);
	} else {
		control->timeline[WH_BOOT_STAGE_ENTRY] = cpu_tsc();
	}
	for (;;) {
		uint32_t seen = __atomic_load_n(&control->host_events, __ATOMIC_SEQ_CST);
		if (!__atomic_load_n(&control->park, __ATOMIC_SEQ_CST))
			break;
		(void)host_call(HOST_FUTEX, (long)&control->host_events, HOST_FUTEX_WAIT,
				(long)seen, 0);
	}
	__atomic_store_n(&control->parked, 0, __ATOMIC_SEQ_CST);
}

const struct plat_ops plat_proc_ops = {
	.doorbell = proc_doorbell,
	.wait = proc_wait,
	.clock = proc_clock,
	.set_fs_base = proc_set_fs_base,
	.exit = proc_exit,
};
