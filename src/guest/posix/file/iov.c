/* SPDX-License-Identifier: ISC */
#include "user.h"

int posix_iov_check(const struct wh_iov *iov, int count, bool write_to)
{
	size_t total = 0;
	if (count < 0 || count > LX_IOV_MAX)
		return -WH_EINVAL;
	if (!kern_user_readable(iov, (size_t)count * sizeof *iov))
		return -WH_EFAULT;
	for (int i = 0; i < count; i++) {
		if (iov[i].size > INT64_MAX - total)
			return -WH_EINVAL;
		total += iov[i].size;
		if (!iov[i].size)
			continue;
		if (!(write_to ? kern_user_writable(iov[i].base, iov[i].size)
			       : kern_user_readable(iov[i].base, iov[i].size)))
			return -WH_EFAULT;
	}
	return 0;
}
