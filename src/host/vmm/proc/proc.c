/* SPDX-License-Identifier: ISC */
/*
 * The proc engine: the guest is a host process that has nothing.
 *
 * Start: the monitor writes the plan into the guest's RAM and makes a child that
 * shares the monitor's memory until it execs (clone with VM and VFORK: no page tables
 * are copied), in empty namespaces, with an empty root. The child keeps three descriptors
 * over the exec of the stub, and the stub runs the plan (stub.S, plan.c).
 *
 * Sandbox levels (wherry/vmm.h): what is missing on a host is left out by AUTO. The filter, the empty
 * address space and the closed descriptors never depend on namespaces: with
 * the filter on, no call is left that takes a path, a process id, an address of a peer or makes
 * a descriptor. The namespaces are a second wall. A new network namespace costs
 * more than all others together, so only STRICT makes one.
 *
 * Wake-ups: see slots.c. The doorbell is watched edge-triggered and never read.
 *
 * End: the guest writes how it ended and rings, or its pidfd becomes readable;
 * vmm_machine_ended. If the monitor dies the kernel kills the guest (PR_SET_PDEATHSIG).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "plan.h"

#define CHILD_STACK_SIZE 4096 /* child_main calls nothing but system calls */
/* A directory that is always empty, and no process makes it: cheaper than those of /proc/self. */
#define EMPTY_ROOT "/proc/tty/ldisc"
#define P_PIDFD_TYPE 3 /* sys/wait.h of older libcs lacks it */
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif
#define NAMESPACES \
	(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

extern const char vmm_proc_stub_start[], vmm_proc_stub_end[];

struct proc {
	struct wh_vmm_machine *machine;
	struct wh_loop_fd exit_watch, doorbell_watch;
	struct wh_loop_hook hook;
	int pidfd, doorbell;
	bool running;
};

static int proc_probe(struct wh_diag *diag)
{
	return 0;
}

/* Where the image goes: 2^33 places, far from the stub below and the first stack above. */
static int proc_init(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	uint64_t random;
	struct proc *p = calloc(1, sizeof *p);
	if (!p)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the engine");
	*p = (struct proc){ .machine = m, .pidfd = -1, .doorbell = -1 };
	m->engine_state = p;
	wh_os_random(&random, sizeof random);
	m->layout.image_base = 0x100000000000ull + ((random & ((1ull << 33) - 1)) << 12);
	return 0;
}

static void proc_wake(struct wh_vmm_machine *m)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&m->control->guest_sleeping, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &m->control->host_events, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void proc_kill(struct wh_vmm_machine *m)
{
	struct proc *p = m->engine_state;
	syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
}

static void stop_watching(struct proc *p)
{
	struct wh_loop *loop = p->machine->loop;
	if (!p->running)
		return;
	p->running = false;
	wh_loop_remove(loop, &p->exit_watch);
	wh_loop_remove(loop, &p->doorbell_watch);
	wh_loop_hook_remove(loop, &p->hook);
}

/* The guest has written how it ends. Its process is taken at its word and killed; _free
 * reaps it, so that nobody waits for the kernel to take the namespaces apart. */
static bool take_farewell(struct proc *p)
{
	struct wh_vmm_machine *m = p->machine;
	if (__atomic_load_n(&m->control->exit_kind, __ATOMIC_ACQUIRE) == WH_BOOT_EXIT_NONE)
		return false;
	proc_kill(m);
	(void)vmm_slots_kicked(m); /* what it wrote last */
	stop_watching(p);
	vmm_machine_ended(m, 0);
	return true;
}

static bool before_sleep(struct wh_loop_hook *hook)
{
	struct proc *p = hook->ctx;
	struct wh_vmm_machine *m = p->machine;
	__atomic_store_n(&m->control->host_sleeping, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return vmm_slots_kicked(m) || take_farewell(p);
}

static void after_sleep(struct wh_loop_hook *hook)
{
	struct proc *p = hook->ctx;
	__atomic_store_n(&p->machine->control->host_sleeping, 0, __ATOMIC_RELAXED);
}

static void doorbell_rung(struct wh_loop_fd *watch, uint32_t events)
{
	struct proc *p = watch->ctx;
	(void)vmm_slots_kicked(p->machine); /* what is still left is seen before the next sleep */
}

/* The guest is dead: reaps it. Returns the signal that ended it, or 0. */
static int reap(struct proc *p, int *ret_status)
{
	siginfo_t info = { 0 };
	while (waitid((idtype_t)P_PIDFD_TYPE, (id_t)p->pidfd, &info, WEXITED | __WALL) < 0)
		if (errno != EINTR)
			return 0; /* somebody else reaped it */
	*ret_status = info.si_code == CLD_EXITED ? info.si_status : 0;
	return info.si_code == CLD_EXITED ? 0 : info.si_status;
}

static void process_ended(struct wh_loop_fd *watch, uint32_t events)
{
	struct proc *p = watch->ctx;
	struct wh_vmm_machine *m = p->machine;
	int status = 0, error = 0;
	int signal = reap(p, &status);
	(void)vmm_slots_kicked(m);
	stop_watching(p);
	wh_os_close(&p->pidfd);
	if (!signal && !m->control->exit_kind && !m->control->timeline[WH_BOOT_STAGE_ENTRY]) {
		const char *call = proc_plan_failure(proc_plan_of(m), &error);
		if (call)
			wh_format(m->failure, sizeof m->failure,
				  "the guest's sandbox could not be set up: %s failed (errno %d)",
				  call, error);
	}
	vmm_machine_ended(m, signal);
}

struct child {
	const struct proc *proc;
	const char *argv[2];
	int stub, ram, image;
	bool must_confine; /* a step that fails ends the start */
	int error;         /* OUT */
};

static int keep_open(int fd)
{
	return fcntl(fd, F_SETFD, 0);
}

/* Runs in the child, in the monitor's memory: system calls only. */
static int child_main(void *ctx)
{
	struct child *c = ctx;
	const char *const environment[1] = { NULL };
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fcntl(c->ram, F_GETLK, &lock) || lock.l_type == F_UNLCK)
		_exit(1); /* the monitor died before the line above */
	if ((chdir(EMPTY_ROOT) || chroot(".")) && c->must_confine)
		goto fail;
	if (keep_open(c->ram) || keep_open(c->image) || keep_open(c->proc->doorbell))
		goto fail;
	syscall(SYS_execveat, c->stub, "", c->argv, environment, AT_EMPTY_PATH);
fail:
	c->error = errno ? errno : EIO;
	_exit(1);
}

static void put_number(char *to, uint64_t v)
{
	for (int i = 0; i < 16; i++)
		to[i] = (char)('a' + (v >> (60 - 4 * i) & 15));
}

static int clone_child(struct proc *p, struct child *c, unsigned long namespaces)
{
	_Alignas(16) char stack[CHILD_STACK_SIZE];
	int pidfd = -1;
	c->error = 0;
	c->must_confine = namespaces & CLONE_NEWNET;
	int pid = clone(child_main, stack + sizeof stack,
			(int)(CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD | namespaces), c,
			&pidfd);
	if (pid < 0)
		return -errno;
	p->pidfd = pidfd;
	if (c->error) {
		int status;
		(void)reap(p, &status);
		wh_os_close(&p->pidfd);
		return -c->error;
	}
	return 0;
}

static bool lacks_right(int error)
{
	return error == -WH_EPERM || error == -WH_EINVAL || error == -WH_ENOSPC ||
	       error == -WH_EACCES || error == -87 /* EUSERS */;
}

/* Tries the sandbox levels from the best one on. */
static int spawn(struct proc *p, struct child *c, struct wh_diag *diag)
{
	struct wh_vmm_machine *m = p->machine;
	sigset_t all, before;
	int error = 0;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before); /* no handler of the monitor's runs in the child */
	switch (m->sandbox) {
	case WH_VMM_SANDBOX_STRICT:
		error = clone_child(p, c, NAMESPACES | CLONE_NEWNET);
		break;
	case WH_VMM_SANDBOX_AUTO:
		error = clone_child(p, c, NAMESPACES);
		if (!lacks_right(error))
			break;
		wh_log_write(&m->log, WH_LOG_WARNING, "proc", 0,
			     "no user namespaces here (errno %d): the guest is confined by its "
			     "filter and its empty address space only",
			     -error);
		/* fallthrough */
	case WH_VMM_SANDBOX_MINIMAL:
		error = clone_child(p, c, 0);
		break;
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (lacks_right(error) && m->sandbox == WH_VMM_SANDBOX_STRICT)
		return wh_diag_set(diag, error,
				   "the host does not allow user namespaces (errno %d), which "
				   "--sandbox strict asks for; see SECURITY.md",
				   -error);
	if (error < 0)
		return wh_diag_set(diag, error, "cannot start the guest's process (errno %d)",
				   -error);
	return 0;
}

static int make_stub(void)
{
	size_t size = (size_t)(vmm_proc_stub_end - vmm_proc_stub_start);
	int fd = memfd_create("wherry-stub", MFD_CLOEXEC);
	if (fd >= 0 && wh_os_write_all(fd, vmm_proc_stub_start, size) < 0)
		wh_os_close(&fd);
	return fd;
}

static int watch(struct proc *p)
{
	struct wh_loop *loop = p->machine->loop;
	p->exit_watch = (struct wh_loop_fd){
		.fd = p->pidfd, .events = WH_LOOP_READ, .fn = process_ended, .ctx = p
	};
	p->doorbell_watch = (struct wh_loop_fd){ .fd = p->doorbell,
						 .events = WH_LOOP_READ | WH_LOOP_EDGE,
						 .fn = doorbell_rung,
						 .ctx = p };
	int error = wh_loop_add(loop, &p->exit_watch);
	if (error < 0)
		return error;
	error = wh_loop_add(loop, &p->doorbell_watch);
	if (error < 0) {
		wh_loop_remove(loop, &p->exit_watch);
		return error;
	}
	p->hook = (struct wh_loop_hook){ .before_sleep = before_sleep,
					 .after_sleep = after_sleep,
					 .ctx = p };
	wh_loop_hook_add(loop, &p->hook);
	p->running = true;
	return 0;
}

static int proc_start(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	struct proc *p = m->engine_state;
	const struct vmm_layout *l = &m->layout;
	char numbers[65] = { 0 };
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	struct child child = { .proc = p, .ram = m->ram_fd, .image = m->image->fd, .stub = -1 };
	int error;

	p->doorbell = eventfd(0, EFD_CLOEXEC);
	child.stub = make_stub();
	/* The lock says that the monitor lives: it is released before the kernel looks for
	 * children to signal, see child_main. */
	if (p->doorbell < 0 || child.stub < 0 || fcntl(m->ram_fd, F_SETLK, &lock)) {
		error = wh_diag_set(diag, -errno, "cannot make the guest's descriptors (errno %d)",
				    errno);
		goto out;
	}
	m->info->doorbell_fd = p->doorbell;
	m->control->host_sleeping = 1; /* the first kick rings */
	proc_plan_write(m, p->doorbell);
	put_number(numbers, l->stack_low);
	put_number(numbers + 16, l->stack_top - l->stack_low);
	put_number(numbers + 32, l->stack_low - l->ram_base);
	put_number(numbers + 48, (uint64_t)m->ram_fd);
	child.argv[0] = numbers;
	error = spawn(p, &child, diag);
	if (error < 0)
		goto out;
	error = watch(p);
	if (error < 0)
		wh_diag_set(diag, error, "cannot watch the guest (errno %d)", -error);
out:
	wh_os_close(&child.stub);
	return error;
}

static void proc_fini(struct wh_vmm_machine *m)
{
	struct proc *p = m->engine_state;
	int status;
	if (!p)
		return;
	stop_watching(p);
	if (p->pidfd >= 0) {
		proc_kill(m);
		(void)reap(p, &status);
	}
	wh_os_close(&p->pidfd);
	wh_os_close(&p->doorbell);
	free(p);
	m->engine_state = NULL;
}

const struct vmm_engine_ops vmm_engine_proc = {
	.name = "proc",
	.id = WH_VMM_ENGINE_PROC,
	.boot_id = WH_BOOT_ENGINE_PROC,
	.transport = WH_BOOT_TRANSPORT_SHM,
	.guard_hole = true,
	.relocate = true,
	.memory_max = WH_MANIFEST_MEMORY_MAX,
	.probe = proc_probe,
	.init = proc_init,
	.start = proc_start,
	.wake = proc_wake,
	.kill = proc_kill,
	.fini = proc_fini,
};
