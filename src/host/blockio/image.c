/* SPDX-License-Identifier: ISC */
/*
 * Images in host files.
 */
#include <stdlib.h>

#include "blockio_priv.h"

struct wh_block_image {
	struct wh_block_file file;
	struct wh_block *block;
};

/* Puts the file's name in front of what went wrong. */
static void diag_prefix(struct wh_diag *diag, const char *path)
{
	struct wh_diag old;
	if (!diag)
		return;
	old = *diag;
	wh_format(diag->text, sizeof diag->text, "%s: %s", path, old.text);
}

static int open_block(struct wh_block_image *i, const struct wh_block_image_config *config,
		      struct wh_diag *diag)
{
	bool guess = config->format == WH_BLOCK_FORMAT_NONE;
	enum wh_block_format looks = WH_BLOCK_FORMAT_NONE;
	struct wh_block_config c = { .size = sizeof c,
				     .file = i->file,
				     .format = guess ? WH_BLOCK_FORMAT_RAW : config->format,
				     .read_only = config->flags & WH_BLOCK_FILE_READ_ONLY,
				     .cache_size = config->cache_size,
				     .alloc = &wh_block_malloc,
				     .log = config->log };
	int r = guess ? wh_block_looks_like(&i->file, &looks) : 0;
	if (r < 0)
		return wh_diag_set(diag, r, "cannot be read");
	if (looks != WH_BLOCK_FORMAT_NONE)
		return wh_diag_set(diag, -WH_EINVAL,
				   "looks like a %s image, but formats are not guessed: say "
				   "format=%s (or format=raw)",
				   wh_block_format_name(looks), wh_block_format_name(looks));
	return wh_block_open(&c, &i->block, diag);
}

int wh_block_image_open(const struct wh_block_image_config *config,
			struct wh_block_image **ret_image, struct wh_diag *diag)
{
	wh_assert(config->size == sizeof *config && !(config->flags & WH_BLOCK_FILE_CREATE));
	struct wh_block_file_config fc = { .size = sizeof fc,
					   .path = config->path,
					   .flags = config->flags,
					   .cache = config->cache,
					   .io = config->io };
	struct wh_block_image *i = calloc(1, sizeof *i);
	if (!i)
		return wh_diag_set(diag, -WH_ENOMEM, "%s: no memory", config->path);
	int r = wh_block_file_open(&fc, &i->file, diag);
	if (r >= 0) {
		r = open_block(i, config, diag);
		if (r < 0)
			diag_prefix(diag, config->path);
	}
	if (r < 0) {
		(void)wh_block_image_close(i); /* nothing was written */
		return r;
	}
	*ret_image = i;
	return 0;
}

struct wh_block *wh_block_image_block(const struct wh_block_image *image)
{
	return image->block;
}

int wh_block_image_close(struct wh_block_image *image)
{
	if (!image)
		return 0;
	int r = wh_block_close(image->block);
	wh_block_file_close(&image->file);
	free(image);
	return r;
}
