/* SPDX-License-Identifier: ISC */

/*
 * Disks as files under /dev: any offset and size. Whole sectors go straight between
 * the caller's buffer and the device; the ends that share a sector with somebody
 * else are read, changed and written back under the disk's lock.
 */

#include "root_priv.h"
#include <drv/blk.h>
#include <kern/mem.h>
#include <wherry/base/errors.h>

#define SECTOR DRV_BLK_SECTOR
#define COUNT_MAX (1u << 20) /* sectors of one driver call */

struct block_file {
	struct fs_file file;
	struct drv_blk *blk;
};

static struct drv_blk *blk_of(struct fs_file *f)
{
	return WH_CONTAINER_OF(f, struct block_file, file)->blk;
}

static uint64_t size_of(struct drv_blk *b)
{
	return drv_blk_sectors(b) * SECTOR;
}

/* A piece inside one sector. */
static int part(struct drv_blk *b, uint64_t offset, uint8_t *data, size_t size, bool writes)
{
	uint8_t *sector = kern_alloc(SECTOR);
	if (!sector)
		return -WH_ENOMEM;
	if (writes)
		drv_blk_lock(b);
	int r = drv_blk_read(b, offset / SECTOR, sector, 1);
	if (r >= 0 && writes) {
		memcpy(sector + offset % SECTOR, data, size);
		r = drv_blk_write(b, offset / SECTOR, sector, 1);
	} else if (r >= 0) {
		memcpy(data, sector + offset % SECTOR, size);
	}
	if (writes)
		drv_blk_unlock(b);
	kern_free(sector, SECTOR);
	return r;
}

/* Returns bytes moved by one driver call, or an error. */
static int64_t move(struct drv_blk *b, uint64_t offset, uint8_t *data, size_t size, bool writes)
{
	uint64_t count = size / SECTOR;
	size_t in_sector = offset % SECTOR;
	if (in_sector || !count) {
		size_t n = size < SECTOR - in_sector ? size : SECTOR - in_sector;
		int r = part(b, offset, data, n, writes);
		return r < 0 ? r : (int64_t)n;
	}
	if (count > COUNT_MAX)
		count = COUNT_MAX;
	int r = writes ? drv_blk_write(b, offset / SECTOR, data, (uint32_t)count)
		       : drv_blk_read(b, offset / SECTOR, data, (uint32_t)count);
	return r < 0 ? r : (int64_t)(count * SECTOR);
}

static int64_t move_all(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			bool writes)
{
	struct drv_blk *b = blk_of(f);
	uint64_t end = size_of(b);
	int64_t done = 0;
	for (int i = 0; i < count; i++) {
		for (size_t at = 0; at < iov[i].size;) {
			size_t n = iov[i].size - at;
			if (offset >= end)
				return done || !writes ? done : -WH_ENOSPC;
			if (n > end - offset)
				n = end - offset;
			int64_t r = move(b, offset, (uint8_t *)iov[i].base + at, n, writes);
			if (r < 0)
				return done ? done : r;
			at += (size_t)r;
			offset += (uint64_t)r;
			done += r;
		}
	}
	return done;
}

static int64_t block_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			  bool nonblock)
{
	return move_all(f, iov, count, offset, false);
}

static int block_sync(struct fs_file *f, bool data_only)
{
	return drv_blk_read_only(blk_of(f)) ? 0 : drv_blk_flush(blk_of(f));
}

static int64_t block_write(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			   bool nonblock)
{
	int64_t n = move_all(f, iov, count, offset, true);
	if (n > 0 && (f->flags & LX_O_DSYNC)) {
		int r = block_sync(f, true);
		if (r < 0)
			return r;
	}
	return n;
}

static int64_t block_size(struct fs_file *f)
{
	return (int64_t)size_of(blk_of(f));
}

static int discard(struct drv_blk *b, const uint64_t *range, bool zero)
{
	uint64_t end = range[0] + range[1];
	if (range[0] % SECTOR || range[1] % SECTOR || end < range[0] || end > size_of(b))
		return -WH_EINVAL;
	for (uint64_t s = range[0] / SECTOR; s < end / SECTOR;) {
		uint64_t n = end / SECTOR - s;
		if (n > COUNT_MAX)
			n = COUNT_MAX;
		int r = drv_blk_discard(b, s, (uint32_t)n, zero);
		if (r < 0)
			return r;
		s += n;
	}
	return 0;
}

static int block_ioctl(struct fs_file *f, unsigned long request, unsigned long argument)
{
	struct drv_blk *b = blk_of(f);
	void *to = (void *)argument;
	bool ranges = request == 0x1277 || request == 0x127f;
	if (request != 0x1261 && !(ranges ? kern_user_readable(to, 16) : kern_user_writable(to, 8)))
		return -WH_EFAULT;
	switch (request) {
	case 0x80081272: /* BLKGETSIZE64 */
		*(uint64_t *)to = size_of(b);
		return 0;
	case 0x1260: /* BLKGETSIZE */
		*(unsigned long *)to = drv_blk_sectors(b);
		return 0;
	case 0x1268:     /* BLKSSZGET */
	case 0x127b:     /* BLKPBSZGET */
	case 0x80081270: /* BLKBSZGET */
		*(int *)to = SECTOR;
		return 0;
	case 0x125e: /* BLKROGET */
		*(int *)to = drv_blk_read_only(b);
		return 0;
	case 0x1261: /* BLKFLSBUF */
		return block_sync(f, false);
	case 0x1277: /* BLKDISCARD */
	case 0x127f: /* BLKZEROOUT */
		if ((f->flags & LX_O_ACCMODE) == LX_O_RDONLY)
			return -WH_EBADF;
		return discard(b, to, request == 0x127f);
	default:
		return -WH_ENOTTY;
	}
}

static int block_allocate(struct fs_file *f, int mode, uint64_t offset, uint64_t size)
{
	uint64_t range[2] = { offset, size };
	if (!(mode & 3)) /* punch hole with keep size, or zero range */
		return mode & 16 ? discard(blk_of(f), range, true) : -WH_EOPNOTSUPP;
	return discard(blk_of(f), range, true);
}

static void block_release(struct fs_file *f)
{
	fs_node_unref(f->node);
	kern_free(WH_CONTAINER_OF(f, struct block_file, file), sizeof(struct block_file));
}

static const struct fs_file_ops block_ops = {
	.read = block_read,
	.write = block_write,
	.stat = fs_node_file_stat,
	.ioctl = block_ioctl,
	.sync = block_sync,
	.release = block_release,
	.size = block_size,
	.allocate = block_allocate,
	.seekable = true,
	.kind = FS_KIND_NODE,
};

int fs_block_open(struct fs_node *n, uint64_t data, uint32_t flags, struct fs_file **ret_file)
{
	struct drv_blk *b = drv_blk_get((uint32_t)data);
	if (!b)
		return -WH_ENXIO;
	if ((flags & LX_O_ACCMODE) != LX_O_RDONLY && drv_blk_read_only(b))
		return -WH_EROFS;
	struct block_file *f = kern_alloc(sizeof *f);
	if (!f)
		return -WH_ENOMEM;
	fs_file_init(&f->file, &block_ops, flags);
	fs_node_ref(n);
	f->file.node = n;
	f->blk = b;
	*ret_file = &f->file;
	return 0;
}
