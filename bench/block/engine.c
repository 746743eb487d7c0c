/* SPDX-License-Identifier: ISC */
/*
 * The block engine in this process: CPU nanoseconds a request, on a file of the host (page cache) and on memory,
 * which shows what the engine itself costs; raw and qcow2 side by side.
 *
 *	bench-block-engine [FOLDER]	FOLDER: where the files go (/tmp)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/hash.h>
#include <wherry/block.h>

#define BLOCK 4096u
#define OPS 200000u

struct file {
	struct wh_block_file file;
	int fd;
	uint8_t *memory; /* instead */
	uint64_t size;
};

static void *take(void *ctx, size_t size, size_t align)
{
	return malloc(size);
}

static void give(void *ctx, void *memory, size_t size)
{
	free(memory);
}

static const struct wh_alloc alloc = { .alloc = take, .free = give };

void wh_assert_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

static int memory_submit(struct file *f, const struct wh_block_io *io)
{
	uint64_t at = io->offset;
	if (io->kind == WH_BLOCK_IO_ZERO)
		memset(f->memory + at, 0, io->size);
	for (uint32_t i = 0; i < io->iov_count; at += io->iov[i++].size)
		if (io->kind == WH_BLOCK_IO_READ)
			memcpy(io->iov[i].base, f->memory + at, io->iov[i].size);
		else
			memcpy(f->memory + at, io->iov[i].base, io->iov[i].size);
	if (f->size < io->offset + io->size)
		f->size = io->offset + io->size;
	return 0;
}

static int submit(void *ctx, struct wh_block_io *io)
{
	struct file *f = ctx;
	ssize_t r = 0;
	if (f->memory)
		return memory_submit(f, io);
	switch (io->kind) {
	case WH_BLOCK_IO_READ:
		r = preadv(f->fd, (const struct iovec *)io->iov, (int)io->iov_count,
			   (off_t)io->offset);
		if (r >= 0 && (uint64_t)r < io->size)
			memset((uint8_t *)io->iov[0].base + r, 0, io->size - (uint64_t)r);
		break;
	case WH_BLOCK_IO_WRITE:
		r = pwritev(f->fd, (const struct iovec *)io->iov, (int)io->iov_count,
			    (off_t)io->offset);
		break;
	case WH_BLOCK_IO_FLUSH:
		r = fdatasync(f->fd);
		break;
	case WH_BLOCK_IO_RESIZE:
		r = ftruncate(f->fd, (off_t)io->offset);
		break;
	default:
		r = fallocate(f->fd, 0x3, (off_t)io->offset, (off_t)io->size);
	}
	return r < 0 ? -errno : 0;
}

static int size_of(void *ctx, uint64_t *ret_size)
{
	struct file *f = ctx;
	*ret_size = f->memory ? f->size : (uint64_t)lseek(f->fd, 0, SEEK_END);
	return 0;
}

static const struct wh_block_file_ops ops = { .submit = submit, .size = size_of };

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "%s: error %d\n", what, -r);
	exit(1);
}

static struct wh_block *image;
static uint8_t buffer[1 << 20];

static void ignore(struct wh_block_request *q, int result)
{
	must(result, "request");
}

/* ns an operation */
static double measure(enum wh_block_op op, uint64_t disk, uint32_t size, uint64_t step,
		      unsigned count)
{
	uint64_t seed = 42, blocks = disk / step;
	struct wh_block_request q;
	struct wh_iov v = { buffer, size };
	double start = now();
	for (unsigned i = 0; i < count; i++) {
		q.op = op;
		q.flags = 0;
		q.offset = size > BLOCK ? i % blocks * step : wh_random_next(&seed) % blocks * step;
		q.size = size;
		q.iov = &v;
		q.iov_count = 1;
		q.done = ignore;
		wh_block_submit(image, &q);
	}
	return (now() - start) * 1e9 / count;
}

static void open_image(struct file *f, enum wh_block_format format)
{
	struct wh_block_config c = {
		.size = sizeof c, .file = f->file, .format = format, .alloc = &alloc
	};
	struct wh_diag diag = { "" };
	int r = wh_block_open(&c, &image, &diag);
	if (r < 0)
		fprintf(stderr, "%s\n", diag.text);
	must(r, "open");
}

static void new_file(struct file *f, const char *folder, bool memory, uint64_t room)
{
	char path[300];
	*f = (struct file){ .file = { .ops = &ops, .ctx = f }, .fd = -1 };
	if (memory) {
		f->memory = mmap(0, room, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (f->memory == MAP_FAILED)
			must(-errno, "memory");
		return;
	}
	snprintf(path, sizeof path, "%s/wherry-bench-block-%d", folder, (int)getpid());
	f->fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	must(f->fd < 0 ? -errno : 0, path);
	unlink(path);
}

static void end_file(struct file *f, uint64_t room)
{
	must(wh_block_close(image), "close");
	if (f->memory)
		munmap(f->memory, room);
	else
		close(f->fd);
}

/* The same disk, raw or qcow2: first writes, overwrites, reads. */
static void requests(const char *name, const char *folder, bool memory, uint32_t cluster,
		     bool extended)
{
	uint64_t disk = 512ull << 20, room = 640ull << 20;
	struct file f;
	new_file(&f, folder, memory, room);
	if (cluster) {
		struct wh_block_qcow2_config c = { .size = sizeof c,
						   .disk_size = disk,
						   .cluster_size = cluster,
						   .extended_l2 = extended };
		must(wh_block_qcow2_create(&f.file, &c, &alloc, 0), "create");
	} else {
		struct wh_block_io io = { .kind = WH_BLOCK_IO_RESIZE, .offset = disk };
		if (memory)
			f.size = disk;
		else
			must(submit(&f, &io), "size");
	}
	open_image(&f, cluster ? WH_BLOCK_FORMAT_QCOW2 : WH_BLOCK_FORMAT_RAW);
	double first = measure(WH_BLOCK_WRITE, disk, BLOCK, cluster ? cluster : 65536, 5000);
	(void)measure(WH_BLOCK_FLUSH, disk, 0, BLOCK, 1);
	double sequential = measure(WH_BLOCK_WRITE, disk, 1 << 20, 1 << 20, 512);
	double over = measure(WH_BLOCK_WRITE, disk, BLOCK, BLOCK, OPS);
	double reads = measure(WH_BLOCK_READ, disk, BLOCK, BLOCK, OPS);
	double large = measure(WH_BLOCK_READ, disk, 1 << 20, 1 << 20, 512);
	printf("| %s | %.0f | %.0f | %.0f | %.2f | %.2f |\n", name, first, over, reads,
	       1e9 * (1 << 20) / sequential / 1e9, 1e9 * (1 << 20) / large / 1e9);
	end_file(&f, room);
}

/* Scattered blocks of a large sparse disk: one in each 4 MiB (or wider) piece, then read at random. */
static void sparse(const char *name, const char *folder, uint64_t disk)
{
	struct file f;
	struct wh_block_qcow2_config c = { .size = sizeof c, .disk_size = disk };
	uint64_t step = disk / 40000 / 65536 * 65536;
	new_file(&f, folder, false, 0);
	must(wh_block_qcow2_create(&f.file, &c, &alloc, 0), "create");
	open_image(&f, WH_BLOCK_FORMAT_QCOW2);
	double start = now();
	for (uint64_t i = 0; i < 40000; i++)
		must(wh_block_do(image, WH_BLOCK_WRITE, i * step, buffer, BLOCK, 0), "write");
	double first = (now() - start) * 1e9 / 40000;
	must(wh_block_do(image, WH_BLOCK_FLUSH, 0, 0, 0, 0), "flush");
	double reads = measure(WH_BLOCK_READ, step * 40000, BLOCK, step, OPS);
	struct wh_block_info info;
	wh_block_info(image, &info);
	printf("| %s | %.0f | %.0f | %.1f |\n", name, first, reads,
	       (double)info.cache_used / 1048576);
	end_file(&f, 0);
}

int main(int argc, char **argv)
{
	const char *folder = argc > 1 ? argv[1] : "/tmp";
	memset(buffer, 0x5a, sizeof buffer);
	printf("| CPU ns a request | first write 4K | overwrite 4K | read 4K | write 1M, "
	       "GB/s | read 1M, GB/s |\n"
	       "|---|---|---|---|---|---|\n");
	requests("raw, memory", folder, true, 0, false);
	requests("qcow2 64K, memory", folder, true, 65536, false);
	requests("qcow2 64K extended, memory", folder, true, 65536, true);
	requests("raw, file", folder, false, 0, false);
	requests("qcow2 64K, file", folder, false, 65536, false);
	requests("qcow2 4K, file", folder, false, 4096, false);
	printf("\n| 40,000 scattered blocks | first write, CPU ns | read, CPU ns | cache, MiB "
	       "|\n|---|---|---|---|\n");
	sparse("256 GiB", folder, 256ull << 30);
	sparse("1 TiB", folder, 1024ull << 30);
	return 0;
}
