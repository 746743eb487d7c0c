/* SPDX-License-Identifier: ISC */
/* A disk image inside a program with an event loop of its own (poll). Lines on standard input: "w SECTOR TEXT" writes,
 * "r SECTOR" reads, "d SECTOR COUNT" discards, "f" flushes; answers come when they come, many at the same time.
 *	cc -o diskkit diskkit.c $(pkg-config --cflags --libs libwherry-block); ./diskkit new DISK.qcow2 SIZE; ./diskkit DISK.qcow2 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wherry/block_file.h>
#include <wherry/loop.h>

struct task {
	struct wh_block_request q;
	struct wh_iov iov;
	char text[WH_BLOCK_SECTOR];
};

static struct wh_block *block;
static unsigned in_flight;

static void done(struct wh_block_request *q, int result)
{
	static const char *const names[] = { "read", "written", "flushed", "discarded" };
	struct task *t = q->ctx;
	unsigned long long sector = q->offset / WH_BLOCK_SECTOR;
	if (result < 0)
		printf("%llu: %s\n", sector, strerror(-result));
	else if (q->op == WH_BLOCK_READ)
		printf("%llu: %.*s\n", sector, (int)sizeof t->text, t->text);
	else
		printf("%llu: %s\n", sector, names[q->op]);
	free(t);
	in_flight--;
}

/* One line; the request is the library's until `done`. */
static void command(const char *line)
{
	unsigned long long sector = 0, count = 1;
	struct task *t = calloc(1, sizeof *t);
	if (!t)
		return;
	t->iov = (struct wh_iov){ t->text, sizeof t->text };
	t->q = (struct wh_block_request){ .iov = &t->iov, .iov_count = 1, .done = done, .ctx = t };
	if (sscanf(line, "w %llu %511[^\n]", &sector, t->text) == 2)
		t->q.op = WH_BLOCK_WRITE;
	else if (sscanf(line, "d %llu %llu", &sector, &count) == 2)
		t->q.op = WH_BLOCK_DISCARD;
	else if (sscanf(line, "r %llu", &sector) == 1)
		t->q.op = WH_BLOCK_READ;
	else if (*line == 'f')
		t->q.op = WH_BLOCK_FLUSH;
	else {
		puts("w SECTOR TEXT, r SECTOR, d SECTOR COUNT or f");
		free(t);
		return;
	}
	t->q.offset = sector * WH_BLOCK_SECTOR;
	t->q.size = t->q.op == WH_BLOCK_FLUSH ? 0 : count * WH_BLOCK_SECTOR;
	in_flight++;
	wh_block_submit(block, &t->q);
}

static int make(const char *path, const char *size)
{
	struct wh_diag diag = { "" };
	struct wh_block_file file;
	struct wh_block_file_config f = { .size = sizeof f,
					  .path = path,
					  .flags = WH_BLOCK_FILE_CREATE };
	struct wh_block_qcow2_config c = { .size = sizeof c, .disk_size = strtoull(size, NULL, 0) };
	int r = wh_block_file_open(&f, &file, &diag);
	if (r >= 0) {
		r = wh_block_qcow2_create(&file, &c, &wh_block_malloc, &diag);
		wh_block_file_close(&file);
	}
	if (r < 0)
		fprintf(stderr, "%s\n", diag.text);
	return r < 0;
}

/* poll() for what the program waits for, and for the library's loop, whose descriptor is readable when it has work. */
static void run(struct wh_loop *loop)
{
	struct pollfd fds[] = { { STDIN_FILENO, POLLIN, 0 }, { wh_loop_fd(loop), POLLIN, 0 } };
	char text[4096];
	size_t size = 0;
	bool open = true;
	while (open || in_flight) {
		fds[0].fd = open ? STDIN_FILENO : -1;
		if (poll(fds, 2, -1) < 0)
			return;
		if (fds[1].revents)
			wh_loop_step(loop, 0);
		if (fds[0].revents) {
			ssize_t n = read(STDIN_FILENO, text + size, sizeof text - 1 - size);
			open = n > 0;
			size += open ? (size_t)n : 0;
			text[size] = 0;
		}
		char *line = text;
		for (char *end; (end = strchr(line, '\n')); line = end + 1) {
			*end = 0;
			command(line);
		}
		size = strlen(line);
		memmove(text, line, size + 1);
		wh_loop_step(loop, 0); /* what was submitted may be done already */
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	struct wh_diag diag = { "" };
	struct wh_loop *loop;
	struct wh_blockio *io;
	struct wh_block_image *image;
	if (argc == 4 && !strcmp(argv[1], "new"))
		return make(argv[2], argv[3]);
	if (argc != 2 || wh_loop_new(&loop) < 0)
		return fprintf(stderr, "usage: diskkit [new] DISK.qcow2 [SIZE]\n"), 2;
	struct wh_blockio_config config = { .size = sizeof config, .loop = loop };
	int r = wh_blockio_new(&config, &io, &diag);
	struct wh_block_image_config c = {
		.size = sizeof c, .path = argv[1], .format = WH_BLOCK_FORMAT_QCOW2, .io = io
	};
	if (r >= 0)
		r = wh_block_image_open(&c, &image, &diag);
	if (r < 0)
		return fprintf(stderr, "%s\n", diag.text), 1;
	block = wh_block_image_block(image);
	run(loop);
	r = wh_block_image_close(image);
	if (r < 0)
		fprintf(stderr, "the last writes were lost: %s\n", strerror(-r));
	wh_blockio_free(io);
	wh_loop_free(loop);
	return r < 0;
}
