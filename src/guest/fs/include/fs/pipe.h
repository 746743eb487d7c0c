/* SPDX-License-Identifier: ISC */
#ifndef FS_PIPE_H
#define FS_PIPE_H

#include <fs/file.h>
#include <fs/linux.h>

/* Both ends of a new pipe, with a reference each. flags: O_NONBLOCK. */
int fs_pipe_new(uint32_t flags, struct fs_file **ret_reader, struct fs_file **ret_writer);
long fs_pipe_fcntl(struct fs_file *f, int command, unsigned long argument);

#endif
