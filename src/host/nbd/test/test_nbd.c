/* SPDX-License-Identifier: ISC */
/*
 * The protocol without sockets: a client made of bytes.
 */
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/nbd.h>

#include "../../../portable/block/test/mem_file.h"
#include "../nbd_wire.h"

#define DISK (256u << 10)
#define OUT_ROOM (1u << 20)

static struct mem_file mem;
static struct wh_block *block;
static struct wh_nbd_export exports[2];
static struct wh_nbd_conn *conn;
static uint8_t out[OUT_ROOM]; /* what the server sent and the test has not looked at */
static size_t out_size;
static unsigned changes;
static uint64_t cookie;

static void changed(void *ctx)
{
	changes++;
}

static void drain(void)
{
	struct wh_iov iov[7]; /* odd, so that heads and bodies part */
	uint32_t n;
	while ((n = wh_nbd_conn_tx(conn, iov, 7))) {
		size_t sent = 0;
		for (uint32_t i = 0; i < n; i++) {
			CHECK(out_size + iov[i].size <= OUT_ROOM);
			memcpy(out + out_size, iov[i].base, iov[i].size);
			out_size += iov[i].size;
			sent += iov[i].size;
		}
		wh_nbd_conn_sent(conn, sent);
	}
}

static void take(size_t size)
{
	CHECK(out_size >= size);
	memmove(out, out + size, out_size - size);
	out_size -= size;
}

/* All of it, in pieces of at most `piece` bytes; stops when the server wants no more. Returns what was taken. */
static size_t put(const void *data, size_t size, size_t piece)
{
	size_t done = 0;
	while (done < size) {
		struct wh_iov iov[2];
		uint32_t n = wh_nbd_conn_rx(conn, iov);
		if (!n)
			break;
		size_t part = wh_iov_size(iov, n);
		part = part > piece ? piece : part;
		part = part > size - done ? size - done : part;
		wh_iov_write(iov, n, 0, (const uint8_t *)data + done, part);
		wh_nbd_conn_received(conn, part);
		done += part;
		drain();
	}
	return done;
}

static void begin(enum wh_nbd_tls_mode tls, bool read_only)
{
	mem_file_init(&mem);
	struct wh_block_io grow = { .kind = WH_BLOCK_IO_RESIZE,
				    .flags = WH_BLOCK_IO_NOW,
				    .offset = DISK };
	CHECK_EQ(mem.file.ops->submit(mem.file.ctx, &grow), 0);
	struct wh_block_config bc = { .size = sizeof bc,
				      .file = mem.file,
				      .format = WH_BLOCK_FORMAT_RAW,
				      .alloc = &test_allocator };
	CHECK_EQ(wh_block_open(&bc, &block, NULL), 0);
	exports[0] =
		(struct wh_nbd_export){ .name = "one", .block = block, .read_only = read_only };
	exports[1] =
		(struct wh_nbd_export){ .name = "two", .description = "other", .block = block };
	struct wh_nbd_conn_config c = { .size = sizeof c,
					.exports = exports,
					.export_count = 2,
					.tls = tls,
					.multi_conn = true,
					.changed = changed };
	CHECK_EQ(wh_nbd_conn_new(&c, &conn), 0);
	out_size = 0;
	changes = 0;
	drain();
	CHECK_EQ(out_size, 18);
	CHECK_MEM(out, "NBDMAGICIHAVEOPT\0\3", 18);
	take(18);
}

static void end(void)
{
	while (mem.waiting_count)
		mem_file_step(&mem, 0);
	wh_nbd_conn_hang_up(conn);
	CHECK_EQ(wh_nbd_conn_busy(conn), 0);
	wh_nbd_conn_free(conn);
	CHECK_EQ(wh_block_close(block), 0);
	mem_file_fini(&mem);
	CHECK_EQ(test_alloc_live(), 0);
}

static void put_flags(void)
{
	uint8_t flags[4];
	wh_store_be32(flags, 3);
	CHECK_EQ(put(flags, 4, 1), 4);
}

static void option(uint32_t number, const void *data, uint32_t size)
{
	uint8_t m[16 + 40000];
	wh_store_be64(m, NBD_OPTION_MAGIC);
	wh_store_be32(m + 8, number);
	wh_store_be32(m + 12, size);
	if (size <= 40000 && size)
		memcpy(m + 16, data, size);
	put(m, 16 + (size <= 40000 ? size : 0), 1000);
}

/* Takes one reply to `number`; returns its kind, the data stays in front of `out`. */
static uint32_t reply(uint32_t number, uint32_t *ret_size)
{
	CHECK(out_size >= 20);
	CHECK_EQ(wh_load_be64(out), NBD_OPTION_REPLY_MAGIC);
	CHECK_EQ(wh_load_be32(out + 8), number);
	uint32_t kind = wh_load_be32(out + 12);
	*ret_size = wh_load_be32(out + 16);
	CHECK(out_size >= 20 + *ret_size);
	take(20);
	return kind;
}

static uint32_t only_reply(uint32_t number)
{
	uint32_t size, kind = reply(number, &size);
	take(size);
	CHECK_EQ(out_size, 0);
	return kind;
}

static uint32_t name_option(uint8_t *m, const char *name)
{
	uint32_t n = (uint32_t)strlen(name);
	wh_store_be32(m, n);
	memcpy(m + 4, name, n);
	wh_store_be16(m + 4 + n, 0);
	return 6 + n;
}

static uint16_t go(const char *name)
{
	uint8_t m[64];
	uint32_t size;
	option(NBD_OPT_GO, m, name_option(m, name));
	CHECK_EQ(reply(NBD_OPT_GO, &size), NBD_REP_INFO);
	CHECK_EQ(size, 12);
	CHECK_EQ(wh_load_be16(out), NBD_INFO_EXPORT);
	CHECK_EQ(wh_load_be64(out + 2), DISK);
	uint16_t flags = wh_load_be16(out + 10);
	take(size);
	CHECK_EQ(reply(NBD_OPT_GO, &size), NBD_REP_INFO);
	CHECK_EQ(wh_load_be16(out), NBD_INFO_BLOCK_SIZE);
	CHECK_EQ(wh_load_be32(out + 2), 512);
	take(size);
	CHECK_EQ(only_reply(NBD_OPT_GO), NBD_REP_ACK);
	CHECK_EQ(wh_nbd_conn_state(conn), WH_NBD_TRANSFER);
	return flags;
}

static size_t request_head(uint8_t *m, uint16_t command, uint16_t flags, uint64_t offset,
			   uint64_t length, bool extended)
{
	wh_store_be32(m, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
	wh_store_be16(m + 4, flags);
	wh_store_be16(m + 6, command);
	wh_store_be64(m + 8, ++cookie);
	wh_store_be64(m + 16, offset);
	if (extended)
		wh_store_be64(m + 24, length);
	else
		wh_store_be32(m + 24, (uint32_t)length);
	return extended ? 32 : 28;
}

static void request(uint16_t command, uint16_t flags, uint64_t offset, uint32_t length,
		    const void *data)
{
	uint8_t m[32];
	CHECK_EQ(put(m, request_head(m, command, flags, offset, length, false), 9), 28);
	if (data)
		CHECK_EQ(put(data, length, 5000), length);
}

/* The simple reply to the last request: its error. */
static uint32_t simple(void)
{
	CHECK(out_size >= 16);
	CHECK_EQ(wh_load_be32(out), NBD_SIMPLE_REPLY_MAGIC);
	CHECK_EQ(wh_load_be64(out + 8), cookie);
	uint32_t error = wh_load_be32(out + 4);
	take(16);
	return error;
}

/* ---- handshake ---- */

static void chooses_exports(void)
{
	uint32_t size;
	begin(WH_NBD_TLS_OFF, true);
	put_flags();
	option(NBD_OPT_LIST, NULL, 0);
	CHECK_EQ(reply(NBD_OPT_LIST, &size), NBD_REP_SERVER);
	CHECK_MEM(out, "\0\0\0\3one", 7);
	take(size);
	CHECK_EQ(reply(NBD_OPT_LIST, &size), NBD_REP_SERVER);
	CHECK_MEM(out, "\0\0\0\3twoother", 12);
	take(size);
	CHECK_EQ(only_reply(NBD_OPT_LIST), NBD_REP_ACK);
	option(77, "x", 1);
	CHECK_EQ(only_reply(77), NBD_REP_ERR_UNSUP);
	option(NBD_OPT_GO, "\0\0\0\4none\0\0", 10);
	CHECK_EQ(only_reply(NBD_OPT_GO), NBD_REP_ERR_UNKNOWN);
	option(NBD_OPT_GO, "\0\0\0\3two\0\1", 9); /* says one item, has none */
	CHECK_EQ(only_reply(NBD_OPT_GO), NBD_REP_ERR_INVALID);
	option(NBD_OPT_GO, "\xff\xff\xff\xfftwo\0\0", 9);
	CHECK_EQ(only_reply(NBD_OPT_GO), NBD_REP_ERR_INVALID);
	option(NBD_OPT_STARTTLS, NULL, 0);
	CHECK_EQ(only_reply(NBD_OPT_STARTTLS), NBD_REP_ERR_POLICY);
	CHECK_EQ(wh_nbd_conn_state(conn), WH_NBD_HANDSHAKE);
	uint16_t flags = go(""); /* the first one */
	CHECK(flags & NBD_FLAG_READ_ONLY && !(flags & NBD_FLAG_SEND_TRIM));
	CHECK(flags & NBD_FLAG_CAN_MULTI_CONN && !(flags & NBD_FLAG_SEND_DF));
	request(NBD_CMD_WRITE, 0, 0, 512, out);
	CHECK_EQ(simple(), NBD_EPERM);
	end();
	begin(WH_NBD_TLS_OFF, false);
	put_flags();
	option(NBD_OPT_EXPORT_NAME, "two", 3);
	CHECK_EQ(out_size, 10);
	CHECK_EQ(wh_load_be64(out), DISK);
	take(10);
	request(NBD_CMD_FLUSH, 0, 0, 0, NULL);
	CHECK_EQ(simple(), 0);
	request(NBD_CMD_DISC, 0, 0, 0, NULL);
	CHECK_EQ(wh_nbd_conn_state(conn), WH_NBD_ENDING);
	end();
	begin(WH_NBD_TLS_OFF, false);
	put_flags();
	option(NBD_OPT_ABORT, NULL, 0);
	CHECK_EQ(only_reply(NBD_OPT_ABORT), NBD_REP_ACK);
	CHECK_EQ(wh_nbd_conn_state(conn), WH_NBD_ENDING);
	end();
}

static void dies_of(const void *data, size_t size)
{
	begin(WH_NBD_TLS_OFF, false);
	put(data, size, 100000);
	CHECK_EQ(wh_nbd_conn_state(conn), WH_NBD_DEAD);
	CHECK_EQ(out_size, 0);
	struct wh_iov iov[2];
	CHECK_EQ(wh_nbd_conn_rx(conn, iov), 0);
	end();
}

static void hangs_up(void)
{
	uint8_t m[64] = { 0, 0, 0, 3 };
	dies_of("\0\0\0\0", 4); /* not fixed newstyle */
	dies_of("\0\0\0\7", 4); /* unknown flags */
	dies_of("\0\0\0\3GET / HTTP/1.1\r\n", 20);
	wh_store_be64(m + 4, NBD_OPTION_MAGIC);
	wh_store_be32(m + 12, NBD_OPT_EXPORT_NAME);
	wh_store_be32(m + 16, 4);
	memcpy(m + 20, "none", 4);
	dies_of(m, 24);
	wh_store_be32(m + 16, WH_NBD_OPTION_SIZE_MAX + 1);
	dies_of(m, 20);
	wh_store_be32(m + 16, UINT32_MAX);
	dies_of(m, 20);
}

static void floods_end(void)
{
	begin(WH_NBD_TLS_OFF, false);
	put_flags();
	for (unsigned i = 0; i < WH_NBD_OPTIONS_MAX; i++) {
		option(NBD_OPT_LIST, NULL, 0);
		CHECK(out_size);
		out_size = 0;
	}
	option(NBD_OPT_LIST, NULL, 0);
	CHECK_EQ(wh_nbd_conn_state(conn), WH_NBD_DEAD);
	end();
	/* A client that does not read its answers is not read from. */
	begin(WH_NBD_TLS_OFF, false);
	put_flags();
	uint8_t m[16];
	wh_store_be64(m, NBD_OPTION_MAGIC);
	wh_store_be32(m + 8, NBD_OPT_LIST);
	wh_store_be32(m + 12, 0);
	struct wh_iov iov[2];
	for (unsigned i = 0; i < WH_NBD_OPTIONS_MAX && wh_nbd_conn_rx(conn, iov); i++) {
		wh_iov_write(iov, 1, 0, m, 16);
		wh_nbd_conn_received(conn, 16);
	}
	CHECK_EQ(wh_nbd_conn_state(conn), WH_NBD_HANDSHAKE);
	end();
}

static void tls_comes_first(void)
{
	uint32_t size;
	begin(WH_NBD_TLS_REQUIRED, false);
	put_flags();
	option(NBD_OPT_LIST, NULL, 0);
	CHECK_EQ(only_reply(NBD_OPT_LIST), NBD_REP_ERR_TLS_REQD);
	option(NBD_OPT_GO, "\0\0\0\0\0\0", 6);
	CHECK_EQ(only_reply(NBD_OPT_GO), NBD_REP_ERR_TLS_REQD);
	option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	CHECK_EQ(only_reply(NBD_OPT_STRUCTURED_REPLY), NBD_REP_ERR_TLS_REQD);
	option(NBD_OPT_STARTTLS, NULL, 0);
	CHECK_EQ(reply(NBD_OPT_STARTTLS, &size), NBD_REP_ACK);
	CHECK_EQ(wh_nbd_conn_state(conn), WH_NBD_TLS);
	struct wh_iov iov[2];
	CHECK_EQ(wh_nbd_conn_rx(conn, iov), 0);
	wh_nbd_conn_tls_started(conn);
	go("two");
	end();
	begin(WH_NBD_TLS_REQUIRED, false);
	put_flags();
	option(NBD_OPT_EXPORT_NAME, "two", 3);
	CHECK_EQ(wh_nbd_conn_state(conn), WH_NBD_DEAD);
	end();
}

/* CVE-2021-3716: what somebody put behind STARTTLS in the clear must not count inside TLS, and what was chosen before
 * must not either. */
static void tls_forgets(void)
{
	uint8_t m[32];
	begin(WH_NBD_TLS_ALLOWED, false);
	put_flags();
	for (unsigned i = 0; i < 2; i++) {
		wh_store_be64(m + 16 * i, NBD_OPTION_MAGIC);
		wh_store_be32(m + 16 * i + 8, i ? NBD_OPT_STRUCTURED_REPLY : NBD_OPT_STARTTLS);
		wh_store_be32(m + 16 * i + 12, 0);
	}
	put(m, 32, 32);
	CHECK_EQ(only_reply(NBD_OPT_STARTTLS), NBD_REP_ACK);
	wh_nbd_conn_tls_started(conn);
	CHECK_EQ(wh_nbd_conn_state(conn), WH_NBD_DEAD);
	end();
	begin(WH_NBD_TLS_ALLOWED, false);
	put_flags();
	option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	CHECK_EQ(only_reply(NBD_OPT_STRUCTURED_REPLY), NBD_REP_ACK);
	option(NBD_OPT_STARTTLS, NULL, 0);
	CHECK_EQ(only_reply(NBD_OPT_STARTTLS), NBD_REP_ACK);
	wh_nbd_conn_tls_started(conn);
	CHECK(!(go("two") & NBD_FLAG_SEND_DF));
	request(NBD_CMD_READ, 0, 0, 512, NULL);
	CHECK_EQ(simple(), 0);
	end();
}

/* ---- transfer ---- */

static void start(const char *name)
{
	begin(WH_NBD_TLS_OFF, false);
	put_flags();
	go(name);
}

static void reads_and_writes(void)
{
	static uint8_t data[64 << 10];
	start("one");
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8));
	request(NBD_CMD_WRITE, 0, 4096, sizeof data, data);
	CHECK_EQ(simple(), 0);
	request(NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 512, 512, data + 1000);
	CHECK_EQ(simple(), 0);
	request(NBD_CMD_READ, 0, 4096, sizeof data, NULL);
	CHECK_EQ(simple(), 0);
	CHECK_EQ(out_size, sizeof data);
	CHECK_MEM(out, data, sizeof data);
	out_size = 0;
	CHECK_MEM(mem.data + 512, data + 1000, 512);
	request(NBD_CMD_READ, 0, 4099, 1001, NULL); /* neither begins nor ends at a sector */
	CHECK_EQ(simple(), 0);
	CHECK_MEM(out, data + 3, 1001);
	out_size = 0;
	request(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 4096, 1024, NULL);
	CHECK_EQ(simple(), 0);
	request(NBD_CMD_READ, 0, 4096, 2048, NULL);
	CHECK_EQ(simple(), 0);
	CHECK(out[0] == 0 && out[1023] == 0 && !memcmp(out + 1024, data + 1024, 1024));
	out_size = 0;
	request(NBD_CMD_TRIM, 0, 4097, 4096, NULL);
	CHECK_EQ(simple(), 0);
	end();
}

static void refuses(void)
{
	static const struct {
		uint16_t command, flags;
		uint64_t offset;
		uint32_t length, error;
	} bad[] = {
		{ NBD_CMD_READ, 0, DISK, 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0, DISK - 512, 1024, NBD_EINVAL },
		{ NBD_CMD_READ, 0, UINT64_MAX - 511, 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 1ull << 63, UINT32_MAX, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, 0, NBD_EINVAL },
		{ NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512, NBD_EINVAL }, /* not structured */
		{ NBD_CMD_READ, 1u << 15, 0, 512, NBD_EINVAL },
		{ NBD_CMD_FLUSH, 0, 0, 512, NBD_EINVAL },
		{ NBD_CMD_FLUSH, 0, 512, 0, NBD_EINVAL },
		{ NBD_CMD_TRIM, 0, DISK, 512, NBD_EINVAL },
		{ NBD_CMD_WRITE_ZEROES, 0, DISK, 512, NBD_ENOSPC },
		{ NBD_CMD_BLOCK_STATUS, 0, 0, 512, NBD_EINVAL }, /* no context chosen */
		{ 5, 0, 0, 512, NBD_EINVAL },
		{ 99, 0, 0, 512, NBD_EINVAL },
	};
	start("one");
	for (size_t i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		request(bad[i].command, bad[i].flags, bad[i].offset, bad[i].length, NULL);
		CHECK_EQ(simple(), bad[i].error);
		CHECK_EQ(out_size, 0);
	}
	static uint8_t data[WH_NBD_PAYLOAD_MAX + 512];
	request(NBD_CMD_WRITE, 0, DISK - 512, 1024, data); /* its data is thrown away */
	CHECK_EQ(simple(), NBD_ENOSPC);
	request(NBD_CMD_WRITE, 0, 0, sizeof data, data);
	CHECK(simple() != 0);
	request(NBD_CMD_READ, 0, 0, 512, NULL);
	CHECK_EQ(simple(), 0);
	out_size = 0;
	request(NBD_CMD_WRITE, 0, 0, UINT32_MAX, NULL); /* nobody reads 4 GiB to say no */
	CHECK_EQ(wh_nbd_conn_state(conn), WH_NBD_DEAD);
	end();
	start("one");
	uint8_t m[28] = { 0 };
	put(m, 28, 28);
	CHECK_EQ(wh_nbd_conn_state(conn), WH_NBD_DEAD);
	end();
}

static void errors_of_the_image(void)
{
	static uint8_t data[512];
	start("one");
	mem.fail_at = mem.ops + 1;
	mem.fail_error = WH_ENOSPC;
	request(NBD_CMD_WRITE, 0, 0, 512, data);
	CHECK_EQ(simple(), NBD_ENOSPC);
	request(NBD_CMD_WRITE, 0, 0, 512, data);
	CHECK_EQ(simple(), 0);
	mem.fail_at = mem.ops + 2; /* the flush behind it */
	mem.fail_error = WH_EIO;
	request(NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 512, data);
	CHECK_EQ(simple(), NBD_EIO);
	wh_nbd_conn_hang_up(conn);
	wh_nbd_conn_free(conn);
	CHECK_EQ(wh_block_close(block), -WH_EIO); /* a failed flush stays failed */
	mem_file_fini(&mem);
}

static void structured(void)
{
	begin(WH_NBD_TLS_OFF, false);
	put_flags();
	option(NBD_OPT_SET_META_CONTEXT, "\0\0\0\0\0\0\0\0", 8);
	CHECK_EQ(only_reply(NBD_OPT_SET_META_CONTEXT), NBD_REP_ERR_INVALID);
	option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	CHECK_EQ(only_reply(NBD_OPT_STRUCTURED_REPLY), NBD_REP_ACK);
	uint32_t size;
	option(NBD_OPT_LIST_META_CONTEXT, "\0\0\0\3two\0\0\0\1\0\0\0\5base:", 20);
	CHECK_EQ(reply(NBD_OPT_LIST_META_CONTEXT, &size), NBD_REP_META_CONTEXT);
	CHECK_EQ(size, 4 + 15);
	CHECK_MEM(out + 4, "base:allocation", 15);
	take(size);
	CHECK_EQ(only_reply(NBD_OPT_LIST_META_CONTEXT), NBD_REP_ACK);
	option(NBD_OPT_SET_META_CONTEXT, "\0\0\0\3two\0\0\0\2\0\0\0\17base:allocation\0\0\0\1x",
	       11 + 19 + 5);
	CHECK_EQ(reply(NBD_OPT_SET_META_CONTEXT, &size), NBD_REP_META_CONTEXT);
	CHECK_EQ(wh_load_be32(out), 1);
	take(size);
	CHECK_EQ(only_reply(NBD_OPT_SET_META_CONTEXT), NBD_REP_ACK);
	CHECK(go("two") & NBD_FLAG_SEND_DF);
	request(NBD_CMD_READ, NBD_CMD_FLAG_DF, 1024, 512, NULL);
	CHECK_EQ(out_size, 20 + 8 + 512);
	CHECK_EQ(wh_load_be32(out), NBD_STRUCTURED_REPLY_MAGIC);
	CHECK_EQ(wh_load_be16(out + 4), NBD_REPLY_FLAG_DONE);
	CHECK_EQ(wh_load_be16(out + 6), NBD_REPLY_OFFSET_DATA);
	CHECK_EQ(wh_load_be64(out + 20), 1024);
	out_size = 0;
	request(NBD_CMD_READ, 0, DISK, 512, NULL);
	CHECK_EQ(out_size, 26);
	CHECK_EQ(wh_load_be16(out + 6), NBD_REPLY_ERROR);
	CHECK_EQ(wh_load_be32(out + 20), NBD_EINVAL);
	out_size = 0;
	request(NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 0, DISK, NULL);
	CHECK_EQ(wh_load_be16(out + 6), NBD_REPLY_BLOCK_STATUS);
	CHECK_EQ(wh_load_be32(out + 16), 12);
	CHECK_EQ(wh_load_be32(out + 20), 1);
	CHECK(wh_load_be32(out + 24) > 0 && wh_load_be32(out + 24) <= DISK);
	out_size = 0;
	end();
	/* A context chosen for one export means nothing for another. */
	begin(WH_NBD_TLS_OFF, false);
	put_flags();
	option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	option(NBD_OPT_SET_META_CONTEXT, "\0\0\0\3two\0\0\0\1\0\0\0\17base:allocation", 30);
	out_size = 0;
	go("one");
	request(NBD_CMD_BLOCK_STATUS, 0, 0, DISK, NULL);
	CHECK_EQ(wh_load_be16(out + 6), NBD_REPLY_ERROR);
	end();
}

static void extended(void)
{
	uint8_t m[32 + 512];
	begin(WH_NBD_TLS_OFF, false);
	put_flags();
	option(NBD_OPT_EXTENDED_HEADERS, NULL, 0);
	CHECK_EQ(only_reply(NBD_OPT_EXTENDED_HEADERS), NBD_REP_ACK);
	option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	CHECK_EQ(only_reply(NBD_OPT_STRUCTURED_REPLY), NBD_REP_ERR_INVALID);
	option(NBD_OPT_SET_META_CONTEXT, "\0\0\0\3one\0\0\0\1\0\0\0\17base:allocation", 30);
	out_size = 0;
	go("one");
	memset(m, 0x5a, sizeof m);
	size_t n = request_head(m, NBD_CMD_WRITE, NBD_CMD_FLAG_PAYLOAD_LEN, 1024, 512, true);
	CHECK_EQ(put(m, n + 512, 40), n + 512);
	CHECK_EQ(out_size, 32);
	CHECK_EQ(wh_load_be32(out), NBD_EXTENDED_REPLY_MAGIC);
	CHECK_EQ(wh_load_be16(out + 6), NBD_REPLY_NONE);
	CHECK_EQ(wh_load_be64(out + 16), 1024);
	out_size = 0;
	put(m, request_head(m, NBD_CMD_READ, 0, 1024, 512, true), 40);
	CHECK_EQ(out_size, 32 + 8 + 512);
	CHECK_EQ(wh_load_be64(out + 24), 520);
	CHECK_EQ(out[40 + 511], 0x5a);
	out_size = 0;
	put(m, request_head(m, NBD_CMD_WRITE_ZEROES, 0, 0, DISK, true), 40);
	CHECK_EQ(wh_load_be16(out + 6), NBD_REPLY_NONE);
	out_size = 0;
	put(m, request_head(m, NBD_CMD_WRITE_ZEROES, 0, 0, 1ull << 40, true), 40);
	CHECK_EQ(wh_load_be32(out + 32), NBD_ENOSPC);
	out_size = 0;
	put(m, request_head(m, NBD_CMD_BLOCK_STATUS, 0, 0, DISK, true), 40);
	CHECK_EQ(wh_load_be16(out + 6), NBD_REPLY_BLOCK_STATUS_EXT);
	CHECK_EQ(wh_load_be32(out + 32), 1);
	uint32_t count = wh_load_be32(out + 36);
	CHECK(count && wh_load_be64(out + 24) == 8 + 16ull * count);
	end();
}

/* A slow image and a fast client: the server stops reading, and goes on when answers went out. */
static void many_in_flight(void)
{
	uint8_t m[32];
	start("one");
	mem.late = true;
	unsigned sent = 0;
	/* The file below takes 64 at a time. */
	for (; sent < 60; sent++)
		CHECK_EQ(put(m, request_head(m, NBD_CMD_READ, 0, 512 * sent, 512, false), 28), 28);
	CHECK_EQ(wh_nbd_conn_busy(conn), 60);
	CHECK_EQ(out_size, 0);
	while (mem.waiting_count)
		mem_file_step(&mem, mem.waiting_count / 2);
	CHECK(changes);
	drain();
	CHECK_EQ(out_size, 60 * (16 + 512));
	out_size = 0;
	/* Answers that nobody fetches. */
	mem.late = false;
	struct wh_iov iov[2];
	unsigned taken = 0;
	while (wh_nbd_conn_rx(conn, iov) && taken < 2000) {
		wh_iov_write(iov, 1, 0, m, request_head(m, NBD_CMD_READ, 0, 512, 512, false));
		wh_nbd_conn_received(conn, 28);
		taken++;
	}
	CHECK_EQ(taken, WH_NBD_REQUESTS_MAX);
	drain();
	CHECK(wh_nbd_conn_rx(conn, iov));
	CHECK_EQ(out_size, WH_NBD_REQUESTS_MAX * (16 + 512));
	end();
}

static void vanishes(void)
{
	uint8_t m[32];
	static uint8_t data[9000];
	start("one");
	mem.late = true;
	put(m, request_head(m, NBD_CMD_READ, 0, 0, 512, false), 28);
	request(NBD_CMD_WRITE, 0, 4096, 512, data);
	put(m, request_head(m, NBD_CMD_WRITE, 0, 8192, sizeof data / 512 * 512, false), 28);
	put(data, 700, 700); /* the rest of its data never comes */
	wh_nbd_conn_hang_up(conn);
	CHECK_EQ(wh_nbd_conn_busy(conn), 2);
	changes = 0;
	while (mem.waiting_count)
		mem_file_step(&mem, 0);
	CHECK(changes); /* that it can be freed now */
	drain();
	CHECK_EQ(out_size, 0);
	mem.late = false;
	end();
}

int main(void)
{
	RUN(chooses_exports);
	RUN(hangs_up);
	RUN(floods_end);
	RUN(tls_comes_first);
	RUN(tls_forgets);
	RUN(reads_and_writes);
	RUN(refuses);
	RUN(errors_of_the_image);
	RUN(structured);
	RUN(extended);
	RUN(many_in_flight);
	RUN(vanishes);
	return test_end();
}
