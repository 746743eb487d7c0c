/* SPDX-License-Identifier: ISC */
#include <posix/enosys.h>
#include <drv/console.h>
#include <wherry/base/diag.h>
#include <wherry/base/errors.h>

long wh_enosys(const char *name, bool *once)
{
	char line[96];
	/* Not kern_console_write: the driver must be linked, or nobody sees it. */
	if (!*once) {
		*once = true;
		size_t size = wh_format(line, sizeof line,
					"wherry: system call %s is not implemented\n", name);
		drv_console_write_raw(line, size < sizeof line ? (uint32_t)size : sizeof line - 1);
	}
	return -WH_ENOSYS;
}
