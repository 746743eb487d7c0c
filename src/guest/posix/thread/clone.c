/* SPDX-License-Identifier: ISC */
#include <kern/plat.h>
#include <kern/preempt.h>
#include <kern/thread.h>
#include <posix/enosys.h>
#include <posix/thread.h>
#include <wherry/base/errors.h>

enum {
	CLONE_VM = 0x100,
	CLONE_THREAD = 0x10000,
	CLONE_SETTLS = 0x80000,
	CLONE_PARENT_SETTID = 0x100000,
	CLONE_CHILD_CLEARTID = 0x200000,
	CLONE_CHILD_SETTID = 0x1000000
};

/* There whenever execve is, so whenever somebody wants a process. */
__attribute__((weak)) long wh_enosys(const char *name, bool *once);

/* Threads only: a process of its own would need an address space of its own. */
int wh_thread_clone(int (*fn)(void *), void *stack, int flags, void *arg, int *ptid, void *tls,
		    int *ctid)
{
	const int needed = CLONE_VM | CLONE_THREAD | CLONE_SETTLS;
	static bool once;
	if ((flags & needed) != needed)
		return wh_enosys ? (int)wh_enosys("clone (a process)", &once) : -WH_ENOSYS;
	KERN_PREEMPT_NEEDED(); /* threads take turns */
	struct kern_thread *self = kern_self();
	struct kern_thread *t = kern_thread_new(fn, arg, stack, (uint64_t)(uintptr_t)tls);
	if (!t)
		return -WH_EAGAIN;
	t->signal_mask = self->signal_mask;
	memcpy(t->name, self->name, sizeof t->name);
	if (flags & CLONE_CHILD_CLEARTID)
		t->clear_child_tid = (uint32_t *)ctid;
	if (flags & CLONE_PARENT_SETTID)
		*ptid = t->tid;
	if (flags & CLONE_CHILD_SETTID)
		*ctid = t->tid;
	return t->tid;
}

void wh_thread_unmapself(void *base, size_t size)
{
	struct kern_thread *t = kern_self();
	t->unmap_base = base;
	t->unmap_size = size;
	kern_thread_exit(0);
}
