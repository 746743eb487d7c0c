/* SPDX-License-Identifier: ISC */
/*
 * wherry disk convert: copies a disk into another image.
 *
 * Some chunks are under way at once, each in a slot: read, (relative to a backing file: what is there now is
 * read too), looked through for zeroes or (packing) packed by a thread, written. Reads that the page cache
 * answers and everything else of the library happen in this thread; waiting for files and packing do not.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/block_codec.h>
#include <wherry/loop.h>
#include <wherry/pool.h>

#include "disk.h"

#define CHUNK (1u << 20)       /* bytes of a slot */
#define CLUSTER_MAX (2u << 20) /* the largest that is packed */
#define SLOTS 8u               /* keeps reading, packing and writing busy */
#define SPARSE 4096u           /* runs of zeroes shorter than this are written */
#define PACK_THREADS 16u

enum {
	OPTION_OUT_FORMAT = DISK_OWN,
	OPTION_OPTIONS,
	OPTION_COMPRESS,
	OPTION_NO_CREATE,
	OPTION_SPARSE,
	OPTION_BACKING,
	OPTION_BACKING_FORMAT,
	OPTION_TARGET_CACHE,
	OPTION_SKIP,
	OPTION_COUNT
};

static int run_convert(int argc, char **argv);

static const struct cli_option options[] = {
	DISK_OPTION_FORMAT("of FILE"),
	{ OPTION_OUT_FORMAT, "output-format", 'O', "FORMAT", "of OUTPUT (raw)" },
	{ OPTION_OPTIONS, "options", 'o', "NAME=VALUE,...", "of OUTPUT, as of create" },
	{ OPTION_COMPRESS, "compress", 'c', NULL, "pack the clusters of OUTPUT (qcow2)" },
	{ OPTION_NO_CREATE, "no-create", 'n', NULL, "OUTPUT exists and is written over" },
	{ OPTION_SPARSE, "sparse", 'S', "SIZE", "leave out runs of zeroes so long; 0 = none (4K)" },
	{ OPTION_BACKING, "backing", 'B', "FILE",
	  "backing file of OUTPUT: only differences are kept" },
	{ OPTION_BACKING_FORMAT, "backing-format", 'F', "FORMAT", "of that backing file" },
	{ DISK_SNAPSHOT, "snapshot", 'l', "NAME", "copy an internal snapshot" },
	{ DISK_CACHE, "source-cache", 'T', "MODE", "writeback, none or unsafe (writeback)" },
	{ OPTION_TARGET_CACHE, "cache", 't', "MODE", "of OUTPUT (unsafe: it can be made again)" },
	{ OPTION_SKIP, "skip", 0, "SIZE", "leave out the beginning of the disk" },
	{ OPTION_COUNT, "count", 0, "SIZE", "copy so much of the disk" },
	DISK_OPTION_SHARE,
	DISK_OPTION_FOLLOW,
	DISK_OPTION_JSON,
	DISK_OPTION_QUIET,
	DISK_OPTIONS_PROGRESS,
};

const struct cli_command disk_command_convert = {
	.name = "disk convert",
	.synopsis = "[-f FORMAT] [-O FORMAT] [-o OPTIONS] [-c] [-n] FILE OUTPUT",
	.summary = "copy a disk into another image",
	.options = options,
	.option_count = WH_ARRAY_COUNT(options),
	.run = run_convert,
};

struct convert;

#define PACK_LEAVE 0  /* OUTPUT reads so already */
#define PACK_PLAIN -1 /* does not shrink */
#define PACK_ZERO -2
struct packed {
	int size; /* bytes in the slot's packed memory, or PACK_* */
};

struct slot {
	struct convert *c;
	struct wh_pool_job job;
	struct wh_block_request q;
	struct wh_iov iov;
	uint8_t *data, *old, *packed; /* old: what OUTPUT has there (with a backing file) */
	uint64_t at;                  /* in the source */
	uint32_t size, done;          /* done: bytes looked through */
	bool busy;
	struct wh_block_codec *codec;
	struct packed *clusters;
};

struct convert {
	/* Options. */
	struct disk_common common;
	struct disk_target target;
	enum wh_block_cache target_cache;
	bool compress, no_create;
	uint64_t sparse, skip, count;
	/* Work. */
	struct wh_loop *loop;
	struct wh_blockio *io;
	struct wh_pool *pool;
	struct wh_block_image *from_image, *to_image;
	struct wh_block *from, *to;
	uint32_t cluster;  /* of OUTPUT, when packing */
	bool zeroes_there; /* OUTPUT reads as zeroes where nothing was written */
	bool relative;     /* OUTPUT has a backing file */
	uint64_t at, end, finished;
	int error;
	bool error_in_output;
	unsigned busy;
	struct slot slots[SLOTS];
	struct disk_progress progress;
};

static void failed(struct convert *c, int error, bool in_output)
{
	if (c->error)
		return;
	c->error = error;
	c->error_in_output = in_output;
}

static void slot_end(struct slot *s)
{
	s->busy = false;
	s->c->busy--;
	s->c->finished += s->size;
}

static void request(struct slot *s, struct wh_block *b, enum wh_block_op op, uint64_t offset,
		    uint8_t *data, uint64_t size, void (*done)(struct wh_block_request *, int))
{
	s->iov = (struct wh_iov){ data, size };
	s->q.op = op;
	s->q.flags = op == WH_BLOCK_WRITE_ZEROES ? WH_BLOCK_UNMAP : 0;
	s->q.offset = offset;
	s->q.size = size;
	s->q.iov = &s->iov;
	s->q.iov_count = data ? 1 : 0;
	s->q.done = done;
	wh_block_submit(b, &s->q);
}

/* ---- writing runs ---- */

static bool all_zero(const uint8_t *p, size_t size)
{
	return !p[0] && !memcmp(p, p + 1, size - 1);
}

/* What is to happen with the unit at s->done: nothing, or be written as zeroes or as data. */
enum unit { UNIT_LEAVE, UNIT_ZERO, UNIT_DATA };

static enum unit unit_kind(const struct slot *s, uint32_t at, uint32_t size)
{
	const struct convert *c = s->c;
	if (c->relative && !memcmp(s->data + at, s->old + at, size))
		return UNIT_LEAVE;
	if (c->sparse && all_zero(s->data + at, size))
		return c->zeroes_there && !c->relative ? UNIT_LEAVE : UNIT_ZERO;
	return UNIT_DATA;
}

static void write_next(struct slot *s);

static void written(struct wh_block_request *q, int result)
{
	struct slot *s = WH_CONTAINER_OF(q, struct slot, q);
	if (result < 0)
		failed(s->c, result, true);
	write_next(s);
}

/* The next run of units of one kind. */
static void write_next(struct slot *s)
{
	struct convert *c = s->c;
	uint32_t unit = c->sparse ? (uint32_t)c->sparse : CHUNK;
	if (c->relative && unit > SPARSE)
		unit = SPARSE;
	while (s->done < s->size && !c->error) {
		uint32_t from = s->done, at = from, n;
		enum unit kind = UNIT_LEAVE, k;
		do {
			/* Units begin at multiples of their size on the disk. */
			n = unit - (uint32_t)((s->at + at) % unit);
			n = n < s->size - at ? n : s->size - at;
			k = unit_kind(s, at, n);
			if (at == from)
				kind = k;
			else if (k != kind)
				break;
			at += n;
		} while (at < s->size);
		s->done = at;
		if (kind == UNIT_LEAVE)
			continue;
		bool zero = kind == UNIT_ZERO;
		request(s, c->to, zero ? WH_BLOCK_WRITE_ZEROES : WH_BLOCK_WRITE,
			s->at - c->skip + from, zero ? NULL : s->data + from, at - from, written);
		return;
	}
	slot_end(s);
}

/* ---- packing ---- */

static void pack(struct wh_pool_job *job)
{
	struct slot *s = WH_CONTAINER_OF(job, struct slot, job);
	struct convert *c = s->c;
	for (uint32_t at = 0, i = 0; at < s->size; at += c->cluster, i++) {
		uint32_t n = s->size - at < c->cluster ? s->size - at : c->cluster;
		if (n < c->cluster) /* the end of the disk */
			memset(s->data + at + n, 0, c->cluster - n);
		bool zero = all_zero(s->data + at, c->cluster);
		if (c->relative ? !memcmp(s->data + at, s->old + at, n) : zero) {
			s->clusters[i].size =
				c->relative || c->zeroes_there ? PACK_LEAVE : PACK_ZERO;
			continue;
		}
		if (zero) {
			s->clusters[i].size = PACK_ZERO;
			continue;
		}
		int r = s->codec->encode(s->codec->ctx, c->target.qcow2.compression, s->data + at,
					 c->cluster, s->packed + at, c->cluster - 1);
		s->clusters[i].size = r > 0 ? r : PACK_PLAIN;
	}
}

static void plain_written(struct wh_block_request *q, int result);

/* Puts packed clusters into the image, in their order; one that does not shrink is written as it is. */
static void write_packed(struct slot *s)
{
	struct convert *c = s->c;
	while (s->done < s->size && !c->error) {
		uint32_t at = s->done, n = s->size - at < c->cluster ? s->size - at : c->cluster;
		int size = s->clusters[at / c->cluster].size;
		s->done += n;
		if (size > 0) {
			int r = wh_block_write_packed(c->to, s->at - c->skip + at, s->packed + at,
						      (uint32_t)size);
			if (r < 0)
				failed(c, r, true);
		} else if (size != PACK_LEAVE) {
			bool zero = size == PACK_ZERO;
			request(s, c->to, zero ? WH_BLOCK_WRITE_ZEROES : WH_BLOCK_WRITE,
				s->at - c->skip + at, zero ? NULL : s->data + at, n, plain_written);
			return;
		}
	}
	slot_end(s);
}

static void plain_written(struct wh_block_request *q, int result)
{
	struct slot *s = WH_CONTAINER_OF(q, struct slot, q);
	if (result < 0)
		failed(s->c, result, true);
	write_packed(s);
}

static void packed(struct wh_pool_job *job)
{
	write_packed(WH_CONTAINER_OF(job, struct slot, job));
}

/* ---- reading ---- */

static void look_through(struct slot *s)
{
	if (!s->c->compress) {
		write_next(s);
		return;
	}
	s->job = (struct wh_pool_job){ .work = pack, .done = packed };
	wh_pool_submit(s->c->pool, &s->job);
}

static void old_read(struct wh_block_request *q, int result)
{
	struct slot *s = WH_CONTAINER_OF(q, struct slot, q);
	if (result < 0)
		failed(s->c, result, true);
	look_through(s);
}

static void source_read(struct wh_block_request *q, int result)
{
	struct slot *s = WH_CONTAINER_OF(q, struct slot, q);
	struct convert *c = s->c;
	s->done = 0;
	if (result < 0) {
		failed(c, result, false);
		slot_end(s);
	} else if (c->relative) {
		request(s, c->to, WH_BLOCK_READ, s->at - c->skip, s->old, s->size, old_read);
	} else {
		look_through(s);
	}
}

static void zeroed(struct wh_block_request *q, int result)
{
	struct slot *s = WH_CONTAINER_OF(q, struct slot, q);
	if (result < 0)
		failed(s->c, result, true);
	slot_end(s);
}

/* Begins the next chunk in a free slot; or steps over zeroes. */
static void begin(struct convert *c, struct slot *s)
{
	struct wh_block_extent x;
	int r = wh_block_map(c->from, c->at, c->end - c->at, WH_BLOCK_CHAIN_MAX, &x);
	if (r < 0) {
		failed(c, r, false);
		return;
	}
	uint64_t n = x.size, left = c->end - c->at;
	bool zero = !(x.flags & WH_BLOCK_MAP_DATA) && c->sparse && !c->relative;
	if (c->compress && n < left) /* whole clusters */
		n = zero && n >= c->cluster ? wh_align_down(n, c->cluster)
					    : wh_align_up(n, c->cluster);
	if (c->compress && n > left)
		n = left;
	zero = zero && n <= x.size;
	if (zero && c->zeroes_there) {
		c->at += n;
		c->finished += n;
		return;
	}
	uint64_t most = c->compress && c->cluster > CHUNK ? c->cluster : CHUNK;
	if (!zero && n > most)
		n = most;
	if (zero && n > UINT32_MAX / 2)
		n = 1u << 30;
	s->at = c->at;
	s->size = (uint32_t)n;
	s->busy = true;
	c->busy++;
	c->at += n;
	if (zero)
		request(s, c->to, WH_BLOCK_WRITE_ZEROES, s->at - c->skip, NULL, n, zeroed);
	else
		request(s, c->from, WH_BLOCK_READ, s->at, s->data, n, source_read);
}

static void copy(struct convert *c)
{
	uint64_t total = c->end - c->skip;
	while ((c->at < c->end && !c->error) || c->busy) {
		struct slot *s = NULL;
		for (unsigned i = 0; i < SLOTS && !s; i++)
			s = c->slots[i].busy ? NULL : &c->slots[i];
		if (s && c->at < c->end && !c->error)
			begin(c, s);
		else if (wh_loop_step(c->loop, -1) < 0)
			failed(c, -WH_EIO, true);
		disk_progress_show(&c->progress, c->finished, total);
		if (disk_interrupted())
			failed(c, -WH_ECANCELED, true);
	}
}

/* ---- setting up ---- */

static int option(void *ctx, int id, const char *value)
{
	struct convert *c = ctx;
	switch (id) {
	case OPTION_OUT_FORMAT:
		return disk_parse_format(value, &c->target.format);
	case OPTION_OPTIONS:
		return disk_target_option(&c->target, value);
	case OPTION_COMPRESS:
		c->compress = true;
		return 0;
	case OPTION_NO_CREATE:
		c->no_create = true;
		return 0;
	case OPTION_SPARSE:
		if (disk_parse_size("-S", value, &c->sparse))
			return CLI_BAD;
		if (!(c->sparse & (c->sparse - 1)) && c->sparse <= CHUNK &&
		    (!c->sparse || c->sparse >= WH_BLOCK_SECTOR))
			return 0;
		cli_error("disk convert: -S is 0 or a power of two from 512 to 1M, not %s", value);
		return CLI_BAD;
	case OPTION_BACKING:
		c->target.qcow2.backing_name = value;
		return 0;
	case OPTION_BACKING_FORMAT:
		return disk_parse_format(value, &c->target.qcow2.backing_format);
	case OPTION_TARGET_CACHE:
		return disk_parse_cache(value, &c->target_cache);
	case OPTION_SKIP:
		return disk_parse_size("--skip", value, &c->skip);
	default:
		return disk_parse_size("--count", value, &c->count);
	}
}

static int slots_init(struct convert *c)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *s = &c->slots[i];
		void *memory[3] = { NULL, NULL, NULL };
		bool wanted[3] = { true, c->relative, c->compress };
		s->c = c;
		for (unsigned k = 0; k < 3; k++)
			if (wanted[k] && posix_memalign(&memory[k], 4096, CLUSTER_MAX))
				return -WH_ENOMEM;
		s->data = memory[0];
		s->old = memory[1];
		s->packed = memory[2];
		if (!c->compress)
			continue;
		s->clusters = calloc(CLUSTER_MAX / c->cluster, sizeof *s->clusters);
		if (!s->clusters || wh_block_codec_new(0, &s->codec) < 0)
			return -WH_ENOMEM;
	}
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t threads = cpus < 1 ? 1 : cpus > PACK_THREADS ? PACK_THREADS : (uint32_t)cpus;
	return c->compress ? wh_pool_new(c->loop, threads, &c->pool) : 0;
}

/* The window of the source, and OUTPUT. */
static int prepare(struct convert *c, const char *output)
{
	uint64_t disk = wh_block_size(c->from);
	if (c->skip % WH_BLOCK_SECTOR || c->count % WH_BLOCK_SECTOR || c->skip >= disk) {
		cli_error("disk convert: --skip and --count are multiples of 512 inside the disk");
		return CLI_ERROR;
	}
	c->at = c->skip;
	c->end = c->count && c->count < disk - c->skip ? c->skip + c->count : disk;
	if (c->compress && c->target.format != WH_BLOCK_FORMAT_QCOW2) {
		cli_error("disk convert: only qcow2 can be packed (-O qcow2)");
		return CLI_ERROR;
	}
	if (!c->no_create) {
		c->target.qcow2.disk_size = c->end - c->skip;
		if (disk_target_make(&c->target, output))
			return CLI_ERROR;
	}
	struct disk_common to = { .format = c->target.format,
				  .cache = c->target_cache,
				  .follow = c->no_create ? c->common.follow
							 : WH_BLOCK_FOLLOW_ANYTHING };
	/* Packed clusters are stored one at a time: nothing may be in flight beside them. */
	if (disk_open(output, &to, false, 0, c->compress ? NULL : c->io, &c->to_image))
		return CLI_ERROR;
	struct wh_block_info info;
	c->to = wh_block_image_block(c->to_image);
	wh_block_info(c->to, &info);
	c->cluster = info.cluster_size;
	c->target.qcow2.compression = info.compression;
	c->zeroes_there = !c->no_create;
	c->relative = info.format == WH_BLOCK_FORMAT_QCOW2 && info.backing_name[0];
	if (wh_block_size(c->to) < c->end - c->skip) {
		cli_error("%s: it is too small: %llu bytes, %llu are wanted", output,
			  (unsigned long long)wh_block_size(c->to),
			  (unsigned long long)(c->end - c->skip));
		return CLI_ERROR;
	}
	if (slots_init(c) < 0) {
		cli_error("no memory");
		return CLI_ERROR;
	}
	return CLI_OK;
}

static int run(struct convert *c, const char *input, const char *output)
{
	if (disk_open(input, &c->common, true, 0, c->io, &c->from_image))
		return CLI_ERROR;
	c->from = wh_block_image_block(c->from_image);
	int status = prepare(c, output);
	if (status)
		return status;
	disk_progress_init(&c->progress, &c->common);
	copy(c);
	disk_progress_end(&c->progress);
	if (c->error == -WH_ECANCELED)
		cli_error("%s: interrupted; it is not complete", output);
	else if (c->error)
		cli_error("%s: %s failed: %s", c->error_in_output ? output : input,
			  c->error_in_output ? "writing" : "reading", strerror(-c->error));
	return c->error ? CLI_ERROR : CLI_OK;
}

static void tear_down(struct convert *c)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		free(c->slots[i].data);
		free(c->slots[i].old);
		free(c->slots[i].packed);
		free(c->slots[i].clusters);
		wh_block_codec_free(c->slots[i].codec);
	}
	wh_pool_free(c->pool);
	wh_blockio_free(c->io);
	wh_loop_free(c->loop);
}

static int tell(const struct convert *c, const char *input, const char *output,
		const struct wh_block_info *info)
{
	struct disk_json j = { 0 };
	disk_json_open(&j, NULL, '{');
	disk_json_text(&j, "source", input);
	disk_json_text(&j, "filename", output);
	disk_json_text(&j, "format", wh_block_format_name(info->format));
	disk_json_number(&j, "virtual-size", info->size);
	disk_json_number(&j, "copied", c->end - c->skip);
	disk_json_close(&j, '}');
	return fflush(stdout) ? CLI_ERROR : CLI_OK;
}

static int run_convert(int argc, char **argv)
{
	static struct convert c; /* one per process */
	const char *paths[2];
	struct wh_diag diag = { "" };
	struct disk_parse p = { .command = &disk_command_convert,
				.common = &c.common,
				.own = option,
				.ctx = &c,
				.operands = paths,
				.operand_max = 2,
				.operand_min = 2 };
	c = (struct convert){ .sparse = SPARSE, .target_cache = WH_BLOCK_CACHE_UNSAFE };
	disk_target_init(&c.target);
	c.target.format = WH_BLOCK_FORMAT_RAW;
	int r = disk_parse(&p, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	struct wh_blockio_config io = { .size = sizeof io, .kind = WH_BLOCKIO_THREADS };
	if (wh_loop_new(&c.loop) < 0) {
		cli_error("disk convert: no event loop");
		return CLI_ERROR;
	}
	io.loop = c.loop;
	int status = CLI_ERROR;
	if (wh_blockio_new(&io, &c.io, &diag) < 0)
		cli_error("disk convert: %s", diag.text);
	else
		status = run(&c, paths[0], paths[1]);
	if (c.to_image) {
		struct wh_block_info info;
		wh_block_info(c.to, &info);
		int closed = disk_close(paths[1], c.to_image);
		status = status ? status : closed;
		if (!status && c.common.json)
			status = tell(&c, paths[0], paths[1], &info);
	}
	(void)wh_block_image_close(c.from_image); /* read-only */
	tear_down(&c);
	return status;
}
