/* SPDX-License-Identifier: ISC */

/*
 * tmpfs directories: entries in a hash table for look-up and in a list in order of
 * creation for reading. A reader's position is the cookie of the next entry to show,
 * so entries may come and go under it.
 */

#include "tmpfs_priv.h"
#include <kern/mem.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

#define COOKIE_FIRST 3u /* 1 and 2 are "." and ".." */

static uint32_t hash_of(struct fs_name name)
{
	uint32_t h = 2166136261u;
	for (uint32_t i = 0; i < name.size; i++)
		h = (h ^ (uint8_t)name.text[i]) * 16777619u;
	return h;
}

static size_t entry_size(uint32_t name_size)
{
	return sizeof(struct tmpfs_entry) + name_size;
}

void tmpfs_dir_init(struct tmpfs_dir *d)
{
	wh_list_init(&d->order);
	d->next_cookie = COOKIE_FIRST;
}

void tmpfs_dir_fini(struct tmpfs_dir *d)
{
	wh_assert(!d->count);
	kern_free(d->bucket, d->bucket_count * sizeof *d->bucket);
}

static struct tmpfs_dir *filled(struct tmpfs_node *dir)
{
	struct tmpfs_dir *d = &dir->dir;
	if (d->fill) {
		fs_tmpfs_fill fill = d->fill;
		d->fill = NULL;
		fill(&dir->node, d->fill_data);
	}
	return d;
}

struct tmpfs_entry *tmpfs_dir_find(struct tmpfs_node *dir, struct fs_name name)
{
	struct tmpfs_dir *d = filled(dir);
	uint32_t hash = hash_of(name);
	if (!d->bucket_count)
		return NULL;
	struct tmpfs_entry *e = d->bucket[hash & (d->bucket_count - 1)];
	while (e && (e->hash != hash || e->name_size != name.size ||
		     memcmp(e->name, name.text, name.size)))
		e = e->chain;
	return e;
}

static int grow(struct tmpfs_dir *d)
{
	uint32_t count = d->bucket_count ? d->bucket_count * 4 : 8;
	struct tmpfs_entry **bucket = kern_alloc_zero(count * sizeof *bucket);
	if (!bucket)
		return d->bucket_count ? 0 : -WH_ENOSPC;
	WH_LIST_FOR_EACH(it, &d->order) {
		struct tmpfs_entry *e = WH_LIST_ENTRY(it, struct tmpfs_entry, order);
		e->chain = bucket[e->hash & (count - 1)];
		bucket[e->hash & (count - 1)] = e;
	}
	kern_free(d->bucket, d->bucket_count * sizeof *d->bucket);
	d->bucket = bucket;
	d->bucket_count = count;
	return 0;
}

int tmpfs_dir_add(struct tmpfs_node *dir, struct fs_name name, struct tmpfs_node *n)
{
	struct tmpfs_dir *d = filled(dir);
	if (d->count >= d->bucket_count * 2) {
		int r = grow(d);
		if (r < 0)
			return r;
	}
	struct tmpfs_entry *e = kern_alloc(entry_size(name.size));
	if (!e)
		return -WH_ENOSPC;
	memcpy(e->name, name.text, name.size);
	e->name_size = name.size;
	e->hash = hash_of(name);
	e->dir = dir;
	e->node = n;
	e->cookie = d->next_cookie++;
	e->chain = d->bucket[e->hash & (d->bucket_count - 1)];
	d->bucket[e->hash & (d->bucket_count - 1)] = e;
	wh_list_push_back(&d->order, &e->order);
	d->count++;
	fs_node_ref(&n->node);
	n->nlink++;
	n->entry = e;
	if (fs_node_is(&n->node, LX_S_IFDIR)) {
		n->nlink++;
		dir->nlink++;
	}
	tmpfs_touch(dir);
	return 0;
}

void tmpfs_dir_remove(struct tmpfs_entry *e)
{
	struct tmpfs_node *dir = e->dir, *n = e->node;
	struct tmpfs_entry **at = &dir->dir.bucket[e->hash & (dir->dir.bucket_count - 1)];
	while (*at != e)
		at = &(*at)->chain;
	*at = e->chain;
	wh_list_remove(&e->order);
	dir->dir.count--;
	wh_assert(n->nlink > 0);
	n->nlink--;
	if (fs_node_is(&n->node, LX_S_IFDIR)) {
		n->nlink--;
		dir->nlink--;
	}
	if (n->entry == e)
		n->entry = NULL;
	tmpfs_touch(dir);
	kern_free(e, entry_size(e->name_size));
	fs_node_unref(&n->node);
}

static int put_dots(struct fs_file *f, void *buffer, uint32_t size, uint32_t *used)
{
	struct tmpfs_node *dir = tmpfs_of(f->node);
	uint64_t up = dir->entry ? dir->entry->dir->node.ino : dir->node.ino;
	for (; f->position < 2; f->position++) {
		struct fs_name name = { "..", (uint32_t)f->position + 1 };
		if (!fs_dirent_put(buffer, size, used, f->position ? up : dir->node.ino,
				   f->position + 1, LX_S_IFDIR, name))
			return *used ? (int)*used : -WH_EINVAL;
	}
	return 0;
}

static int dir_getdents(struct fs_file *f, void *buffer, uint32_t size)
{
	struct tmpfs_dir *d = filled(tmpfs_of(f->node));
	uint32_t used = 0;
	int r = put_dots(f, buffer, size, &used);
	if (r)
		return r;
	WH_LIST_FOR_EACH(it, &d->order) {
		struct tmpfs_entry *e = WH_LIST_ENTRY(it, struct tmpfs_entry, order);
		struct fs_name name = { e->name, e->name_size };
		if (e->cookie < f->position)
			continue;
		if (!fs_dirent_put(buffer, size, &used, e->node->node.ino, e->cookie + 1,
				   e->node->node.mode, name))
			return used ? (int)used : -WH_EINVAL;
		f->position = e->cookie + 1;
	}
	return (int)used;
}

static int64_t dir_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			bool nonblock)
{
	return -WH_EISDIR;
}

static int dir_sync(struct fs_file *f, bool data_only)
{
	return 0;
}

static const struct fs_file_ops dir_file_ops = {
	.read = dir_read,
	.stat = fs_node_file_stat,
	.sync = dir_sync,
	.getdents = dir_getdents,
	.release = fs_node_file_release,
	.seekable = true,
	.kind = FS_KIND_NODE,
};

int tmpfs_dir_open(struct fs_node *n, uint32_t flags, struct fs_file **ret_file)
{
	return fs_node_file_new(n, &dir_file_ops, flags | LX_O_DIRECTORY, ret_file);
}
