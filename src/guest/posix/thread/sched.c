/* SPDX-License-Identifier: ISC */
/* One CPU, one scheduling class. */
#include <kern/mem.h>
#include <kern/sched.h>
#include <posix/thread.h>
#include <wherry/base/errors.h>

enum { POLICY_OTHER = 0, POLICY_FIFO = 1, POLICY_RR = 2, POLICY_BATCH = 3, POLICY_IDLE = 5 };

long wh_sys_sched_yield(void)
{
	kern_yield();
	return 0;
}

long wh_sys_sched_getaffinity(int tid, size_t size, void *ret_mask)
{
	if (size < sizeof(uint64_t) || size % sizeof(uint64_t))
		return -WH_EINVAL;
	if (!kern_user_writable(ret_mask, sizeof(uint64_t)))
		return -WH_EFAULT;
	*(uint64_t *)ret_mask = 1;
	return sizeof(uint64_t);
}

long wh_sys_sched_setaffinity(int tid, size_t size, const void *mask)
{
	if (!size || !kern_user_readable(mask, 1))
		return -WH_EFAULT;
	return *(const uint8_t *)mask & 1 ? 0 : -WH_EINVAL;
}

long wh_sys_sched_getparam(int tid, int *ret_priority)
{
	if (!kern_user_writable(ret_priority, sizeof *ret_priority))
		return -WH_EFAULT;
	*ret_priority = 0;
	return 0;
}

long wh_sys_sched_setparam(int tid, const int *priority)
{
	if (!kern_user_readable(priority, sizeof *priority))
		return -WH_EFAULT;
	return *priority ? -WH_EINVAL : 0;
}

long wh_sys_sched_getscheduler(int tid)
{
	return POLICY_OTHER;
}

long wh_sys_sched_setscheduler(int tid, int policy, const int *priority)
{
	if (policy == POLICY_FIFO || policy == POLICY_RR)
		return -WH_EPERM;
	if (policy != POLICY_OTHER && policy != POLICY_BATCH && policy != POLICY_IDLE)
		return -WH_EINVAL;
	return wh_sys_sched_setparam(tid, priority);
}

long wh_sys_sched_get_priority_max(int policy)
{
	return policy == POLICY_FIFO || policy == POLICY_RR ? 99 : 0;
}

long wh_sys_sched_get_priority_min(int policy)
{
	return policy == POLICY_FIFO || policy == POLICY_RR ? 1 : 0;
}

/* A thread runs until it waits: 0 is Linux's word for that. */
long wh_sys_sched_rr_get_interval(int tid, struct lx_timespec *ret_interval)
{
	if (!kern_user_writable(ret_interval, sizeof *ret_interval))
		return -WH_EFAULT;
	*ret_interval = (struct lx_timespec){ 0, 0 };
	return 0;
}

long wh_sys_getcpu(uint32_t *ret_cpu, uint32_t *ret_node)
{
	if (ret_cpu && kern_user_writable(ret_cpu, sizeof *ret_cpu))
		*ret_cpu = 0;
	if (ret_node && kern_user_writable(ret_node, sizeof *ret_node))
		*ret_node = 0;
	return 0;
}

/* One CPU: every barrier is already there. Command 0 asks which are supported. */
long wh_sys_membarrier(int command, unsigned flags)
{
	return flags ? -WH_EINVAL : command == 0 ? 0x1ff : 0;
}
