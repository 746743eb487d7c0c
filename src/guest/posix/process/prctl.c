/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/thread.h>
#include <posix/process.h>
#include <wherry/base/errors.h>

enum {
	PR_SET_PDEATHSIG = 1,
	PR_GET_DUMPABLE = 3,
	PR_SET_DUMPABLE = 4,
	PR_SET_KEEPCAPS = 8,
	PR_SET_NAME = 15,
	PR_GET_NAME = 16,
	PR_SET_TIMERSLACK = 29,
	PR_SET_NO_NEW_PRIVS = 38,
	PR_GET_NO_NEW_PRIVS = 39,
	PR_SET_THP_DISABLE = 41
};

long wh_sys_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	struct kern_thread *t = kern_self();
	switch (option) {
	case PR_SET_NAME: {
		const char *name = (const char *)a;
		if (!kern_user_readable(name, 1))
			return -WH_EFAULT;
		size_t n = wh_strnlen(name, sizeof t->name - 1);
		memcpy(t->name, name, n);
		memset(t->name + n, 0, sizeof t->name - n);
		return 0;
	}
	case PR_GET_NAME:
		if (!kern_user_writable((void *)a, sizeof t->name))
			return -WH_EFAULT;
		memcpy((void *)a, t->name, sizeof t->name);
		return 0;
	case PR_GET_NO_NEW_PRIVS:
		return 1;
	case PR_GET_DUMPABLE:
	case PR_SET_PDEATHSIG:
	case PR_SET_DUMPABLE:
	case PR_SET_KEEPCAPS:
	case PR_SET_TIMERSLACK:
	case PR_SET_NO_NEW_PRIVS:
	case PR_SET_THP_DISABLE:
		return 0;
	default:
		return -WH_EINVAL;
	}
}
