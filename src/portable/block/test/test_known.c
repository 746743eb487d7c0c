/* SPDX-License-Identifier: ISC */
/*
 * Faults that lost data in other implementations, each by a test of its name (the others are in test_faults.c, test_schedule.c,
 * test_block.c and the tests of host/blockio, host/nbd and the command). What is looked for stands above each.
 */
#include <stdio.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>

#include "../qcow2_priv.h"
#include "scene.h"

static const struct kit_options small = { 3, 512, 64, DISK };

static void zero(uint64_t at, uint64_t size, uint32_t flags)
{
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_WRITE_ZEROES, at, 0, size, flags), 0);
	memset(model + at, 0, size);
}

static void flush(void)
{
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_FLUSH, 0, 0, 0, 0), 0);
}

static void end(bool leaks)
{
	compare();
	CHECK_EQ(wh_block_close(kit.block), 0);
	kit_expect_clean(&kit, leaks);
	kit_must_open(&kit, true);
	compare();
	CHECK_EQ(wh_block_close(kit.block), 0);
	kit_fini(&kit);
	CHECK_EQ(test_alloc_live(), 0);
}

/* cloud-hypervisor #8624: a cluster had been given out again when the hole was punched that its freeing had asked for. The
 * file's holes read as 0xdd here. */
static void holes_are_punched_before_clusters_are_given_out(void)
{
	unsigned holes = 0;
	begin(&plain);
	mem_file_record(&kit.image, &kit.image);
	for (int round = 1; round < 30; round++) {
		uint64_t at = round % 7 * 8192u;
		CHECK_EQ(put(at, round, 16384, 0), 0);
		zero(at + 4096, 8192, WH_BLOCK_UNMAP);
		if (round % 3 == 0)
			flush();
		CHECK_EQ(put(131072 + round % 5 * 4096u, round, 4096, 0), 0);
		compare();
	}
	for (size_t i = 0; i < kit.image.op_count; i++)
		holes += kit.image.op[i].kind == WH_BLOCK_IO_DISCARD;
	CHECK(holes > 5);
	end(false);
}

/* cloud-hypervisor #8606, a5e145b, #8748: after a failed write of a new place for a table, the live one was on the free list.
 * Packed clusters and snapshots make tables and clusters move all the time. */
static void failed_writes_leave_nothing_live_free(void)
{
	static uint8_t then[DISK];
	struct wh_block_snapshot about = { .name = "s" };
	bool over = false;
	for (unsigned long n = 1; !over; n++) {
		begin(&plain);
		for (uint64_t at = 0; at < DISK / 2; at += 4096)
			CHECK_EQ(put(at, (int)(at >> 12) + 1, 4096,
				     at & 4096 ? WH_BLOCK_COMPRESS : 0),
				 0);
		CHECK_EQ(wh_block_snapshot_create(kit.block, &about, 0), 0);
		memcpy(then, model, DISK);
		kit.image.ops = 0;
		kit.image.fail_at = n;
		kit.image.fail_error = WH_ENOSPC;
		for (uint64_t at = 2048; at < DISK / 2; at += 6144) {
			uint8_t old[4096];
			memcpy(old, model + at, sizeof old);
			if (put(at, 99, 4096, 0) >= 0)
				continue;
			/* What failed may be there or not, sector by sector. */
			CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_READ, at, model + at, 4096, 0), 0);
			for (unsigned i = 0; i < 4096; i++)
				CHECK(model[at + i] == 99 || model[at + i] == old[i]);
		}
		over = kit.image.ops < n;
		kit.image.fail_at = 0;
		for (uint64_t at = 0; at < DISK; at += 8192)
			CHECK_EQ(put(at, (int)(at >> 11), 4096, 0), 0);
		compare();
		CHECK_EQ(wh_block_close(kit.block), 0);
		kit_expect_clean(&kit, true);
		CHECK_EQ(kit_open(&kit, true, 0, "s", 0), 0);
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_READ, 0, buffer, DISK, 0), 0);
		CHECK_MEM(buffer, then, DISK);
		CHECK_EQ(wh_block_close(kit.block), 0);
		kit_fini(&kit);
		CHECK(n < 1000);
	}
}

/* cloud-hypervisor #8358: guest data over the first 64 KiB of the file. #8597: places of moved refcount blocks were never used
 * again, the file grew to twice what was live. */
static void the_file_stays_as_long_as_its_content(void)
{
	uint64_t seed = test_seed();
	uint8_t head[512];
	begin(&small);
	memcpy(head, kit.image.data, sizeof head);
	for (int round = 0; round < 3000; round++) {
		uint64_t r = wh_random_next(&seed), at = r % (DISK / 512) * 512;
		uint64_t n = 512 + (r >> 20) % 16 * 512;
		n = n < DISK - at ? n : DISK - at;
		if (r >> 32 & 1)
			CHECK_EQ(put(at, (int)(r >> 40), n, 0), 0);
		else
			zero(at, n, WH_BLOCK_UNMAP);
		if (round % 8 == 0)
			flush();
	}
	CHECK_EQ(put(0, 1, DISK, 0), 0);
	flush();
	/* Refcounts: 1 cluster for 64. L2: 1 for 64. Clusters freed since the last flush: at most the disk's. */
	CHECK(kit.image.size < DISK + DISK / 4 + DISK / 8);
	/* The header has its tables elsewhere, and nothing else has changed. */
	CHECK_EQ(wh_load_be32(kit.image.data), QCOW2_MAGIC);
	CHECK_MEM(kit.image.data + 4, head + 4, QCOW2_H_L1_OFFSET - 4);
	end(false);
}

/* cloud-hypervisor 562af12, 8555695: what a writer had buffered was not written when the file was flushed. The last thing that
 * close and create do to each file is a flush. */
static void closing_ends_with_a_flush_of_each_file(void)
{
	static const struct kit_options kinds[] = { { 3, 4096, 16, DISK },
						    { 3, 4096, 16, DISK, .data = true },
						    { 2, 512, 16, DISK } };
	for (unsigned k = 0; k < WH_ARRAY_COUNT(kinds); k++) {
		begin(&kinds[k]);
		mem_file_record(&kit.image, &kit.image);
		mem_file_record(&kit.data, &kit.image);
		CHECK_EQ(put(0, 1, 65536, 0), 0);
		CHECK_EQ(wh_block_close(kit.block), 0);
		bool flushed[2] = { true, true };
		for (size_t i = 0; i < kit.image.op_count; i++) {
			const struct mem_op *op = &kit.image.op[i];
			flushed[op->of == &kit.data] = op->kind == WH_BLOCK_IO_FLUSH;
		}
		CHECK(flushed[0] && flushed[1]);
		kit_fini(&kit);
	}
	struct mem_file m;
	struct wh_block_qcow2_config c = { .size = sizeof c, .disk_size = DISK };
	mem_file_init(&m);
	mem_file_record(&m, &m);
	CHECK_EQ(wh_block_qcow2_create(&m.file, &c, &test_allocator, 0), 0);
	CHECK_EQ(m.op[m.op_count - 1].kind, WH_BLOCK_IO_FLUSH);
	mem_file_fini(&m);
}

/* cloud-hypervisor 53ee9eb: the first of several that closed a dirty image made it clean. Who only reads writes nothing. */
static void readers_leave_a_dirty_image_dirty(void)
{
	uint8_t *flags;
	begin(&plain);
	CHECK_EQ(put(0, 1, 8192, 0), 0);
	CHECK_EQ(wh_block_close(kit.block), 0);
	flags = kit.image.data + QCOW2_H_INCOMPATIBLE;
	wh_store_be64(flags, QCOW2_INCOMPATIBLE_DIRTY);
	kit.image.ops = 0;
	kit_must_open(&kit, true);
	compare();
	CHECK_EQ(wh_block_close(kit.block), 0);
	CHECK_EQ(kit_open(&kit, true, WH_BLOCK_OPEN_CHECK, 0, 0), 0);
	CHECK_EQ(wh_block_close(kit.block), 0);
	CHECK_EQ(kit.image.ops, 0);
	CHECK_EQ(wh_load_be64(kit.image.data + QCOW2_H_INCOMPATIBLE), QCOW2_INCOMPATIBLE_DIRTY);
	kit_must_open(&kit, false); /* and who writes repairs it first */
	end(false);
}

/* cloud-hypervisor 5b99f9c, #6354: a header written anew lost the compression type and bits that were not known. */
static void header_changes_keep_what_they_do_not_mean(void)
{
	static const struct kit_options o = { 3,    4096,         16,
					      DISK, .zstd = true, .backing = KIT_RAW_BACKING };
	uint8_t unknown[16] = "kept as it is";
	struct wh_block_amend lazy = { .fields = WH_BLOCK_AMEND_LAZY, .lazy_refcounts = true };
	begin(&o);
	CHECK_EQ(put(0, 1, 4096, WH_BLOCK_COMPRESS), 0);
	CHECK_EQ(wh_block_close(kit.block), 0);
	uint32_t at = wh_load_be32(kit.image.data + QCOW2_H_LENGTH);
	while (wh_load_be32(kit.image.data + at))
		at += 8 + (uint32_t)wh_align_up(wh_load_be32(kit.image.data + at + 4), 8);
	/* Behind the name, which stays: into a new one. */
	uint64_t name = wh_load_be64(kit.image.data + QCOW2_H_BACKING_OFFSET);
	memmove(kit.image.data + name + 24, kit.image.data + name,
		wh_load_be32(kit.image.data + QCOW2_H_BACKING_SIZE));
	wh_store_be64(kit.image.data + QCOW2_H_BACKING_OFFSET, name + 24);
	CHECK(qcow2_put_extension(kit.image.data, at, 4096, 0x12345678, unknown, sizeof unknown));
	wh_store_be64(kit.image.data + QCOW2_H_COMPATIBLE, 1ull << 17);
	kit_must_open(&kit, false);
	CHECK_EQ(wh_block_set_backing(kit.block, "base", WH_BLOCK_FORMAT_RAW, 0), 0);
	CHECK_EQ(wh_block_amend(kit.block, &lazy, 0), 0);
	compare();
	CHECK_EQ(wh_block_close(kit.block), 0);
	CHECK_EQ(kit.image.data[QCOW2_H_COMPRESSION], WH_BLOCK_COMPRESSION_ZSTD);
	CHECK_EQ(wh_load_be64(kit.image.data + QCOW2_H_COMPATIBLE),
		 1ull << 17 | QCOW2_COMPATIBLE_LAZY);
	bool found = false;
	for (uint32_t i = 0; i + 16 < 4096; i += 8)
		found |= wh_load_be32(kit.image.data + i) == 0x12345678 &&
			 !memcmp(kit.image.data + i + 8, unknown, sizeof unknown);
	CHECK(found);
	kit_must_open(&kit, false);
	end(false);
}

/* QEMU 92dcb59: a refcount block whose own count was 0 after an error while it was made. */
static void errors_while_refcount_blocks_are_made(void)
{
	bool over = false;
	for (unsigned long n = 1; !over; n++) {
		begin(&small);
		CHECK_EQ(put(0, 1, 40 * 512, 0), 0);
		flush();
		kit.image.ops = 0;
		kit.image.fail_at = n;
		kit.image.fail_error = WH_ENOSPC;
		for (uint64_t at = 64 * 512; at < 128 * 1024; at += 512)
			(void)put(at, 2, 512, 0); /* one of them fails, or the flush */
		int flushed = wh_block_do(kit.block, WH_BLOCK_FLUSH, 0, 0, 0, 0);
		over = kit.image.ops < n;
		kit.image.fail_at = 0;
		if (flushed < 0) {
			(void)wh_block_close(kit.block); /* a failed flush stays */
			kit_expect_clean(&kit, true);
			kit_fini(&kit);
			continue;
		}
		CHECK_EQ(put(64 * 512, 3, 96 * 1024, 0), 0);
		end(true);
	}
}

/* libqcow #17: entries with the zero flag were taken for offset 0, and the header's bytes were read as data. */
static void zero_clusters_do_not_read_as_the_header(void)
{
	begin(&on_raw);
	zero(0, 65536, WH_BLOCK_UNMAP);
	CHECK_EQ(put(65536, 7, 65536, 0), 0);
	zero(65536, 32768, 0);                   /* keeps its place */
	CHECK_EQ(put(4096 + 512, 9, 512, 0), 0); /* and is written in part */
	CHECK_EQ(put(65536 + 4096 + 512, 9, 512, 0), 0);
	end(false);
}

/* ocaml-qcow: what is below read as zeroes, and a partial write lost it; a write changed what a snapshot shares. */
static void what_is_below_shows_and_snapshots_stay(void)
{
	struct wh_block_snapshot about = { .name = "s" };
	static uint8_t then[DISK];
	begin(&on_raw);
	compare();
	CHECK_EQ(put(8192 + 1024, 1, 512, 0), 0);
	CHECK_EQ(put(20480, 2, 4096, 0), 0);
	compare();
	CHECK_EQ(wh_block_snapshot_create(kit.block, &about, 0), 0);
	memcpy(then, model, DISK);
	CHECK_EQ(put(20480, 3, 2048, 0), 0);
	CHECK_EQ(put(8192, 4, 512, 0), 0);
	compare();
	CHECK_EQ(wh_block_close(kit.block), 0);
	CHECK_EQ(kit_open(&kit, true, 0, "s", 0), 0);
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_READ, 0, buffer, DISK, 0), 0);
	CHECK_MEM(buffer, then, DISK);
	CHECK_EQ(wh_block_close(kit.block), 0);
	kit_must_open(&kit, false);
	end(false);
}

/* containerd/overlaybd #407: the field of a compressed cluster's size is as wide as cluster_bits say. */
static void compressed_sizes_for_all_cluster_sizes(void)
{
	for (uint32_t bits = 9; bits <= 21; bits++) {
		uint32_t size = 1u << bits, shift = 62 - (bits - 8);
		const struct kit_options o = { 3, size, 16, 8ull << bits };
		const uint32_t sizes[] = { 1, 511, 512, 513, size / 2 + 3, size - 1 };
		uint8_t *packed = calloc(1, size);
		CHECK(packed);
		kit_init(&kit, &o, below);
		kit_must_open(&kit, false);
		for (unsigned i = 0; i < WH_ARRAY_COUNT(sizes); i++) {
			struct wh_block_extent e;
			uint32_t n = sizes[i] < size ? sizes[i] : size - 1;
			CHECK_EQ(wh_block_write_packed(kit.block, (uint64_t)i << bits, packed, n),
				 0);
			CHECK_EQ(wh_block_map(kit.block, (uint64_t)i << bits, size, 0, &e), 0);
			CHECK(e.flags & WH_BLOCK_MAP_COMPRESSED);
		}
		CHECK_EQ(wh_block_close(kit.block), 0);
		uint64_t l1 = wh_load_be64(kit.image.data + QCOW2_H_L1_OFFSET);
		uint64_t l2 = wh_load_be64(kit.image.data + l1) & QCOW2_OFFSET_MASK, last = 0;
		for (unsigned i = 0; i < WH_ARRAY_COUNT(sizes); i++) {
			uint32_t n = sizes[i] < size ? sizes[i] : size - 1;
			uint64_t entry = wh_load_be64(kit.image.data + l2 + 8 * i);
			uint64_t host = entry & ((1ull << shift) - 1);
			uint64_t sectors = (entry >> shift & ((1ull << (bits - 8)) - 1)) + 1;
			CHECK_EQ(entry >> 62, 1);
			CHECK(host >= last);
			CHECK(host % 512 + n <= sectors * 512 && sectors * 512 < n + 1024);
			last = host + n;
		}
		kit_expect_clean(&kit, false);
		kit_fini(&kit);
		free(packed);
	}
}

static void done(struct wh_block_request *q, int result)
{
	*(int *)q->ctx = result;
}

/* nbd-server 2025: copy on write of requests of several blocks read at the wrong place of the buffer. */
static void copy_on_write_in_odd_pieces(void)
{
	static uint8_t data[DISK];
	uint64_t seed = test_seed();
	begin(&on_raw);
	for (int round = 0; round < 60; round++) {
		struct wh_iov iov[40];
		uint64_t r = wh_random_next(&seed);
		uint64_t at = r % 300 * 512, size = (1 + (r >> 20) % 60) * 512, sum = 0;
		uint32_t n = 0;
		for (uint64_t i = 0; i < size; i++)
			data[i] = (uint8_t)(wh_random_next(&seed) >> 11);
		while (sum < size) {
			uint64_t part = n == 39 ? size - sum : 1 + wh_random_next(&seed) % 1777;
			part = part < size - sum ? part : size - sum;
			iov[n++] = (struct wh_iov){ data + sum, part };
			sum += part;
		}
		struct wh_block_request q = {
			.op = WH_BLOCK_WRITE, .offset = at, .size = size, .iov = iov, .iov_count = n
		};
		int result = 1;
		q.ctx = &result;
		q.done = done;
		wh_block_submit(kit.block, &q);
		CHECK_EQ(result, 0);
		memcpy(model + at, data, size);
		compare();
	}
	end(false);
}

/* Trims of an image whose data is in another file give space of that file back, when the trim is durable; not where data was
 * written again meanwhile. With a raw data file the zeroes are in the file. */
static void trims_reach_the_data_file(void)
{
	static const struct kit_options with_data = { 3, 4096, 16, DISK, .data = true };
	static const struct kit_options raw = { 3, 4096, 16, DISK, .data = true, .data_raw = true };
	uint64_t punched = 0;
	begin(&with_data);
	mem_file_record(&kit.data, &kit.image);
	CHECK_EQ(put(0, 1, 131072, 0), 0);
	zero(0, 65536, WH_BLOCK_UNMAP);
	CHECK_EQ(put(8192, 2, 12288, 0), 0);
	CHECK_EQ(put(32768 + 512, 3, 1024, 0), 0);
	for (size_t i = 0; i < kit.image.op_count; i++)
		CHECK(kit.image.op[i].kind != WH_BLOCK_IO_DISCARD);
	flush();
	compare();
	for (size_t i = 0; i < kit.image.op_count; i++)
		if (kit.image.op[i].kind == WH_BLOCK_IO_DISCARD)
			punched += kit.image.op[i].size;
	CHECK_EQ(punched, 65536 - 12288 - 4096);
	end(false);
	begin(&raw);
	mem_file_record(&kit.data, &kit.image);
	CHECK_EQ(put(0, 1, 131072, 0), 0);
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_DISCARD, 4096, 0, 65536, 0), 0);
	memset(model + 4096, 0, 65536);
	compare();
	CHECK_MEM(kit.data.data, model, 131072);
	end(false);
}

/* Proxmox forum 175933: what is written without a flush may be lost, even with a direct file; but nothing else, and what was
 * flushed is there when the power goes at once. */
static void what_is_promised_without_a_flush(void)
{
	struct mem_file now;
	begin(&plain);
	CHECK_EQ(put(0, 1, 65536, 0), 0);
	flush();
	mem_file_init(&now);
	mem_file_copy(&now, &kit.image);
	CHECK_EQ(put(65536, 2, 65536, 0), 0);
	struct mem_file later = kit.image; /* as the machine stops: no close */
	kit.image = now;
	kit.image.file.ctx = &kit.image;
	kit.image.file.ops = later.file.ops;
	struct wh_block *running = kit.block;
	memset(model + 65536, 0, 65536);
	kit_expect_clean(&kit, true);
	kit_must_open(&kit, true);
	compare();
	CHECK_EQ(wh_block_close(kit.block), 0);
	now = kit.image;
	kit.image = later;
	kit.block = running;
	mem_file_fini(&now);
	memset(model + 65536, 2, 65536);
	end(false);
}

int main(void)
{
	RUN(holes_are_punched_before_clusters_are_given_out);
	RUN(failed_writes_leave_nothing_live_free);
	RUN(the_file_stays_as_long_as_its_content);
	RUN(closing_ends_with_a_flush_of_each_file);
	RUN(readers_leave_a_dirty_image_dirty);
	RUN(header_changes_keep_what_they_do_not_mean);
	RUN(errors_while_refcount_blocks_are_made);
	RUN(zero_clusters_do_not_read_as_the_header);
	RUN(what_is_below_shows_and_snapshots_stay);
	RUN(compressed_sizes_for_all_cluster_sizes);
	RUN(copy_on_write_in_odd_pieces);
	RUN(trims_reach_the_data_file);
	RUN(what_is_promised_without_a_flush);
	return test_end();
}
