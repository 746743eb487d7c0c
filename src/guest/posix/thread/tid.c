/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/thread.h>
#include <posix/thread.h>
#include <wherry/base/errors.h>

#define ROBUST_LIST_SIZE 24u

long wh_sys_gettid(void)
{
	return kern_tid();
}

long wh_sys_set_tid_address(uint32_t *word)
{
	kern_self()->clear_child_tid = word;
	return kern_tid();
}

/* The list is for threads that die with a lock held; here a thread only ends by
 * its own call, where the C library walks the list itself. */
long wh_sys_set_robust_list(void *head, size_t size)
{
	if (size != ROBUST_LIST_SIZE)
		return -WH_EINVAL;
	kern_self()->robust_list = (uint64_t)(uintptr_t)head;
	return 0;
}

long wh_sys_get_robust_list(int tid, void **ret_head, size_t *ret_size)
{
	struct kern_thread *t = tid ? kern_thread_find(tid) : kern_self();
	if (!t)
		return -WH_ESRCH;
	if (!kern_user_writable(ret_head, sizeof *ret_head) ||
	    !kern_user_writable(ret_size, sizeof *ret_size))
		return -WH_EFAULT;
	*ret_head = (void *)(uintptr_t)t->robust_list;
	*ret_size = ROBUST_LIST_SIZE;
	return 0;
}
