/* SPDX-License-Identifier: ISC */
/*
 * Opening and making images for the verbs of `wherry disk`.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/block_codec.h>

#include "disk.h"

const struct wh_block_codec *disk_codec(void)
{
	static struct wh_block_codec *codec; /* for the program's life */
	if (!codec)
		(void)wh_block_codec_new(0, &codec); /* without memory: as without a codec */
	return codec;
}

int disk_open(const char *path, const struct disk_common *c, bool read_only, uint32_t open_flags,
	      struct wh_blockio *io, struct wh_block_image **ret_image)
{
	struct wh_diag diag = { "" };
	struct wh_block_image_config config = {
		.size = sizeof config,
		.path = path,
		.format = c->format,
		.flags = (read_only ? WH_BLOCK_FILE_READ_ONLY : 0) |
			 (read_only && c->share ? WH_BLOCK_FILE_NO_LOCK : 0),
		.cache = c->cache,
		.io = io,
		.open_flags = open_flags,
		.follow = c->follow,
		.codec = disk_codec(),
		.snapshot = c->snapshot,
	};
	if (wh_block_image_open(&config, ret_image, &diag) >= 0)
		return 0;
	cli_error("%s", diag.text);
	return CLI_ERROR;
}

int disk_close(const char *path, struct wh_block_image *image)
{
	int r = wh_block_image_close(image);
	if (r >= 0)
		return CLI_OK;
	cli_error("%s: the last writes did not reach the file: %s", path, strerror(-r));
	return CLI_ERROR;
}

/* ---- making ---- */

void disk_target_init(struct disk_target *t)
{
	*t = (struct disk_target){ .qcow2.size = sizeof t->qcow2 };
}

static int on_off(const char *name, const char *value, bool *ret)
{
	if (wh_streq(value, "on") || wh_streq(value, "off")) {
		*ret = value[1] == 'n';
		return 0;
	}
	cli_error("disk: -o %s is on or off, not %s", name, value);
	return CLI_BAD;
}

static int one_of(const char *name, const char *value, const char *const *names, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (wh_streq(value, names[i]))
			return (int)i;
	cli_error("disk: -o %s: %s is not known (it is %s ... %s)", name, value, names[0],
		  names[count - 1]);
	return CLI_BAD;
}

static int number(const char *name, const char *value, uint32_t *ret)
{
	uint64_t v;
	if (cli_parse_size(value, &v) >= 0 && v <= UINT32_MAX && v) {
		*ret = (uint32_t)v;
		return 0;
	}
	cli_error("disk: -o %s: %s is no such number", name, value);
	return CLI_BAD;
}

static int target_word(struct disk_target *t, const char *name, const char *value)
{
	static const char *const preallocations[] = { "off", "metadata", "falloc", "full" };
	static const char *const compressions[] = { "zlib", "zstd" };
	static const char *const versions[] = { "0.10", "v2", "1.1", "v3" };
	struct wh_block_qcow2_config *q = &t->qcow2;
	int r;
	if (wh_streq(name, "size"))
		return disk_parse_size("-o size", value, &q->disk_size);
	if (wh_streq(name, "cluster_size"))
		return number(name, value, &q->cluster_size);
	if (wh_streq(name, "refcount_bits"))
		return number(name, value, &q->refcount_bits);
	if (wh_streq(name, "lazy_refcounts"))
		return on_off(name, value, &q->lazy_refcounts);
	if (wh_streq(name, "extended_l2"))
		return on_off(name, value, &q->extended_l2);
	if (wh_streq(name, "data_file_raw"))
		return on_off(name, value, &q->data_file_raw);
	if (wh_streq(name, "backing_file"))
		return q->backing_name = value, 0;
	if (wh_streq(name, "backing_fmt"))
		return disk_parse_format(value, &q->backing_format);
	if (wh_streq(name, "data_file"))
		return q->data_file_name = value, 0;
	if (wh_streq(name, "compat")) {
		r = one_of(name, value, versions, 4);
		q->version = r < 2 ? 2 : 3;
	} else if (wh_streq(name, "compression_type")) {
		r = one_of(name, value, compressions, 2);
		q->compression = (enum wh_block_compression)(r > 0);
	} else if (wh_streq(name, "preallocation")) {
		r = one_of(name, value, preallocations, 4);
		t->preallocation = (enum wh_block_preallocation)(r > 0 ? r : 0);
	} else {
		cli_error("disk: unknown option %s (-o knows: compat, size, cluster_size, "
			  "refcount_bits, lazy_refcounts, extended_l2, compression_type, "
			  "preallocation, backing_file, backing_fmt, data_file, data_file_raw)",
			  name);
		return CLI_BAD;
	}
	return r < 0 ? CLI_BAD : 0;
}

int disk_target_option(struct disk_target *t, const char *text)
{
	char *words = strdup(text); /* kept: names point into it */
	if (!words) {
		cli_error("no memory");
		return CLI_BAD;
	}
	t->words = words;
	for (char *word = words, *next; word && *word; word = next) {
		next = strchr(word, ',');
		if (next)
			*next++ = '\0';
		char *value = strchr(word, '=');
		if (!value) {
			cli_error("disk: -o %s: NAME=VALUE is wanted", word);
			return CLI_BAD;
		}
		*value++ = '\0';
		if (target_word(t, word, value))
			return CLI_BAD;
	}
	return 0;
}

static int make_file(const char *path, struct wh_block_file *ret_file)
{
	struct wh_diag diag = { "" };
	struct wh_block_file_config c = { .size = sizeof c,
					  .path = path,
					  .flags = WH_BLOCK_FILE_CREATE };
	if (wh_block_file_open(&c, ret_file, &diag) >= 0)
		return 0;
	cli_error("%s", diag.text);
	return CLI_ERROR;
}

/* The data file of a new image, beside it. */
static int make_data_file(const char *path, const char *name, char *ret_path, size_t size,
			  struct wh_block_file *ret_file)
{
	struct wh_diag diag = { "" };
	if (wh_block_link_path(path, name, WH_BLOCK_FOLLOW_ANYTHING, ret_path, size, &diag) < 0) {
		cli_error("%s: %s", path, diag.text);
		return CLI_ERROR;
	}
	return make_file(ret_path, ret_file);
}

/* The backing file must be there, unless -u says that it need not. Its size is the new disk's when none was said. */
static int look_at_backing(struct disk_target *t, const char *path)
{
	struct wh_block_qcow2_config *q = &t->qcow2;
	struct wh_diag diag = { "" };
	struct wh_block_image *image;
	char where[4096];
	if (t->format != WH_BLOCK_FORMAT_QCOW2) {
		cli_error("disk: a backing file is for qcow2");
		return CLI_ERROR;
	}
	if (!q->backing_format) {
		cli_error("disk: the format of the backing file must be said: -F raw or -F qcow2");
		return CLI_ERROR;
	}
	if (t->unchecked_backing)
		return 0;
	struct disk_common c = { .format = q->backing_format,
				 .share = true,
				 .follow = WH_BLOCK_FOLLOW_ANYTHING };
	if (wh_block_link_path(path, q->backing_name, WH_BLOCK_FOLLOW_ANYTHING, where, sizeof where,
			       &diag) < 0) {
		cli_error("%s: %s", path, diag.text);
		return CLI_ERROR;
	}
	if (disk_open(where, &c, true, 0, NULL, &image))
		return CLI_ERROR;
	if (!q->disk_size)
		q->disk_size = wh_block_size(wh_block_image_block(image));
	(void)wh_block_image_close(image); /* read-only */
	return 0;
}

int disk_target_make(struct disk_target *t, const char *path)
{
	struct wh_block_qcow2_config *q = &t->qcow2;
	struct wh_block_file file = { 0 }, data = { 0 };
	struct wh_diag diag = { "" };
	char data_path[4096];
	int error;
	if (q->backing_name && q->backing_name[0] && look_at_backing(t, path))
		return CLI_ERROR;
	if (!q->disk_size) {
		cli_error("disk: a disk of 0 bytes is none: say its SIZE");
		return CLI_ERROR;
	}
	if (make_file(path, &file))
		return CLI_ERROR;
	if (q->data_file_name &&
	    make_data_file(path, q->data_file_name, data_path, sizeof data_path, &data)) {
		wh_block_file_close(&file);
		unlink(path);
		return CLI_ERROR;
	}
	q->data_file = q->data_file_name ? &data : NULL;
	q->preallocation = t->preallocation;
	if (t->format == WH_BLOCK_FORMAT_QCOW2)
		error = wh_block_qcow2_create(&file, q, &wh_block_malloc, &diag);
	else
		error = wh_block_file_preallocate(&file, 0,
						  wh_align_up(q->disk_size, WH_BLOCK_SECTOR),
						  t->preallocation, &diag);
	wh_block_file_close(&file);
	wh_block_file_close(&data);
	q->data_file = NULL;
	if (error >= 0)
		return 0;
	unlink(path); /* they are ours: they did not exist before */
	if (q->data_file_name)
		unlink(data_path);
	cli_error("%s: %s", path, diag.text);
	return CLI_ERROR;
}
