/* SPDX-License-Identifier: ISC */
/*
 * The floor under a start on the proc engine: a static program without libc that makes a child in new user, pid, mount, IPC,
 * UTS and cgroup namespaces; the child installs the shortest seccomp filter and becomes the program named in argv[1]; the
 * parent waits. No machine, no memory, no devices, no image: what is left when everything of Wherry is taken away.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>

#define FLAGS                                                                                 \
	(CLONE_VM | CLONE_VFORK | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | \
	 CLONE_NEWUTS | CLONE_NEWCGROUP)
#define SIGCHLD 17
#define PR_SET_NO_NEW_PRIVS 38

static long call(long n, long a, long b, long c, long d)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = 0;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}

static void child(char **argv)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof code[0], code };
	call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0);
	call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program, 0);
	call(SYS_execve, (long)argv[1], (long)(argv + 1), (long)&argv[2], 0);
	call(SYS_exit, 1, 0, 0, 0);
}

__attribute__((noreturn, used)) void floor_main(long *stack);
void floor_main(long *stack)
{
	static char child_stack[8192] __attribute__((aligned(16)));
	char **argv = (char **)(stack + 1);
	long flags = FLAGS | SIGCHLD, pid;
	/* The child goes on with a stack of its own: nothing of this function's is touched by it. */
	__asm__ volatile(
		"syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\tmov %[argv], %%rdi\n\tcall *%[child]\n1:"
		: "=a"(pid)
		: "a"(SYS_clone), "D"(flags), "S"(child_stack + sizeof child_stack),
		  "d"(0), [argv] "r"(argv), [child] "r"(child)
		: "rcx", "r11", "memory", "r8", "r9", "r10");
	int status = 1;
	if (pid > 0)
		call(SYS_wait4, pid, (long)&status, 0, 0);
	for (;;)
		call(SYS_exit_group, pid > 0 ? status >> 8 : 1, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall floor_main\n");
