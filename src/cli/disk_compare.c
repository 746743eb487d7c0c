/* SPDX-License-Identifier: ISC */
/*
 * wherry disk compare, rebase, commit: verbs that look at two images cluster by cluster.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>

#include "disk.h"

#define CHUNK (2u << 20) /* bytes read at once */

enum { OPTION_FORMAT2 = DISK_OWN, OPTION_STRICT, OPTION_BACKING, OPTION_UNSAFE, OPTION_KEEP };

static int run_compare(int argc, char **argv);
/* What rebase and commit have done. `emptied` NULL = nothing to say of that. */
static int tell(const char *path, const char *backing, enum wh_block_format format,
		const char *emptied, bool value)
{
	struct disk_json j = { 0 };
	disk_json_open(&j, NULL, '{');
	disk_json_text(&j, "filename", path);
	disk_json_text(&j, "backing-filename", backing);
	if (format)
		disk_json_text(&j, "backing-filename-format", wh_block_format_name(format));
	if (emptied)
		disk_json_bool(&j, emptied, value);
	disk_json_close(&j, '}');
	return fflush(stdout) ? CLI_ERROR : CLI_OK;
}

static int run_rebase(int argc, char **argv);
static int run_commit(int argc, char **argv);

static const struct cli_option compare_options[] = {
	DISK_OPTION_FORMAT("of FILE1"),
	{ OPTION_FORMAT2, "second-format", 'F', "FORMAT", "of FILE2" },
	{ OPTION_STRICT, "strict", 's', NULL, "sizes must be the same as well" },
	DISK_OPTION_SHARE,
	DISK_OPTION_FOLLOW,
	DISK_OPTION_JSON,
	DISK_OPTION_QUIET,
	DISK_OPTIONS_PROGRESS,
};
const struct cli_command disk_command_compare = {
	.name = "disk compare",
	.synopsis = "[-f FORMAT] [-F FORMAT] [-s] FILE1 FILE2",
	.summary = "tell whether two disks have the same content",
	.details = "Exit status: 0 the same, 1 different, 125 could not be done. What one disk has "
		   "behind the end\nof the other must read as zeroes.",
	.options = compare_options,
	.option_count = WH_ARRAY_COUNT(compare_options),
	.run = run_compare,
};

static const struct cli_option rebase_options[] = {
	DISK_OPTION_FORMAT("of FILE (qcow2)"),
	{ OPTION_BACKING, "backing", 'b', "FILE", "the new backing file; \"\" = none" },
	{ OPTION_FORMAT2, "backing-format", 'F', "FORMAT", "of the new backing file" },
	{ OPTION_UNSAFE, "unsafe", 'u', NULL, "only change the name: the content is said to fit" },
	DISK_OPTION_FOLLOW,
	DISK_OPTION_JSON,
	DISK_OPTION_QUIET,
	DISK_OPTIONS_PROGRESS,
};
const struct cli_command disk_command_rebase = {
	.name = "disk rebase",
	.synopsis = "[-u] -b FILE -F FORMAT FILE",
	.summary = "put another backing file under an image",
	.options = rebase_options,
	.option_count = WH_ARRAY_COUNT(rebase_options),
	.run = run_rebase,
};

static const struct cli_option commit_options[] = {
	DISK_OPTION_FORMAT("of FILE (qcow2)"),
	{ OPTION_KEEP, "keep", 'd', NULL, "do not empty the image afterwards" },
	DISK_OPTION_FOLLOW,
	DISK_OPTION_JSON,
	DISK_OPTION_QUIET,
	DISK_OPTIONS_PROGRESS,
};
const struct cli_command disk_command_commit = {
	.name = "disk commit",
	.synopsis = "FILE",
	.summary = "write what an image changed into its backing file",
	.options = commit_options,
	.option_count = WH_ARRAY_COUNT(commit_options),
	.run = run_commit,
};

/* Reads [at, at + size), zeroes behind the end of the disk. NULL = an empty disk. */
static int read_padded(struct wh_block *b, uint64_t at, uint8_t *to, uint64_t size)
{
	uint64_t disk = b ? wh_block_size(b) : 0, n = at < disk ? disk - at : 0;
	n = n < size ? n : size;
	memset(to + n, 0, size - n);
	return n ? wh_block_do(b, WH_BLOCK_READ, at, to, n, 0) : 0;
}

/* How much from `at` on reads as zeroes for sure, or (ret_zero false) may be data. */
static int look(struct wh_block *b, uint64_t at, uint64_t size, bool *ret_zero, uint64_t *ret_size)
{
	uint64_t disk = b ? wh_block_size(b) : 0;
	struct wh_block_extent x;
	*ret_zero = true;
	*ret_size = size;
	if (at >= disk)
		return 0;
	int r = wh_block_map(b, at, disk - at < size ? disk - at : size, WH_BLOCK_CHAIN_MAX, &x);
	if (r < 0)
		return r;
	*ret_zero = !(x.flags & WH_BLOCK_MAP_DATA);
	*ret_size = x.size;
	return 0;
}

static int cannot_read(int error)
{
	cli_error("disk: reading failed: %s", strerror(-error));
	return CLI_ERROR;
}

/* ---- compare ---- */

struct pair {
	struct wh_block *a, *b;
	uint8_t *in_a, *in_b;
};

/* The first byte that differs (UINT64_MAX = none) of the larger size. */
static int compare(const struct pair *p, struct disk_progress *progress, uint64_t *ret_at)
{
	uint64_t sa = wh_block_size(p->a), sb = wh_block_size(p->b), end = sa > sb ? sa : sb;
	*ret_at = UINT64_MAX;
	for (uint64_t at = 0; at < end;) {
		bool za, zb;
		uint64_t na, nb, n;
		int r = look(p->a, at, end - at, &za, &na);
		if (r >= 0)
			r = look(p->b, at, end - at, &zb, &nb);
		if (r < 0)
			return r;
		n = na < nb ? na : nb;
		if (!za || !zb) {
			n = n < CHUNK ? n : CHUNK;
			r = read_padded(p->a, at, p->in_a, n);
			if (r >= 0)
				r = read_padded(p->b, at, p->in_b, n);
			if (r < 0)
				return r;
			if (memcmp(p->in_a, p->in_b, n)) {
				uint64_t i = 0;
				while (p->in_a[i] == p->in_b[i])
					i++;
				*ret_at = at + i;
				return 0;
			}
		}
		at += n;
		disk_progress_show(progress, at, end);
		if (disk_interrupted())
			return -WH_ECANCELED;
	}
	return 0;
}

struct second {
	enum wh_block_format format;
	bool strict, unsafe, keep, has_backing;
	const char *backing;
};

static int second_option(void *ctx, int id, const char *value)
{
	struct second *o = ctx;
	switch (id) {
	case OPTION_FORMAT2:
		return disk_parse_format(value, &o->format);
	case OPTION_BACKING:
		o->backing = value;
		o->has_backing = true;
		return 0;
	case OPTION_STRICT:
		o->strict = true;
		return 0;
	case OPTION_UNSAFE:
		o->unsafe = true;
		return 0;
	default:
		o->keep = true;
		return 0;
	}
}

static int compare_images(struct pair *p, const struct disk_common *common, bool strict)
{
	struct disk_progress progress;
	uint64_t at = UINT64_MAX, sa = wh_block_size(p->a), sb = wh_block_size(p->b);
	bool sizes = strict && sa != sb;
	disk_progress_init(&progress, common);
	int r = sizes ? 0 : compare(p, &progress, &at);
	disk_progress_end(&progress);
	if (r < 0)
		return cannot_read(r);
	bool same = !sizes && at == UINT64_MAX;
	if (common->json) {
		struct disk_json j = { 0 };
		disk_json_open(&j, NULL, '{');
		disk_json_bool(&j, "identical", same);
		disk_json_bool(&j, "same-size", sa == sb);
		if (at != UINT64_MAX)
			disk_json_number(&j, "offset", at);
		disk_json_close(&j, '}');
	} else if (!common->quiet) {
		if (same)
			printf("the disks are identical%s\n", sa == sb ? "" : ", but not in size");
		else if (sizes)
			printf("the sizes differ: %llu and %llu bytes\n", (unsigned long long)sa,
			       (unsigned long long)sb);
		else
			printf("the content differs at byte %llu\n", (unsigned long long)at);
	}
	return fflush(stdout) ? CLI_ERROR : same ? CLI_OK : DISK_DIFFERENT;
}

static int run_compare(int argc, char **argv)
{
	struct disk_common common = { 0 }, other;
	struct second o = { 0 };
	const char *paths[2];
	struct disk_parse p = { .command = &disk_command_compare,
				.common = &common,
				.own = second_option,
				.ctx = &o,
				.operands = paths,
				.operand_max = 2,
				.operand_min = 2 };
	struct wh_block_image *a = NULL, *b = NULL;
	int status = CLI_ERROR, r = disk_parse(&p, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	other = common;
	other.format = o.format;
	struct pair pair = { .in_a = malloc(CHUNK), .in_b = malloc(CHUNK) };
	if (pair.in_a && pair.in_b && !disk_open(paths[0], &common, true, 0, NULL, &a) &&
	    !disk_open(paths[1], &other, true, 0, NULL, &b)) {
		pair.a = wh_block_image_block(a);
		pair.b = wh_block_image_block(b);
		status = compare_images(&pair, &common, o.strict);
	}
	(void)wh_block_image_close(a); /* read-only */
	(void)wh_block_image_close(b);
	free(pair.in_a);
	free(pair.in_b);
	return status;
}

/* ---- rebase ---- */

/* Sectors that are not in this image and differ between the old chain (read through the image) and the new
 * backing file are written into it. */
static int carry_over(const struct pair *p, struct disk_progress *progress)
{
	uint64_t end = wh_block_size(p->a);
	for (uint64_t at = 0; at < end;) {
		struct wh_block_extent x;
		uint64_t n;
		int r = wh_block_map(p->a, at, end - at, 0, &x);
		if (r < 0)
			return r;
		if (x.flags & WH_BLOCK_MAP_PRESENT) {
			at += x.size;
			continue;
		}
		n = x.size < CHUNK ? x.size : CHUNK;
		r = read_padded(p->a, at, p->in_a, n);
		if (r >= 0)
			r = read_padded(p->b, at, p->in_b, n);
		for (uint64_t i = 0; r >= 0 && i < n;) {
			uint64_t k = i;
			while (k < n && memcmp(p->in_a + k, p->in_b + k, WH_BLOCK_SECTOR))
				k += WH_BLOCK_SECTOR;
			if (k > i)
				r = wh_block_do(p->a, WH_BLOCK_WRITE, at + i, p->in_a + i, k - i,
						0);
			i = k > i ? k : i + WH_BLOCK_SECTOR;
		}
		if (r < 0)
			return r;
		at += n;
		disk_progress_show(progress, at, end);
		if (disk_interrupted())
			return -WH_ECANCELED;
	}
	return 0;
}

/* The new backing file; *ret_image stays NULL for none. */
static int open_new_backing(const char *path, const struct second *o, struct wh_block_image **ret)
{
	struct disk_common c = { .format = o->format, .follow = WH_BLOCK_FOLLOW_ANYTHING };
	struct wh_diag diag = { "" };
	char where[PATH_MAX];
	*ret = NULL;
	if (!o->backing[0])
		return 0;
	if (wh_block_link_path(path, o->backing, WH_BLOCK_FOLLOW_ANYTHING, where, sizeof where,
			       &diag) < 0) {
		cli_error("%s: %s", path, diag.text);
		return CLI_ERROR;
	}
	return disk_open(where, &c, true, 0, NULL, ret);
}

static int rebase(const char *path, struct wh_block *image, const struct second *o,
		  const struct disk_common *common)
{
	struct pair p = { .a = image, .in_a = malloc(CHUNK), .in_b = malloc(CHUNK) };
	struct wh_block_image *below = NULL;
	struct wh_diag diag = { "" };
	struct disk_progress progress;
	int status = CLI_OK, r = 0;
	if (!o->unsafe) {
		status = p.in_a && p.in_b ? open_new_backing(path, o, &below) : CLI_ERROR;
		p.b = below ? wh_block_image_block(below) : NULL;
		disk_progress_init(&progress, common);
		r = status ? 0 : carry_over(&p, &progress);
		disk_progress_end(&progress);
	}
	if (!status && r >= 0)
		r = wh_block_set_backing(image, o->backing, o->format, &diag);
	if (r < 0) {
		cli_error("%s: %s", path, diag.text[0] ? diag.text : strerror(-r));
		status = CLI_ERROR;
	}
	(void)wh_block_image_close(below); /* read-only */
	free(p.in_a);
	free(p.in_b);
	return status;
}

static int run_rebase(int argc, char **argv)
{
	struct disk_common common = { 0 };
	struct second o = { 0 };
	const char *path;
	struct disk_parse p = { .command = &disk_command_rebase,
				.common = &common,
				.own = second_option,
				.ctx = &o,
				.operands = &path,
				.operand_max = 1,
				.operand_min = 1 };
	struct wh_block_image *image;
	int r = disk_parse(&p, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	if (!o.has_backing)
		return disk_usage(&disk_command_rebase);
	if (o.backing[0] && !o.format) {
		cli_error("disk rebase: the format of the backing file must be said: -F raw or -F "
			  "qcow2");
		return CLI_ERROR;
	}
	if (!common.format)
		common.format = WH_BLOCK_FORMAT_QCOW2;
	if (disk_open(path, &common, false, o.unsafe ? WH_BLOCK_OPEN_ALONE : 0, NULL, &image))
		return CLI_ERROR;
	int status = rebase(path, wh_block_image_block(image), &o, &common);
	int closed = disk_close(path, image);
	status = status ? status : closed;
	return status || !common.json ? status : tell(path, o.backing, o.format, NULL, false);
}

/* ---- commit ---- */

static int copy_down(struct wh_block *from, struct wh_block *to, uint8_t *buffer,
		     struct disk_progress *progress)
{
	uint64_t end = wh_block_size(from);
	for (uint64_t at = 0; at < end;) {
		struct wh_block_extent x;
		int r = wh_block_map(from, at, end - at, 0, &x);
		uint64_t n = r < 0 ? 0 : x.size;
		if (r >= 0 && x.flags & WH_BLOCK_MAP_PRESENT && x.flags & WH_BLOCK_MAP_DATA) {
			n = n < CHUNK ? n : CHUNK;
			r = wh_block_do(from, WH_BLOCK_READ, at, buffer, n, 0);
			if (r >= 0)
				r = wh_block_do(to, WH_BLOCK_WRITE, at, buffer, n, 0);
		} else if (r >= 0 && x.flags & WH_BLOCK_MAP_PRESENT) {
			r = wh_block_do(to, WH_BLOCK_WRITE_ZEROES, at, NULL, n, WH_BLOCK_UNMAP);
		}
		if (r < 0)
			return r;
		at += n;
		disk_progress_show(progress, at, end);
		if (disk_interrupted())
			return -WH_ECANCELED;
	}
	return wh_block_do(to, WH_BLOCK_FLUSH, 0, NULL, 0, 0);
}

/* The image is open alone (for reading); its backing file is opened for writing here. */
static int commit(const char *path, struct wh_block *image, const struct disk_common *common)
{
	struct wh_block_info info;
	struct wh_diag diag = { "" };
	struct disk_progress progress;
	struct wh_block_image *below;
	char where[PATH_MAX];
	wh_block_info(image, &info);
	if (!info.backing_name[0] || !info.backing_format) {
		cli_error("%s: it has no backing file%s", path,
			  info.backing_name[0] ? " whose format is recorded" : "");
		return CLI_ERROR;
	}
	if (wh_block_link_path(path, info.backing_name, common->follow, where, sizeof where,
			       &diag) < 0) {
		cli_error("%s: %s", path, diag.text);
		return CLI_ERROR;
	}
	struct disk_common c = { .format = info.backing_format, .follow = common->follow };
	uint8_t *buffer = malloc(CHUNK);
	if (!buffer || disk_open(where, &c, false, 0, NULL, &below)) {
		free(buffer);
		return CLI_ERROR;
	}
	struct wh_block *to = wh_block_image_block(below);
	int r = wh_block_size(to) < info.size ? wh_block_resize(to, info.size, 0, &diag) : 0;
	disk_progress_init(&progress, common);
	if (r >= 0)
		r = copy_down(image, to, buffer, &progress);
	disk_progress_end(&progress);
	if (r < 0)
		cli_error("%s: %s (the image is unchanged)", where,
			  diag.text[0] ? diag.text : strerror(-r));
	int closed = disk_close(where, below);
	free(buffer);
	return r < 0 ? CLI_ERROR : closed;
}

static int run_commit(int argc, char **argv)
{
	struct disk_common common = { 0 };
	struct second o = { 0 };
	const char *path;
	struct disk_parse p = { .command = &disk_command_commit,
				.common = &common,
				.own = second_option,
				.ctx = &o,
				.operands = &path,
				.operand_max = 1,
				.operand_min = 1 };
	struct wh_block_image *image;
	struct wh_diag diag = { "" };
	int r = disk_parse(&p, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	if (!common.format)
		common.format = WH_BLOCK_FORMAT_QCOW2;
	if (disk_open(path, &common, true, WH_BLOCK_OPEN_ALONE, NULL, &image))
		return CLI_ERROR;
	struct wh_block_info info;
	char backing[WH_BLOCK_NAME_MAX + 1];
	wh_block_info(wh_block_image_block(image), &info);
	wh_format(backing, sizeof backing, "%s", info.backing_name);
	enum wh_block_format format = info.backing_format;
	int status = commit(path, wh_block_image_block(image), &common);
	(void)wh_block_image_close(image); /* read-only */
	if (!status && o.keep && common.json)
		return tell(path, backing, format, "emptied", false);
	if (status || o.keep)
		return status;
	if (disk_open(path, &common, false, 0, NULL, &image))
		return CLI_ERROR;
	r = wh_block_empty(wh_block_image_block(image), &diag);
	if (r < 0)
		cli_error("%s: its data is in the backing file, but it cannot be emptied: %s", path,
			  diag.text);
	int closed = disk_close(path, image);
	if (r < 0 || closed || !common.json)
		return r < 0 ? CLI_ERROR : closed;
	return tell(path, backing, format, "emptied", true);
}
