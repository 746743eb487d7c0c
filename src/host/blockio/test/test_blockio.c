/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/loop.h>
#include <wherry/test.h>

#include "../blockio_priv.h"

#define SIZE (1u << 20)
#define SLOTS \
	48u /* in flight; each has a part of the file of its own, so that the model is exact */
#define PART (16u << 10)
#define ROUNDS 3000u

static char path[64];
static struct wh_loop *loop;
static struct wh_blockio *io;
static struct wh_block_file file;

static void make_file(uint64_t size)
{
	if (!path[0])
		wh_format(path, sizeof path, "/tmp/wherry-test-blockio-%d", (int)getpid());
	unlink(path);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	CHECK(fd >= 0 && !ftruncate(fd, (off_t)size));
	close(fd);
}

static int open_file(uint32_t flags, enum wh_block_cache cache, struct wh_block_file *ret_file,
		     struct wh_diag *diag)
{
	struct wh_block_file_config c = {
		.size = sizeof c, .path = path, .flags = flags, .cache = cache, .io = io
	};
	return wh_block_file_open(&c, ret_file, diag);
}

/* ---- a model ---- */

struct slot {
	struct wh_block_io op;
	struct wh_iov iov[3];
	_Alignas(4096) uint8_t buffer[PART], model[PART];
	bool busy, loose; /* loose: discarded, the content is unknown */
	uint32_t at;
};

static struct slot slots[SLOTS];
static uint64_t seed;
static unsigned answers;

static uint32_t draw(uint32_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % below;
}

static void check_answer(struct slot *s, int result)
{
	CHECK_EQ(result, 0);
	answers++;
	if (s->op.kind == WH_BLOCK_IO_READ && !s->loose)
		CHECK_MEM(s->buffer + s->at, s->model + s->at, s->op.size);
}

static void op_done(struct wh_block_io *op, int result)
{
	struct slot *s = op->ctx;
	CHECK(s->busy);
	s->busy = false;
	check_answer(s, result);
}

/* One random operation in the slot's part of the file. */
static void start(struct slot *s, uint32_t unit)
{
	static const enum wh_block_io_kind kinds[] = { WH_BLOCK_IO_READ,  WH_BLOCK_IO_READ,
						       WH_BLOCK_IO_WRITE, WH_BLOCK_IO_WRITE,
						       WH_BLOCK_IO_ZERO,  WH_BLOCK_IO_DISCARD };
	uint32_t from = draw(PART / unit), count = 1 + draw(PART / unit - from);
	s->at = from * unit;
	s->op = (struct wh_block_io){ .kind = kinds[draw(6)],
				      .offset = (uint64_t)(s - slots) * PART + s->at,
				      .size = count * unit,
				      .iov = s->iov,
				      .done = op_done,
				      .ctx = s };
	if (draw(20) == 0)
		s->op.kind = WH_BLOCK_IO_FLUSH;
	uint32_t cut = draw(count + 1) * unit;
	s->iov[0] = (struct wh_iov){ s->buffer + s->at, cut };
	s->iov[1] = (struct wh_iov){ s->buffer + s->at + cut, s->op.size - cut };
	s->op.iov_count = 2;
	switch (s->op.kind) {
	case WH_BLOCK_IO_WRITE:
		for (uint32_t i = 0; i < s->op.size; i += 64)
			memset(s->buffer + s->at + i, (int)draw(256), unit < 64 ? unit : 64);
		memcpy(s->model + s->at, s->buffer + s->at, s->op.size);
		break;
	case WH_BLOCK_IO_ZERO:
		memset(s->model + s->at, 0, s->op.size);
		s->op.flags = draw(2) ? WH_BLOCK_IO_UNMAP : 0;
		break;
	case WH_BLOCK_IO_DISCARD:
		memset(s->model + s->at, 0, s->op.size); /* host files: holes or unchanged */
		s->loose = true;
		break;
	default:
		break;
	}
	s->busy = true;
	int r = file.ops->submit(file.ctx, &s->op);
	if (r == WH_BLOCK_LATER)
		return;
	s->busy = false;
	check_answer(s, r);
}

static void settle(void)
{
	for (unsigned i = 0; i < SLOTS; i++)
		while (slots[i].busy)
			CHECK(wh_loop_step(loop, 10000) >= 0);
}

static void model(enum wh_blockio_kind kind, bool eager, enum wh_block_cache cache)
{
	struct wh_diag diag = { "" };
	CHECK_EQ(wh_loop_new(&loop), 0);
	struct wh_blockio_config c = {
		.size = sizeof c, .loop = loop, .kind = kind, .eager = eager
	};
	int r = wh_blockio_new(&c, &io, &diag);
	if (r < 0 && kind == WH_BLOCKIO_URING) {
		wh_loop_free(loop);
		CHECK(strstr(diag.text, "io_uring"));
		test_skip(diag.text);
	}
	CHECK_EQ(r, 0);
	make_file(SIZE / 2); /* the rest is beyond its end at first */
	r = open_file(0, cache, &file, &diag);
	if (r == -WH_EINVAL && cache == WH_BLOCK_CACHE_NONE) {
		wh_blockio_free(io);
		wh_loop_free(loop);
		test_skip("no direct I/O in /tmp");
	}
	CHECK_EQ(r, 0);
	memset(slots, 0, sizeof slots);
	seed = test_seed() + (uint64_t)kind * 7 + eager;
	answers = 0;
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct slot *s = &slots[draw(SLOTS)];
		while (s->busy)
			CHECK(wh_loop_step(loop, 10000) >= 0);
		start(s, draw(8) ? 512 : 16); /* some fit no direct I/O */
		if (draw(16) == 0)
			CHECK(wh_loop_step(loop, 0) >= 0);
	}
	settle();
	CHECK_EQ(answers, ROUNDS);
	wh_block_file_close(&file);
	wh_blockio_free(io);
	wh_loop_free(loop);
	io = NULL;
}

static void threads(void)
{
	model(WH_BLOCKIO_THREADS, false, WH_BLOCK_CACHE_WRITEBACK);
}

static void threads_eager(void)
{
	model(WH_BLOCKIO_THREADS, true, WH_BLOCK_CACHE_UNSAFE);
}

static void threads_direct(void)
{
	model(WH_BLOCKIO_THREADS, true, WH_BLOCK_CACHE_NONE);
}

static void uring(void)
{
	model(WH_BLOCKIO_URING, false, WH_BLOCK_CACHE_WRITEBACK);
}

static void uring_eager(void)
{
	model(WH_BLOCKIO_URING, true, WH_BLOCK_CACHE_WRITEBACK);
}

static void uring_direct(void)
{
	model(WH_BLOCKIO_URING, false, WH_BLOCK_CACHE_NONE);
}

static void whatever_there_is(void)
{
	model(WH_BLOCKIO_AUTO, false, WH_BLOCK_CACHE_WRITEBACK);
}

static void flood_done(struct wh_block_io *op, int result)
{
	CHECK_EQ(result, 0);
	answers++;
}

/* More at once than the ring has entries. */
static void flood(void)
{
	enum { COUNT = 2000 };
	static struct wh_block_io ops[COUNT];
	static uint8_t buffer[512];
	struct wh_iov v = { buffer, sizeof buffer };
	CHECK_EQ(wh_loop_new(&loop), 0);
	struct wh_blockio_config c = { .size = sizeof c, .loop = loop };
	CHECK_EQ(wh_blockio_new(&c, &io, NULL), 0);
	make_file(SIZE);
	CHECK_EQ(open_file(0, WH_BLOCK_CACHE_WRITEBACK, &file, NULL), 0);
	answers = 0;
	unsigned later = 0;
	for (unsigned i = 0; i < COUNT; i++) {
		ops[i] = (struct wh_block_io){ .kind = WH_BLOCK_IO_WRITE,
					       .offset = i % 2048 * 512,
					       .size = 512,
					       .iov = &v,
					       .iov_count = 1,
					       .done = flood_done };
		int r = file.ops->submit(file.ctx, &ops[i]);
		CHECK(r == 0 || r == WH_BLOCK_LATER);
		later += r == WH_BLOCK_LATER;
	}
	while (answers < later)
		CHECK(wh_loop_step(loop, 10000) >= 0);
	wh_block_file_close(&file);
	wh_blockio_free(io);
	wh_loop_free(loop);
	io = NULL;
}

/* ---- errors ---- */

/* The kernel tells of lost writes once; the file tells every time. */
static void failed_flush_stays(void)
{
	struct wh_block_io flush = { .kind = WH_BLOCK_IO_FLUSH, .flags = WH_BLOCK_IO_NOW };
	int ends[2];
	make_file(SIZE);
	CHECK_EQ(open_file(0, WH_BLOCK_CACHE_WRITEBACK, &file, NULL), 0);
	struct blockio_file *f = file.ctx;
	CHECK_EQ(file.ops->submit(f, &flush), 0);
	CHECK_EQ(pipe(ends), 0);
	int good = f->fd;
	f->fd = ends[1]; /* a pipe cannot be flushed */
	int r = file.ops->submit(f, &flush);
	CHECK(r < 0);
	f->fd = good;
	CHECK_EQ(file.ops->submit(f, &flush), r);
	close(ends[0]);
	close(ends[1]);
	wh_block_file_close(&file);
}

static void locks(void)
{
	struct wh_block_file first, other;
	struct wh_diag diag = { "" };
	make_file(SIZE);
	CHECK_EQ(open_file(0, WH_BLOCK_CACHE_WRITEBACK, &first, &diag), 0);
	CHECK_EQ(open_file(0, WH_BLOCK_CACHE_WRITEBACK, &other, &diag), -WH_EBUSY);
	CHECK(strstr(diag.text, "in use"));
	CHECK_EQ(open_file(WH_BLOCK_FILE_READ_ONLY, WH_BLOCK_CACHE_WRITEBACK, &other, &diag),
		 -WH_EBUSY);
	CHECK_EQ(open_file(WH_BLOCK_FILE_READ_ONLY | WH_BLOCK_FILE_NO_LOCK,
			   WH_BLOCK_CACHE_WRITEBACK, &other, &diag),
		 0);
	wh_block_file_close(&other);
	wh_block_file_close(&first);
	CHECK_EQ(open_file(WH_BLOCK_FILE_READ_ONLY, WH_BLOCK_CACHE_WRITEBACK, &first, &diag), 0);
	CHECK_EQ(open_file(WH_BLOCK_FILE_READ_ONLY, WH_BLOCK_CACHE_WRITEBACK, &other, &diag), 0);
	wh_block_file_close(&other); /* readers share */
	CHECK_EQ(open_file(0, WH_BLOCK_CACHE_WRITEBACK, &other, &diag), -WH_EBUSY);
	wh_block_file_close(&first);
}

static int open_image(const char *name, enum wh_block_format format, struct wh_diag *diag)
{
	struct wh_block_image *image;
	struct wh_block_image_config c = { .size = sizeof c, .path = name, .format = format };
	int r = wh_block_image_open(&c, &image, diag);
	return r < 0 ? r : wh_block_image_close(image);
}

static int open_path(const char *name, uint32_t flags, struct wh_diag *diag)
{
	struct wh_block_file f;
	struct wh_block_file_config c = { .size = sizeof c, .path = name, .flags = flags };
	return wh_block_file_open(&c, &f, diag);
}

static void wrong_files(void)
{
	struct wh_diag diag = { "" };
	make_file(SIZE);
	CHECK_EQ(open_path("/nonexistent/x", 0, &diag), -WH_ENOENT);
	CHECK(strstr(diag.text, "no such file"));
	CHECK_EQ(open_path("/tmp", WH_BLOCK_FILE_READ_ONLY, &diag), -WH_EISDIR);
	CHECK_EQ(open_path("/dev/null", 0, &diag), -WH_EINVAL);
	CHECK_EQ(open_path(path, WH_BLOCK_FILE_CREATE, &diag), -WH_EEXIST);
	CHECK_EQ(open_image(path, WH_BLOCK_FORMAT_QCOW2, &diag), -WH_EINVAL);
	CHECK(strstr(diag.text, "not a qcow2"));
	int fd = open(path, O_RDWR);
	CHECK_EQ(pwrite(fd, "QFI\xfb", 4, 0), 4);
	close(fd);
	CHECK_EQ(open_image(path, WH_BLOCK_FORMAT_NONE, &diag), -WH_EINVAL);
	CHECK(strstr(diag.text, "format=qcow2"));
	CHECK_EQ(open_image(path, WH_BLOCK_FORMAT_RAW, &diag), 0);
}

static void preallocation(void)
{
	struct stat st;
	make_file(0);
	CHECK_EQ(open_file(0, WH_BLOCK_CACHE_WRITEBACK, &file, NULL), 0);
	CHECK_EQ(wh_block_file_preallocate(&file, 0, SIZE, WH_BLOCK_PREALLOCATION_OFF, NULL), 0);
	CHECK(!stat(path, &st) && st.st_size == SIZE && st.st_blocks == 0);
	int r = wh_block_file_preallocate(&file, 0, SIZE, WH_BLOCK_PREALLOCATION_FALLOC, NULL);
	CHECK(r == 0 || r == -WH_EOPNOTSUPP);
	if (!r)
		CHECK(!stat(path, &st) && st.st_blocks >= SIZE / 512);
	CHECK_EQ(
		wh_block_file_preallocate(&file, SIZE, 2 * SIZE, WH_BLOCK_PREALLOCATION_FULL, NULL),
		0);
	CHECK(!stat(path, &st) && st.st_size == 2 * SIZE && st.st_blocks >= SIZE / 512);
	wh_block_file_close(&file);
}

/* What is data at `offset`, and how far; the host's own answer may not change in between. */
static uint64_t stretch(uint64_t offset, bool *ret_data)
{
	uint64_t size = 0;
	CHECK_EQ(file.ops->map(file.ctx, offset, SIZE - offset, ret_data, &size), 0);
	return size;
}

/* Asked once for each stretch of data, and again after what may have changed it. */
static void data_and_holes(void)
{
	static uint8_t bytes[PART];
	struct wh_iov v = { bytes, PART };
	struct wh_block_io op = { .kind = WH_BLOCK_IO_WRITE,
				  .flags = WH_BLOCK_IO_NOW,
				  .size = PART,
				  .iov = &v,
				  .iov_count = 1 };
	bool data;
	memset(bytes, 7, sizeof bytes);
	make_file(SIZE);
	CHECK_EQ(open_file(0, WH_BLOCK_CACHE_WRITEBACK, &file, NULL), 0);
	if (stretch(0, &data) == SIZE && data) { /* no holes here: all there is to know */
		wh_block_file_close(&file);
		return;
	}
	for (op.offset = 0; op.offset < 4 * PART; op.offset += PART)
		CHECK_EQ(file.ops->submit(file.ctx, &op), 0);
	CHECK(stretch(0, &data) == 4 * PART && data);
	CHECK(stretch(PART, &data) == 3 * PART && data);
	CHECK(stretch(4 * PART, &data) == SIZE - 4 * PART && !data);
	op.offset = 8 * PART; /* a hole that was seen is filled */
	CHECK_EQ(file.ops->submit(file.ctx, &op), 0);
	CHECK(stretch(4 * PART, &data) == 4 * PART && !data);
	CHECK(stretch(8 * PART, &data) == PART && data);
	CHECK(stretch(2 * PART, &data) == 2 * PART && data);
	op.kind = WH_BLOCK_IO_DISCARD; /* data that was seen becomes a hole */
	op.iov_count = 0;
	op.offset = 2 * PART;
	CHECK_EQ(file.ops->submit(file.ctx, &op), 0);
	int fd = open(path, O_RDONLY);
	CHECK(fd >= 0);
	if (lseek(fd, 2 * PART, SEEK_HOLE) == 2 * PART) { /* where holes can be made */
		CHECK(stretch(2 * PART, &data) == PART && !data);
		CHECK(stretch(0, &data) == 2 * PART && data);
	}
	close(fd);
	wh_block_file_close(&file);
}

static void names(void)
{
	enum wh_block_cache cache;
	CHECK(!wh_block_cache_parse("none", &cache) && cache == WH_BLOCK_CACHE_NONE);
	CHECK(!wh_block_cache_parse("writeback", &cache) && cache == WH_BLOCK_CACHE_WRITEBACK);
	CHECK(!wh_block_cache_parse("unsafe", &cache) && cache == WH_BLOCK_CACHE_UNSAFE);
	CHECK_EQ(wh_block_cache_parse("directsync", &cache), -WH_EINVAL);
}

int main(void)
{
	RUN(threads);
	RUN(threads_eager);
	RUN(threads_direct);
	RUN(uring);
	RUN(uring_eager);
	RUN(uring_direct);
	RUN(whatever_there_is);
	RUN(flood);
	RUN(failed_flush_stays);
	RUN(locks);
	RUN(wrong_files);
	RUN(preallocation);
	RUN(data_and_holes);
	RUN(names);
	if (path[0])
		unlink(path);
	return test_end();
}
