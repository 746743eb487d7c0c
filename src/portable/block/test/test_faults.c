/* SPDX-License-Identifier: ISC */
/*
 * Faults that other implementations had, each by name; all orders in which a few conflicting requests can end; the
 * n-th operation failing, for every n, on images of many kinds.
 */
#include <stdio.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>

#include "../qcow2_priv.h"
#include "scene.h"

static const struct kit_options old_on_raw = { 2, 4096, 16, DISK, .backing = KIT_RAW_BACKING };
static const struct kit_options subs = {
	3, 16384, 16, DISK, .extended = true, .backing = KIT_RAW_BACKING
};
static const struct kit_options with_data = { 3, 4096, 16, DISK, .data = true };

static void end(bool leaks)
{
	compare();
	CHECK_EQ(wh_block_close(kit.block), 0);
	kit_expect_clean(&kit, leaks);
	kit_fini(&kit);
}

/* ---- all orders ---- */

#define MEMBERS 4u
struct member {
	enum wh_block_op op;
	uint64_t offset, size;
	int byte; /* writes */
	uint32_t flags;
};

static struct wh_block_request requests[MEMBERS];
static uint8_t data[MEMBERS][64 << 10];
static struct wh_iov iov[MEMBERS];
static unsigned open_requests;

static void done(struct wh_block_request *q, int result)
{
	CHECK_EQ(result, 0);
	open_requests--;
}

static void launch(unsigned i, const struct member *m)
{
	memset(data[i], m->byte, m->size);
	iov[i] = (struct wh_iov){ data[i], m->size };
	requests[i] = (struct wh_block_request){ .op = m->op,
						 .flags = m->flags,
						 .offset = m->offset,
						 .size = m->size,
						 .iov = &iov[i],
						 .iov_count = 1,
						 .done = done };
	open_requests++;
	if (m->op == WH_BLOCK_WRITE)
		memset(model + m->offset, m->byte, m->size);
	else if (m->op != WH_BLOCK_READ && m->op != WH_BLOCK_FLUSH)
		memset(model + m->offset, 0, m->size);
	wh_block_submit(kit.block, &requests[i]);
}

/* Which waiting operation ends, step by step: counts through all choices. false = that was the last. */
static struct {
	unsigned choice[64], of[64], used;
} order;

static unsigned choose(unsigned n)
{
	unsigned i = order.used++;
	CHECK(i < WH_ARRAY_COUNT(order.choice));
	order.of[i] = n;
	if (order.choice[i] >= n)
		order.choice[i] = 0;
	return order.choice[i];
}

static bool next_order(void)
{
	for (unsigned i = order.used; i-- > 0;) {
		if (++order.choice[i] < order.of[i]) {
			memset(order.choice + i + 1, 0,
			       sizeof order.choice - (i + 1) * sizeof order.choice[0]);
			return true;
		}
		order.choice[i] = 0;
	}
	return false;
}

static struct mem_file *late(unsigned n)
{
	return n < kit.image.waiting_count                            ? &kit.image
	       : n - kit.image.waiting_count < kit.data.waiting_count ? &kit.data
								      : &kit.base;
}

static unsigned in_flight(void)
{
	return kit.image.waiting_count + kit.data.waiting_count + kit.base.waiting_count;
}

static void all_orders(const struct kit_options *o, const struct member *m, unsigned count)
{
	unsigned runs = 0;
	memset(&order, 0, sizeof order);
	do {
		order.used = 0;
		begin(o);
		/* The disk is in use: data, zeroes that kept their place, something shared with a snapshot. */
		CHECK_EQ(put(0, 1, 32 << 10, 0), 0);
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_WRITE_ZEROES, 16 << 10, 0, 16 << 10, 0),
			 0);
		memset(model + (16 << 10), 0, 16 << 10);
		struct wh_block_snapshot s = { .name = "s" };
		if (runs % 2 && !o->data)
			CHECK_EQ(wh_block_snapshot_create(kit.block, &s, 0), 0);
		kit.image.late = kit.data.late = kit.base.late = true;
		for (unsigned i = 0; i < count; i++)
			launch(i, &m[i]);
		while (in_flight()) {
			unsigned n = choose(in_flight());
			struct mem_file *f = late(n);
			n -= f == &kit.image ? 0 : kit.image.waiting_count;
			n -= f == &kit.base ? kit.data.waiting_count : 0;
			mem_file_step(f, n);
		}
		CHECK_EQ(open_requests, 0);
		kit.image.late = kit.data.late = kit.base.late = false;
		end(false);
	} while (next_order() && ++runs < 3000);
}

static void write_discard_write_in_all_orders(void)
{
	static const struct member m[] = { { WH_BLOCK_WRITE, 0, 4096, 2 },
					   { WH_BLOCK_WRITE_ZEROES, 0, 4096, 0, WH_BLOCK_UNMAP },
					   { WH_BLOCK_WRITE, 64 << 10, 4096, 3 },
					   { WH_BLOCK_FLUSH } };
	all_orders(&plain, m, 4);
	all_orders(&on_raw, m, 4);
	all_orders(&with_data, m, 4);
}

static void parts_of_one_new_cluster_in_all_orders(void)
{
	static const struct member m[] = { { WH_BLOCK_WRITE, 128 << 10, 512, 2 },
					   { WH_BLOCK_WRITE, (128 << 10) + 2048, 1024, 3 },
					   { WH_BLOCK_WRITE_ZEROES, (128 << 10) + 1024, 512 },
					   { WH_BLOCK_WRITE, (128 << 10) + 4096, 512, 4 } };
	all_orders(&plain, m, 4);
	all_orders(&on_raw, m, 4);
	all_orders(&subs, m, 4);
}

static void flush_while_clusters_move_in_all_orders(void)
{
	static const struct member m[] = { { WH_BLOCK_WRITE, 16 << 10, 4096, 2, WH_BLOCK_FUA },
					   { WH_BLOCK_READ, 4096, 4096 },
					   { WH_BLOCK_WRITE_ZEROES, 4096, 4096, 0, WH_BLOCK_UNMAP },
					   { WH_BLOCK_FLUSH } };
	all_orders(&plain, m, 4);
	all_orders(&subs, m, 4);
}

/* ---- by name ---- */

/* cloud-hypervisor 39e253f, crosvm 55ef29a, QEMU 39f77cb: zeroes and trims let old data from below come back. */
/* ---- tables that are not in memory ---- */

static void begin_cold(const struct kit_options *o, uint64_t used)
{
	begin(o);
	CHECK_EQ(put(0, 1, used, 0), 0);
	CHECK_EQ(wh_block_close(kit.block), 0);
	kit_must_open(&kit, false);
	kit.image.late = true;
	kit.image.waits = 0;
}

/* The search for a free cluster goes through many blocks of counts; the loop stands still for none of them. */
static void allocation_on_a_cold_disk_waits_for_no_read(void)
{
	static const struct kit_options o[] = { { 3, 512, 64, DISK },
						{ 3, 512, 16, DISK },
						{ 3, 4096, 16, DISK } };
	static const struct member m[] = { { WH_BLOCK_WRITE, DISK - 4096, 512, 2 },
					   { WH_BLOCK_WRITE, DISK / 2 - 512, 1024, 3 },
					   { WH_BLOCK_READ, 0, 4096 },
					   { WH_BLOCK_WRITE, DISK / 2 + 4096, 4096, 4 } };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(o); i++) {
		begin_cold(&o[i], DISK / 2);
		for (unsigned k = 0; k < WH_ARRAY_COUNT(m); k++)
			launch(k, &m[k]);
		unsigned steps = 0;
		for (; kit.image.waiting_count; steps++)
			mem_file_step(&kit.image, steps % kit.image.waiting_count);
		CHECK_EQ(open_requests, 0);
		CHECK_EQ(kit.image.waits, 0);
		CHECK(o[i].cluster > 512 || steps > (o[i].refcount_bits == 64 ? 8 : 5));
		kit.image.late = false;
		end(false);
	}
}

/* Counts are on their way for one who wants to allocate while a flush, which ends, lowers some of them. What was read before
 * must not come back. */
static void counts_change_while_they_are_read(void)
{
	static const struct member freed = { WH_BLOCK_DISCARD, 8 << 10, 16 << 10 },
				   flush = { WH_BLOCK_FLUSH },
				   write = { WH_BLOCK_WRITE, 48 << 10, 4096, 2 };
	begin_cold(&plain, 32 << 10);
	launch(0, &freed);
	while (kit.image.waiting_count)
		mem_file_step(&kit.image, 0);
	CHECK_EQ(open_requests, 0);
	launch(1, &write);
	CHECK_EQ(kit.image.waiting_count, 1);
	struct wh_block_io *held = kit.image.waiting[0];
	CHECK_EQ(held->kind, WH_BLOCK_IO_READ);
	launch(2, &flush);
	for (unsigned n = 0; n < kit.image.waiting_count;)
		if (kit.image.waiting[n] == held) {
			n++;
		} else {
			mem_file_step(&kit.image, n);
			n = 0;
		}
	CHECK_EQ(open_requests, 1);
	CHECK_EQ(kit.image.waiting_count, 1);
	mem_file_step(&kit.image, 0);
	while (kit.image.waiting_count)
		mem_file_step(&kit.image, 0);
	CHECK_EQ(open_requests, 0);
	kit.image.late = false;
	memset(model + (8 << 10), 0, 16 << 10);
	end(false);
}

/* ---- */

static void zeroes_hide_what_is_below(void)
{
	begin(&on_raw);
	CHECK_EQ(put(8192, 1, 4096, 0), 0);
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_WRITE_ZEROES, 8192, 0, 8192, WH_BLOCK_UNMAP), 0);
	memset(model + 8192, 0, 8192);
	compare();
	CHECK_EQ(put(20480, 1, 4096, 0), 0);
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_DISCARD, 20480, 0, 4096, 0), 0);
	memset(model + 20480, 0, 4096);
	end(false);
	begin(&old_on_raw); /* cannot say zero: trims do nothing, zeroes are written */
	CHECK_EQ(put(0, 1, 4096, 0), 0);
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_DISCARD, 0, 0, 8192, 0), 0);
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_WRITE_ZEROES, 16384, 0, 8192, WH_BLOCK_UNMAP), 0);
	memset(model + 16384, 0, 8192);
	end(false);
}

/* cloud-hypervisor efad657, 9e2e85a: rewritten compressed clusters leaked; a5e145b: were given out twice. */
static void packed_clusters_are_rewritten_without_leaks(void)
{
	begin(&plain);
	for (int round = 1; round < 9; round++)
		for (uint64_t at = 0; at < DISK; at += 4096)
			CHECK_EQ(put(at, round, 4096,
				     (at / 4096 + round) % 3 ? WH_BLOCK_COMPRESS : 0),
				 0);
	end(false);
}

/* cloud-hypervisor 2b61bda: bit 0 of a packed entry taken for the zero flag. */
static void packed_at_odd_places(void)
{
	struct wh_block_extent e;
	bool odd = false;
	begin(&plain);
	uint8_t packed[101];
	wh_store_le32(packed, 0x7e57c0de);
	for (unsigned i = 0; i < 4096 / 512; i++)
		wh_store_le32(packed + 4 + 4 * i, 0x01010101 * (i + 1));
	for (uint64_t at = 0; at < DISK; at += 4096) {
		CHECK_EQ(wh_block_write_packed(kit.block, at, packed, sizeof packed), 0);
		for (unsigned i = 0; i < 8; i++)
			memset(model + at + i * 512, (int)i + 1, 512);
		CHECK_EQ(wh_block_map(kit.block, at, 4096, 0, &e), 0);
		CHECK(e.flags & WH_BLOCK_MAP_COMPRESSED);
	}
	uint64_t l2 =
		wh_load_be64(kit.image.data + wh_load_be64(kit.image.data + QCOW2_H_L1_OFFSET));
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_FLUSH, 0, 0, 0, 0), 0);
	l2 = wh_load_be64(kit.image.data + wh_load_be64(kit.image.data + QCOW2_H_L1_OFFSET));
	for (unsigned i = 0; i < DISK / 4096; i++)
		odd |= kit.image.data[(l2 & QCOW2_OFFSET_MASK) + 8 * i + 7] & 1;
	CHECK(odd);
	end(false);
}

/* A damaged packed cluster is an error of that cluster; behind the end of the file, of the image. */
static void damaged_packed_data(void)
{
	struct wh_block_extent e;
	begin(&plain);
	CHECK_EQ(put(0, 1, 4096, WH_BLOCK_COMPRESS), 0);
	CHECK_EQ(put(4096, 2, 4096, WH_BLOCK_COMPRESS), 0);
	CHECK_EQ(put(8192, 3, 4096, 0), 0);
	CHECK_EQ(wh_block_close(kit.block), 0);
	uint64_t l2 =
		wh_load_be64(kit.image.data + wh_load_be64(kit.image.data + QCOW2_H_L1_OFFSET)) &
		QCOW2_OFFSET_MASK;
	uint64_t entry = wh_load_be64(kit.image.data + l2);
	kit.image.data[entry & 0x00ffffff] ^= 0xff;
	kit_must_open(&kit, false);
	CHECK_EQ(wh_block_map(kit.block, 0, 4096, 0, &e), 0);
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_READ, 0, buffer, 512, 0), -WH_EIO);
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_READ, 4096, buffer, 8192, 0), 0);
	CHECK_MEM(buffer, model + 4096, 8192);
	CHECK_EQ(wh_block_close(kit.block), 0);
	wh_store_be64(kit.image.data + l2, QCOW2_COMPRESSED | 1ull << 40);
	kit_must_open(&kit, false);
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_READ, 0, buffer, 512, 0), -WH_EIO);
	CHECK_EQ(wh_block_close(kit.block), -WH_EIO);
	kit_fini(&kit);
}

/* A chain that leads to itself; a backing file without a recorded format. */
static int loop_open(void *ctx, enum wh_block_link what, const struct wh_block_file *parent,
		     const char *name, enum wh_block_format format, bool read_only,
		     struct wh_block_file *ret_file, enum wh_block_format *ret_format,
		     struct wh_diag *diag)
{
	*ret_file = kit.image.file;
	*ret_format = format;
	kit.opened++;
	return 0;
}

static void loops_and_unsaid_formats(void)
{
	struct wh_diag diag = { "" };
	kit_init(&kit, &(struct kit_options){ 3, 4096, 16, DISK, .backing = KIT_QCOW2_BACKING },
		 below);
	kit.resolver.open = loop_open;
	CHECK_EQ(kit_open(&kit, true, 0, 0, &diag), -WH_ELOOP);
	CHECK_EQ(kit.opened, 0);
	CHECK_EQ(test_alloc_live(), 0);
	/* The extension says nothing. */
	wh_store_be32(kit.image.data + QCOW2_H_V3_SIZE, 0x12345678);
	CHECK_EQ(kit_open(&kit, true, 0, 0, &diag), -WH_EINVAL);
	CHECK(strstr(diag.text, "not recorded"));
	CHECK_EQ(kit.opened, 0);
	kit_fini(&kit);
}

/* ---- the n-th operation fails ---- */

static bool any_failed;

static void may(int r)
{
	any_failed |= r < 0;
}

static void some_work(uint64_t seed)
{
	struct wh_block_snapshot about = { .name = "s" };
	struct wh_block_compaction *c;
	uint64_t d, t;
	for (int k = 0; k < 30; k++) {
		uint64_t r = wh_random_next(&seed), at = (r >> 8) % (DISK / 512),
			 n = 1 + (r >> 32) % 20;
		n = n < DISK / 512 - at ? n : DISK / 512 - at;
		if (kit.block->size < DISK)
			return;
		switch (r % 8) {
		case 0:
			may(wh_block_do(kit.block, WH_BLOCK_FLUSH, 0, 0, 0, 0));
			break;
		case 1:
			may(wh_block_do(kit.block, WH_BLOCK_WRITE_ZEROES, at * 512, 0, n * 512,
					WH_BLOCK_UNMAP));
			break;
		case 2:
			if (k == 9)
				may(wh_block_snapshot_create(kit.block, &about, 0));
			else if (k > 20)
				may(wh_block_snapshot_delete(kit.block, "s", 0));
			break;
		case 3:
			if (k % 3 || wh_block_compact_begin(kit.block, &c, 0) < 0)
				break;
			for (int i = 0; i < 4; i++)
				may(wh_block_compact_step(c, 16384, &d, &t));
			wh_block_compact_end(c);
			break;
		default:
			memset(buffer, (int)r, n * 512);
			may(wh_block_do(kit.block, WH_BLOCK_WRITE, at * 512, buffer, n * 512, 0));
		}
	}
}

static void failing(const struct kit_options *o, int error, bool rest)
{
	for (unsigned long n = 1; n < 2000; n++) {
		begin(o);
		any_failed = false;
		kit.image.ops = 0;
		kit.image.fail_at = n;
		kit.image.fail_error = error;
		kit.image.fail_rest = rest;
		some_work(test_seed());
		may(wh_block_close(kit.block));
		bool over = kit.image.ops < n;
		kit.image.fail_at = 0;
		kit_must_open(&kit, false); /* and repairs, where it is marked */
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_WRITE, 0, below, DISK, 0), 0);
		CHECK_EQ(wh_block_close(kit.block), 0);
		kit_expect_clean(&kit, true);
		CHECK_EQ(test_alloc_live(), 0);
		kit_fini(&kit);
		if (over)
			return;
	}
}

static void each_operation_fails_once(void)
{
	failing(&plain, WH_EIO, false);
	failing(&on_raw, WH_EIO, false);
	failing(&subs, WH_EIO, false);
	failing(&with_data, WH_EIO, false);
}

static void the_disk_is_full(void)
{
	failing(&plain, WH_ENOSPC, true);
	failing(&on_raw, WH_ENOSPC, true);
	failing(&subs, WH_ENOSPC, true);
}

int main(void)
{
	RUN(write_discard_write_in_all_orders);
	RUN(parts_of_one_new_cluster_in_all_orders);
	RUN(flush_while_clusters_move_in_all_orders);
	RUN(allocation_on_a_cold_disk_waits_for_no_read);
	RUN(counts_change_while_they_are_read);
	RUN(zeroes_hide_what_is_below);
	RUN(packed_clusters_are_rewritten_without_leaks);
	RUN(packed_at_odd_places);
	RUN(damaged_packed_data);
	RUN(loops_and_unsaid_formats);
	RUN(each_operation_fails_once);
	RUN(the_disk_is_full);
	return test_end();
}
