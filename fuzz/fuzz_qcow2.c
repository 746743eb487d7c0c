/* SPDX-License-Identifier: ISC */
/*
 * The input is a qcow2 image: opened, read, written, zeroed, discarded, flushed, closed, opened again.
 * What an image that was accepted gives for a sector that was written must be what was written.
 */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

#include "../src/portable/block/test/kit.h"

#define LOOK (256u << 10) /* bytes of the disk that are used */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Other files that the image names: a short disk below, an empty data file. */
static struct mem_file linked;

static int link_open(void *ctx, enum wh_block_link what, const struct wh_block_file *parent,
		     const char *name, enum wh_block_format format, bool read_only,
		     struct wh_block_file *ret_file, enum wh_block_format *ret_format,
		     struct wh_diag *diag)
{
	if (what == WH_BLOCK_LINK_BACKING && format != WH_BLOCK_FORMAT_RAW)
		return wh_diag_set(diag, -WH_EACCES, "not allowed");
	*ret_file = linked.file;
	ret_file->read_only = read_only;
	*ret_format = WH_BLOCK_FORMAT_RAW;
	return 0;
}

static void link_close(void *ctx, struct wh_block_file *file)
{
}

static const struct wh_block_resolver resolver = { .open = link_open, .close = link_close };

static struct wh_block *open_image(struct mem_file *m, bool read_only, uint32_t flags)
{
	struct wh_block *b = NULL;
	struct wh_diag diag = { "" };
	struct wh_block_config c = { .size = sizeof c,
				     .file = m->file,
				     .format = WH_BLOCK_FORMAT_QCOW2,
				     .read_only = read_only,
				     .alloc = &test_allocator,
				     .cache_size = 64 << 10,
				     .flags = flags,
				     .resolver = &resolver,
				     .codec = &kit_codec };
	int r = wh_block_open(&c, &b, &diag);
	wh_assert(r == 0 || diag.text[0]);
	return r < 0 ? NULL : b;
}

static void use(struct wh_block *b)
{
	static uint8_t buffer[LOOK], wanted[LOOK];
	uint64_t disk = wh_block_size(b), n = disk < LOOK ? disk : LOOK;
	struct wh_block_info info;
	wh_block_info(b, &info);
	if (!n)
		return;
	(void)wh_block_do(b, WH_BLOCK_READ, 0, buffer, n, 0);
	(void)wh_block_do(b, WH_BLOCK_READ, disk - n, buffer, n, 0);
	for (uint64_t at = 0; at < n; at += n / 7 / 512 * 512 + 512) {
		uint64_t part = n - at < 3072 ? n - at : 3072;
		memset(wanted, (int)(at >> 9) + 1, part);
		(void)wh_block_do(b, WH_BLOCK_DISCARD, at, 0, part / 2 / 512 * 512, 0);
		if (wh_block_do(b, WH_BLOCK_WRITE, at, wanted, part, 0) < 0)
			continue;
		memset(buffer, 0, part);
		if (wh_block_do(b, WH_BLOCK_READ, at, buffer, part, 0) == 0)
			wh_assert(!memcmp(buffer, wanted, part));
	}
	(void)wh_block_do(b, WH_BLOCK_WRITE_ZEROES, 0, 0, n, 0);
	(void)wh_block_do(b, WH_BLOCK_FLUSH, 0, 0, 0, 0);
	(void)wh_block_do(b, WH_BLOCK_WRITE_ZEROES, 0, 0, n, WH_BLOCK_UNMAP);
	(void)wh_block_do(b, WH_BLOCK_WRITE, disk - n, wanted, n, 0);
}

/* Maps, snapshots, another size, compaction. */
static void maintain(struct wh_block *b)
{
	struct wh_block_snapshot about = { .name = "fuzz" };
	struct wh_block_extent e;
	struct wh_block_compaction *c;
	struct wh_block_check check;
	uint64_t disk = wh_block_size(b), done, total, at = 0;
	for (int i = 0; i < 50 && at < disk; i++, at += e.size) {
		if (wh_block_map(b, at, disk - at, 5, &e) < 0)
			break;
		wh_assert(e.size && e.size <= disk - at);
	}
	(void)wh_block_snapshot_create(b, &about, 0);
	(void)wh_block_snapshot_apply(b, "1", 0);
	(void)wh_block_resize(b, (disk < LOOK ? disk : LOOK) / 1024 * 512 + 512, WH_BLOCK_SHRINK,
			      0);
	(void)wh_block_resize(b, LOOK, 0, 0);
	(void)wh_block_snapshot_delete(b, "fuzz", 0);
	if (wh_block_compact_begin(b, &c, 0) >= 0) {
		for (int i = 0; i < 20 && wh_block_compact_step(c, 65536, &done, &total) > 0; i++)
			;
		wh_block_compact_end(c);
	}
	(void)wh_block_check(b, WH_BLOCK_REPAIR_LEAKS, 0, &check, 0);
}

/* What repair says it has mended, a second look finds clean. */
static void repair(struct mem_file *m)
{
	struct wh_block_check c;
	struct wh_block *b = open_image(m, false, WH_BLOCK_OPEN_CHECK);
	if (!b)
		return;
	int r = wh_block_check(b, WH_BLOCK_REPAIR_ALL, 0, &c, 0);
	(void)wh_block_close(b);
	b = r < 0 ? NULL : open_image(m, false, WH_BLOCK_OPEN_CHECK);
	if (b)
		(void)wh_block_check(b, 0, 0, &c, 0);
	(void)wh_block_close(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mem_file m;
	mem_file_init(&m);
	mem_file_init(&linked);
	struct wh_block_io room = { .kind = WH_BLOCK_IO_RESIZE,
				    .flags = WH_BLOCK_IO_NOW,
				    .offset = 4096 };
	(void)linked.file.ops->submit(&linked, &room);
	struct wh_iov v = { (void *)(uintptr_t)data, size };
	struct wh_block_io io = { .kind = WH_BLOCK_IO_WRITE,
				  .flags = WH_BLOCK_IO_NOW,
				  .size = size,
				  .iov = &v,
				  .iov_count = 1 };
	(void)m.file.ops->submit(&m, &io);
	if (size % 4 == 2)
		repair(&m);
	struct wh_block *b = open_image(&m, size % 4 == 3, 0);
	if (b) {
		use(b);
		if (size % 4 != 3)
			maintain(b);
		(void)wh_block_close(b);
		b = open_image(&m, true, 0);
		(void)wh_block_close(b);
	}
	mem_file_fini(&m);
	mem_file_fini(&linked);
	wh_assert(!test_alloc_live());
	return 0;
}
