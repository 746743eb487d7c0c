/* SPDX-License-Identifier: ISC */
/* Raw and qcow2 against a model of which bytes each sector may hold; geometry, errors, refusals. */
#include <stdio.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>

#include "../qcow2_priv.h"
#include "mem_file.h"

struct geometry {
	uint32_t version, cluster, refcount_bits;
	uint64_t disk;
};

static const struct geometry geometries[] = {
	{ 3, 512, 16, 300 << 10 },   { 3, 4096, 16, 3 << 20 },  { 3, 65536, 16, (5 << 20) + 512 },
	{ 2, 4096, 16, 2 << 20 },    { 2, 65536, 16, 3 << 20 }, { 3, 4096, 1, 2 << 20 },
	{ 3, 4096, 2, 1 << 20 },     { 3, 4096, 4, 1 << 20 },   { 3, 4096, 8, 1 << 20 },
	{ 3, 4096, 32, 1 << 20 },    { 3, 4096, 64, 1 << 20 },  { 3, 512, 64, 100 << 10 },
	{ 3, 2 << 20, 16, 9 << 20 },
};

static struct mem_file file;
static struct wh_block *block;

static int open_image(struct mem_file *m, bool read_only, struct wh_diag *diag)
{
	struct wh_block_config c = { .size = sizeof c,
				     .file = m->file,
				     .format = WH_BLOCK_FORMAT_QCOW2,
				     .read_only = read_only,
				     .alloc = &test_allocator };
	return wh_block_open(&c, &block, diag);
}

static void create(const struct geometry *g)
{
	struct wh_block_qcow2_config c = { .size = sizeof c,
					   .disk_size = g->disk,
					   .version = g->version,
					   .cluster_size = g->cluster,
					   .refcount_bits = g->refcount_bits };
	struct wh_diag diag = { "" };
	mem_file_init(&file);
	CHECK_EQ(wh_block_qcow2_create(&file.file, &c, &test_allocator, &diag), 0);
}

static void expect_clean(const struct mem_file *m, bool leaks_allowed)
{
	struct image_check check;
	image_check(m, &check);
	if (check.errors)
		test_fail(__FILE__, __LINE__, "%u errors: %s", check.errors, check.first);
	if (!leaks_allowed)
		CHECK_EQ(check.leaks, 0);
}

/* ---- random requests against a model ---- */

#define BUFFER (3u << 20)
static uint8_t buffer[BUFFER], model[10 << 20];
static bool no_discard; /* what it leaves behind is not known */

static void random_request(uint64_t *state, uint64_t disk)
{
	uint64_t r = wh_random_next(state), r2 = wh_random_next(state);
	uint64_t sectors = disk / 512, at = r2 % sectors,
		 n = 1 + (r >> 32) % ((r >> 24) % 4 ? 40 : 900);
	if (n > sectors - at)
		n = sectors - at;
	switch (r % 10 == 5 && no_discard ? 6 : r % 10) {
	case 0:
	case 1:
	case 2:
	case 3:
		for (uint64_t i = 0; i < n * 512; i += 8)
			wh_store_le64(buffer + i, r2 + i);
		CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, at * 512, buffer, n * 512, 0), 0);
		memcpy(model + at * 512, buffer, n * 512);
		break;
	case 4:
		CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE_ZEROES, at * 512, 0, n * 512,
				     r >> 40 & 1 ? WH_BLOCK_UNMAP : 0),
			 0);
		memset(model + at * 512, 0, n * 512);
		break;
	case 5: {
		/* Afterwards zeroes or what was there, the model takes what it finds. */
		CHECK_EQ(wh_block_do(block, WH_BLOCK_DISCARD, at * 512, 0, n * 512, 0), 0);
		CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, at * 512, buffer, n * 512, 0), 0);
		for (uint64_t i = 0; i < n * 512; i++)
			CHECK(!buffer[i] || buffer[i] == model[at * 512 + i]);
		memcpy(model + at * 512, buffer, n * 512);
		break;
	}
	case 6:
		CHECK_EQ(wh_block_do(block, WH_BLOCK_FLUSH, 0, 0, 0, 0), 0);
		break;
	default:
		CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, at * 512, buffer, n * 512, 0), 0);
		CHECK_MEM(buffer, model + at * 512, n * 512);
	}
}

static void compare_all(uint64_t disk)
{
	for (uint64_t at = 0; at < disk; at += BUFFER) {
		uint64_t n = disk - at < BUFFER ? disk - at : BUFFER;
		CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, at, buffer, n, 0), 0);
		CHECK_MEM(buffer, model + at, n);
	}
}

static void fits_the_model(void)
{
	uint64_t state = test_seed();
	for (size_t i = 0; i < WH_ARRAY_COUNT(geometries); i++) {
		const struct geometry *g = &geometries[i];
		memset(model, 0, sizeof model);
		create(g);
		expect_clean(&file, false);
		for (int round = 0; round < 3; round++) {
			CHECK_EQ(open_image(&file, false, 0), 0);
			CHECK_EQ(wh_block_size(block), wh_align_up(g->disk, 512));
			compare_all(g->disk);
			for (int k = 0; k < 200; k++)
				random_request(&state, g->disk);
			compare_all(g->disk);
			CHECK_EQ(wh_block_close(block), 0);
			expect_clean(&file, false);
		}
		CHECK_EQ(test_alloc_live(), 0);
		mem_file_fini(&file);
	}
}

/* ---- many in flight, answered in any order ---- */

#define FLIGHT 24u
static struct flight {
	struct wh_block_request q;
	struct wh_iov iov[3];
	uint8_t data[64 << 10], wanted[64 << 10];
	bool busy, check;
} flight[FLIGHT];

static void landed(struct wh_block_request *q, int result)
{
	struct flight *f = q->ctx;
	CHECK_EQ(result, 0);
	if (f->check)
		CHECK_MEM(f->data, f->wanted, q->size);
	f->busy = false;
}

static void launch(struct flight *f, uint64_t *state, uint64_t disk)
{
	uint64_t r = wh_random_next(state), at = wh_random_next(state) % (disk / 512);
	uint64_t n = 1 + (r >> 16) % 40;
	if (n > disk / 512 - at)
		n = disk / 512 - at;
	f->q = (struct wh_block_request){
		.offset = at * 512, .size = n * 512, .iov = f->iov, .done = landed, .ctx = f
	};
	f->iov[0] = (struct wh_iov){ f->data, 100 };
	f->iov[1] = (struct wh_iov){ f->data + 100, 300 };
	f->iov[2] = (struct wh_iov){ f->data + 400, sizeof f->data - 400 };
	f->q.iov_count = 3;
	f->busy = true;
	f->check = false;
	switch (r % 8) {
	case 0:
		f->q.op = WH_BLOCK_FLUSH;
		f->q.size = 0;
		break;
	case 1:
		f->q.op = WH_BLOCK_WRITE_ZEROES;
		f->q.flags = WH_BLOCK_UNMAP;
		memset(model + at * 512, 0, n * 512);
		break;
	case 2:
	case 3:
		/* The model is what earlier submissions will have made. */
		f->q.op = WH_BLOCK_READ;
		f->check = true;
		memcpy(f->wanted, model + at * 512, n * 512);
		break;
	default:
		f->q.op = WH_BLOCK_WRITE;
		memset(f->data, (int)(r >> 40), n * 512);
		memcpy(model + at * 512, f->data, n * 512);
	}
	wh_block_submit(block, &f->q);
}

static void many_in_flight(void)
{
	uint64_t state = test_seed();
	for (size_t i = 0; i < 4; i++) {
		memset(model, 0, sizeof model);
		create(&geometries[i]);
		CHECK_EQ(open_image(&file, false, 0), 0);
		file.late = true;
		for (int k = 0; k < 4000; k++) {
			struct flight *f = &flight[wh_random_next(&state) % FLIGHT];
			if (!f->busy)
				launch(f, &state, geometries[i].disk);
			else if (file.waiting_count)
				mem_file_step(&file, wh_random_next(&state) % file.waiting_count);
		}
		while (file.waiting_count)
			mem_file_step(&file, 0);
		for (size_t k = 0; k < FLIGHT; k++)
			CHECK(!flight[k].busy);
		file.late = false;
		compare_all(geometries[i].disk);
		CHECK_EQ(wh_block_close(block), 0);
		expect_clean(&file, false);
		mem_file_fini(&file);
	}
}

/* ---- growing tables, full refcount tables, small caches ---- */

static void refcount_table_grows(void)
{
	/* A table for a small disk, then a larger disk by the header: as after a resize elsewhere. */
	static const struct geometry g = { 3, 512, 64, 64 << 10 };
	create(&g);
	uint64_t disk = 2 << 20, state = test_seed();
	uint32_t l1 = (uint32_t)(disk / 512 / 64);
	uint64_t at = wh_align_up(file.size, 512);
	uint8_t zero[512] = { 0 };
	for (uint32_t i = 0; i < l1 * 8; i += 512) {
		struct wh_iov v = { zero, 512 };
		struct wh_block_io io = { .kind = WH_BLOCK_IO_WRITE,
					  .flags = WH_BLOCK_IO_NOW,
					  .offset = at + i,
					  .size = 512,
					  .iov = &v,
					  .iov_count = 1 };
		CHECK_EQ(file.file.ops->submit(&file, &io), 0);
	}
	uint64_t old_l1 = wh_load_be64(file.data + QCOW2_H_L1_OFFSET);
	uint64_t block_at = wh_load_be64(file.data + wh_load_be64(file.data + QCOW2_H_RT_OFFSET));
	wh_store_be64(file.data + QCOW2_H_SIZE, disk);
	wh_store_be64(file.data + QCOW2_H_L1_OFFSET, at);
	wh_store_be32(file.data + QCOW2_H_L1_SIZE, l1);
	qcow2_refcount_store(file.data + block_at, 6, old_l1 / 512, 0);
	for (uint32_t i = 0; i < l1 * 8; i += 512)
		qcow2_refcount_store(file.data + block_at, 6, (at + i) / 512, 1);
	expect_clean(&file, false);
	memset(model, 0, sizeof model);
	uint32_t before = wh_load_be32(file.data + QCOW2_H_RT_CLUSTERS);
	CHECK_EQ(open_image(&file, false, 0), 0);
	for (int k = 0; k < 1500; k++)
		random_request(&state, disk);
	compare_all(disk);
	CHECK_EQ(wh_block_close(block), 0);
	expect_clean(&file, false);
	CHECK(wh_load_be32(file.data + QCOW2_H_RT_CLUSTERS) > before);
	mem_file_fini(&file);
}

static void discard_shrinks_and_reuses(void)
{
	static const struct geometry g = { 3, 4096, 16, 4 << 20 };
	create(&g);
	CHECK_EQ(open_image(&file, false, 0), 0);
	for (int i = 0; i < 20; i++) {
		CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 0, buffer, 1 << 20, 0), 0);
		CHECK_EQ(wh_block_do(block, WH_BLOCK_DISCARD, 0, 0, 1 << 20, 0), 0);
		CHECK_EQ(wh_block_do(block, WH_BLOCK_FLUSH, 0, 0, 0, 0), 0);
	}
	CHECK(file.size < 3 << 20); /* places are used again */
	CHECK_EQ(wh_block_close(block), 0);
	expect_clean(&file, false);
	mem_file_fini(&file);
}

/* ---- errors ---- */

static void bad_requests(void)
{
	create(&geometries[1]);
	CHECK_EQ(open_image(&file, false, 0), 0);
	uint64_t disk = wh_block_size(block);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, disk, buffer, 512, 0), -WH_EINVAL);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, disk - 512, buffer, 1024, 0), -WH_EINVAL);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, UINT64_MAX - 511, buffer, 512, 0), -WH_EINVAL);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, 1, buffer, 512, 0), -WH_EINVAL);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 0, buffer, 100, 0), -WH_EINVAL);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 0, 0, 512, 0), -WH_EINVAL);
	CHECK_EQ(wh_block_do(block, (enum wh_block_op)17, 0, 0, 512, 0), -WH_EINVAL);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, disk, buffer, 0, 0), 0);
	CHECK_EQ(wh_block_close(block), 0);
	CHECK_EQ(open_image(&file, true, 0), 0);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 0, buffer, 512, 0), -WH_EROFS);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_FLUSH, 0, 0, 0, 0), 0);
	CHECK_EQ(wh_block_close(block), 0);
	mem_file_fini(&file);
}

/* The n-th operation fails, for every n: the image stays consistent, and what the model says is there
 * once the trouble is over. */
static void failing_operations(int error, bool rest)
{
	static const struct geometry g = { 3, 512, 16, 200 << 10 };
	for (unsigned long n = 1; n < 3000; n++) {
		uint64_t state = test_seed() + 5;
		bool failed = false;
		create(&g);
		CHECK_EQ(open_image(&file, false, 0), 0);
		file.ops = 0;
		file.fail_at = n;
		file.fail_error = error;
		file.fail_rest = rest;
		for (int k = 0; k < 40; k++) {
			uint64_t r = wh_random_next(&state), at = (r >> 8) % 390;
			uint64_t size = (1 + (r >> 32) % 10) * 512;
			enum wh_block_op op = r % 4 == 0   ? WH_BLOCK_DISCARD
					      : r % 4 == 1 ? WH_BLOCK_FLUSH
							   : WH_BLOCK_WRITE;
			int e = wh_block_do(block, op, at * 512, op == WH_BLOCK_WRITE ? buffer : 0,
					    size, 0);
			CHECK(e == 0 || e == -error || e == -WH_EIO);
			failed |= e < 0;
		}
		int e = wh_block_close(block);
		failed |= e < 0;
		file.fail_at = 0;
		expect_clean(&file, failed);
		CHECK_EQ(open_image(&file, false, 0), 0);
		CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 0, buffer, 100 << 10, 0), 0);
		CHECK_EQ(wh_block_close(block), 0);
		expect_clean(&file, true);
		CHECK_EQ(test_alloc_live(), 0);
		bool over = file.ops < n;
		mem_file_fini(&file);
		if (!failed && over)
			return;
	}
}

static void io_errors(void)
{
	failing_operations(WH_EIO, false);
}

static void full_disk(void)
{
	failing_operations(WH_ENOSPC, true);
}

static void flush_error_stays(void)
{
	create(&geometries[1]);
	CHECK_EQ(open_image(&file, false, 0), 0);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 0, buffer, 512, 0), 0);
	for (unsigned long n = 1; n < 10 && file.ops; n++) {
		file.fail_at = file.ops + n;
		file.fail_error = WH_EIO;
		if (wh_block_do(block, WH_BLOCK_FLUSH, 0, 0, 0, 0) < 0 &&
		    ((struct wh_block *)block)->failed)
			break;
	}
	file.fail_at = 0;
	CHECK(block->failed);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_FLUSH, 0, 0, 0, 0), -WH_EIO);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 0, buffer, 512, 0), -WH_EIO);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, 0, buffer, 512, 0), 0);
	CHECK_EQ(wh_block_close(block), -WH_EIO);
	mem_file_fini(&file);
}

static void no_memory(void)
{
	for (unsigned long n = 1;; n++) {
		create(&geometries[1]);
		test_alloc_fail_at(n);
		int r = open_image(&file, false, 0);
		if (r >= 0) {
			int w = wh_block_do(block, WH_BLOCK_WRITE, 4096, buffer, 8192, 0);
			test_alloc_fail_at(0);
			CHECK(w == 0 || w == -WH_ENOMEM);
			CHECK_EQ(wh_block_close(block), 0);
			expect_clean(&file, true);
			if (!w) {
				mem_file_fini(&file);
				break;
			}
		} else {
			CHECK_EQ(r, -WH_ENOMEM);
		}
		test_alloc_fail_at(0);
		CHECK_EQ(test_alloc_live(), 0);
		mem_file_fini(&file);
	}
}

/* ---- refusals ---- */

static void refused(uint32_t at, unsigned bytes, uint64_t value, int error, const char *word)
{
	struct wh_diag diag = { "" };
	create(&geometries[1]);
	for (unsigned i = 0; i < bytes; i++)
		file.data[at + i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
	CHECK_EQ(open_image(&file, false, &diag), error);
	if (!strstr(diag.text, word))
		test_fail(__FILE__, __LINE__, "\"%s\" does not say %s", diag.text, word);
	CHECK_EQ(test_alloc_live(), 0);
	mem_file_fini(&file);
}

static void bad_headers(void)
{
	refused(0, 4, 0x12345678, -WH_EINVAL, "not a qcow2");
	refused(QCOW2_H_VERSION, 4, 1, -WH_EOPNOTSUPP, "version 1");
	refused(QCOW2_H_VERSION, 4, 4, -WH_EOPNOTSUPP, "version 4");
	refused(QCOW2_H_BACKING_OFFSET, 8, 8, -WH_EINVAL, "name");
	refused(QCOW2_H_BACKING_OFFSET, 8, UINT64_MAX, -WH_EINVAL, "name");
	refused(QCOW2_H_CLUSTER_BITS, 4, 8, -WH_EINVAL, "2^8");
	refused(QCOW2_H_CLUSTER_BITS, 4, 22, -WH_EINVAL, "2^22");
	refused(QCOW2_H_CLUSTER_BITS, 4, 0xffffffff, -WH_EINVAL, "2^");
	refused(QCOW2_H_SIZE, 8, UINT64_MAX, -WH_EINVAL, "size");
	refused(QCOW2_H_SIZE, 8, 1ull << 62, -WH_EINVAL, "L1");
	refused(QCOW2_H_CRYPT, 4, 1, -WH_EOPNOTSUPP, "encrypted");
	refused(QCOW2_H_L1_SIZE, 4, 0, -WH_EINVAL, "L1");
	refused(QCOW2_H_L1_SIZE, 4, 0xffffffff, -WH_EINVAL, "L1");
	refused(QCOW2_H_L1_SIZE, 4, 4 << 20, -WH_EINVAL, "L1");
	refused(QCOW2_H_L1_OFFSET, 8, 1, -WH_EINVAL, "L1");
	refused(QCOW2_H_L1_OFFSET, 8, UINT64_MAX << 12, -WH_EINVAL, "L1");
	refused(QCOW2_H_L1_OFFSET, 8, 4096, -WH_EINVAL, "overlap");
	refused(QCOW2_H_RT_OFFSET, 8, 0, -WH_EINVAL, "refcount table");
	refused(QCOW2_H_RT_OFFSET, 8, 1ull << 40, -WH_EINVAL, "refcount table");
	refused(QCOW2_H_RT_CLUSTERS, 4, 0, -WH_EINVAL, "refcount table");
	refused(QCOW2_H_RT_CLUSTERS, 4, 0xffffffff, -WH_EINVAL, "refcount table");
	refused(QCOW2_H_SNAPSHOTS, 4, 3, -WH_EINVAL, "3 snapshots");
	refused(QCOW2_H_SNAPSHOTS, 4, UINT32_MAX, -WH_EINVAL, "snapshots");
	refused(QCOW2_H_INCOMPATIBLE, 8, 2, -WH_EINVAL, "corrupt");
	refused(QCOW2_H_INCOMPATIBLE, 8, 4, -WH_EINVAL, "another file");
	refused(QCOW2_H_INCOMPATIBLE, 8, 16, -WH_EINVAL, "extended L2");
	refused(QCOW2_H_INCOMPATIBLE, 8, 32, -WH_EOPNOTSUPP, "0x20");
	refused(QCOW2_H_INCOMPATIBLE, 8, 1ull << 63, -WH_EOPNOTSUPP, "0x8000000000000000");
	refused(QCOW2_H_REFCOUNT_ORDER, 4, 7, -WH_EINVAL, "order 7");
	refused(QCOW2_H_LENGTH, 4, 103, -WH_EINVAL, "length");
	refused(QCOW2_H_LENGTH, 4, 8192, -WH_EINVAL, "length");
	refused(QCOW2_H_V3_SIZE, 8, 0x12345678fffffff0, -WH_EINVAL, "extension");
	refused(4096, 8, 0x1001, -WH_EINVAL, "refcount table entry 0");
}

/* L2 entries that cannot be true: an error for that cluster, the corrupt bit, no more writes. */
static void bad_entries(void)
{
	static const uint64_t entries[] = { QCOW2_COPIED | 0x1000ull << 40,
					    QCOW2_COPIED | 4096 | 512,
					    QCOW2_COPIED | 4096 /* the refcount table */,
					    QCOW2_COPIED | 0x7f << 1, 1ull << 61 };
	for (size_t i = 0; i < WH_ARRAY_COUNT(entries); i++) {
		create(&geometries[1]);
		CHECK_EQ(open_image(&file, false, 0), 0);
		CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 0, buffer, 8192, 0), 0);
		CHECK_EQ(wh_block_close(block), 0);
		uint64_t l1 = wh_load_be64(file.data + QCOW2_H_L1_OFFSET);
		uint64_t l2 = wh_load_be64(file.data + l1) & QCOW2_OFFSET_MASK;
		wh_store_be64(file.data + l2, entries[i]);
		CHECK_EQ(open_image(&file, false, 0), 0);
		CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, 4096, buffer, 512, 0), 0);
		CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 0, buffer, 512, 0), -WH_EIO);
		CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 4096, buffer, 512, 0), -WH_EIO);
		CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, 4096, buffer, 512, 0), 0);
		CHECK_EQ(wh_block_close(block), -WH_EIO);
		CHECK_EQ(file.data[QCOW2_H_INCOMPATIBLE + 7], 2);
		CHECK_EQ(open_image(&file, false, 0), -WH_EINVAL);
		CHECK_EQ(open_image(&file, true, 0), 0);
		CHECK_EQ(wh_block_close(block), 0);
		mem_file_fini(&file);
	}
}

static void compressed_refused(void)
{
	struct wh_diag diag = { "" };
	create(&geometries[1]);
	CHECK_EQ(open_image(&file, false, 0), 0);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 0, buffer, 8192, 0), 0);
	CHECK_EQ(wh_block_close(block), 0);
	uint64_t l1 = wh_load_be64(file.data + QCOW2_H_L1_OFFSET);
	uint64_t l2 = wh_load_be64(file.data + l1) & QCOW2_OFFSET_MASK;
	wh_store_be64(file.data + l2 + 8, QCOW2_COMPRESSED | 0x5001);
	CHECK_EQ(open_image(&file, true, &diag), -WH_EOPNOTSUPP);
	CHECK(strstr(diag.text, "compressed"));
	mem_file_fini(&file);
}

static void autoclear_goes(void)
{
	create(&geometries[1]);
	file.data[QCOW2_H_AUTOCLEAR + 7] = 13; /* bitmaps, and two that nobody knows */
	CHECK_EQ(open_image(&file, false, 0), 0);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, 0, buffer, 512, 0), 0);
	CHECK_EQ(file.data[QCOW2_H_AUTOCLEAR + 7], 13); /* nobody wrote */
	CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 0, buffer, 512, 0), 0);
	CHECK_EQ(file.data[QCOW2_H_AUTOCLEAR + 7], 1);
	CHECK_EQ(wh_block_close(block), 0);
	mem_file_fini(&file);
}

static void raw_disk(void)
{
	uint64_t state = test_seed();
	mem_file_init(&file);
	struct wh_block_config c = { .size = sizeof c,
				     .file = file.file,
				     .format = WH_BLOCK_FORMAT_RAW,
				     .alloc = &test_allocator };
	CHECK_EQ(wh_block_open(&c, &block, 0), -WH_EINVAL); /* empty */
	struct wh_block_io io = { .kind = WH_BLOCK_IO_RESIZE, .offset = (1 << 20) - 100 };
	CHECK_EQ(file.file.ops->submit(&file, &io), 0);
	CHECK_EQ(wh_block_open(&c, &block, 0), 0);
	CHECK_EQ(wh_block_size(block), 1 << 20);
	memset(model, 0, sizeof model);
	no_discard = true;
	for (int k = 0; k < 500; k++)
		random_request(&state, 1 << 20);
	no_discard = false;
	CHECK_EQ(wh_block_do(block, WH_BLOCK_DISCARD, 0, 0, 8192, 0), 0);
	CHECK_EQ(wh_block_close(block), 0);
	mem_file_fini(&file);
}

int main(void)
{
	RUN(fits_the_model);
	RUN(many_in_flight);
	RUN(refcount_table_grows);
	RUN(discard_shrinks_and_reuses);
	RUN(bad_requests);
	RUN(io_errors);
	RUN(full_disk);
	RUN(flush_error_stays);
	RUN(no_memory);
	RUN(bad_headers);
	RUN(bad_entries);
	RUN(compressed_refused);
	RUN(autoclear_goes);
	RUN(raw_disk);
	return test_end();
}
