/* SPDX-License-Identifier: ISC */
/*
 * The input is a qcow2 image: opened, read, written, zeroed, discarded, flushed, closed, opened again.
 * What an image that was accepted gives for a sector that was written must be what was written.
 */
#include <stdlib.h>
#include <wherry/base/assert.h>

#include "../src/portable/block/test/mem_file.h"

#define LOOK (256u << 10) /* bytes of the disk that are used */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct wh_block *open_image(struct mem_file *m, bool read_only)
{
	struct wh_block *b = NULL;
	struct wh_diag diag = { "" };
	struct wh_block_config c = { .size = sizeof c,
				     .file = m->file,
				     .format = WH_BLOCK_FORMAT_QCOW2,
				     .read_only = read_only,
				     .alloc = &test_allocator,
				     .cache_size = 64 << 10 };
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mem_file m;
	mem_file_init(&m);
	struct wh_iov v = { (void *)(uintptr_t)data, size };
	struct wh_block_io io = { .kind = WH_BLOCK_IO_WRITE,
				  .flags = WH_BLOCK_IO_NOW,
				  .size = size,
				  .iov = &v,
				  .iov_count = 1 };
	(void)m.file.ops->submit(&m, &io);
	struct wh_block *b = open_image(&m, size % 4 == 3);
	if (b) {
		use(b);
		(void)wh_block_close(b);
		b = open_image(&m, true);
		(void)wh_block_close(b);
	}
	mem_file_fini(&m);
	wh_assert(!test_alloc_live());
	return 0;
}
