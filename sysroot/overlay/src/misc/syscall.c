/* SPDX-License-Identifier: ISC */
/*
 * The public syscall(), whose number is data. It reaches the handlers that
 * something else has linked in (weak references), and a few that programs only ask
 * for this way. All others are ENOSYS, which is what such programs test for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include "syscall.h"
#undef syscall

long syscall(long number, ...);

#define WH_NAME(number, name) extern long wh_sys_##name() __attribute__((__weak__));
#define WH_NAME_STRONG(number, name)
#include "wh_names_all.h"
#undef WH_NAME
#undef WH_NAME_STRONG

typedef long handler(long, long, long, long, long, long);
static handler *const table[] = {
#define WH_NAME(number, name) [number] = (handler *)wh_sys_##name,
#define WH_NAME_STRONG WH_NAME
#include "wh_names_all.h"
};

long syscall(long number, ...)
{
	long a[6];
	va_list ap;
	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	handler *call = NULL;
	if ((unsigned long)number < sizeof table / sizeof table[0])
		call = table[number];
	return __syscall_ret(call ? call(a[0], a[1], a[2], a[3], a[4], a[5]) : -ENOSYS);
}
