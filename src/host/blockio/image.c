/* SPDX-License-Identifier: ISC */
/*
 * Images in host files.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "blockio_priv.h"

struct wh_block_image {
	struct wh_block_file file;
	struct wh_block *block;
	struct wh_block_resolver resolver;
	enum wh_block_follow follow;
	enum wh_block_cache cache;
	uint32_t flags;
	struct wh_blockio *io;
};

/* ---- files that images name ---- */

static bool stays_in_folder(const char *name)
{
	if (name[0] == '/')
		return false;
	for (const char *p = name; p; p = strchr(p, '/')) {
		p += *p == '/';
		if (!strncmp(p, "..", 2) && (p[2] == '/' || !p[2]))
			return false;
	}
	return true;
}

static int allowed(enum wh_block_follow follow, const char *name, struct wh_diag *diag)
{
	if (!strncmp(name, "json:", 5) || strstr(name, "://"))
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "it names %s, which is no file: only files are opened", name);
	if (follow == WH_BLOCK_FOLLOW_NOTHING)
		return wh_diag_set(diag, -WH_EACCES,
				   "it names the file %s, which is not allowed here", name);
	if (follow == WH_BLOCK_FOLLOW_FOLDER && !stays_in_folder(name))
		return wh_diag_set(
			diag, -WH_EACCES,
			"it names %s, outside of its folder: allow that with --follow any "
			"(follow=any) if you trust the image",
			name);
	return 0;
}

int wh_block_link_path(const char *image_path, const char *name, enum wh_block_follow follow,
		       char *ret_path, size_t path_size, struct wh_diag *diag)
{
	const char *slash = name[0] == '/' ? NULL : strrchr(image_path, '/');
	size_t folder = slash ? (size_t)(slash + 1 - image_path) : 0, n = strlen(name);
	int r = allowed(follow, name, diag);
	if (r < 0)
		return r;
	if (folder + n >= path_size)
		return wh_diag_set(diag, -WH_ENAMETOOLONG, "the name of a file in it is too long");
	memcpy(ret_path, image_path, folder);
	memcpy(ret_path + folder, name, n + 1);
	return 0;
}

static int link_open(void *ctx, enum wh_block_link what, const struct wh_block_file *parent,
		     const char *name, enum wh_block_format format, bool read_only,
		     struct wh_block_file *ret_file, enum wh_block_format *ret_format,
		     struct wh_diag *diag)
{
	const struct wh_block_image *i = ctx;
	const struct blockio_file *from = parent->ctx;
	char path[PATH_MAX];
	int r = wh_block_link_path(from->path, name, i->follow, path, sizeof path, diag);
	if (r < 0)
		return r;
	struct wh_block_file_config fc = { .size = sizeof fc,
					   .path = path,
					   .flags = (i->flags & WH_BLOCK_FILE_NO_LOCK) |
						    (read_only ? WH_BLOCK_FILE_READ_ONLY : 0),
					   .cache = i->cache,
					   .io = i->io };
	r = wh_block_file_open(&fc, ret_file, diag);
	if (r >= 0)
		*ret_format = format;
	return r;
}

static void link_close(void *ctx, struct wh_block_file *file)
{
	wh_block_file_close(file);
}

/* ---- images ---- */

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
				     .log = config->log,
				     .flags = config->open_flags,
				     .resolver = &i->resolver,
				     .codec = config->codec,
				     .snapshot = config->snapshot };
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
	i->resolver =
		(struct wh_block_resolver){ .open = link_open, .close = link_close, .ctx = i };
	i->follow = config->follow;
	i->cache = config->cache;
	i->flags = config->flags;
	i->io = config->io;
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

int wh_block_image_descriptor(const struct wh_block_image *image)
{
	const struct blockio_file *file = image->file.ctx;
	return file->fd;
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
