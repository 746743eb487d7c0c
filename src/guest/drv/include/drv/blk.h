/* SPDX-License-Identifier: ISC */
#ifndef DRV_BLK_H
#define DRV_BLK_H

/*
 * virtio-blk (virtio 1.2, 5.2). Requests go straight from the caller's buffers; the
 * calling thread sleeps until its own request is done, so several threads keep
 * the queue busy. A wait for the device is not ended by a signal: it owns the
 * buffers until it answers.
 */

#include <stdbool.h>
#include <stdint.h>
#include <wherry/base/iov.h>

#define DRV_BLK_SECTOR 512u
#define DRV_BLK_MAX 16u /* devices */

struct drv_blk;

int drv_blk_init(void); /* called by the kernel's start-up when linked */

struct drv_blk *drv_blk_get(uint32_t index); /* NULL: there is none */
const char *drv_blk_name(const struct drv_blk *b);
uint64_t drv_blk_sectors(const struct drv_blk *b);
bool drv_blk_read_only(const struct drv_blk *b);

/* Moves count * 512 bytes. The buffer may lie anywhere the program can read (write). 0,
 * -WH_EIO, -WH_EROFS, -WH_ENOSPC (behind the end). */
int drv_blk_read(struct drv_blk *b, uint64_t sector, void *to, uint32_t count);
int drv_blk_write(struct drv_blk *b, uint64_t sector, const void *from, uint32_t count);
int drv_blk_flush(struct drv_blk *b);
/* -WH_EOPNOTSUPP when the device cannot. `zero`: the sectors read as zeroes afterwards. */
int drv_blk_discard(struct drv_blk *b, uint64_t sector, uint32_t count, bool zero);

/* Serialises read-modify-write of partial sectors. */
void drv_blk_lock(struct drv_blk *b);
void drv_blk_unlock(struct drv_blk *b);

#endif
