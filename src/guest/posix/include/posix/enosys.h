/* SPDX-License-Identifier: ISC */
#ifndef POSIX_ENOSYS_H
#define POSIX_ENOSYS_H

/*
 * What stands in for calls without a handler: libwherry-enosys.a has one member a
 * call (tools/syscalls makes them from syscalls.tbl), and each jumps here.
 */

#include <stdbool.h>

/* -WH_ENOSYS; the first time with a line on the console. */
long wh_enosys(const char *name, bool *once);

#endif
