/* SPDX-License-Identifier: ISC */
/* All kinds of images against a model of their content: requests, snapshots, resize, many in flight. */
#include <stdio.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>

#include "kit.h"

#define ROOM (16u << 20)
static struct kit kit;
static uint8_t model[ROOM], buffer[ROOM], below[ROOM];
static uint64_t disk;

/* Snapshots by name "s<n>". */
static struct kept {
	bool there;
	uint64_t size;
	uint8_t *content;
} kept[8];

static void make_below(uint64_t *state, const struct kit_options *o)
{
	memset(below, 0, sizeof below);
	for (uint64_t at = 0; o->backing && at < o->disk; at += 512) {
		uint32_t v = (uint32_t)wh_random_next(state);
		for (uint32_t i = 0; i < 512 && v % 3; i += 4)
			wh_store_le32(below + at + i, v);
	}
	memcpy(model, below, sizeof model);
}

static void compare_all(void)
{
	CHECK_EQ(wh_block_size(kit.block), disk);
	for (uint64_t at = 0; at < disk; at += 1 << 20) {
		uint64_t n = disk - at < 1 << 20 ? disk - at : 1 << 20;
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_READ, at, buffer, n, 0), 0);
		for (uint64_t i = 0; i < n; i += 512)
			if (memcmp(buffer + i, model + at + i, 512))
				test_fail(__FILE__, __LINE__,
					  "%s: sector %llu is 0x%x.., wanted 0x%x..",
					  kit_name(&kit.o), (unsigned long long)(at + i) / 512,
					  wh_load_le32(buffer + i), wh_load_le32(model + at + i));
	}
}

static void do_write(uint64_t r, uint64_t at, uint64_t n)
{
	uint32_t flags = r >> 50 & 1 ? WH_BLOCK_FUA : 0, value = (uint32_t)r;
	if (r >> 51 & 1 && !kit.o.data) { /* whole clusters, packed */
		at = at / kit.o.cluster * kit.o.cluster;
		n = wh_align_up(n, kit.o.cluster);
		if (n > disk - at)
			n = disk - at;
		flags |= WH_BLOCK_COMPRESS;
	}
	for (uint64_t i = 0; i < n; i += 4)
		wh_store_le32(buffer + i, value + (uint32_t)(i / 512));
	if (r >> 52 & 1)
		wh_store_le32(buffer + 256, 7); /* does not pack */
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_WRITE, at, buffer, n, flags), 0);
	memcpy(model + at, buffer, n);
}

static void random_request(uint64_t *state)
{
	uint64_t r = wh_random_next(state), r2 = wh_random_next(state);
	uint64_t at = r2 % (disk / 512) * 512,
		 n = 512 * (1 + (r >> 32) % ((r >> 24) % 4 ? 40 : 900));
	if (n > disk - at)
		n = disk - at;
	if (r >> 16 & 1 && n > kit.o.cluster) { /* often whole clusters */
		at = at / kit.o.cluster * kit.o.cluster;
		n = n / kit.o.cluster * kit.o.cluster;
	}
	switch (r % 10) {
	case 0:
	case 1:
	case 2:
	case 3:
		do_write(wh_random_next(state), at, n);
		break;
	case 4:
	case 5:
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_WRITE_ZEROES, at, 0, n,
				     r >> 40 & 1 ? WH_BLOCK_UNMAP : 0),
			 0);
		memset(model + at, 0, n);
		break;
	case 6:
		/* Afterwards zeroes or what was there, the model takes what it finds. */
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_DISCARD, at, 0, n, 0), 0);
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_READ, at, buffer, n, 0), 0);
		for (uint64_t i = 0; i < n; i++)
			CHECK(!buffer[i] || buffer[i] == model[at + i]);
		memcpy(model + at, buffer, n);
		break;
	case 7:
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_FLUSH, 0, 0, 0, 0), 0);
		break;
	default:
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_READ, at, buffer, n, 0), 0);
		CHECK_MEM(buffer, model + at, n);
	}
}

static void check_snapshots(void)
{
	for (unsigned i = 0; i < WH_ARRAY_COUNT(kept); i++) {
		char name[8];
		if (!kept[i].there)
			continue;
		snprintf(name, sizeof name, "s%u", i);
		CHECK_EQ(kit_open(&kit, true, 0, name, 0), 0);
		CHECK_EQ(wh_block_size(kit.block), kept[i].size);
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_READ, 0, buffer, kept[i].size, 0), 0);
		CHECK_MEM(buffer, kept[i].content, kept[i].size);
		CHECK_EQ(wh_block_close(kit.block), 0);
	}
}

/* Some steps of a compaction, or all of it; requests between them. */
static void compact(uint64_t *state)
{
	struct wh_block_compaction *c;
	struct wh_diag diag = { "" };
	uint64_t done, total, bytes = wh_random_next(state) % (1 << 20);
	if (wh_block_compact_begin(kit.block, &c, &diag) < 0)
		test_fail(__FILE__, __LINE__, "compact: %s", diag.text);
	for (uint64_t n = wh_random_next(state) % 40 + 1; n; n--) {
		int r = wh_block_compact_step(c, bytes, &done, &total);
		if (r < 0)
			test_fail(__FILE__, __LINE__, "%s: compact: %d", kit_name(&kit.o), r);
		if (!r)
			break;
		random_request(state);
	}
	wh_block_compact_end(c);
}

static void maintenance(uint64_t *state)
{
	uint64_t r = wh_random_next(state);
	unsigned i = (unsigned)(r >> 8) % WH_ARRAY_COUNT(kept);
	struct kept *k = &kept[i];
	struct wh_block_snapshot about = { .date_s = 1 };
	struct wh_diag diag = { "" };
	snprintf(about.name, sizeof about.name, "s%u", i);
	switch (r % 5) {
	case 4:
		compact(state);
		break;
	case 0:
	case 1:
		if (kit.o.data) {
			CHECK_EQ(wh_block_snapshot_create(kit.block, &about, &diag),
				 -WH_EOPNOTSUPP);
			break;
		}
		if (k->there) {
			if (wh_block_snapshot_delete(kit.block, about.name, &diag) < 0)
				test_fail(__FILE__, __LINE__, "delete: %s", diag.text);
			free(k->content);
			k->there = false;
			break;
		}
		int e = wh_block_snapshot_create(kit.block, &about, &diag);
		if (e == -WH_EOVERFLOW) /* few bits */
			break;
		if (e < 0)
			test_fail(__FILE__, __LINE__, "%s: create: %s", kit_name(&kit.o),
				  diag.text);
		*k = (struct kept){ true, disk, malloc(disk) };
		memcpy(k->content, model, disk);
		break;
	case 2:
		if (!k->there)
			break;
		e = wh_block_snapshot_apply(kit.block, about.name, &diag);
		if (e == -WH_EOVERFLOW)
			break;
		if (e < 0)
			test_fail(__FILE__, __LINE__, "apply: %s", diag.text);
		disk = k->size;
		memset(model, 0, sizeof model);
		memcpy(model, k->content, disk);
		break;
	default: {
		uint64_t size = wh_align_up(kit.o.disk / 2 + (r >> 20) % kit.o.disk, 512);
		if (size < disk)
			CHECK_EQ(wh_block_resize(kit.block, size, 0, 0), -WH_EINVAL);
		e = wh_block_resize(kit.block, size, WH_BLOCK_SHRINK, &diag);
		if (e == -WH_EOPNOTSUPP && kit.o.version == 2)
			break;
		if (e < 0)
			test_fail(__FILE__, __LINE__, "resize: %s", diag.text);
		if (size > disk)
			memset(model + disk, 0, size - disk);
		disk = size;
	}
	}
}

static void fits_the_model(void)
{
	for (unsigned i = 0; i < kit_count; i++) {
		uint64_t state = test_seed() + i;
		make_below(&state, &kit_all[i]);
		kit_init(&kit, &kit_all[i], below);
		disk = kit_all[i].disk;
		kit_expect_clean(&kit, false);
		for (int round = 0; round < 4; round++) {
			kit_must_open(&kit, false);
			compare_all();
			for (int k = 0; k < 150; k++) {
				random_request(&state);
				if (round && k % 20 == 7) {
					maintenance(&state);
					compare_all();
				}
			}
			compare_all();
			if (wh_block_close(kit.block) < 0)
				test_fail(__FILE__, __LINE__, "%s: close", kit_name(&kit.o));
			kit_expect_clean(&kit, false);
			check_snapshots();
		}
		if (kit.o.data_raw)
			CHECK_MEM(kit.data.data, model, disk);
		for (unsigned k = 0; k < WH_ARRAY_COUNT(kept); k++) {
			if (kept[k].there)
				free(kept[k].content);
			kept[k].there = false;
		}
		CHECK_EQ(test_alloc_live(), 0);
		kit_fini(&kit);
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
static struct mem_file *late[4];

static void landed(struct wh_block_request *q, int result)
{
	struct flight *f = q->ctx;
	CHECK_EQ(result, 0);
	if (f->check)
		CHECK_MEM(f->data, f->wanted, q->size);
	f->busy = false;
}

static void launch(struct flight *f, uint64_t *state)
{
	uint64_t r = wh_random_next(state), at = wh_random_next(state) % (disk / 512);
	uint64_t n = 1 + (r >> 16) % 40;
	if (r >> 50 & 1) /* many on few places */
		at %= 200;
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
	switch (r % 9) {
	case 0:
		f->q.op = r >> 40 & 7 ? WH_BLOCK_FLUSH : WH_BLOCK_QUIESCE;
		f->q.size = 0;
		break;
	case 1:
		f->q.op = WH_BLOCK_WRITE_ZEROES;
		f->q.flags = r >> 41 & 1 ? WH_BLOCK_UNMAP : WH_BLOCK_FUA;
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
		f->q.flags = r >> 41 & 3 ? 0 : WH_BLOCK_FUA;
		memset(f->data, (int)(r >> 40), n * 512);
		memcpy(model + at * 512, f->data, n * 512);
	}
	wh_block_submit(kit.block, &f->q);
}

static unsigned waiting(void)
{
	unsigned n = 0;
	for (unsigned i = 0; i < 4; i++)
		n += late[i]->waiting_count;
	return n;
}

static void step(unsigned n)
{
	for (unsigned i = 0; i < 4; i++) {
		if (n < late[i]->waiting_count) {
			mem_file_step(late[i], n);
			return;
		}
		n -= late[i]->waiting_count;
	}
}

static void many_in_flight(void)
{
	for (unsigned i = 0; i < kit_count; i++) {
		uint64_t state = test_seed() + i;
		struct kit_options o = kit_all[i];
		make_below(&state, &o);
		o.cache = i % 2;
		kit_init(&kit, &o, below);
		disk = o.disk;
		kit_must_open(&kit, false);
		late[0] = &kit.image;
		late[1] = &kit.data;
		late[2] = &kit.base;
		late[3] = &kit.base2;
		for (unsigned k = 0; k < 4; k++)
			late[k]->late = true;
		for (int k = 0; k < 3000; k++) {
			struct flight *f = &flight[wh_random_next(&state) % FLIGHT];
			if (!f->busy)
				launch(f, &state);
			else if (waiting())
				step(wh_random_next(&state) % waiting());
		}
		while (waiting())
			step(0);
		for (size_t k = 0; k < FLIGHT; k++)
			if (flight[k].busy)
				test_fail(__FILE__, __LINE__, "%s: op %d never ended", kit_name(&o),
					  flight[k].q.op);
		for (unsigned k = 0; k < 4; k++)
			late[k]->late = false;
		compare_all();
		CHECK_EQ(wh_block_close(kit.block), 0);
		kit_expect_clean(&kit, false);
		kit_fini(&kit);
	}
}

/* ---- the file shrinks ---- */

static void compact_all(void)
{
	struct wh_block_compaction *c;
	uint64_t done, total;
	int r = wh_block_compact_begin(kit.block, &c, 0);
	CHECK_EQ(r, 0);
	while ((r = wh_block_compact_step(c, 1 << 20, &done, &total)) > 0)
		CHECK(done <= total);
	CHECK_EQ(r, 0);
	wh_block_compact_end(c);
}

static void compaction_shrinks(void)
{
	for (unsigned i = 0; i < kit_count; i++) {
		uint64_t state = test_seed() + i;
		make_below(&state, &kit_all[i]);
		if (kit_all[i].data)
			continue;
		kit_init(&kit, &kit_all[i], below);
		disk = kit.o.disk;
		kit_must_open(&kit, false);
		/* All of it, some packed, then every other piece and the whole first half go. */
		for (uint64_t at = 0; at < disk; at += 256 << 10) {
			uint64_t n = disk - at < 256 << 10 ? disk - at : 256 << 10;
			uint64_t packed = at >> 18 & 3 ? 1ull << 51 : 0;
			do_write(wh_random_next(&state) & ~(1ull << 50) & ~packed, at, n);
		}
		for (uint64_t at = 0; at < disk; at += 64 << 10) {
			uint64_t n = disk - at < 64 << 10 ? disk - at : 64 << 10;
			if (at >= disk / 2 && at / (64 << 10) % 2)
				continue;
			if (kit.o.version == 2 && kit.o.backing)
				continue; /* cannot forget */
			CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_WRITE_ZEROES, at, 0, n,
					     WH_BLOCK_UNMAP),
				 0);
			memset(model + at, 0, n);
		}
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_FLUSH, 0, 0, 0, 0), 0);
		uint64_t before = kit.image.size;
		compact_all();
		compare_all();
		CHECK_EQ(wh_block_close(kit.block), 0);
		kit_expect_clean(&kit, false);
		if (disk > 16 * kit.o.cluster && before > disk / 2 &&
		    !(kit.o.version == 2 && kit.o.backing) && kit.image.size > before * 2 / 3)
			test_fail(__FILE__, __LINE__, "%s: %llu bytes, before %llu",
				  kit_name(&kit.o), (unsigned long long)kit.image.size,
				  (unsigned long long)before);
		kit_must_open(&kit, false);
		compare_all();
		CHECK_EQ(wh_block_close(kit.block), 0);
		kit_fini(&kit);
		CHECK_EQ(test_alloc_live(), 0);
	}
}

int main(void)
{
	RUN(fits_the_model);
	RUN(many_in_flight);
	RUN(compaction_shrinks);
	return test_end();
}
