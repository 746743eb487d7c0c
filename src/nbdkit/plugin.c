/* SPDX-License-Identifier: ISC */
/*
 * The block library as a plugin of nbdkit: nbdkit ./nbdkit-wherry-plugin.so file=disk.qcow2 format=qcow2
 *
 * nbdkit calls from one thread at a time (SERIALIZE_ALL_REQUESTS), which is what the library asks for; all
 * connections share one image.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <wherry/base/checked.h>
#include <wherry/block_codec.h>
#include <wherry/block_file.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS
#define PIECE (2u << 20) /* an odd write is done in copies of this */

static char *path, *format, *follow, *snapshot;
static struct wh_block_codec *codec;
static struct wh_block_image *image;
static int read_only;

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
static void *plugin_open(int readonly)
{
	struct wh_diag diag = { "" };
	if (image)
		return &image;
	if (!codec && wh_block_codec_new(0, &codec) < 0) {
		nbdkit_error("no memory");
		return NULL;
	}
	read_only = readonly || snapshot;
	struct wh_block_image_config c = { .size = sizeof c,
					   .path = path,
					   .format = wh_block_format_parse(format),
					   .flags = read_only ? WH_BLOCK_FILE_READ_ONLY : 0,
					   .codec = codec,
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

static void plugin_unload(void)
{
	int r = wh_block_image_close(image);
	if (r < 0)
		nbdkit_error("%s: the last writes did not reach the file: %s", path, strerror(-r));
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
		r = wh_block_do(block(), WH_BLOCK_READ, offset, to, count, 0);
		return r < 0 ? fail(r) : 0;
	}
	uint8_t *copy = around(offset, count, &begin, &size);
	if (!copy)
		return fail(-ENOMEM);
	r = wh_block_do(block(), WH_BLOCK_READ, begin, copy, size, 0);
	memcpy(to, copy + (offset - begin), r < 0 ? 0 : count);
	free(copy);
	return r < 0 ? fail(r) : 0;
}

/* from = NULL: zeroes. */
static int write_odd(const uint8_t *from, uint32_t count, uint64_t offset)
{
	uint64_t begin, size;
	uint8_t *copy = around(offset, count, &begin, &size);
	if (!copy)
		return -ENOMEM;
	int r = wh_block_do(block(), WH_BLOCK_READ, begin, copy, size, 0);
	if (r >= 0) {
		if (from)
			memcpy(copy + (offset - begin), from, count);
		else
			memset(copy + (offset - begin), 0, count);
		r = wh_block_do(block(), WH_BLOCK_WRITE, begin, copy, size, 0);
	}
	free(copy);
	return r;
}

static int plugin_pwrite(void *handle, const void *from, uint32_t count, uint64_t offset,
			 uint32_t flags)
{
	int r = odd(offset, count) ? write_odd(from, count, offset)
				   : wh_block_do(block(), WH_BLOCK_WRITE, offset,
						 (void *)(uintptr_t)from, count, 0);
	return r < 0 ? fail(r) : 0;
}

static int plugin_flush(void *handle, uint32_t flags)
{
	int r = wh_block_do(block(), WH_BLOCK_FLUSH, 0, NULL, 0, 0);
	return r < 0 ? fail(r) : 0;
}

static int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	uint64_t begin = wh_align_up(offset, WH_BLOCK_SECTOR);
	uint64_t end = wh_align_down(offset + count, WH_BLOCK_SECTOR);
	int r = end > begin ? wh_block_do(block(), WH_BLOCK_DISCARD, begin, NULL, end - begin, 0)
			    : 0; /* a hint for less than a sector */
	return r < 0 ? fail(r) : 0;
}

static int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	uint32_t f = (flags & NBDKIT_FLAG_MAY_TRIM ? WH_BLOCK_UNMAP : 0) |
		     (flags & NBDKIT_FLAG_FAST_ZERO ? WH_BLOCK_FAST : 0);
	int r = 0;
	if (!odd(offset, count)) {
		r = wh_block_do(block(), WH_BLOCK_WRITE_ZEROES, offset, NULL, count, f);
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

static int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			  struct nbdkit_extents *extents)
{
	uint64_t at = wh_align_down(offset, WH_BLOCK_SECTOR), end = offset + count;
	while (at < end) {
		struct wh_block_extent x;
		int r = wh_block_map(block(), at, wh_block_size(block()) - at, WH_BLOCK_CHAIN_MAX,
				     &x);
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
