/* SPDX-License-Identifier: ISC */
#include <stdarg.h>
#include <stdio.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>

#include "../qcow2_priv.h"
#include "mem_file.h"

static void room(struct mem_file *m, uint64_t size)
{
	if (size <= m->size)
		return;
	CHECK(size < 1u << 30);
	if (size > m->room) {
		m->room = size + size / 2 + 65536;
		m->data = realloc(m->data, m->room);
		CHECK(m->data);
	}
	memset(m->data + m->size, 0, size - m->size);
	m->size = size;
}

static void apply(struct mem_file *m, enum wh_block_io_kind kind, uint64_t offset, uint64_t size,
		  const uint8_t *data)
{
	uint64_t end = offset + size < m->size ? offset + size : m->size;
	switch (kind) {
	case WH_BLOCK_IO_WRITE:
		room(m, offset + size);
		if (size)
			memcpy(m->data + offset, data, size);
		break;
	case WH_BLOCK_IO_ZERO:
		room(m, offset + size);
		memset(m->data + offset, 0, size);
		break;
	case WH_BLOCK_IO_DISCARD: /* the content is anything: not zeroes */
		if (offset < end)
			memset(m->data + offset, 0xdd, end - offset);
		break;
	case WH_BLOCK_IO_RESIZE:
		room(m, offset);
		m->size = offset;
		break;
	default:
		break;
	}
}

static void record(struct mem_file *of, const struct wh_block_io *io, const uint8_t *data,
		   size_t begun)
{
	struct mem_file *m = of->log;
	if (m->op_count == m->op_room) {
		m->op_room = m->op_room * 2 + 64;
		m->op = realloc(m->op, m->op_room * sizeof *m->op);
		CHECK(m->op);
	}
	struct mem_op *op = &m->op[m->op_count++];
	*op = (struct mem_op){ io->kind, io->offset, io->size, 0, of, begun, ++m->ticks };
	if (data) {
		op->data = malloc(io->size ? io->size : 1);
		CHECK(op->data);
		memcpy(op->data, data, io->size);
	}
}

static int perform(struct mem_file *m, struct wh_block_io *io, size_t begun)
{
	if (io->kind == WH_BLOCK_IO_READ) {
		for (uint64_t i = 0, at = io->offset; i < io->iov_count; at += io->iov[i++].size) {
			uint64_t n = at < m->size ? m->size - at : 0;
			if (n > io->iov[i].size)
				n = io->iov[i].size;
			memset(io->iov[i].base, 0, io->iov[i].size);
			if (n)
				memcpy(io->iov[i].base, m->data + at, n);
		}
		return 0;
	}
	m->ops++;
	if (m->fail_at && (m->ops == m->fail_at || (m->fail_rest && m->ops > m->fail_at)))
		return -m->fail_error;
	uint8_t *data = 0;
	if (io->kind == WH_BLOCK_IO_WRITE) {
		data = malloc(io->size + 1);
		CHECK(data);
		CHECK_EQ(wh_iov_read(io->iov, io->iov_count, 0, data, io->size), io->size);
	}
	apply(m, io->kind, io->offset, io->size, data);
	if (io->kind == WH_BLOCK_IO_FLUSH && m->leave_out && io->flags >> 8 == m->leave_out)
		return 0;
	if (m->log)
		record(m, io, data, begun ? begun : m->log->ticks + 1);
	free(data);
	return 0;
}

static int submit(void *ctx, struct wh_block_io *io)
{
	struct mem_file *m = ctx;
	CHECK(io->iov_count <= WH_BLOCK_IOV_SLICE);
	if (io->kind == WH_BLOCK_IO_READ || io->kind == WH_BLOCK_IO_WRITE)
		CHECK_EQ(wh_iov_size(io->iov, io->iov_count), io->size);
	m->waits += m->late && io->kind == WH_BLOCK_IO_READ && io->flags & WH_BLOCK_IO_NOW;
	if (!m->late || io->flags & WH_BLOCK_IO_NOW)
		return perform(m, io, 0);
	CHECK(m->waiting_count < WH_ARRAY_COUNT(m->waiting));
	m->waiting_since[m->waiting_count] =
		m->log && io->kind != WH_BLOCK_IO_READ ? ++m->log->ticks : 0;
	m->waiting[m->waiting_count++] = io;
	return WH_BLOCK_LATER;
}

void mem_file_step(struct mem_file *m, unsigned n)
{
	CHECK(n < m->waiting_count);
	struct wh_block_io *io = m->waiting[n];
	size_t begun = m->waiting_since[n];
	m->waiting[n] = m->waiting[--m->waiting_count];
	m->waiting_since[n] = m->waiting_since[m->waiting_count];
	io->done(io, perform(m, io, begun));
}

static int size_of(void *ctx, uint64_t *ret_size)
{
	*ret_size = ((struct mem_file *)ctx)->size;
	return 0;
}

void mem_file_init(struct mem_file *m)
{
	static const struct wh_block_file_ops ops = { .submit = submit, .size = size_of };
	memset(m, 0, sizeof *m);
	m->file = (struct wh_block_file){ .ops = &ops, .ctx = m };
}

void mem_file_fini(struct mem_file *m)
{
	for (size_t i = 0; i < m->op_count; i++)
		free(m->op[i].data);
	free(m->op);
	free(m->data);
	memset(m, 0, sizeof *m);
}

void mem_file_copy(struct mem_file *to, const struct mem_file *from)
{
	to->size = 0;
	room(to, from->size);
	if (from->size)
		memcpy(to->data, from->data, from->size);
}

void mem_file_record(struct mem_file *m, struct mem_file *log)
{
	m->log = log;
}

void mem_file_replay(struct mem_file *to, const struct mem_op *op, uint64_t sectors)
{
	uint64_t size = op->size;
	if (size > sectors * WH_BLOCK_SECTOR)
		size = sectors * WH_BLOCK_SECTOR;
	apply(to, op->kind, op->offset, size, op->data);
}

int mem_file_save(const struct mem_file *m, const char *path)
{
	FILE *f = fopen(path, "wb");
	if (!f)
		return -1;
	size_t n = m->size ? fwrite(m->data, 1, m->size, f) : 0;
	return fclose(f) || n != m->size ? -1 : 0;
}

int mem_file_load(struct mem_file *m, const char *path)
{
	FILE *f = fopen(path, "rb");
	if (!f)
		return -1;
	fseek(f, 0, SEEK_END);
	long size = ftell(f);
	rewind(f);
	m->size = 0;
	room(m, (uint64_t)size);
	size_t n = fread(m->data, 1, (size_t)size, f);
	fclose(f);
	return n == (size_t)size ? 0 : -1;
}

/* ---- the checker: its own reading of the format ---- */

struct checker {
	const struct mem_file *m;
	struct image_check *ret;
	uint64_t bits, size, clusters;
	uint32_t *seen; /* references by cluster */
};

__attribute__((format(printf, 2, 3))) static void wrong(struct checker *c, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	if (!c->ret->errors++)
		vsnprintf(c->ret->first, sizeof c->ret->first, format, args);
	va_end(args);
}

static uint64_t be(const struct checker *c, uint64_t at, unsigned bytes)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | (at + i < c->m->size ? c->m->data[at + i] : 0);
	return v;
}

static void refer(struct checker *c, uint64_t offset, uint64_t bytes, const char *what)
{
	if (offset % c->size)
		wrong(c, "%s at 0x%llx is not aligned", what, (unsigned long long)offset);
	for (uint64_t n = offset / c->size; n < (offset + bytes + c->size - 1) / c->size; n++) {
		if (n >= c->clusters)
			wrong(c, "%s at 0x%llx is behind the end", what,
			      (unsigned long long)offset);
		else if (c->seen[n]++)
			wrong(c, "%s at 0x%llx is used twice", what, (unsigned long long)offset);
	}
}

static uint64_t count_of(const struct checker *c, uint64_t cluster)
{
	uint32_t order = c->m->data[4 + 3] == 3 ? (uint32_t)be(c, QCOW2_H_REFCOUNT_ORDER, 4) : 4;
	uint64_t per = c->size * 8 >> order, index = cluster / per;
	uint64_t rt = be(c, QCOW2_H_RT_OFFSET, 8), n = be(c, QCOW2_H_RT_CLUSTERS, 4) * c->size / 8;
	uint64_t block = index < n ? be(c, rt + 8 * index, 8) : 0;
	if (!block || block + c->size > c->m->size)
		return 0;
	return qcow2_refcount_load(c->m->data + block, order, cluster % per);
}

static void check_l2(struct checker *c, uint64_t l2)
{
	for (uint64_t k = 0; k < c->size / 8; k++) {
		uint64_t e = be(c, l2 + 8 * k, 8), host = e & QCOW2_OFFSET_MASK;
		if (!host)
			continue;
		refer(c, host, c->size, "data");
		if (!(e & QCOW2_COPIED))
			wrong(c, "data entry 0x%llx is not marked copied", (unsigned long long)e);
	}
}

static void check_tables(struct checker *c)
{
	uint64_t rt = be(c, QCOW2_H_RT_OFFSET, 8),
		 rt_bytes = be(c, QCOW2_H_RT_CLUSTERS, 4) * c->size;
	uint64_t l1 = be(c, QCOW2_H_L1_OFFSET, 8), l1_size = be(c, QCOW2_H_L1_SIZE, 4);
	refer(c, 0, c->size, "header");
	refer(c, rt, rt_bytes, "refcount table");
	refer(c, l1, l1_size * 8, "L1 table");
	for (uint64_t i = 0; i < rt_bytes / 8; i++)
		if (be(c, rt + 8 * i, 8))
			refer(c, be(c, rt + 8 * i, 8), c->size, "refcount block");
	for (uint64_t i = 0; i < l1_size; i++) {
		uint64_t e = be(c, l1 + 8 * i, 8), l2 = e & QCOW2_OFFSET_MASK;
		if (!l2)
			continue;
		refer(c, l2, c->size, "L2 table");
		if (!(e & QCOW2_COPIED))
			wrong(c, "L1 entry 0x%llx is not marked copied", (unsigned long long)e);
		check_l2(c, l2);
	}
}

void image_check(const struct mem_file *m, struct image_check *ret)
{
	struct checker c = { .m = m, .ret = ret };
	memset(ret, 0, sizeof *ret);
	if (m->size < 512 || be(&c, 0, 4) != QCOW2_MAGIC) {
		wrong(&c, "not a qcow2 image");
		return;
	}
	c.bits = be(&c, QCOW2_H_CLUSTER_BITS, 4);
	c.size = 1ull << c.bits;
	c.clusters = (m->size + c.size - 1) / c.size;
	c.seen = calloc(c.clusters + 1, sizeof *c.seen);
	CHECK(c.seen);
	check_tables(&c);
	for (uint64_t n = 0; n < c.clusters; n++) {
		uint64_t count = count_of(&c, n);
		if (count < c.seen[n])
			wrong(&c, "cluster %llu is used %u times, its count is %llu",
			      (unsigned long long)n, c.seen[n], (unsigned long long)count);
		else if (count > c.seen[n])
			ret->leaks++;
	}
	free(c.seen);
}
