/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/plat.h>
#include <posix/process.h>
#include <wherry/base/errors.h>

static void put(char *to, const char *from)
{
	size_t n = wh_strnlen(from, LX_UTS_SIZE - 1);
	memcpy(to, from, n);
	to[n] = 0;
}

/* Programs look for "Linux" and compare versions: this is the interface they get. */
long wh_sys_uname(struct lx_utsname *ret_name)
{
	const char *host = kern_boot()->hostname;
	if (!kern_user_writable(ret_name, sizeof *ret_name))
		return -WH_EFAULT;
	put(ret_name->sysname, "Linux");
	put(ret_name->nodename, *host ? host : "wherry");
	put(ret_name->release, "6.1.0-wherry");
	put(ret_name->version, "#1 Wherry");
	put(ret_name->machine, "x86_64");
	put(ret_name->domain, "(none)");
	return 0;
}
