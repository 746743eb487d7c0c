/* SPDX-License-Identifier: ISC */
/*
 * The block library as a plugin of nbdkit: nbdkit ./nbdkit-wherry-plugin.so file=disk.qcow2 format=qcow2
 *
 * nbdkit calls from many threads at a time (PARALLEL), the library wants one. So one of the threads that wait for an answer
 * drives the image: it submits what all of them ask for, waits for files, and hands out answers; when it has
 * its own, another one who waits goes on. With one request at a time no thread ever waits for another. All
 * connections share one image.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <wherry/base/checked.h>
#include <wherry/block_codec.h>
#include <wherry/block_file.h>
#include <wherry/loop.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define PIECE (2u << 20) /* an odd write is done in copies of this */

static char *path, *format, *follow, *snapshot;
static struct wh_block_codec *codec;
static struct wh_block_image *image;
static int read_only;

/* ---- many threads, one image ---- */

struct job {
	struct wh_list node; /* in `asked`, then in `waiting` */
	struct wh_block_request q;
	struct wh_iov iov;
	int (*alone)(struct job *job); /* what is to be done with the image to itself, or NULL */
	int (*look)(struct job *job);  /* instead of a request: asks the image something */
	void *ctx;
	int result;
	bool ended, answered; /* ended: by the image; answered: seen by the thread that asked */
	pthread_cond_t wake;
};

/* In order of acquisition: it is the only one. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct wh_list asked = { &asked, &asked };       /* by nobody submitted yet */
static struct wh_list waiting = { &waiting, &waiting }; /* all others without an answer */
static bool driven, asleep; /* somebody drives; he may be waiting for files */
static struct wh_loop *loop;
static struct wh_blockio *io;

static void job_ended(struct wh_block_request *q, int result)
{
	struct job *job = q->ctx;
	if (result >= 0 && job->alone)
		result = job->alone(job);
	job->result = result;
	job->ended = true;
}

/* Answers for those whose requests have ended. */
static void tell(void)
{
	WH_LIST_FOR_EACH_SAFE(n, &waiting) {
		struct job *job = WH_LIST_ENTRY(n, struct job, node);
		if (!job->ended)
			continue;
		wh_list_remove(&job->node);
		job->answered = true;
		pthread_cond_signal(&job->wake);
	}
}

/* Until the driver's own job has ended. Called with the lock, which only he gives up. */
static void drive(struct job *own)
{
	driven = true;
	while (!own->answered) {
		struct wh_list todo;
		struct wh_list *n;
		wh_list_init(&todo);
		while ((n = wh_list_pop_front(&asked)))
			wh_list_push_back(&todo, n);
		asleep = wh_list_empty(&todo);
		pthread_mutex_unlock(&lock);
		bool any = false;
		struct wh_list begun;
		wh_list_init(&begun);
		while ((n = wh_list_pop_front(&todo))) {
			struct job *job = WH_LIST_ENTRY(n, struct job, node);
			wh_list_push_back(&begun, n);
			if (job->look)
				job_ended(&job->q, job->look(job));
			else
				wh_block_submit(wh_block_image_block(image), &job->q);
			any |= job->ended;
		}
		int r = any ? 0 : wh_loop_step(loop, asleep ? -1 : 0);
		pthread_mutex_lock(&lock);
		asleep = false;
		while ((n = wh_list_pop_front(&begun)))
			wh_list_push_back(&waiting, n);
		if (r < 0)
			nbdkit_debug("waiting for files failed: %s", strerror(-r));
		tell();
	}
	driven = false;
	/* The next who waits goes on. */
	struct wh_list *next = !wh_list_empty(&waiting) ? waiting.next
			       : !wh_list_empty(&asked) ? asked.next
							: NULL;
	if (next)
		pthread_cond_signal(&WH_LIST_ENTRY(next, struct job, node)->wake);
}

static int run(struct job *job)
{
	job->q.done = job_ended;
	job->q.ctx = job;
	pthread_cond_init(&job->wake, NULL);
	pthread_mutex_lock(&lock);
	wh_list_push_back(&asked, &job->node);
	if (driven && asleep)
		wh_loop_wake(loop);
	while (!job->answered)
		if (driven)
			pthread_cond_wait(&job->wake, &lock);
		else
			drive(job);
	pthread_mutex_unlock(&lock);
	pthread_cond_destroy(&job->wake);
	return job->result;
}

static int request(enum wh_block_op op, uint64_t offset, void *data, uint64_t size, uint32_t flags)
{
	struct job job = { .q = { .op = op, .flags = flags, .offset = offset, .size = size } };
	job.iov = (struct wh_iov){ data, size };
	job.q.iov = &job.iov;
	job.q.iov_count = data ? 1 : 0;
	return run(&job);
}

/* With nobody else's request under way. */
static int alone(int (*fn)(struct job *), void *ctx)
{
	struct job job = { .q = { .op = WH_BLOCK_QUIESCE }, .alone = fn, .ctx = ctx };
	return run(&job);
}

/* ---- the plugin ---- */

static int fail(int error)
{
	nbdkit_set_error(-error);
	nbdkit_error("%s: %s", path, strerror(-error));
	return -1;
}

static int keep(char **to, const char *value, bool is_path)
{
	free(*to);
	*to = is_path ? nbdkit_realpath(value) : strdup(value);
	return *to ? 0 : -1; /* realpath has told why */
}

static int plugin_config(const char *key, const char *value)
{
	if (!strcmp(key, "file"))
		return keep(&path, value, true);
	if (!strcmp(key, "format"))
		return keep(&format, value, false);
	if (!strcmp(key, "follow"))
		return keep(&follow, value, false);
	if (!strcmp(key, "snapshot"))
		return keep(&snapshot, value, false);
	nbdkit_error("unknown parameter %s (known: file, format, follow, snapshot)", key);
	return -1;
}

static int plugin_config_complete(void)
{
	if (path && format && wh_block_format_parse(format))
		return 0;
	nbdkit_error("file=PATH and format=raw or format=qcow2 are wanted");
	return -1;
}

/* The image is opened when the first client comes, because only then is known whether to write. */
static void *open_image(int readonly)
{
	struct wh_diag diag = { "" };
	if (image)
		return &image;
	if (!codec && wh_block_codec_new(0, &codec) < 0) {
		nbdkit_error("no memory");
		return NULL;
	}
	if (!loop && (wh_loop_new(&loop) < 0 || wh_loop_wake_prepare(loop) < 0)) {
		nbdkit_error("no event loop: %s", strerror(errno));
		return NULL;
	}
	struct wh_blockio_config ioc = { .size = sizeof ioc, .loop = loop, .eager = true };
	if (!io && wh_blockio_new(&ioc, &io, &diag) < 0) {
		nbdkit_error("%s", diag.text);
		return NULL;
	}
	read_only = readonly || snapshot;
	struct wh_block_image_config c = { .size = sizeof c,
					   .path = path,
					   .format = wh_block_format_parse(format),
					   .flags = read_only ? WH_BLOCK_FILE_READ_ONLY : 0,
					   .codec = codec,
					   .io = io,
					   .snapshot = snapshot,
					   .follow = !follow || !strcmp(follow, "folder")
							     ? WH_BLOCK_FOLLOW_FOLDER
						     : !strcmp(follow, "any")
							     ? WH_BLOCK_FOLLOW_ANYTHING
							     : WH_BLOCK_FOLLOW_NOTHING };
	int r = wh_block_image_open(&c, &image, &diag);
	if (r >= 0)
		return &image;
	nbdkit_set_error(-r);
	nbdkit_error("%s", diag.text);
	return NULL;
}

static void *plugin_open(int readonly)
{
	pthread_mutex_lock(&lock); /* of several who come at once, one opens it */
	void *handle = open_image(readonly);
	pthread_mutex_unlock(&lock);
	return handle;
}

static void plugin_unload(void)
{
	int r = wh_block_image_close(image);
	if (r < 0)
		nbdkit_error("%s: the last writes did not reach the file: %s", path, strerror(-r));
	wh_blockio_free(io);
	wh_loop_free(loop);
	wh_block_codec_free(codec);
	free(path);
	free(format);
	free(follow);
	free(snapshot);
}

static struct wh_block *block(void)
{
	return wh_block_image_block(image);
}

static int64_t plugin_get_size(void *handle)
{
	return (int64_t)wh_block_size(block());
}

static int plugin_block_size(void *handle, uint32_t *least, uint32_t *preferred, uint32_t *most)
{
	*least = 1;
	*preferred = 4096;
	*most = 0xffffffff;
	return 0;
}

static int plugin_can_write(void *handle)
{
	return !read_only;
}

static int plugin_yes(void *handle)
{
	return 1;
}

static int plugin_can_fua(void *handle)
{
	return NBDKIT_FUA_EMULATE;
}

static bool odd(uint64_t offset, uint32_t count)
{
	return (offset | count) % WH_BLOCK_SECTOR;
}

/* Sectors around [offset, offset + count), in a copy. */
static uint8_t *around(uint64_t offset, uint32_t count, uint64_t *ret_begin, uint64_t *ret_size)
{
	*ret_begin = wh_align_down(offset, WH_BLOCK_SECTOR);
	*ret_size = wh_align_up(offset + count, WH_BLOCK_SECTOR) - *ret_begin;
	return malloc(*ret_size);
}

static int plugin_pread(void *handle, void *to, uint32_t count, uint64_t offset, uint32_t flags)
{
	uint64_t begin, size;
	int r;
	if (!odd(offset, count)) {
		r = request(WH_BLOCK_READ, offset, to, count, 0);
		return r < 0 ? fail(r) : 0;
	}
	uint8_t *copy = around(offset, count, &begin, &size);
	if (!copy)
		return fail(-ENOMEM);
	r = request(WH_BLOCK_READ, begin, copy, size, 0);
	memcpy(to, copy + (offset - begin), r < 0 ? 0 : count);
	free(copy);
	return r < 0 ? fail(r) : 0;
}

struct odd_write {
	const uint8_t *from; /* NULL: zeroes */
	uint64_t offset;
	uint32_t count;
};

/* Nobody may write the rest of the sectors between reading and writing. */
static int odd_alone(struct job *job)
{
	const struct odd_write *w = job->ctx;
	uint64_t begin, size;
	uint8_t *copy = around(w->offset, w->count, &begin, &size);
	if (!copy)
		return -ENOMEM;
	int r = wh_block_do(block(), WH_BLOCK_READ, begin, copy, size, 0);
	if (r >= 0) {
		if (w->from)
			memcpy(copy + (w->offset - begin), w->from, w->count);
		else
			memset(copy + (w->offset - begin), 0, w->count);
		r = wh_block_do(block(), WH_BLOCK_WRITE, begin, copy, size, 0);
	}
	free(copy);
	return r;
}

static int write_odd(const uint8_t *from, uint32_t count, uint64_t offset)
{
	struct odd_write w = { from, offset, count };
	return alone(odd_alone, &w);
}

static int plugin_pwrite(void *handle, const void *from, uint32_t count, uint64_t offset,
			 uint32_t flags)
{
	int r = odd(offset, count)
			? write_odd(from, count, offset)
			: request(WH_BLOCK_WRITE, offset, (void *)(uintptr_t)from, count, 0);
	return r < 0 ? fail(r) : 0;
}

static int plugin_flush(void *handle, uint32_t flags)
{
	int r = request(WH_BLOCK_FLUSH, 0, NULL, 0, 0);
	return r < 0 ? fail(r) : 0;
}

static int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	uint64_t begin = wh_align_up(offset, WH_BLOCK_SECTOR);
	uint64_t end = wh_align_down(offset + count, WH_BLOCK_SECTOR);
	int r = end > begin ? request(WH_BLOCK_DISCARD, begin, NULL, end - begin, 0)
			    : 0; /* a hint for less than a sector */
	return r < 0 ? fail(r) : 0;
}

static int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	uint32_t f = (flags & NBDKIT_FLAG_MAY_TRIM ? WH_BLOCK_UNMAP : 0) |
		     (flags & NBDKIT_FLAG_FAST_ZERO ? WH_BLOCK_FAST : 0);
	int r = 0;
	if (!odd(offset, count)) {
		r = request(WH_BLOCK_WRITE_ZEROES, offset, NULL, count, f);
	} else {
		for (uint32_t done = 0; r >= 0 && done < count;) {
			uint32_t n = count - done < PIECE ? count - done : PIECE;
			r = write_odd(NULL, n, offset + done);
			done += n;
		}
	}
	if (r == -EOPNOTSUPP) {
		nbdkit_set_error(EOPNOTSUPP); /* of a fast zero: no fault */
		return -1;
	}
	return r < 0 ? fail(r) : 0;
}

struct look {
	uint64_t at;
	struct wh_block_extent *extent;
};

static int map_now(struct job *job)
{
	const struct look *l = job->ctx;
	return wh_block_map(block(), l->at, wh_block_size(block()) - l->at, WH_BLOCK_CHAIN_MAX,
			    l->extent);
}

static int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			  struct nbdkit_extents *extents)
{
	uint64_t at = wh_align_down(offset, WH_BLOCK_SECTOR), end = offset + count;
	while (at < end) {
		struct wh_block_extent x;
		struct look l = { at, &x };
		struct job job = { .look = map_now, .ctx = &l };
		int r = run(&job);
		if (r < 0)
			return fail(r);
		uint32_t type = x.flags & WH_BLOCK_MAP_DATA ? 0 : NBDKIT_EXTENT_ZERO;
		if (type && !(x.flags & WH_BLOCK_MAP_HOST))
			type |= NBDKIT_EXTENT_HOLE;
		if (nbdkit_add_extent(extents, at, x.size, type))
			return -1;
		at += x.size;
		if (flags & NBDKIT_FLAG_REQ_ONE && at > offset)
			break;
	}
	return 0;
}

static struct nbdkit_plugin plugin = {
	.name = "wherry",
	.longname = "Wherry disk images",
	.description = "raw and qcow2 images by libwherry-block",
	.magic_config_key = "file",
	.unload = plugin_unload,
	.config = plugin_config,
	.config_complete = plugin_config_complete,
	.config_help = "file=PATH           the image\n"
		       "format=raw|qcow2    its format: never guessed\n"
		       "follow=folder|none|any  files that the image names (folder)\n"
		       "snapshot=NAME       an internal snapshot, read-only",
	.open = plugin_open,
	.get_size = plugin_get_size,
	.block_size = plugin_block_size,
	.can_write = plugin_can_write,
	.can_flush = plugin_yes,
	.can_trim = plugin_can_write,
	.can_zero = plugin_can_write,
	.can_fast_zero = plugin_yes,
	.can_extents = plugin_yes,
	.can_fua = plugin_can_fua,
	.can_multi_conn = plugin_yes,
	.pread = plugin_pread,
	.pwrite = plugin_pwrite,
	.flush = plugin_flush,
	.trim = plugin_trim,
	.zero = plugin_zero,
	.extents = plugin_extents,
	.errno_is_preserved = 0,
};
NBDKIT_REGISTER_PLUGIN(plugin)
