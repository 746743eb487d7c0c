/* SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>

#include "kit.h"

const struct kit_options kit_all[] = {
	{ 3, 512, 16, 300 << 10 },
	{ 3, 4096, 16, 3 << 20 },
	{ 3, 65536, 16, (5 << 20) + 512 },
	{ 2, 4096, 16, 2 << 20 },
	{ 2, 65536, 16, 3 << 20 },
	{ 2, 512, 16, 200 << 10 },
	{ 3, 4096, 1, 2 << 20 },
	{ 3, 4096, 2, 1 << 20 },
	{ 3, 4096, 4, 1 << 20 },
	{ 3, 4096, 8, 1 << 20, .lazy = true },
	{ 3, 4096, 32, 1 << 20 },
	{ 3, 4096, 64, 1 << 20 },
	{ 3, 512, 64, 100 << 10 },
	{ 3, 2 << 20, 16, 9 << 20 },
	{ 3, 512, 16, 300 << 10, .backing = KIT_RAW_BACKING },
	{ 3, 4096, 16, (1 << 20) + 1536, .backing = KIT_RAW_BACKING },
	{ 3, 65536, 16, 3 << 20, .backing = KIT_QCOW2_BACKING },
	{ 2, 4096, 16, 1 << 20, .backing = KIT_QCOW2_BACKING },
	{ 3, 16384, 16, 2 << 20, .extended = true },
	{ 3, 65536, 16, (3 << 20) + 512, .extended = true },
	{ 3, 16384, 16, 1 << 20, .extended = true, .backing = KIT_RAW_BACKING },
	{ 3, 65536, 8, 2 << 20, .extended = true, .backing = KIT_QCOW2_BACKING },
	{ 3, 4096, 16, 1 << 20, .data = true },
	{ 3, 65536, 16, 2 << 20, .data = true },
	{ 3, 65536, 16, 2 << 20, .data = true, .data_raw = true },
	{ 3, 4096, 16, 1 << 20, .data = true, .backing = KIT_RAW_BACKING },
	{ 3, 16384, 16, 1 << 20, .data = true, .extended = true },
	{ 3, 4096, 16, 1 << 20, .zstd = true },
	{ 3, 4096, 16, 1 << 20, .preallocation = WH_BLOCK_PREALLOCATION_METADATA },
	{ 3, 65536, 16, 2 << 20, .preallocation = WH_BLOCK_PREALLOCATION_FULL },
	{ 3, 16384, 16, 1 << 20, .extended = true,
	  .preallocation = WH_BLOCK_PREALLOCATION_METADATA },
	{ 3, 512, 16, 200 << 10, .preallocation = WH_BLOCK_PREALLOCATION_FALLOC },
	{ 3, 4096, 16, 1 << 20, .data = true, .preallocation = WH_BLOCK_PREALLOCATION_FALLOC },
};
const unsigned kit_count = sizeof kit_all / sizeof kit_all[0];

const char *kit_name(const struct kit_options *o)
{
	static char text[200];
	snprintf(text, sizeof text, "v%u cluster %u refcounts %u cache %u%s%s%s%s%s%s%s pre %d",
		 o->version, o->cluster, o->refcount_bits, o->cache, o->extended ? " extended" : "",
		 o->lazy ? " lazy" : "", o->zstd ? " zstd" : "", o->data ? " data" : "",
		 o->data_raw ? " raw" : "", o->backing == KIT_RAW_BACKING ? " on raw" : "",
		 o->backing == KIT_QCOW2_BACKING ? " on qcow2" : "", o->preallocation);
	return text;
}

/* ---- codec ---- */

static int decode(void *ctx, enum wh_block_compression type, const void *from, size_t from_size,
		  void *to, size_t to_size)
{
	if (from_size < to_size / 512 * 4 + 4 || wh_load_le32(from) != 0x7e57c0de + type)
		return -WH_EINVAL;
	for (size_t i = 0; i < to_size; i += 4)
		memcpy((uint8_t *)to + i, (const uint8_t *)from + 4 + i / 512 * 4, 4);
	return 0;
}

static int encode(void *ctx, enum wh_block_compression type, const void *from, size_t from_size,
		  void *to, size_t to_size)
{
	if (to_size < from_size / 512 * 4 + 4)
		return -WH_ENOSPC;
	wh_store_le32(to, 0x7e57c0de + type);
	for (size_t i = 0; i < from_size; i += 4) {
		const uint8_t *part = (const uint8_t *)from + i / 512 * 512;
		if (memcmp(part, (const uint8_t *)from + i, 4))
			return -WH_ENOSPC;
		memcpy((uint8_t *)to + 4 + i / 512 * 4, part, 4);
	}
	return (int)(from_size / 512 * 4 + 4);
}

const struct wh_block_codec kit_codec = { .decode = decode, .encode = encode };

/* ---- links ---- */

static int link_open(void *ctx, enum wh_block_link what, const struct wh_block_file *parent,
		     const char *name, enum wh_block_format format, bool read_only,
		     struct wh_block_file *ret_file, enum wh_block_format *ret_format,
		     struct wh_diag *diag)
{
	struct kit *k = ctx;
	struct mem_file *m = wh_streq(name, "data")    ? &k->data
			     : wh_streq(name, "base2") ? &k->base2
						       : &k->base; /* whatever its name */
	CHECK_EQ(what, m == &k->data ? WH_BLOCK_LINK_DATA : WH_BLOCK_LINK_BACKING);
	CHECK(parent->ctx == (m == &k->base2 ? &k->base : &k->image));
	*ret_file = m->file;
	ret_file->read_only = read_only;
	*ret_format = format;
	k->opened++;
	return 0;
}

static void link_close(void *ctx, struct wh_block_file *file)
{
	((struct kit *)ctx)->opened--;
}

/* ---- images ---- */

static void put(struct mem_file *m, uint64_t at, const uint8_t *data, uint64_t size)
{
	struct wh_iov v = { (void *)(uintptr_t)data, size };
	struct wh_block_io io = { .kind = WH_BLOCK_IO_WRITE,
				  .flags = WH_BLOCK_IO_NOW,
				  .offset = at,
				  .size = size,
				  .iov = &v,
				  .iov_count = 1 };
	CHECK_EQ(m->file.ops->submit(m, &io), 0);
}

static int open_file(struct kit *k, struct mem_file *m, bool read_only, uint32_t flags,
		     const char *snapshot, struct wh_block **ret, struct wh_diag *diag)
{
	struct wh_block_config c = { .size = sizeof c,
				     .file = m->file,
				     .format = WH_BLOCK_FORMAT_QCOW2,
				     .read_only = read_only,
				     .alloc = &test_allocator,
				     .cache_size = k->o.cache,
				     .flags = flags,
				     .resolver = &k->resolver,
				     .codec = &kit_codec,
				     .snapshot = snapshot };
	return wh_block_open(&c, ret, diag);
}

/* A qcow2 base on a raw one: what it has itself are all odd parts of 3 KiB, some packed. */
static void make_base(struct kit *k, const uint8_t *below)
{
	struct wh_block_qcow2_config c = { .size = sizeof c,
					   .disk_size = k->o.disk,
					   .cluster_size = 1024,
					   .backing_name = "base2",
					   .backing_format = WH_BLOCK_FORMAT_RAW };
	struct wh_block *b;
	uint64_t step = 3072;
	CHECK_EQ(wh_block_qcow2_create(&k->base.file, &c, &test_allocator, 0), 0);
	put(&k->base2, 0, below, k->o.disk);
	CHECK_EQ(open_file(k, &k->base, false, 0, 0, &b, 0), 0);
	for (uint64_t at = step; at + step <= k->o.disk; at += 2 * step) {
		int r = wh_block_do(b, WH_BLOCK_WRITE, at, (void *)(uintptr_t)(below + at), step,
				    at % 5 == 0 ? WH_BLOCK_COMPRESS : 0);
		CHECK_EQ(r, 0);
		memset(k->base2.data + at, 0x55, step);
	}
	CHECK_EQ(wh_block_close(b), 0);
}

void kit_init(struct kit *k, const struct kit_options *o, const uint8_t *below)
{
	memset(k, 0, sizeof *k);
	k->o = *o;
	k->resolver =
		(struct wh_block_resolver){ .open = link_open, .close = link_close, .ctx = k };
	mem_file_init(&k->image);
	mem_file_init(&k->data);
	mem_file_init(&k->base);
	mem_file_init(&k->base2);
	struct wh_block_qcow2_config c = { .size = sizeof c,
					   .disk_size = o->disk,
					   .version = o->version,
					   .cluster_size = o->cluster,
					   .refcount_bits = o->refcount_bits,
					   .lazy_refcounts = o->lazy,
					   .extended_l2 = o->extended,
					   .compression = o->zstd,
					   .preallocation = o->preallocation,
					   .data_file_name = o->data ? "data" : 0,
					   .data_file = o->data ? &k->data.file : 0,
					   .data_file_raw = o->data_raw,
					   .backing_name = o->backing ? "base" : 0,
					   .backing_format = o->backing == KIT_RAW_BACKING
								     ? WH_BLOCK_FORMAT_RAW
								     : WH_BLOCK_FORMAT_QCOW2 };
	struct wh_diag diag = { "" };
	if (wh_block_qcow2_create(&k->image.file, &c, &test_allocator, &diag) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", kit_name(o), diag.text);
	if (o->backing == KIT_RAW_BACKING)
		put(&k->base, 0, below, o->disk);
	else if (o->backing)
		make_base(k, below);
}

void kit_fini(struct kit *k)
{
	CHECK_EQ(k->opened, 0);
	mem_file_fini(&k->image);
	mem_file_fini(&k->data);
	mem_file_fini(&k->base);
	mem_file_fini(&k->base2);
}

int kit_open(struct kit *k, bool read_only, uint32_t flags, const char *snapshot,
	     struct wh_diag *diag)
{
	return open_file(k, &k->image, read_only, flags, snapshot, &k->block, diag);
}

void kit_must_open(struct kit *k, bool read_only)
{
	struct wh_diag diag = { "" };
	if (kit_open(k, read_only, 0, 0, &diag) < 0)
		test_fail(__FILE__, __LINE__, "%s: open: %s", kit_name(&k->o), diag.text);
}

void kit_expect_clean(struct kit *k, bool leaks)
{
	struct wh_block_check c;
	struct wh_diag diag = { "" };
	if (kit_open(k, true, WH_BLOCK_OPEN_CHECK, 0, &diag) < 0)
		test_fail(__FILE__, __LINE__, "%s: open for check: %s", kit_name(&k->o), diag.text);
	int r = wh_block_check(k->block, 0, 0, &c, &diag);
	CHECK_EQ(wh_block_close(k->block), 0);
	k->block = 0;
	if (r < 0)
		test_fail(__FILE__, __LINE__, "%s: check: %s", kit_name(&k->o), diag.text);
	if (c.corruptions || c.errors || (c.leaks && !leaks))
		test_fail(__FILE__, __LINE__, "%s: %llu corruptions, %llu leaks: %s",
			  kit_name(&k->o), (unsigned long long)c.corruptions,
			  (unsigned long long)c.leaks, c.first);
}
