/* SPDX-License-Identifier: ISC */
/* Memory has limits that a program sets (RLIMIT_DATA, RLIMIT_AS: what brk and mmap give). The others are facts: reading tells
 * them, raising the soft one up to the hard one is accepted, anything else refused. */
#include <fs/file.h>
#include <kern/mem.h>
#include <kern/pages.h>
#include <kern/plat.h>
#include <posix/process.h>
#include <wherry/base/errors.h>

enum {
	RESOURCE_DATA = 2,
	RESOURCE_STACK = 3,
	RESOURCE_CORE = 4,
	RESOURCE_NOFILE = 7,
	RESOURCE_AS = 9,
	RESOURCE_COUNT = 16
};
#define UNLIMITED UINT64_MAX

/* As set; they begin without a limit, which is stored as zero. */
static struct lx_rlimit data_limit, as_limit;

static struct lx_rlimit *memory_limit(int resource)
{
	return resource == RESOURCE_DATA ? &data_limit : resource == RESOURCE_AS ? &as_limit : 0;
}

static uint64_t pages_of(const struct lx_rlimit *limit, uint64_t without)
{
	uint64_t bytes = ~limit->soft;
	if (bytes == UNLIMITED)
		return UNLIMITED;
	return bytes > without ? (bytes - without) / KERN_PAGE : 0;
}

static void apply(void)
{
	const struct wh_boot_info *b = kern_boot();
	/* the address space holds the image and the stack as well */
	uint64_t fixed = b->image_end - b->image_start + b->stack_top - b->stack_low;
	uint64_t data = pages_of(&data_limit, 0), as = pages_of(&as_limit, fixed);
	kern_pages_limit_user(data < as ? data : as);
}

static struct lx_rlimit limit_of(int resource)
{
	struct lx_rlimit limit = { UNLIMITED, UNLIMITED };
	const struct lx_rlimit *set = memory_limit(resource);
	if (set)
		return (struct lx_rlimit){ ~set->soft, ~set->hard };
	if (resource == RESOURCE_STACK)
		limit.soft = kern_boot()->stack_top - kern_boot()->stack_low;
	else if (resource == RESOURCE_CORE)
		limit.soft = limit.hard = 0;
	else if (resource == RESOURCE_NOFILE)
		limit.soft = limit.hard = FS_FDS_MAX;
	return limit;
}

long wh_sys_prlimit64(int pid, int resource, const struct lx_rlimit *limit,
		      struct lx_rlimit *ret_old)
{
	if (pid != 0 && pid != POSIX_PID)
		return -WH_ESRCH;
	if (resource < 0 || resource >= RESOURCE_COUNT)
		return -WH_EINVAL;
	struct lx_rlimit now = limit_of(resource), asked = now;
	if (limit) {
		if (!kern_user_readable(limit, sizeof *limit))
			return -WH_EFAULT;
		asked = *limit;
		if (asked.soft > asked.hard)
			return -WH_EINVAL;
		if (asked.hard > now.hard)
			return -WH_EPERM;
	}
	if (ret_old) {
		if (!kern_user_writable(ret_old, sizeof *ret_old))
			return -WH_EFAULT;
		*ret_old = now;
	}
	struct lx_rlimit *set = memory_limit(resource);
	if (limit && set) {
		*set = (struct lx_rlimit){ ~asked.soft, ~asked.hard };
		apply();
	}
	return 0;
}

long wh_sys_getrlimit(int resource, struct lx_rlimit *ret_limit)
{
	return ret_limit ? wh_sys_prlimit64(0, resource, 0, ret_limit) : -WH_EFAULT;
}

long wh_sys_setrlimit(int resource, const struct lx_rlimit *limit)
{
	return limit ? wh_sys_prlimit64(0, resource, limit, 0) : -WH_EFAULT;
}
