/* SPDX-License-Identifier: ISC */
/*
 * The proc engine: the guest is a host process that has nothing.
 *
 * Start: a child is made beside the monitor's other work (spawn.c) and becomes the stub
 * (stub.S), which waits at the doorbell. When the machine is complete the monitor
 * writes the plan (plan.c) into the guest's RAM and rings. The stub runs the plan and enters
 * the guest.
 *
 * Wake-ups: see slots.c. The doorbell is watched edge-triggered and never read by the monitor.
 *
 * End: the guest writes how it ended, rings and sleeps, or its pidfd becomes readable;
 * vmm_machine_ended. A guest that said farewell is killed before the loop sleeps again or by
 * _free, whatever comes first. A monitor that ends with its guest does neither: the kernel
 * kills the guest (PR_SET_PDEATHSIG) after it took the monitor apart, so that the two, which share
 * RAM, do not get in each other's way.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "proc_priv.h"
#include "../snapshot_wire.h"

#define PARK_LOOK_NS 50000
#define PARK_LOOKS 20000 /* a second and more: the guest may wait for a processor */

static int proc_probe(struct wh_diag *diag)
{
	return 0;
}

static int make_process(int image_fd, enum wh_vmm_sandbox sandbox, struct wh_vmm_spare **ret_spare,
			struct wh_diag *diag)
{
	struct wh_vmm_spare *s = calloc(1, sizeof *s);
	if (!s)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the engine");
	s->pidfd = s->doorbell = -1;
	s->image_fd = image_fd;
	s->sandbox = sandbox;
	int error = s->ram_fd = vmm_ram_open(diag);
	if (error >= 0) {
		s->doorbell = eventfd(0, EFD_CLOEXEC);
		error = s->doorbell >= 0 ? proc_spawn(s, diag)
					 : wh_diag_set(diag, -errno,
						       "cannot make a doorbell (errno %d)", errno);
	}
	if (error < 0)
		wh_vmm_spare_free(s);
	else
		*ret_spare = s;
	return error;
}

int wh_vmm_spare_new(const struct wh_vmm_config *config, int image_fd,
		     struct wh_vmm_spare **ret_spare, struct wh_diag *diag)
{
	struct stat st;
	if (vmm_engine_of(config->engine) != &vmm_engine_proc) {
		*ret_spare = NULL;
		return 0;
	}
	if (fstat(image_fd, &st))
		return wh_diag_set(diag, -errno, "not an image (errno %d)", errno);
	int error = make_process(image_fd, config->sandbox, ret_spare, diag);
	if (error < 0)
		return error;
	(*ret_spare)->image_dev = st.st_dev;
	(*ret_spare)->image_ino = st.st_ino;
	return 0;
}

static void end_process(struct wh_vmm_spare *s)
{
	if (s->pidfd < 0)
		return;
	syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
	(void)proc_reap(s, NULL);
	wh_os_close(&s->pidfd);
}

void wh_vmm_spare_free(struct wh_vmm_spare *s)
{
	if (!s)
		return;
	end_process(s);
	if (!s->ram_given)
		wh_os_close(&s->ram_fd);
	wh_os_close(&s->doorbell);
	free(s);
}

/* A spare of another image or sandbox is of no use. */
static bool fits(const struct wh_vmm_spare *s, const struct wh_vmm_machine *m)
{
	struct stat st;
	return s->sandbox == m->sandbox && !fstat(m->image->fd, &st) && s->image_dev == st.st_dev &&
	       s->image_ino == st.st_ino;
}

/* Where the image goes: 2^33 places, far from the stub below and the first stack above. */
static int proc_init(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	uint64_t random;
	int error = 0;
	struct proc *p = calloc(1, sizeof *p);
	if (!p)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the engine");
	p->machine = m;
	m->engine_state = p;
	if (m->spare && !fits(m->spare, m))
		return wh_diag_set(diag, -WH_EINVAL,
				   "the spare was made for another image or sandbox");
	p->process = m->spare;
	m->spare = NULL;
	if (!p->process)
		error = make_process(m->image->fd, m->sandbox, &p->process, diag);
	if (error < 0)
		return error;
	m->ram_fd = p->process->ram_fd;
	p->process->ram_given = true;
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
	syscall(SYS_pidfd_send_signal, p->process->pidfd, SIGKILL, NULL, 0);
}

static void let_go(struct wh_vmm_machine *m)
{
	__atomic_store_n(&m->control->park, 0, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&m->control->host_events, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &m->control->host_events, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* The guest cannot wake us but through the loop: looks now and then. Its word is taken; a lie spoils
 * its own snapshot. Not by stopping its process: the kernel would have it go on by a call that the filter
 * refuses (restart_syscall), where a handler ends the call that it interrupts. */
static int stand_still(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	struct proc *p = m->engine_state;
	const struct timespec moment = { 0, PARK_LOOK_NS };
	if (!(m->image->manifest.flags & WH_MANIFEST_PARKS))
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "the image is too old for this; build it again");
	__atomic_store_n(&m->control->park, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_pidfd_send_signal, p->process->pidfd, WH_BOOT_PARK_SIGNAL, NULL, 0);
	for (int i = 0; i < PARK_LOOKS; i++) {
		if (__atomic_load_n(&m->control->parked, __ATOMIC_SEQ_CST))
			return 0;
		nanosleep(&moment, NULL);
	}
	let_go(m);
	return wh_diag_set(diag, -WH_EAGAIN, "the guest does not come to rest; try again");
}

static int proc_pause(struct wh_vmm_machine *m, bool on, struct wh_diag *diag)
{
	if (on)
		return stand_still(m, diag);
	let_go(m);
	return 0;
}

/* A paused guest is parked already, and stays so. */
static int proc_park(struct wh_vmm_machine *m, bool on, struct wh_diag *diag)
{
	return m->paused ? 0 : proc_pause(m, on, diag);
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

/* The guest has written how it ends, and is taken at its word. */
static bool take_farewell(struct proc *p)
{
	struct wh_vmm_machine *m = p->machine;
	if (__atomic_load_n(&m->control->exit_kind, __ATOMIC_ACQUIRE) == WH_BOOT_EXIT_NONE)
		return false;
	p->said_farewell = true;
	(void)vmm_slots_kicked(m); /* what it wrote last */
	vmm_machine_ended(m, 0);
	return true;
}

/* _free reaps it, so that nobody waits for the kernel to take the namespaces apart. */
static void end_farewell(struct proc *p)
{
	proc_kill(p->machine);
	stop_watching(p);
}

static bool before_sleep(struct wh_loop_hook *hook)
{
	struct proc *p = hook->ctx;
	struct wh_vmm_machine *m = p->machine;
	if (p->said_farewell) {
		end_farewell(p);
		return false;
	}
	__atomic_store_n(&m->control->host_sleeping, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return vmm_slots_kicked(m) || take_farewell(p);
}

static void after_sleep(struct wh_loop_hook *hook)
{
	struct proc *p = hook->ctx;
	__atomic_store_n(&p->machine->control->host_sleeping, 0, __ATOMIC_RELAXED);
	if (p->process->child_lacks)
		wh_log_write(&p->machine->log, WH_LOG_WARNING, "proc", 0,
			     "not all namespaces are to be had here (errno %d): the guest is "
			     "confined by its filter and its empty address space",
			     p->process->child_lacks);
	p->process->child_lacks = 0; /* told once; the child is long past it */
}

static void doorbell_rung(struct wh_loop_fd *watch, uint32_t events)
{
	struct proc *p = watch->ctx;
	if (p->said_farewell)
		return;
	(void)vmm_slots_kicked(p->machine); /* what is still left is seen before the next sleep */
	(void)take_farewell(p);
}

/* Why there never was a first guest instruction. */
static void explain(struct proc *p)
{
	struct wh_vmm_machine *m = p->machine;
	int error = p->process->child_error;
	const char *what =
		error ? "its process"
		      : proc_steps_failure(proc_plan_of(m)->step, PROC_STEPS_MAX, &error);
	if (what)
		wh_format(m->failure, sizeof m->failure,
			  "the guest's sandbox could not be set up: %s failed (errno %d)", what,
			  error);
}

static void process_ended(struct wh_loop_fd *watch, uint32_t events)
{
	struct proc *p = watch->ctx;
	struct wh_vmm_machine *m = p->machine;
	if (p->said_farewell) {
		end_farewell(p);
		return;
	}
	int signal = proc_reap(p->process, NULL);
	(void)vmm_slots_kicked(m);
	stop_watching(p);
	wh_os_close(&p->process->pidfd);
	if (!signal && !m->control->exit_kind && !m->control->timeline[WH_BOOT_STAGE_ENTRY])
		explain(p);
	vmm_machine_ended(m, signal);
}

static int watch(struct proc *p)
{
	struct wh_loop *loop = p->machine->loop;
	p->exit_watch = (struct wh_loop_fd){
		.fd = p->process->pidfd, .events = WH_LOOP_READ, .fn = process_ended, .ctx = p
	};
	p->doorbell_watch = (struct wh_loop_fd){ .fd = p->process->doorbell,
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
	uint64_t plan_page =
		(VMM_RAM_OFFSET + proc_plan_address(m) - m->layout.ram_base) / VMM_PAGE;
	m->info->doorbell_fd = p->process->doorbell;
	m->control->host_sleeping = 1; /* the first kick rings */
	proc_plan_write(m, p->process->image_fd, p->process->doorbell);
	int error = proc_spawn_wait(p->process, diag);
	if (error < 0)
		return error;
	error = watch(p);
	if (error < 0)
		return wh_diag_set(diag, error, "cannot watch the guest (errno %d)", -error);
	error = wh_os_write_all(p->process->doorbell, &plan_page, sizeof plan_page);
	if (error < 0)
		return wh_diag_set(diag, error, "cannot ring the guest (errno %d)", -error);
	return 0;
}

static void proc_fini(struct wh_vmm_machine *m)
{
	struct proc *p = m->engine_state;
	if (!p)
		return;
	stop_watching(p);
	wh_vmm_spare_free(p->process);
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
	.pause = proc_pause,
	.park = proc_park,
};
