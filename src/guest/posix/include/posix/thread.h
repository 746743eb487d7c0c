/* SPDX-License-Identifier: ISC */
#ifndef POSIX_THREAD_H
#define POSIX_THREAD_H

/* System calls on threads. clone is wh_thread_clone in kern/thread.h. Each
 * returns >= 0 or -errno as Linux does; see its manual page, section 2. */

#include <stddef.h>
#include <stdint.h>
#include <fs/linux.h>
#include <kern/trace.h>

KERN_CALL long wh_sys_arch_prctl(int code, uint64_t address);
KERN_CALL long wh_sys_set_tid_address(uint32_t *word);
KERN_CALL long wh_sys_gettid(void);
KERN_CALL long wh_sys_set_robust_list(void *head, size_t size);
KERN_CALL long wh_sys_get_robust_list(int tid, void **ret_head, size_t *ret_size);
KERN_CALL long wh_sys_futex(uint32_t *word, int operation, uint32_t value,
			    const struct lx_timespec *timeout, uint32_t *word2, uint32_t value3);
KERN_CALL long wh_sys_sched_yield(void);
KERN_CALL long wh_sys_sched_getaffinity(int tid, size_t size, void *ret_mask);
KERN_CALL long wh_sys_sched_setaffinity(int tid, size_t size, const void *mask);
KERN_CALL long wh_sys_sched_getparam(int tid, int *ret_priority);
KERN_CALL long wh_sys_sched_setparam(int tid, const int *priority);
KERN_CALL long wh_sys_sched_getscheduler(int tid);
KERN_CALL long wh_sys_sched_setscheduler(int tid, int policy, const int *priority);
KERN_CALL long wh_sys_sched_get_priority_max(int policy);
KERN_CALL long wh_sys_sched_get_priority_min(int policy);
KERN_CALL long wh_sys_sched_rr_get_interval(int tid, struct lx_timespec *ret_interval);
KERN_CALL long wh_sys_getcpu(uint32_t *ret_cpu, uint32_t *ret_node);
KERN_CALL long wh_sys_membarrier(int command, unsigned flags);

#endif
