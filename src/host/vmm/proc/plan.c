/* SPDX-License-Identifier: ISC */
/*
 * Writes the stub's list of system calls. Order matters: map the guest, unmap
 * the rest, signals, identity, descriptors, and the filter as the very last call.
 */
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <wherry/abi/observe.h>
#include <wherry/base/assert.h>

#include "../snapshot_wire.h"
#include "plan.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define ARCH_SET_FS_CODE 0x1002          /* asm/prctl.h */
#define SA_RESTORER_FLAG 0x04000000u     /* asm/signal.h; not in libc's header */
#define USER_SPACE_END 0x7ffffffff000ull /* 47 bits; nothing lies above unless asked for */

struct writer {
	struct proc_plan *plan;
	wh_gaddr plan_address;
	uint32_t count;
};

static void put(struct writer *w, uint64_t call, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
		uint64_t e, uint64_t f)
{
	wh_assert(w->count < PROC_STEPS_MAX);
	w->plan->step[w->count++] = (struct proc_step){ call, { a, b, c, d, e, f }, 0 };
}

/* The guest's address of a member of the plan. */
static uint64_t at(const struct writer *w, const void *member)
{
	return w->plan_address + (uint64_t)((const char *)member - (const char *)w->plan);
}

wh_gaddr proc_plan_address(const struct wh_vmm_machine *m)
{
	return m->snapshot ? m->layout.trap_stack_low : m->layout.stack_top - PROC_PLAN_SIZE;
}

struct proc_plan *proc_plan_of(struct wh_vmm_machine *m)
{
	return vmm_ram_at(m, proc_plan_address(m));
}

static void map_stack(struct writer *w, const struct wh_vmm_machine *m)
{
	const struct vmm_layout *l = &m->layout;
	put(w, SYS_mmap, l->stack_low, l->stack_top - l->stack_low, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_FIXED_NOREPLACE, (uint64_t)m->ram_fd,
	    VMM_RAM_OFFSET + l->stack_low - l->ram_base);
}

static void map_data(struct writer *w, const struct wh_vmm_machine *m)
{
	const struct vmm_layout *l = &m->layout;
	uint64_t relro = m->image->relro_end - m->image->ram_start;
	put(w, SYS_mmap, l->ram_base + relro, l->stack_low - VMM_PAGE - l->ram_base - relro,
	    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, (uint64_t)m->ram_fd,
	    VMM_RAM_OFFSET + relro);
}

/* What holds the plan comes first, so that the stub can go on there. */
static void map_guest(struct writer *w, const struct wh_vmm_machine *m, int image_fd)
{
	const struct wh_vmm_image *image = m->image;
	const struct vmm_layout *l = &m->layout;
	uint64_t relro = image->relro_end - image->ram_start;
	(m->snapshot ? map_data : map_stack)(w, m);
	put(w, PROC_STEP_MOVE, at(w, &w->plan->step[w->count + 1]), 0, 0, 0, 0, 0);
	for (uint32_t i = 0; i < image->piece_count; i++) {
		const struct vmm_piece *p = &image->piece[i];
		uint64_t access = p->executable ? PROT_READ | PROT_EXEC : PROT_READ;
		put(w, SYS_mmap, l->image_base + p->start, p->size, access,
		    MAP_PRIVATE | MAP_FIXED_NOREPLACE, (uint64_t)image_fd, p->offset);
	}
	if (relro)
		put(w, SYS_mmap, l->ram_base, relro, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE,
		    (uint64_t)m->ram_fd, VMM_RAM_OFFSET);
	(m->snapshot ? map_stack : map_data)(w, m);
}

/* Everything that is neither the guest nor the stub's page: first stack, vdso, vvar, the list's
 * first mapping. */
static void unmap_rest(struct writer *w, const struct wh_vmm_machine *m)
{
	const struct vmm_layout *l = &m->layout;
	uint64_t low = l->image_base + m->image->start,
		 stub_end = PROC_STUB_ADDRESS + PROC_STUB_SIZE;
	put(w, SYS_munmap, stub_end, low - stub_end, 0, 0, 0, 0);
	/* May fail where the kernel seals the vdso's mapping (MSEAL_SYSTEM_MAPPINGS). */
	put(w, SYS_munmap | PROC_STEP_MAY_FAIL, l->stack_top, USER_SPACE_END - l->stack_top, 0, 0,
	    0, 0);
}

static bool ticks(const struct wh_vmm_machine *m)
{
	return m->image->manifest.flags & WH_MANIFEST_TICKS ||
	       m->observe_flags & WH_OBSERVE_PROFILE;
}

static void catch_faults(struct writer *w, const struct wh_vmm_machine *m)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };
	struct proc_plan *p = w->plan;
	p->altstack.stack = m->layout.trap_stack_low;
	p->altstack.size = m->layout.trap_stack_top - m->layout.trap_stack_low;
	p->fault = (struct proc_sigaction){
		.handler = m->layout.image_base + m->image->manifest.trap_entry,
		.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER_FLAG,
		.restorer = m->layout.image_base + m->image->manifest.trap_return,
		.mask = ~0ull,
	};
	put(w, SYS_sigaltstack, at(w, &p->altstack), 0, 0, 0, 0, 0);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(faults); i++)
		put(w, SYS_rt_sigaction, (uint64_t)faults[i], at(w, &p->fault), 0, 8, 0, 0);
	if (m->image->manifest.flags & WH_MANIFEST_PARKS)
		put(w, SYS_rt_sigaction, WH_BOOT_PARK_SIGNAL, at(w, &p->fault), 0, 8, 0, 0);
	if (ticks(m))
		put(w, SYS_rt_sigaction, WH_BOOT_TICK_SIGNAL, at(w, &p->fault), 0, 8, 0, 0);
	put(w, SYS_rt_sigprocmask, SIG_SETMASK, at(w, &p->no_signals), 0, 8, 0, 0);
}

/* PR_SET_PDEATHSIG was set before the exec, which keeps it; once more in case it did not. */
static void settle_process(struct writer *w, const struct wh_vmm_machine *m)
{
	struct proc_plan *p = w->plan;
	wh_format(p->name, sizeof p->name, "%s", m->info->hostname);
	/* Out of the terminal's foreground group: Ctrl-C is for the monitor, which asks the guest.
	 * The first process of a pid namespace would ignore it anyhow; setsid costs more. */
	put(w, SYS_setpgid | PROC_STEP_MAY_FAIL, 0, 0, 0, 0, 0, 0);
	put(w, SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0);
	if (!m->traced)
		put(w, SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0, 0);
	put(w, SYS_prctl, PR_SET_TIMERSLACK, 1, 0, 0, 0, 0); /* ns; the default delays by 50 us */
	put(w, SYS_prctl, PR_SET_NAME, at(w, p->name), 0, 0, 0, 0);
}

/* A copy goes on in its trap entry, with the stack as the kernel left it there. */
static void enter(struct writer *w, struct wh_vmm_machine *m)
{
	uint64_t base = m->layout.image_base;
	if (!m->snapshot) {
		w->plan->entry = base + m->image->manifest.boot_entry;
		put(w, PROC_STEP_ENTER, m->layout.info, at(w, &w->plan->entry), 0, 0, 0, 0);
		return;
	}
	uint64_t frame = vmm_snapshot_header(m->snapshot)->park_frame;
	uint64_t entry = base + m->image->manifest.trap_entry;
	memcpy(vmm_ram_at(m, frame - 16), &entry, sizeof entry);
	put(w, PROC_STEP_ENTER, WH_BOOT_PARK_SIGNAL, frame - 16, 0, 0, 0, 0);
}

void proc_plan_write(struct wh_vmm_machine *m, int image_fd, int doorbell_fd)
{
	struct writer w = { .plan = proc_plan_of(m), .plan_address = proc_plan_address(m) };
	struct proc_plan *p = w.plan;
	map_guest(&w, m, image_fd);
	unmap_rest(&w, m);
	catch_faults(&w, m);
	settle_process(&w, m);
	if (doorbell_fd > 0)
		put(&w, SYS_close_range, 0, (uint64_t)doorbell_fd - 1, 0, 0, 0, 0);
	put(&w, SYS_close_range, (uint64_t)doorbell_fd + 1, ~0u, 0, 0, 0, 0);
	if (m->snapshot)
		put(&w, SYS_arch_prctl, ARCH_SET_FS_CODE, vmm_snapshot_header(m->snapshot)->fs_base,
		    0, 0, 0, 0);
	if (ticks(m)) {
		p->tick.interval_us = p->tick.value_us = m->observe_flags & WH_OBSERVE_PROFILE
								 ? WH_OBSERVE_PROFILE_US
								 : WH_BOOT_TICK_US;
		put(&w, SYS_setitimer, ITIMER_VIRTUAL, at(&w, &p->tick), 0, 0, 0, 0);
	}
	put(&w, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
	p->program.count = proc_filter_write(
		p->filter, m->layout.control + offsetof(struct wh_boot_control, host_events),
		doorbell_fd, !(m->info->flags & WH_BOOT_FSGSBASE));
	p->program.filter = at(&w, p->filter);
	put(&w, SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, at(&w, &p->program), 0, 0, 0);
	enter(&w, m);
}

static const char *call_name(uint64_t call)
{
	switch (call & 0xffff) {
	case SYS_mmap:
		return "mmap";
	case SYS_munmap:
		return "munmap";
	case SYS_close_range:
		return "close_range";
	case SYS_prctl:
		return "prctl";
	case SYS_dup3:
		return "dup3";
	case SYS_sendmsg:
		return "sendmsg";
	case SYS_seccomp:
		return "seccomp";
	}
	return "a system call";
}

const char *proc_steps_failure(const struct proc_step *steps, uint32_t count, int *ret_errno)
{
	for (uint32_t i = 0; i < count; i++) {
		struct proc_step s;
		memcpy(&s, &steps[i], sizeof s); /* shared with the guest: copy once */
		if (s.call == PROC_STEP_ENTER)
			break;
		if (s.call == PROC_STEP_MOVE)
			continue;
		if (!(s.call & PROC_STEP_MAY_FAIL) && s.result < 0 && s.result > -4096) {
			*ret_errno = (int)-s.result;
			return call_name(s.call);
		}
	}
	return NULL;
}
