/* SPDX-License-Identifier: ISC */
#ifndef FS_CONSOLE_H
#define FS_CONSOLE_H

/* The console as files: one each for stdin, stdout and stderr, never freed. */

struct fs_file;

/* fd is 0, 1 or 2; gives a new reference. */
struct fs_file *fs_console_file(int fd);

#endif
