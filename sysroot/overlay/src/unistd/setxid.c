/* SPDX-License-Identifier: ISC */
/* One set of credentials for all threads: no need to visit each of them. */
#include <errno.h>
#include <unistd.h>
#include "libc.h"
#include "syscall.h"

int __setxid(int number, int id, int effective, int saved)
{
	long r = -ENOSYS;
	switch (number) {
	case SYS_setuid:
		r = __syscall1(SYS_setuid, id);
		break;
	case SYS_setgid:
		r = __syscall1(SYS_setgid, id);
		break;
	case SYS_setreuid:
		r = __syscall2(SYS_setreuid, id, effective);
		break;
	case SYS_setregid:
		r = __syscall2(SYS_setregid, id, effective);
		break;
	case SYS_setresuid:
		r = __syscall3(SYS_setresuid, id, effective, saved);
		break;
	case SYS_setresgid:
		r = __syscall3(SYS_setresgid, id, effective, saved);
		break;
	}
	return __syscall_ret(r);
}
