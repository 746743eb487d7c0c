/* SPDX-License-Identifier: ISC */
/*
 * Making the guest's process, beside the monitor's other work.
 *
 * The child begins when the machine is made, or ahead of it (wh_vmm_spare_new). It shares the monitor's memory until it execs (clone
 * with VM: no page tables are copied) and may run on another CPU while the monitor builds RAM
 * and devices: making a mount and an IPC namespace takes longer than everything that
 * the monitor does. Then it execs the guest's RAM file, whose first page holds the stub, and
 * waits at the doorbell for its plan.
 *
 * Because it shares memory with a monitor that runs on, it makes bare system calls only: no
 * function of libc, no errno, nothing allocated.
 *
 * Sandbox levels (wherry/vmm.h). AUTO leaves out what the host lacks. The filter, the empty
 * address space and the closed descriptors never depend on namespaces: with the filter on,
 * no call is left that takes a path, a process id, an address of a peer or an IPC key, or makes
 * a descriptor. Namespaces are a second wall. A new network namespace takes longer than
 * all others together, so only STRICT makes one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "proc_priv.h"

/* A directory that is always empty, and no process makes it: cheaper than those of /proc/self. */
#define EMPTY_ROOT "/proc/tty/ldisc"
#define P_PIDFD_TYPE 3 /* sys/wait.h of older libcs lacks it */
#define EUSERS_ERROR 87
/* Offsets in stub.S: e_entry; p_vaddr and p_paddr of its first segment. */
#define STUB_ENTRY 24
#define STUB_VADDR (64 + 16)
#define STUB_PADDR (64 + 24)
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif
/* Cheap ones, made with the process; a pid namespace cannot be entered later. */
#define NAMESPACES_FIRST (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define NAMESPACES_LATER (CLONE_NEWNS | CLONE_NEWIPC)

extern const char vmm_proc_stub_start[], vmm_proc_stub_end[];

/* Beside a monitor that runs: no sanitizer may put calls of its own in. */
#define BARE __attribute__((no_sanitize("thread"))) __attribute__((no_sanitize("address")))

BARE static long call(long number, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}

BARE __attribute__((noreturn)) static void give_up(struct wh_vmm_spare *p, long error)
{
	__atomic_store_n(&p->child_error, (int)-error, __ATOMIC_RELEASE);
	call(SYS_futex, (long)&p->child_error, FUTEX_WAKE, 1, 0, 0);
	for (;;)
		call(SYS_exit_group, 1, 0, 0, 0, 0);
}

/* Second wall. A step that fails ends a strict start; otherwise it is told later. */
BARE static void confine(struct wh_vmm_spare *p)
{
	long error = 0;
	if (p->unshare_flags)
		error = call(SYS_unshare, (long)p->unshare_flags, 0, 0, 0, 0);
	if (error >= 0 && p->unshare_flags)
		error = call(SYS_chdir, (long)EMPTY_ROOT, 0, 0, 0, 0);
	if (error >= 0 && p->unshare_flags)
		error = call(SYS_chroot, (long)".", 0, 0, 0, 0);
	if (error < 0 && p->sandbox == WH_VMM_SANDBOX_STRICT)
		give_up(p, error);
	p->child_lacks = error < 0 ? (int)-error : 0;
	__atomic_store_n(&p->child_ready, 1, __ATOMIC_RELEASE);
	if (p->sandbox == WH_VMM_SANDBOX_STRICT)
		call(SYS_futex, (long)&p->child_ready, FUTEX_WAKE, 1, 0, 0);
}

BARE static int child_main(void *ctx)
{
	struct wh_vmm_spare *p = ctx;
	const int keep[] = { p->ram_fd, p->image_fd, p->doorbell };
	const char *argv[] = { p->numbers, NULL }, *const environment[] = { NULL };
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };

	call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* The monitor holds this lock while it lives; it is released before the kernel looks for
	 * children to signal. */
	long error = call(SYS_fcntl, p->ram_fd, F_GETLK, (long)&lock, 0, 0);
	if (error < 0 || lock.l_type == F_UNLCK)
		give_up(p, error < 0 ? error : -ESRCH);
	confine(p);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(keep) + p->more_count; i++) {
		int fd = i < WH_ARRAY_COUNT(keep) ? keep[i] : p->more[i - WH_ARRAY_COUNT(keep)];
		error = fd < 0 ? 0 : call(SYS_fcntl, fd, F_SETFD, 0, 0, 0);
		if (error < 0)
			give_up(p, error);
	}
	error = call(SYS_execveat, p->ram_fd, (long)"", (long)argv, (long)environment,
		     AT_EMPTY_PATH);
	give_up(p, error);
}

static void put_number(char *to, unsigned v)
{
	for (int i = 0; i < 16; i++)
		to[i] = (char)('a' + (i < 8 ? 0 : v >> (60 - 4 * i) & 15));
}

/* clone(2) itself: libc's runs code of libc, and of sanitizers, in the child. */
BARE static long clone_at(unsigned long flags, void *stack_top, int *ret_pidfd,
			  struct wh_vmm_spare *p)
{
	register long r10 __asm__("r10") = 0, r8 __asm__("r8") = 0;
	register void *ctx __asm__("r12") = p;
	register int (*fn)(void *) __asm__("r13") = child_main;
	long result;
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r12, %%rdi\n\t"
			 "call *%%r13\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(result)
			 : "a"((long)SYS_clone), "D"(flags), "S"(stack_top), "d"(ret_pidfd),
			   "r"(r10), "r"(r8), "r"(ctx), "r"(fn)
			 : "rcx", "r11", "memory");
	return result;
}

static int clone_child(struct wh_vmm_spare *p, unsigned long namespaces)
{
	int pidfd = -1;
	long pid = clone_at(CLONE_VM | CLONE_PIDFD | SIGCHLD | namespaces,
			    p->child_stack + sizeof p->child_stack, &pidfd, p);
	if (pid < 0)
		return (int)pid;
	p->pidfd = pidfd;
	p->pid = (int)pid;
	return 0;
}

static bool lacks_right(int error)
{
	return error == -WH_EPERM || error == -WH_EINVAL || error == -WH_ENOSPC ||
	       error == -WH_EACCES || error == -EUSERS_ERROR;
}

static int refuse_strict(struct wh_diag *diag, int error)
{
	return wh_diag_set(diag, error,
			   "the host does not allow user namespaces (errno %d), which --sandbox "
			   "strict asks for; see SECURITY.md",
			   -error);
}

static int write_stub(const struct wh_vmm_spare *p)
{
	uint8_t stub[PROC_STUB_SIZE];
	size_t size = (size_t)(vmm_proc_stub_end - vmm_proc_stub_start);
	wh_assert(size <= sizeof stub);
	memcpy(stub, vmm_proc_stub_start, size);
	if (p->stub_address) {
		uint64_t moved = p->stub_address - PROC_STUB_ADDRESS;
		wh_store_le64(stub + STUB_ENTRY, wh_load_le64(stub + STUB_ENTRY) + moved);
		wh_store_le64(stub + STUB_VADDR, p->stub_address);
		wh_store_le64(stub + STUB_PADDR, p->stub_address);
	}
	return pwrite(p->ram_fd, stub, size, 0) == (ssize_t)size ? 0 : -WH_ENOMEM;
}

int proc_spawn(struct wh_vmm_spare *p, struct wh_diag *diag)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	sigset_t all, before;
	bool strict = p->sandbox == WH_VMM_SANDBOX_STRICT;
	int error = -WH_EPERM;

	if (fcntl(p->ram_fd, F_SETLK, &lock))
		return wh_diag_set(diag, -errno, "cannot lock guest memory (errno %d)", errno);
	if (write_stub(p) < 0)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the guest's first page");
	put_number(p->numbers, (unsigned)p->doorbell);
	put_number(p->numbers + 16, (unsigned)p->ram_fd);
	p->unshare_flags = NAMESPACES_LATER | (strict ? CLONE_NEWNET : 0);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before); /* no handler of the monitor's runs in the child */
	if (p->sandbox != WH_VMM_SANDBOX_MINIMAL)
		error = clone_child(p, NAMESPACES_FIRST);
	if (lacks_right(error) && !strict) {
		p->child_lacks = p->sandbox == WH_VMM_SANDBOX_AUTO ? -error : 0;
		p->unshare_flags = 0;
		error = clone_child(p, 0);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (lacks_right(error) && strict)
		return refuse_strict(diag, error);
	if (error < 0)
		return wh_diag_set(diag, error, "cannot start the guest's process (errno %d)",
				   -error);
	return 0;
}

int proc_spawn_wait(struct wh_vmm_spare *p, struct wh_diag *diag)
{
	while (p->sandbox == WH_VMM_SANDBOX_STRICT &&
	       !__atomic_load_n(&p->child_ready, __ATOMIC_ACQUIRE)) {
		int error = __atomic_load_n(&p->child_error, __ATOMIC_ACQUIRE);
		struct timespec pause = { 0, 1000000 };
		if (error)
			return refuse_strict(diag, -error);
		syscall(SYS_futex, &p->child_ready, FUTEX_WAIT, 0, &pause, NULL, 0);
	}
	return 0;
}

int proc_reap(struct wh_vmm_spare *p, int *ret_status)
{
	siginfo_t info = { 0 };
	while (waitid((idtype_t)P_PIDFD_TYPE, (id_t)p->pidfd, &info, WEXITED | __WALL) < 0)
		if (errno != EINTR)
			return 0; /* somebody else reaped it */
	if (ret_status && info.si_code == CLD_EXITED)
		*ret_status = info.si_status;
	return info.si_code == CLD_EXITED ? 0 : info.si_status;
}
