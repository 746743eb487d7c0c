/* SPDX-License-Identifier: ISC */

/* /dev: character devices, links to the standard files, and a node for each disk. */

#include "root_priv.h"
#include <drv/blk.h>
#include <fs/console.h>
#include <fs/tmpfs.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <wherry/base/errors.h>

enum dev_kind { DEV_NULL, DEV_ZERO, DEV_FULL, DEV_RANDOM };

static int64_t null_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			 bool nonblock)
{
	return 0;
}

static int64_t null_write(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			  bool nonblock)
{
	return (int64_t)wh_iov_size(iov, (size_t)count);
}

static int64_t zero_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			 bool nonblock)
{
	for (int i = 0; i < count; i++)
		memset(iov[i].base, 0, iov[i].size);
	return (int64_t)wh_iov_size(iov, (size_t)count);
}

static int64_t full_write(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			  bool nonblock)
{
	return -WH_ENOSPC;
}

static int64_t random_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			   bool nonblock)
{
	for (int i = 0; i < count; i++)
		kern_random(iov[i].base, iov[i].size);
	return (int64_t)wh_iov_size(iov, (size_t)count);
}

static int64_t random_write(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			    bool nonblock)
{
	for (int i = 0; i < count; i++)
		kern_random_add(iov[i].base, iov[i].size);
	return (int64_t)wh_iov_size(iov, (size_t)count);
}

/* lseek on these succeeds and means nothing, as on Linux. */
static int64_t no_size(struct fs_file *f)
{
	return 0;
}

#define DEV_OPS(reader, writer)                                                     \
	{                                                                           \
		.read = reader, .write = writer, .stat = fs_node_file_stat,         \
		.release = fs_node_file_release, .size = no_size, .seekable = true, \
		.kind = FS_KIND_DEVICE                                              \
	}

static const struct fs_file_ops dev_ops[] = {
	[DEV_NULL] = DEV_OPS(null_read, null_write),
	[DEV_ZERO] = DEV_OPS(zero_read, null_write),
	[DEV_FULL] = DEV_OPS(zero_read, full_write),
	[DEV_RANDOM] = DEV_OPS(random_read, random_write),
};

static int dev_open(struct fs_node *n, uint64_t data, uint32_t flags, struct fs_file **ret_file)
{
	return fs_node_file_new(n, &dev_ops[data], flags, ret_file);
}

static int tty_open(struct fs_node *n, uint64_t data, uint32_t flags, struct fs_file **ret_file)
{
	*ret_file = fs_console_file(1);
	return 0;
}

static const struct fs_tmpfs_special dev_special = { .open = dev_open };
static const struct fs_tmpfs_special tty_special = { .open = tty_open };
static const struct fs_tmpfs_special block_special = { .open = fs_block_open };

static void add_blocks(struct fs_node *dir)
{
	struct drv_blk *b;
	for (uint32_t i = 0; (b = drv_blk_get(i)); i++)
		(void)fs_tmpfs_add_special(dir, fs_name_of(drv_blk_name(b)), LX_S_IFBLK | 0660,
					   FS_MAKEDEV(254, i * 16), &block_special, i);
}

void fs_dev_fill(struct fs_node *dir, uint64_t data)
{
	static const struct {
		const char *name;
		uint8_t kind, major, minor;
	} devices[] = {
		{ "null", DEV_NULL, 1, 3 },      { "zero", DEV_ZERO, 1, 5 },
		{ "full", DEV_FULL, 1, 7 },      { "random", DEV_RANDOM, 1, 8 },
		{ "urandom", DEV_RANDOM, 1, 9 },
	};
	static const char *const links[][2] = { { "fd", "/proc/self/fd" },
						{ "stdin", "/proc/self/fd/0" },
						{ "stdout", "/proc/self/fd/1" },
						{ "stderr", "/proc/self/fd/2" } };
	for (uint32_t i = 0; i < WH_ARRAY_COUNT(devices); i++)
		(void)fs_tmpfs_add_special(dir, fs_name_of(devices[i].name), LX_S_IFCHR | 0666,
					   FS_MAKEDEV(devices[i].major, devices[i].minor),
					   &dev_special, devices[i].kind);
	(void)fs_tmpfs_add_special(dir, fs_name_of("tty"), LX_S_IFCHR | 0666, FS_MAKEDEV(5, 0),
				   &tty_special, 0);
	(void)fs_tmpfs_add_special(dir, fs_name_of("console"), LX_S_IFCHR | 0600, FS_MAKEDEV(5, 1),
				   &tty_special, 0);
	for (uint32_t i = 0; i < WH_ARRAY_COUNT(links); i++)
		(void)fs_tmpfs_add_link(dir, fs_name_of(links[i][0]), fs_name_of(links[i][1]));
	(void)fs_tmpfs_add_dir(dir, fs_name_of("shm"), 01777, NULL, 0);
	add_blocks(dir);
}
