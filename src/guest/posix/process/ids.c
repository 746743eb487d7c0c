/* SPDX-License-Identifier: ISC */
/* One user, root, who may become nobody else: there is nobody else. */
#include <posix/process.h>
#include <kern/mem.h>
#include <wherry/base/errors.h>

#define KEEP UINT32_MAX /* "leave this id alone" */

long wh_sys_getuid(void)
{
	return 0;
}

long wh_sys_geteuid(void)
{
	return 0;
}

long wh_sys_getgid(void)
{
	return 0;
}

long wh_sys_getegid(void)
{
	return 0;
}

static long get_three(uint32_t *real, uint32_t *effective, uint32_t *saved)
{
	if (!kern_user_writable(real, 4) || !kern_user_writable(effective, 4) ||
	    !kern_user_writable(saved, 4))
		return -WH_EFAULT;
	*real = *effective = *saved = 0;
	return 0;
}

long wh_sys_getresuid(uint32_t *real, uint32_t *effective, uint32_t *saved)
{
	return get_three(real, effective, saved);
}

long wh_sys_getresgid(uint32_t *real, uint32_t *effective, uint32_t *saved)
{
	return get_three(real, effective, saved);
}

long wh_sys_getgroups(int count, uint32_t *groups)
{
	return count < 0 ? -WH_EINVAL : 0;
}

/* Dropping privileges is granted and changes nothing: there are none to lose,
 * and a server that insists on its own user should run. */
long wh_sys_setuid(uint32_t id)
{
	return id == KEEP ? -WH_EINVAL : 0;
}

long wh_sys_setreuid(uint32_t real, uint32_t effective)
{
	return 0;
}

long wh_sys_setresuid(uint32_t real, uint32_t effective, uint32_t saved)
{
	return 0;
}

long wh_sys_setfsuid(uint32_t id)
{
	return 0;
}

long wh_sys_setgid(uint32_t id)
{
	return id == KEEP ? -WH_EINVAL : 0;
}

long wh_sys_setregid(uint32_t real, uint32_t effective)
{
	return 0;
}

long wh_sys_setresgid(uint32_t real, uint32_t effective, uint32_t saved)
{
	return 0;
}

long wh_sys_setfsgid(uint32_t id)
{
	return 0;
}

long wh_sys_setgroups(size_t count, const uint32_t *groups)
{
	return 0;
}
