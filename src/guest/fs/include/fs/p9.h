/* SPDX-License-Identifier: ISC */
#ifndef FS_P9_H
#define FS_P9_H

/* 9P mounts of the boot information; called by the kernel's start-up when linked. */
int fs_mount_9p_init(void);

#endif
