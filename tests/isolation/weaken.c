/* SPDX-License-Identifier: ISC */
/*
 * Turns the `wherry` command into one that takes a protection away: the environment variable
 * WHERRY_WEAKEN names it. Linked only into the test's own wherry-weak, around the real
 * functions (ld --wrap), so that the product has no switch to be found by anybody. The
 * plan that the stub runs is edited after it was written.
 */
#include <elf.h>
#include <linux/filter.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proc/plan.h"

void __real_proc_plan_write(struct wh_vmm_machine *m, int doorbell_fd);
void __wrap_proc_plan_write(struct wh_vmm_machine *m, int doorbell_fd);
int __real_wh_elf_open(const struct wh_elf_input *input, struct wh_elf *ret_elf,
		       struct wh_diag *diag);
int __wrap_wh_elf_open(const struct wh_elf_input *input, struct wh_elf *ret_elf,
		       struct wh_diag *diag);
int __real_wh_vmm_machine_new(const struct wh_vmm_config *config, struct wh_vmm_image *image,
			      struct wh_loop *loop, struct wh_vmm_machine **ret_machine,
			      struct wh_diag *diag);
int __wrap_wh_vmm_machine_new(const struct wh_vmm_config *config, struct wh_vmm_image *image,
			      struct wh_loop *loop, struct wh_vmm_machine **ret_machine,
			      struct wh_diag *diag);
void __real_wh_vmm_machine_kill(struct wh_vmm_machine *machine);
void __wrap_wh_vmm_machine_kill(struct wh_vmm_machine *machine);
void *__real_wh_gmem_at(const struct wh_gmem *m, wh_gaddr address, uint64_t size, bool write);
void *__wrap_wh_gmem_at(const struct wh_gmem *m, wh_gaddr address, uint64_t size, bool write);

static bool without(const char *protection)
{
	const char *chosen = getenv("WHERRY_WEAKEN");
	return chosen && !strcmp(chosen, protection);
}

static void skip(const char *why)
{
	static const char head[] = "skipped: ";
	(void)!write(1, head, sizeof head - 1);
	(void)!write(1, why, strlen(why));
	_exit(77);
}

/* The step of a call that matters to no attack; it comes after the unmapping of the rest. */
static struct proc_step *spare(struct proc_plan *plan)
{
	struct proc_step *s = plan->step;
	while ((s->call & 0xffff) != SYS_setpgid)
		s++;
	return s;
}

static void edit_maps(struct wh_vmm_machine *m, struct proc_plan *plan)
{
	const struct vmm_layout *l = &m->layout;
	for (struct proc_step *s = plan->step; s->call != PROC_STEP_ENTER; s++) {
		if (s->call != SYS_mmap)
			continue;
		bool file = !(s->args[3] & MAP_SHARED), ram = s->args[2] & PROT_WRITE;
		if (file && (s->args[2] & PROT_EXEC) && without("text"))
			s->args[2] |= PROT_WRITE;
		if (file && !(s->args[2] & PROT_EXEC) && without("constants"))
			s->args[2] |= PROT_WRITE;
		if (ram && without("noexec"))
			s->args[2] |= PROT_EXEC;
		if (ram && without("guard"))
			s->args[1] += VMM_PAGE;
	}
	if (without("noexec"))
		*spare(plan) = (struct proc_step){ SYS_mprotect,
						   { l->stack_low, l->stack_top - l->stack_low,
						     PROT_READ | PROT_WRITE | PROT_EXEC },
						   0 };
	uint64_t extra = without("null") ? 0 : l->stack_top;
	if (without("null") || without("outside"))
		*spare(plan) = (struct proc_step){ SYS_mmap,
						   { extra, VMM_PAGE, PROT_READ | PROT_WRITE,
						     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
						     (uint64_t)-1 },
						   0 };
}

static void edit_filter(struct proc_plan *plan)
{
	for (struct proc_step *s = plan->step; s->call != PROC_STEP_ENTER; s++)
		if (s->call == SYS_seccomp && without("filter"))
			s->call = SYS_getpid;
	if (without("arch")) /* the second instruction compares the architecture */
		plan->filter[1].jf = 0;
}

void __wrap_proc_plan_write(struct wh_vmm_machine *m, int doorbell_fd)
{
	__real_proc_plan_write(m, doorbell_fd);
	edit_maps(m, proc_plan_of(m));
	edit_filter(proc_plan_of(m));
}

int __wrap_wh_elf_open(const struct wh_elf_input *input, struct wh_elf *ret_elf,
		       struct wh_diag *diag)
{
	int error = __real_wh_elf_open(input, ret_elf, diag);
	for (uint32_t i = 0; error >= 0 && without("wx") && i < ret_elf->segment_count; i++)
		if ((ret_elf->segment[i].flags & (PF_W | PF_X)) == (PF_W | PF_X))
			ret_elf->segment[i].flags &= (uint32_t)~PF_W;
	return error;
}

/* Page 0 can be mapped only outside of a user namespace. */
int __wrap_wh_vmm_machine_new(const struct wh_vmm_config *config, struct wh_vmm_image *image,
			      struct wh_loop *loop, struct wh_vmm_machine **ret_machine,
			      struct wh_diag *diag)
{
	struct wh_vmm_config weak = *config;
	if (without("null"))
		weak.sandbox = WH_VMM_SANDBOX_MINIMAL;
	if (without("null") && getuid() != 0)
		skip("only root can map page 0");
	return __real_wh_vmm_machine_new(&weak, image, loop, ret_machine, diag);
}

void __wrap_wh_vmm_machine_kill(struct wh_vmm_machine *machine)
{
	if (!without("kill"))
		__real_wh_vmm_machine_kill(machine);
}

void *__wrap_wh_gmem_at(const struct wh_gmem *m, wh_gaddr address, uint64_t size, bool write)
{
	if (!without("rings"))
		return __real_wh_gmem_at(m, address, size, write);
	for (uint32_t i = 0; i < m->count; i++)
		if (address - m->region[i].start < m->region[i].size)
			return m->region[i].host + (address - m->region[i].start);
	return (void *)address;
}
