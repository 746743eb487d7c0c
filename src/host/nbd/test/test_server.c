/* SPDX-License-Identifier: ISC */
/*
 * The server with sockets: clients that do not come to the point are hung up on when their time is over, and those who
 * wait behind them get their turn (CVE-2024-7409 was about clients in the middle of a handshake); who has chosen an
 * export stays.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/loop.h>
#include <wherry/nbd.h>

#include "../../../portable/block/test/mem_file.h"

#define HANDSHAKE_MS 50u
#define PATIENCE 2000 /* rounds of the loop, each at most 10 ms: 20 s on a machine with no time */

static struct mem_file mem;
static struct wh_block *block;
static struct wh_loop *loop;
static struct wh_nbd_export export;
static struct wh_nbd_server *server;
static unsigned left_count;

static void gone(void *ctx, uint32_t left)
{
	left_count++;
}

static void begin(uint32_t clients_max)
{
	mem_file_init(&mem);
	struct wh_block_io grow = { .kind = WH_BLOCK_IO_RESIZE,
				    .flags = WH_BLOCK_IO_NOW,
				    .offset = 64 << 10 };
	CHECK_EQ(mem.file.ops->submit(mem.file.ctx, &grow), 0);
	struct wh_block_config bc = { .size = sizeof bc,
				      .file = mem.file,
				      .format = WH_BLOCK_FORMAT_RAW,
				      .alloc = &test_allocator };
	CHECK_EQ(wh_block_open(&bc, &block, NULL), 0);
	CHECK_EQ(wh_loop_new(&loop), 0);
	export = (struct wh_nbd_export){ .name = "disk", .block = block };
	struct wh_nbd_server_config c = { .size = sizeof c,
					  .loop = loop,
					  .exports = &export,
					  .export_count = 1,
					  .clients_max = clients_max,
					  .handshake_ms = HANDSHAKE_MS,
					  .gone = gone };
	struct wh_diag diag = { "" };
	CHECK_EQ(wh_nbd_server_new(&c, &server, &diag), 0);
	left_count = 0;
}

static void end(void)
{
	wh_nbd_server_stop(server);
	while (wh_nbd_server_clients(server))
		CHECK(wh_loop_step(loop, 10) >= 0);
	wh_nbd_server_free(server);
	wh_loop_free(loop);
	CHECK_EQ(wh_block_close(block), 0);
	mem_file_fini(&mem);
	CHECK_EQ(test_alloc_live(), 0);
}

static int client(void)
{
	int fds[2];
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	CHECK_EQ(wh_nbd_server_serve(server, fds[0]), 0);
	return fds[1];
}

/* Reads until there are `size` bytes. */
static void receive(int fd, uint8_t *to, size_t size)
{
	size_t got = 0;
	for (int i = 0; got < size; i++) {
		CHECK(i < PATIENCE);
		ssize_t n = read(fd, to + got, size - got);
		CHECK(n > 0 || (n < 0 && errno == EAGAIN));
		got += n > 0 ? (size_t)n : 0;
		if (got < size)
			CHECK(wh_loop_step(loop, 10) >= 0);
	}
}

static bool hung_up(int fd)
{
	uint8_t b[256];
	ssize_t n;
	while ((n = read(fd, b, sizeof b)) > 0)
		;
	return n == 0 || errno == ECONNRESET;
}

static void wait_for_end(int fd)
{
	for (int i = 0; !hung_up(fd); i++) {
		CHECK(i < PATIENCE);
		CHECK(wh_loop_step(loop, 10) >= 0);
	}
	close(fd);
}

static void wait_for_clients(uint32_t count)
{
	for (int i = 0; wh_nbd_server_clients(server) != count; i++) {
		CHECK(i < PATIENCE);
		CHECK(wh_loop_step(loop, 10) >= 0);
	}
}

/* Chooses the export and reads a sector. */
static void enter(int fd)
{
	uint8_t b[28] = { 0 }, in[18 + 10];
	receive(fd, in, 18);
	CHECK_MEM(in, "NBDMAGICIHAVEOPT\0\3", 18);
	b[3] = 3; /* fixed newstyle, no zeroes */
	memcpy(b + 4, "IHAVEOPT", 8);
	b[15] = 1; /* EXPORT_NAME */
	b[19] = 4;
	memcpy(b + 20, "disk", 4);
	CHECK_EQ(write(fd, b, 24), 24);
	receive(fd, in, 10);
	CHECK_EQ(wh_load_be64(in), 64 << 10);
}

static void reads(int fd)
{
	uint8_t b[28] = { 0x25, 0x60, 0x95, 0x13 }, in[16 + 512];
	b[15] = 7;
	wh_store_be32(b + 24, 512);
	CHECK_EQ(write(fd, b, sizeof b), sizeof b);
	receive(fd, in, sizeof in);
	CHECK_EQ(wh_load_be32(in + 4), 0);
}

static void silence_ends_the_handshake(void)
{
	begin(0);
	int silent = client(), half = client(), slow = client(), good = client();
	enter(good);
	CHECK_EQ(write(half, "\0\0\0\3IHAVE", 9), 9);
	/* Options do come, but never the one that counts. */
	CHECK_EQ(write(slow, "\0\0\0\3", 4), 4);
	uint8_t option[16] = { 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 3 };
	for (int i = 0; i < 20; i++)
		CHECK_EQ(write(slow, option, 16), 16);
	wait_for_end(silent);
	wait_for_end(half);
	wait_for_end(slow);
	wait_for_clients(1);
	reads(good);
	CHECK_EQ(left_count, 0); /* nobody left who had come */
	close(good);
	wait_for_clients(0);
	CHECK_EQ(left_count, 1);
	end();
}

static void those_who_wait_get_their_turn(void)
{
	char folder[] = "/tmp/wherry-nbd-XXXXXX";
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int silent[4];
	begin(2);
	CHECK(mkdtemp(folder));
	memcpy(a.sun_path, folder, sizeof folder - 1);
	memcpy(a.sun_path + sizeof folder - 1, "/s", 3);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(!bind(fd, (struct sockaddr *)&a, sizeof a) && !listen(fd, 16));
	CHECK_EQ(wh_nbd_server_listen(server, fd), 0);
	for (int i = 0; i < 5; i++) {
		int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		CHECK_EQ(connect(s, (struct sockaddr *)&a, sizeof a), 0);
		CHECK_EQ(fcntl(s, F_SETFL, O_NONBLOCK), 0);
		if (i < 4) {
			silent[i] = s;
			continue;
		}
		enter(s); /* behind four who say nothing, where two are let in at a time */
		reads(s);
		close(s);
	}
	for (int i = 0; i < 4; i++)
		wait_for_end(silent[i]);
	unlink(a.sun_path);
	rmdir(folder);
	end();
}

int main(void)
{
	RUN(silence_ends_the_handshake);
	RUN(those_who_wait_get_their_turn);
	return test_end();
}
