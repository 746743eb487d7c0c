/* SPDX-License-Identifier: ISC */
/*
 * --wherry-root=DIR: a folder becomes the embedded archive of an image
 * (wherry/abi/archive.h, docs/spec/archive.md). Directories are visited breadth
 * first, so that the children of each lie together and behind it. The archive
 * goes to the linker as an assembler file that includes its bytes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/abi/archive.h>
#include <wherry/base/checked.h>

#include "cc.h"
#include "cli.h"

#define ARCHIVE_SIZE_MAX (1ull << 30) /* code and data must reach each other: 2 GiB in all */

struct item {
	char *path;
	size_t name_size;
	struct wh_archive_entry entry;
};

struct tree {
	struct item *items;
	size_t count, room;
	uint64_t newest; /* SOURCE_DATE_EPOCH: no time is later */
};

static int fail(const char *path, const char *what)
{
	cli_error("cc: --wherry-root: %s: %s (errno %d)", path, what, errno);
	return CLI_ERROR;
}

static const char *name_of(const struct item *i)
{
	return i->path + strlen(i->path) - i->name_size;
}

/* By name, as unsigned bytes, the shorter first. */
static int by_name(const void *a, const void *b)
{
	return strcmp(name_of(a), name_of(b));
}

static int add(struct tree *t, const char *folder, const char *name)
{
	struct stat st;
	if (t->count == WH_ARCHIVE_ENTRIES_MAX)
		return fail(folder, "too many files");
	if (t->count == t->room) {
		size_t room = t->room ? t->room * 2 : 64;
		struct item *grown = realloc(t->items, room * sizeof *grown);
		if (!grown)
			return fail(folder, "no memory");
		t->items = grown;
		t->room = room;
	}
	struct item *to = &t->items[t->count];
	*to = (struct item){ .name_size = strlen(name) };
	if (asprintf(&to->path, *name ? "%s/%s" : "%s%s", folder, name) < 0)
		return fail(folder, "no memory");
	t->count++;
	/* The root may be given through a link; links inside stay links. */
	if (*name ? lstat(to->path, &st) : stat(to->path, &st))
		return fail(to->path, "cannot be read");
	if (!S_ISDIR(st.st_mode) && (!*name || (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))))
		return fail(to->path, *name ? "not a file, folder or link" : "not a folder");
	uint64_t mtime = st.st_mtime > 0 ? (uint64_t)st.st_mtime : 0;
	to->entry.mode = st.st_mode & (S_IFMT | 07777);
	to->entry.size = S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size;
	to->entry.mtime = mtime < t->newest ? mtime : t->newest;
	return 0;
}

static int add_children(struct tree *t, size_t parent)
{
	char *path = t->items[parent].path; /* the array moves, the string does not */
	size_t first = t->count;
	DIR *dir = opendir(path);
	struct dirent *d;
	int status = 0;
	if (!dir)
		return fail(path, "cannot be read");
	while (!status && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			status = add(t, path, d->d_name);
	closedir(dir);
	if (status)
		return status;
	qsort(t->items + first, t->count - first, sizeof *t->items, by_name);
	t->items[parent].entry.offset = first;
	t->items[parent].entry.size = t->count - first;
	return 0;
}

static int scan(struct tree *t, const char *root)
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	t->newest = epoch && *epoch ? strtoull(epoch, NULL, 10) : UINT64_MAX;
	int status = add(t, root, "");
	for (size_t i = 0; !status && i < t->count; i++)
		if (S_ISDIR(t->items[i].entry.mode))
			status = add_children(t, i);
	return status;
}

/* Gives names and contents their places; returns the size of the whole. */
static uint64_t lay_out(struct tree *t)
{
	uint64_t at = sizeof(struct wh_archive_header) + t->count * sizeof(struct wh_archive_entry);
	for (size_t i = 1; i < t->count; i++) {
		t->items[i].entry.name_offset = (uint32_t)at;
		t->items[i].entry.name_size = (uint32_t)t->items[i].name_size;
		at += t->items[i].name_size;
	}
	for (size_t i = 1; i < t->count && at <= ARCHIVE_SIZE_MAX; i++) {
		struct wh_archive_entry *e = &t->items[i].entry;
		if (S_ISDIR(e->mode))
			continue;
		at = wh_align_up(at, WH_ARCHIVE_ALIGN);
		e->offset = at;
		at = e->size > ARCHIVE_SIZE_MAX ? UINT64_MAX : at + e->size;
	}
	return at;
}

/* Exactly the size that was announced: a file that changes under our hands is an error. */
static int write_content(FILE *to, const struct item *item)
{
	char buffer[65536];
	uint64_t left = item->entry.size;
	if (S_ISLNK(item->entry.mode)) {
		ssize_t n = readlink(item->path, buffer, sizeof buffer);
		if (n < 0 || (uint64_t)n != left)
			return fail(item->path, "cannot be read");
		return fwrite(buffer, 1, (size_t)n, to) == (size_t)n
			       ? 0
			       : fail(item->path, "cannot be copied");
	}
	FILE *from = fopen(item->path, "rb");
	if (!from)
		return fail(item->path, "cannot be read");
	while (left) {
		size_t n = fread(buffer, 1, left < sizeof buffer ? left : sizeof buffer, from);
		if (!n || fwrite(buffer, 1, n, to) != n)
			break;
		left -= n;
	}
	fclose(from);
	return left ? fail(item->path, "cannot be copied, or changes") : 0;
}

static int write_archive(const struct tree *t, uint64_t size, FILE *to)
{
	struct wh_archive_header h = { .magic = WH_ARCHIVE_MAGIC,
				       .size = size,
				       .entry_count = (uint32_t)t->count };
	int status = 0;
	fwrite(&h, sizeof h, 1, to);
	for (size_t i = 0; i < t->count; i++)
		fwrite(&t->items[i].entry, sizeof t->items[i].entry, 1, to);
	for (size_t i = 1; i < t->count; i++)
		fwrite(name_of(&t->items[i]), 1, t->items[i].name_size, to);
	for (size_t i = 1; !status && i < t->count; i++) {
		if (S_ISDIR(t->items[i].entry.mode))
			continue;
		while ((uint64_t)ftell(to) < t->items[i].entry.offset)
			fputc(0, to);
		status = write_content(to, &t->items[i]);
	}
	return !status && ferror(to) ? fail("the archive", "cannot be written") : status;
}

/* The bytes, and the assembler file that includes them. */
static int write_files(const struct tree *t, uint64_t size, struct cc_archive *ret_archive)
{
	struct cc_archive *a = ret_archive;
	*a = (struct cc_archive){ 0 };
	a->data_fd = cc_temporary(".root", &a->data);
	a->object_fd = cc_temporary(".s", &a->object);
	FILE *to = a->data_fd < 0 || a->object_fd < 0 ? NULL : fdopen(dup(a->data_fd), "wb");
	if (!to)
		return CLI_ERROR;
	int status = write_archive(t, size, to);
	if (fclose(to) && !status)
		status = fail(a->data, "cannot write");
	dprintf(a->object_fd,
		"\t.section .wh_archive, \"a\", @progbits\n\t.balign %u\n"
		"\t.incbin \"%s\"\n\t.section .note.GNU-stack, \"\", @progbits\n",
		WH_ARCHIVE_ALIGN, a->data);
	return status;
}

int cc_archive_build(const char *root, struct cc_archive *ret_archive)
{
	struct tree t = { 0 };
	int status = scan(&t, root);
	uint64_t size = status ? 0 : lay_out(&t);
	if (!status && size > ARCHIVE_SIZE_MAX) {
		errno = EFBIG;
		status = fail(root, "more than 1 GiB");
	}
	if (!status)
		status = write_files(&t, size, ret_archive);
	for (size_t i = 0; i < t.count; i++)
		free(t.items[i].path);
	free(t.items);
	return status;
}

void cc_archive_remove(struct cc_archive *archive)
{
	cc_temporary_remove(archive->data ? archive->data_fd : -1, archive->data);
	cc_temporary_remove(archive->object ? archive->object_fd : -1, archive->object);
	*archive = (struct cc_archive){ 0 };
}
