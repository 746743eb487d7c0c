/* SPDX-License-Identifier: ISC */
/*
 * The list: which part makes which system call after set-up. Whoever adds a call to the code adds it here, and a test
 * that runs the code under the filter (the command line does so by default) shows when that was forgotten.
 * Both libcs' ways of making a call are named (poll and ppoll, stat and newfstatat).
 *
 * Not here, and so never again once confined: execve, fork (clone only for threads), ptrace (but a debugger's, --gdb), mount,
 * setns, unshare, chroot, setuid and relatives, prctl and seccomp (but for what a worker that begins later needs to
 * narrow itself), bpf, perf_event_open, keyctl, process_vm_*, userfaultfd, io_uring_setup and io_uring_register,
 * open_by_handle_at, kill, pidfd_open, mmap and mprotect with PROT_EXEC.
 */
#include <sys/syscall.h>
#include <wherry/base/mem.h>

#include "confine_priv.h"

#define L WH_CONFINE_LOOP
#define P WH_CONFINE_PROC
#define K WH_CONFINE_KVM
#define V WH_CONFINE_VCPU
#define B WH_CONFINE_BLOCK
#define F WH_CONFINE_FILES
#define N WH_CONFINE_NETWORK
#define U WH_CONFINE_LOCAL
#define T WH_CONFINE_THREADS
#define W WH_CONFINE_WORKER
#define D WH_CONFINE_TRACE
#define M WH_CONFINE_FETCH

/* Newer than some headers. */
#ifndef SYS_io_uring_enter
#define SYS_io_uring_enter 426
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

const struct confine_call confine_calls[] = {
	{ SYS_read, L | W | M, 0 },
	{ SYS_write, L | V | W, 0 },
	{ SYS_open, F | N | U, 0 },
	{ SYS_close, L, 0 },
	{ SYS_stat, F | N | U, 0 },
	{ SYS_fstat, L | W, 0 },
	{ SYS_lstat, F | N | U, 0 },
	{ SYS_poll, L | M, 0 },
	{ SYS_lseek, L | W, 0 },
	{ SYS_mmap, L | V | W, CONFINE_NO_EXEC },
	{ SYS_mprotect, L | V | W | M, CONFINE_NO_EXEC },
	{ SYS_munmap, L | V | W | M, 0 },
	{ SYS_brk, L | W, 0 },
	{ SYS_rt_sigaction, L, 0 },
	{ SYS_rt_sigprocmask, L | V | W | M, 0 },
	{ SYS_rt_sigreturn, L | V | M, 0 },
	{ SYS_ioctl, L | V | M, CONFINE_IOCTL },
	{ SYS_pread64, L | P | B | F | W | M, 0 },
	{ SYS_pwrite64, L | P | B | F | W, 0 },
	{ SYS_readv, L, 0 },
	{ SYS_writev, L, 0 },
	{ SYS_sched_yield, L | V, 0 },
	{ SYS_mremap, L, 0 },
	{ SYS_madvise, L | V | W | M, 0 },
	{ SYS_nanosleep, L, 0 },
	{ SYS_getpid, L | V | W | M, 0 },
	{ SYS_socket, N | U, CONFINE_SOCKET },
	{ SYS_connect, N | U, 0 },
	{ SYS_sendto, L, 0 },
	{ SYS_recvfrom, L, 0 },
	{ SYS_sendmsg, N | U, 0 },
	{ SYS_recvmsg, N | U, 0 },
	{ SYS_shutdown, N | U, 0 },
	{ SYS_bind, N | U, 0 },
	{ SYS_listen, N | U, 0 },
	{ SYS_getsockname, N | U, 0 },
	{ SYS_getpeername, N | U, 0 },
	{ SYS_setsockopt, N | U, 0 },
	{ SYS_getsockopt, N | U, 0 },
	{ SYS_clone, T, CONFINE_THREAD },
	{ SYS_exit, L | V | W | M, 0 },
	{ SYS_wait4, P | F, 0 },
	{ SYS_fcntl, L, CONFINE_FCNTL },
	{ SYS_fsync, P | K | B | F | U | W, 0 },
	{ SYS_fdatasync, P | K | B | F | W, 0 },
	{ SYS_ftruncate, P | K | B | F | W, 0 },
	{ SYS_rename, K, 0 },
	{ SYS_unlink, L, 0 },
	{ SYS_readlink, F, 0 },
	{ SYS_chmod, F, 0 },
	{ SYS_fchmod, N | U, 0 },
	{ SYS_gettimeofday, L, 0 },
	{ SYS_getrlimit, N, 0 },
	{ SYS_getrusage, L, 0 },
	{ SYS_ptrace, D, 0 },
	{ SYS_getuid, L, 0 },
	{ SYS_rt_sigtimedwait, V, 0 }, /* a vCPU that is to stand still */
	{ SYS_sigaltstack, L | V | W | M, 0 },
	{ SYS_fstatfs, F, 0 },
	{ SYS_prctl, T, CONFINE_NO_NEW },
	{ SYS_gettid, L | V | W | M, 0 },
	{ SYS_tkill, K, CONFINE_STOP }, /* musl's pthread_kill */
	{ SYS_time, L, 0 },
	{ SYS_futex, L | V | W | M, 0 },
	{ SYS_sched_getaffinity, L | W, 0 },
	{ SYS_getdents64, F | P | N, 0 },
	{ SYS_set_tid_address, L, 0 },
	{ SYS_restart_syscall, L | V | W | M, 0 },
	{ SYS_fadvise64, B | P, 0 },
	{ SYS_clock_gettime, L | V | W, 0 },
	{ SYS_clock_nanosleep, L, 0 },
	{ SYS_exit_group, L | V | W | M, 0 },
	{ SYS_epoll_wait, L, 0 },
	{ SYS_epoll_ctl, L, 0 },
	{ SYS_tgkill, L | V | W | M, CONFINE_SELF },
	{ SYS_waitid, P | D, 0 },
	{ SYS_inotify_add_watch, N, 0 },
	{ SYS_inotify_rm_watch, N, 0 },
	{ SYS_openat, F | N | U | K, 0 },
	{ SYS_mkdirat, F, 0 },
	{ SYS_newfstatat, L, 0 },
	{ SYS_unlinkat, L, 0 },
	{ SYS_renameat, F | K, 0 },
	{ SYS_linkat, F, 0 },
	{ SYS_symlinkat, F, 0 },
	{ SYS_readlinkat, F, 0 },
	{ SYS_fchmodat, F, 0 },
	{ SYS_ppoll, L | M, 0 },
	{ SYS_set_robust_list, L | V | W | M, 0 },
	{ SYS_splice, N, 0 },
	{ SYS_utimensat, F, 0 },
	{ SYS_epoll_pwait, L, 0 },
	{ SYS_fallocate, K | P | B | F | W, 0 },
	{ SYS_accept4, N | U, 0 },
	{ SYS_eventfd2, L, 0 },
	{ SYS_pipe2, N | L, 0 },
	{ SYS_preadv, B | P | F | W, 0 },
	{ SYS_pwritev, B | P | F | W, 0 },
	{ SYS_recvmmsg, N, 0 },
	{ SYS_prlimit64, N | T, 0 },
	{ SYS_sendmmsg, N, 0 },
	{ SYS_renameat2, F | K, 0 },
	{ SYS_seccomp, T, CONFINE_NARROW },
	{ SYS_getrandom, L, 0 },
	{ SYS_membarrier, L | V | W | M, 0 },
	{ SYS_copy_file_range, P | K | B, 0 },
	{ SYS_preadv2, B | W, 0 },
	{ SYS_pwritev2, B | W, 0 },
	{ SYS_statx, F | N | U, 0 },
	{ SYS_rseq, L | V | W | M, 0 },
	{ SYS_pidfd_send_signal, P, 0 },
	{ SYS_io_uring_enter, B, 0 },
	{ SYS_clone3, T, CONFINE_ABSENT }, /* its flags are in memory; libcs go on with clone */
	{ SYS_openat2, F, 0 },
	{ SYS_epoll_pwait2, L, 0 },
};
const uint32_t confine_call_count = WH_ARRAY_COUNT(confine_calls);

bool wh_confine_allows(uint32_t parts, int number)
{
	for (uint32_t i = 0; i < confine_call_count; i++)
		if (confine_calls[i].number == number)
			return confine_calls[i].parts & parts;
	return false;
}
