/* SPDX-License-Identifier: ISC */
#include <posix/file.h>
#include <wherry/base/errors.h>

/* No file system here keeps extended attributes: what Linux says of such a one. */

long wh_sys_setxattr(void)
{
	return -WH_EOPNOTSUPP;
}

long wh_sys_lsetxattr(void)
{
	return -WH_EOPNOTSUPP;
}

long wh_sys_fsetxattr(void)
{
	return -WH_EOPNOTSUPP;
}

long wh_sys_getxattr(void)
{
	return -WH_EOPNOTSUPP;
}

long wh_sys_lgetxattr(void)
{
	return -WH_EOPNOTSUPP;
}

long wh_sys_fgetxattr(void)
{
	return -WH_EOPNOTSUPP;
}

long wh_sys_listxattr(void)
{
	return -WH_EOPNOTSUPP;
}

long wh_sys_llistxattr(void)
{
	return -WH_EOPNOTSUPP;
}

long wh_sys_flistxattr(void)
{
	return -WH_EOPNOTSUPP;
}

long wh_sys_removexattr(void)
{
	return -WH_EOPNOTSUPP;
}

long wh_sys_lremovexattr(void)
{
	return -WH_EOPNOTSUPP;
}

long wh_sys_fremovexattr(void)
{
	return -WH_EOPNOTSUPP;
}
