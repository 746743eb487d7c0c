/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <posix/process.h>
#include <wherry/base/errors.h>

#define VERSION_3 0x20080522u

/* No capabilities: there is nothing that one could allow. */
long wh_sys_capget(uint32_t *header, uint32_t *ret_sets)
{
	if (!kern_user_writable(header, 8))
		return -WH_EFAULT;
	if (header[0] != VERSION_3) {
		header[0] = VERSION_3;
		return ret_sets ? -WH_EINVAL : 0;
	}
	if (!ret_sets)
		return 0;
	if (!kern_user_writable(ret_sets, 24))
		return -WH_EFAULT;
	memset(ret_sets, 0, 24);
	return 0;
}

long wh_sys_capset(const uint32_t *header, const uint32_t *sets)
{
	if (!kern_user_readable(header, 8) || !kern_user_readable(sets, 24))
		return -WH_EFAULT;
	for (int i = 0; i < 6; i++)
		if (sets[i])
			return -WH_EPERM;
	return 0;
}
