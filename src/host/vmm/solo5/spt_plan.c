/* SPDX-License-Identifier: ISC */
/*
 * What the stub does before it becomes an spt guest: map guest memory by rights, unmap the rest, put the descriptors to their
 * numbers, filters. When the monitor answers for disks there are two filters: the first leads those calls to it, and
 * its descriptor for that is sent away before the second one, which would refuse all of this, comes as the last call.
 */
#include <elf.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>

#include "spt_priv.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define USER_SPACE_END 0x7ffffffff000ull /* 47 bits; nothing lies above unless asked for */

/* Behind the steps. Pointers are the guest's addresses. */
struct data {
	char name[16];
	struct program {
		uint64_t count, filter;
	} program, asking;
	struct { /* struct iovec */
		uint64_t base, size;
	} iov;
	struct { /* struct msghdr */
		uint64_t name, name_size, iov, iov_count, control, control_size, flags;
	} message;
	struct { /* struct cmsghdr with one descriptor */
		uint64_t size;
		uint32_t level, type;
		uint32_t fd, pad;
	} control;
	struct sock_filter asking_filter[16];
	struct sock_filter filter[SPT_FILTER_MAX];
};
_Static_assert(SPT_DATA + sizeof(struct data) <= SOLO5_MIN_ADDRESS, "below the guest's program");
_Static_assert(SPT_PLAN + SPT_STEPS_MAX * PROC_STEP_SIZE <= SPT_DATA, "before its data");
_Static_assert(SPT_NET_FIRST + WH_VMM_SOLO5_DEVICES_MAX <= SPT_GIVEN_MIN, "numbers in transit");

struct writer {
	struct proc_step *step;
	uint32_t count;
};

static void put(struct writer *w, uint64_t call, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
		uint64_t e, uint64_t f)
{
	wh_assert(w->count < SPT_STEPS_MAX);
	w->step[w->count++] = (struct proc_step){ call, { a, b, c, d, e, f }, 0 };
}

static uint64_t address(const struct spt *s, const void *p)
{
	return (uint64_t)((const uint8_t *)p - s->machine->ram);
}

uint32_t spt_pieces(const struct wh_vmm_solo5 *solo5, uint64_t ram_size, struct spt_piece *to)
{
	uint64_t at = SPT_BASE;
	uint32_t count = 0;
	for (uint32_t i = 0; i < solo5->elf.segment_count; i++) {
		const struct wh_elf_segment *p = &solo5->elf.segment[i];
		if (p->type != PT_LOAD || !p->file_size)
			continue;
		uint64_t start = wh_align_down(p->vaddr, VMM_PAGE),
			 end = wh_align_up(p->vaddr + p->mem_size, VMM_PAGE);
		if (start > at)
			to[count++] = (struct spt_piece){ at, start, true, false };
		to[count++] = (struct spt_piece){ start, end, (p->flags & PF_W) != 0,
						  (p->flags & PF_X) != 0 };
		at = end;
	}
	to[count++] = (struct spt_piece){ at, ram_size, true, false };
	return count;
}

static void map(struct writer *w, const struct spt *s, const struct spt_piece *p)
{
	uint64_t access = PROT_READ | (p->write ? PROT_WRITE : 0) | (p->execute ? PROT_EXEC : 0);
	put(w, SYS_mmap, p->start, p->end - p->start, access, MAP_SHARED | MAP_FIXED_NOREPLACE,
	    (uint64_t)s->machine->ram_fd, VMM_RAM_OFFSET + p->start);
}

/* The lowest piece holds the plan: the stub goes on there. */
static void map_guest(struct writer *w, const struct spt *s)
{
	uint64_t end = s->machine->layout.ram_size, stub = s->process->stub_address;
	struct spt_piece piece[SPT_PIECES_MAX];
	uint32_t count = spt_pieces(s->solo5, end, piece);
	map(w, s, &piece[0]);
	put(w, PROC_STEP_MOVE, address(s, &w->step[w->count + 1]), 0, 0, 0, 0, 0);
	for (uint32_t i = 1; i < count; i++)
		map(w, s, &piece[i]);
	put(w, SYS_munmap, end, stub - end, 0, 0, 0, 0);
	/* May fail where the kernel seals the vdso's mapping. */
	put(w, SYS_munmap | PROC_STEP_MAY_FAIL, stub + PROC_STUB_SIZE,
	    USER_SPACE_END - stub - PROC_STUB_SIZE, 0, 0, 0, 0);
}

static void place_descriptors(struct writer *w, const struct spt *s)
{
	for (uint32_t i = 0; i < s->given_count; i++)
		put(w, SYS_dup3, (uint64_t)s->given[i], (uint64_t)s->number[i], 0, 0, 0, 0);
	put(w, SYS_close_range, 0, 0, 0, 0, 0, 0);
	put(w, SYS_close_range, 2, 2, 0, 0, 0, 0);
	if (!s->asks)
		put(w, SYS_close_range, SPT_PASS, SPT_PASS, 0, 0, 0, 0);
	put(w, SYS_close_range, (uint64_t)s->numbers_end, ~0u, 0, 0, 0, 0);
}

static void settle_process(struct writer *w, const struct spt *s, struct data *data)
{
	memcpy(data->name, "solo5-guest", 12);
	put(w, SYS_setpgid | PROC_STEP_MAY_FAIL, 0, 0, 0, 0, 0, 0);
	put(w, SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0);
	put(w, SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0, 0);
	put(w, SYS_prctl, PR_SET_TIMERSLACK, 1, 0, 0, 0, 0);
	put(w, SYS_prctl, PR_SET_NAME, address(s, data->name), 0, 0, 0, 0);
	put(w, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
}

/* The first filter's descriptor gets the lowest free number, which is 0. */
static void ask_monitor(struct writer *w, const struct spt *s, struct data *d)
{
	d->asking.count = spt_asking_filter_write(d->asking_filter, SPT_ASKED_FIRST);
	d->asking.filter = address(s, d->asking_filter);
	d->iov.base = address(s, d->name);
	d->iov.size = 1;
	d->message.iov = address(s, &d->iov);
	d->message.iov_count = 1;
	d->message.control = address(s, &d->control);
	d->message.control_size = 24; /* CMSG_SPACE(4) */
	d->control.size = 20;         /* CMSG_LEN(4) */
	d->control.level = SOL_SOCKET;
	d->control.type = SCM_RIGHTS;
	put(w, SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
	    address(s, &d->asking), 0, 0, 0);
	put(w, SYS_sendmsg, SPT_PASS, address(s, &d->message), 0, 0, 0, 0);
	put(w, SYS_close_range, 0, 0, 0, 0, 0, 0);
	put(w, SYS_close_range, SPT_PASS, SPT_PASS, 0, 0, 0, 0);
}

void spt_plan_write(struct spt *s)
{
	uint8_t *ram = s->machine->ram;
	struct data *data = (struct data *)(void *)(ram + SPT_DATA);
	struct writer w = { .step = (struct proc_step *)(void *)(ram + SPT_PLAN) };
	uint64_t top = s->machine->layout.ram_size - 16;
	map_guest(&w, s);
	place_descriptors(&w, s);
	settle_process(&w, s, data);
	if (s->asks)
		ask_monitor(&w, s, data);
	data->program.count = spt_filter_write(data->filter, &s->filter);
	data->program.filter = address(s, data->filter);
	put(&w, SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, address(s, &data->program), 0, 0, 0);
	wh_store_le64(ram + top, s->solo5->elf.entry); /* the stub's last instruction pops it */
	put(&w, PROC_STEP_ENTER, SPT_INFO, top, 0, 0, 0, 0);
}
