/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/plat.h>
#include <posix/process.h>
#include <wherry/base/errors.h>

#define FLAGS_ALL 7u /* GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE */

long wh_sys_getrandom(void *to, size_t size, unsigned flags)
{
	if (flags & ~FLAGS_ALL)
		return -WH_EINVAL;
	if (size > INT32_MAX)
		size = INT32_MAX;
	if (!kern_user_writable(to, size))
		return -WH_EFAULT;
	kern_random(to, size);
	return (long)size;
}
