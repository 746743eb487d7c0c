/* SPDX-License-Identifier: ISC */
/*
 * The input is what an NBD client sends. Its first byte chooses how the server is set up and in which
 * pieces the rest arrives; the second one when the image answers.
 */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/nbd.h>

#include "../src/portable/block/test/mem_file.h"

#define DISK (128u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mem_file mem;
static struct wh_nbd_conn *conn;
static uint8_t pattern;

static void drain(void)
{
	struct wh_iov iov[6];
	uint32_t n;
	while ((n = wh_nbd_conn_tx(conn, iov, 6))) {
		size_t all = wh_iov_size(iov, n), part = all;
		wh_assert(all);
		/* All that is sent must be readable memory. */
		for (uint32_t i = 0; i < n; i++)
			for (size_t k = 0; k < iov[i].size; k += 64)
				pattern ^= ((const uint8_t *)iov[i].base)[k];
		if (all > 3 && pattern & 1)
			part = all / 3;
		wh_nbd_conn_sent(conn, part);
	}
	if (wh_nbd_conn_state(conn) == WH_NBD_TLS)
		wh_nbd_conn_tls_started(conn);
}

static void answer(uint8_t how)
{
	while (mem.waiting_count > (how & 7))
		mem_file_step(&mem, how % mem.waiting_count);
}

static void feed(const uint8_t *data, size_t size, size_t piece, uint8_t how)
{
	while (size) {
		struct wh_iov iov[2];
		uint32_t n = wh_nbd_conn_rx(conn, iov);
		if (!n) {
			enum wh_nbd_state s = wh_nbd_conn_state(conn);
			if (s == WH_NBD_DEAD || s == WH_NBD_ENDING)
				break;
			answer(0);
			drain();
			if (!wh_nbd_conn_rx(conn, iov))
				break;
			continue;
		}
		size_t part = wh_iov_size(iov, n);
		wh_assert(part);
		part = part < piece ? part : piece;
		part = part < size ? part : size;
		wh_iov_write(iov, n, 0, data, part);
		wh_nbd_conn_received(conn, part);
		data += part;
		size -= part;
		if (mem.waiting_count > 32)
			answer(how);
		if (how & 8)
			drain();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wh_block *block;
	if (size < 2)
		return 0;
	uint8_t set = data[0], how = data[1];
	static const size_t pieces[] = { 1, 7, 28, 1u << 20 };
	mem_file_init(&mem);
	struct wh_block_io grow = { .kind = WH_BLOCK_IO_RESIZE,
				    .flags = WH_BLOCK_IO_NOW,
				    .offset = DISK };
	wh_assert(!mem.file.ops->submit(mem.file.ctx, &grow));
	struct wh_block_config bc = { .size = sizeof bc,
				      .file = mem.file,
				      .format = WH_BLOCK_FORMAT_RAW,
				      .alloc = &test_allocator };
	wh_assert(!wh_block_open(&bc, &block, NULL));
	mem.late = how & 16;
	const struct wh_nbd_export exports[] = {
		{ .name = "a", .block = block, .read_only = set & 1, .direct = set & 2 },
		{ .name = "b", .description = "second", .block = block }
	};
	struct wh_nbd_conn_config c = { .size = sizeof c,
					.exports = exports,
					.export_count = 2,
					.tls = (enum wh_nbd_tls_mode)((set >> 2) % 3),
					.multi_conn = set & 64 };
	wh_assert(!wh_nbd_conn_new(&c, &conn));
	feed(data + 2, size - 2, pieces[set >> 4 & 3], how);
	if (how & 32)
		drain();
	wh_nbd_conn_hang_up(conn);
	answer(0);
	while (mem.waiting_count)
		mem_file_step(&mem, 0);
	wh_assert(!wh_nbd_conn_busy(conn));
	wh_nbd_conn_free(conn);
	(void)wh_block_close(block);
	mem_file_fini(&mem);
	wh_assert(!test_alloc_live());
	return 0;
}
