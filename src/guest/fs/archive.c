/* SPDX-License-Identifier: ISC */

/* The embedded archive (wherry/abi/archive.h) as contents of the root tmpfs. */

#include "root_priv.h"
#include <fs/tmpfs.h>
#include <wherry/abi/archive.h>
#include <wherry/base/checked.h>

extern const uint8_t wh_archive_start[] __attribute__((weak));
extern const uint8_t wh_archive_end[] __attribute__((weak));

static const struct wh_archive_header *archive; /* NULL: none, or a bad one */

static const struct wh_archive_entry *entry_at(uint64_t index)
{
	return (const struct wh_archive_entry *)(archive + 1) + index;
}

static bool check_header(const struct wh_archive_header *h, uint64_t size)
{
	uint64_t entries;
	if (size < sizeof *h || h->magic != WH_ARCHIVE_MAGIC || h->size > size)
		return false;
	entries = (uint64_t)h->entry_count * sizeof(struct wh_archive_entry);
	return h->entry_count && h->entry_count <= WH_ARCHIVE_ENTRIES_MAX &&
	       wh_range_inside(sizeof *h, entries, h->size);
}

static void add(struct fs_node *dir, uint64_t index)
{
	const struct wh_archive_entry *e = entry_at(index);
	const uint8_t *base = (const uint8_t *)archive;
	struct fs_name name = { (const char *)base + e->name_offset, e->name_size };
	uint32_t type = e->mode & LX_S_IFMT, mode = e->mode & 07777;
	if (!name.size || name.size > WH_ARCHIVE_NAME_MAX ||
	    !wh_range_inside(e->name_offset, e->name_size, archive->size))
		return;
	if (type == LX_S_IFDIR) {
		if (e->offset > index)
			(void)fs_tmpfs_add_dir(dir, name, mode, fs_archive_fill, index);
		return;
	}
	if (!wh_range_inside(e->offset, e->size, archive->size))
		return;
	struct fs_name target = { (const char *)base + e->offset, (uint32_t)e->size };
	if (type == LX_S_IFREG)
		(void)fs_tmpfs_add_file(dir, name, mode, base + e->offset, e->size,
					e->mtime ? e->mtime : archive->mtime);
	else if (type == LX_S_IFLNK && e->size && e->size < LX_PATH_MAX)
		(void)fs_tmpfs_add_link(dir, name, target);
}

/* Without memory, or with a bad entry, an entry is missing: there is nobody to tell. */
void fs_archive_fill(struct fs_node *dir, uint64_t index)
{
	const struct wh_archive_entry *d = entry_at(index);
	if (!wh_range_inside(d->offset, d->size, archive->entry_count))
		return;
	for (uint64_t i = 0; i < d->size; i++)
		add(dir, d->offset + i);
}

void fs_archive_root(struct fs_node *root)
{
	if (!wh_archive_start)
		return;
	const void *start = wh_archive_start;
	if (!check_header(start, (uint64_t)(wh_archive_end - wh_archive_start)))
		return;
	archive = start;
	fs_archive_fill(root, 0);
}
