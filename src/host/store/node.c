/* SPDX-License-Identifier: ISC */
/*
 * A transaction's tree: an overlay on an immutable one. A folder holds its base tree, and in a hash table the
 * children that somebody looked at, changed or removed; all others are still only entries of the base.
 *
 * A table keeps its nodes until the transaction ends, so that their serial numbers stay.
 */
#include <stdlib.h>

#include "store_priv.h"

static struct wh_store_node *node_new(struct wh_store_tx *tx, const char *name, size_t size,
				      uint32_t mode)
{
	struct wh_store_node *n = calloc(1, sizeof *n);
	if (!n || !(n->name = malloc(size + 1))) {
		free(n);
		return NULL;
	}
	memcpy(n->name, name, size);
	n->name[size] = 0;
	n->name_size = size;
	n->tx = tx;
	n->mode = mode;
	n->refs = 1;
	n->serial = ++tx->store->serial;
	tx->store->stats.nodes_live++;
	return n;
}

static bool is_dir(const struct wh_store_node *n)
{
	return n->mode == WH_STORE_DIR;
}

struct wh_store_node *node_root_new(struct wh_store_tx *tx, const git_oid *tree)
{
	struct wh_store_node *n = node_new(tx, "", 0, WH_STORE_DIR);
	if (n)
		n->id = *tree;
	return n;
}

/* ---- a folder's table ---- */

static uint32_t name_hash(const char *name, size_t size)
{
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < size; i++)
		h = (h ^ (unsigned char)name[i]) * 16777619u;
	return h;
}

static struct wh_store_node **place(struct wh_store_node *dir, const char *name, size_t size)
{
	struct wh_store_node **p = &dir->bucket[name_hash(name, size) & (dir->bucket_count - 1)];
	while (*p && ((*p)->name_size != size || memcmp((*p)->name, name, size)))
		p = &(*p)->next;
	return p;
}

static struct wh_store_node *kid_of(struct wh_store_node *dir, const char *name, size_t size)
{
	return dir->bucket_count ? *place(dir, name, size) : NULL;
}

static int grow(struct wh_store_node *dir)
{
	uint32_t count = dir->bucket_count ? dir->bucket_count * 4 : 8;
	struct wh_store_node **bucket = calloc(count, sizeof *bucket), **old = dir->bucket;
	if (!bucket)
		return -WH_ENOMEM;
	uint32_t old_count = dir->bucket_count;
	dir->bucket = bucket;
	dir->bucket_count = count;
	for (uint32_t i = 0; i < old_count; i++)
		for (struct wh_store_node *n = old[i], *next; n; n = next) {
			next = n->next;
			struct wh_store_node **b =
				&bucket[name_hash(n->name, n->name_size) & (count - 1)];
			n->next = *b;
			*b = n;
		}
	free(old);
	return 0;
}

/* The table takes a reference of its own; the child holds its parent. */
static int kid_add(struct wh_store_node *dir, struct wh_store_node *kid)
{
	if (dir->kid_count >= dir->bucket_count && grow(dir) < 0)
		return -WH_ENOMEM;
	struct wh_store_node **p = place(dir, kid->name, kid->name_size);
	wh_assert(!*p);
	*p = kid;
	kid->next = NULL;
	kid->parent = dir;
	kid->refs++;
	dir->kid_count++;
	return 0;
}

static void kid_take(struct wh_store_node *kid)
{
	struct wh_store_node *dir = kid->parent, **p = place(dir, kid->name, kid->name_size);
	wh_assert(*p == kid);
	*p = kid->next;
	kid->next = NULL;
	kid->parent = NULL;
	dir->kid_count--;
	wh_store_node_unref(kid);
}

static int load_base(struct wh_store_node *dir)
{
	if (dir->base_loaded)
		return 0;
	int r = 0;
	if (!oid_is_zero(&dir->id))
		r = tree_get(dir->tx->store, &dir->id, &dir->base);
	dir->base_loaded = r >= 0;
	return r;
}

/* ---- life ---- */

static void kids_drop(struct wh_store_node *dir)
{
	for (uint32_t i = 0; i < dir->bucket_count; i++)
		while (dir->bucket[i])
			kid_take(dir->bucket[i]);
	free(dir->bucket);
	dir->bucket = NULL;
	dir->bucket_count = 0;
	wh_store_tree_unref(dir->base);
	dir->base = NULL;
	dir->base_loaded = false;
}

struct wh_store_node *wh_store_node_ref(struct wh_store_node *n)
{
	n->refs++;
	return n;
}

void wh_store_node_unref(struct wh_store_node *n)
{
	if (!n || --n->refs)
		return;
	wh_assert(!n->parent);
	kids_drop(n);
	n->tx->store->stats.nodes_live--;
	wh_store_file_close(n->large);
	free(n->data);
	free(n->name);
	free(n);
}

void node_drop_tree(struct wh_store_node *root)
{
	if (root)
		kids_drop(root);
	wh_store_node_unref(root);
}

static void mark(struct wh_store_node *n)
{
	for (; n && !n->dirty; n = n->parent)
		n->dirty = true;
}

void node_set_tree(struct wh_store_node *root, const git_oid *tree)
{
	kids_drop(root);
	root->id = *tree;
	root->dirty = false;
}

void node_path(const struct wh_store_node *node, char *ret_path, size_t max)
{
	const struct wh_store_node *up[WH_STORE_DEPTH_MAX + 1];
	unsigned depth = 0;
	size_t at = 0;
	for (; node->parent && depth <= WH_STORE_DEPTH_MAX; node = node->parent)
		up[depth++] = node;
	ret_path[0] = 0;
	while (depth-- && at + up[depth]->name_size + 2 < max) {
		if (at)
			ret_path[at++] = '/';
		memcpy(ret_path + at, up[depth]->name, up[depth]->name_size + 1);
		at += up[depth]->name_size;
	}
}

/* Whoever changes something solves the conflict there. */
static void touched(struct wh_store_node *n)
{
	char path[WH_STORE_PATH_SIZE_MAX + 1];
	mark(n);
	if (!n->tx->conflicts.count)
		return;
	node_path(n, path, sizeof path);
	conflicts_clear(&n->tx->conflicts, path);
}

/* ---- looking ---- */

struct wh_store_node *wh_store_tx_root(struct wh_store_tx *tx)
{
	return wh_store_node_ref(tx->root);
}

struct wh_store_node *wh_store_node_parent(struct wh_store_node *n)
{
	return wh_store_node_ref(n->parent ? n->parent : n->tx->root);
}

uint32_t wh_store_node_mode(const struct wh_store_node *n)
{
	return n->mode;
}

uint64_t wh_store_node_serial(const struct wh_store_node *n)
{
	return n->serial;
}

const char *wh_store_node_name(const struct wh_store_node *n)
{
	return n->name;
}

static unsigned depth_of(const struct wh_store_node *n)
{
	unsigned d = 0;
	for (; n->parent; n = n->parent)
		d++;
	return d;
}

int wh_store_node_find(struct wh_store_node *dir, const char *name, size_t size,
		       struct wh_store_node **ret_node)
{
	struct wh_store_entry e;
	if (!is_dir(dir))
		return -WH_ENOTDIR;
	struct wh_store_node *n = kid_of(dir, name, size);
	if (n) {
		if (n->gone)
			return -WH_ENOENT;
		*ret_node = wh_store_node_ref(n);
		return 0;
	}
	int r = load_base(dir);
	if (r < 0)
		return r;
	if (!dir->base || wh_store_tree_find(dir->base, name, size, &e) < 0)
		return -WH_ENOENT;
	n = node_new(dir->tx, name, size, e.mode);
	if (!n)
		return -WH_ENOMEM;
	n->id = oid_of(&e.id);
	if (kid_add(dir, n) < 0) {
		wh_store_node_unref(n);
		return -WH_ENOMEM;
	}
	*ret_node = n;
	return 0;
}

int wh_store_node_each(struct wh_store_node *dir,
		       int (*fn)(void *ctx, const char *name, size_t size, uint32_t mode),
		       void *ctx)
{
	if (!is_dir(dir))
		return -WH_ENOTDIR;
	int r = load_base(dir);
	for (uint32_t i = 0; r == 0 && dir->base && i < dir->base->count; i++) {
		struct wh_store_entry e;
		tree_entry(dir->base, i, &e);
		large_present(&e);
		if (!kid_of(dir, e.name, e.name_size))
			r = fn(ctx, e.name, e.name_size, e.mode);
	}
	for (uint32_t i = 0; r == 0 && i < dir->bucket_count; i++)
		for (struct wh_store_node *n = dir->bucket[i]; n && r == 0; n = n->next)
			if (!n->gone)
				r = fn(ctx, n->name, n->name_size, n->mode);
	return r;
}

/* ---- changing names ---- */

/* The name is nobody's; what was there stays with who holds it. A tombstone hides the base's entry. */
static int displace(struct wh_store_node *dir, const char *name, size_t size)
{
	struct wh_store_entry e;
	struct wh_store_node *old = kid_of(dir, name, size);
	int r = load_base(dir);
	if (r < 0)
		return r;
	if (old)
		kid_take(old);
	if (!dir->base || wh_store_tree_find(dir->base, name, size, &e) < 0)
		return 0;
	struct wh_store_node *tomb = node_new(dir->tx, name, size, WH_STORE_FILE);
	if (!tomb)
		return -WH_ENOMEM;
	tomb->gone = true;
	tomb->dirty = true;
	r = kid_add(dir, tomb);
	wh_store_node_unref(tomb);
	return r;
}

static int put(struct wh_store_node *dir, struct wh_store_node *kid)
{
	struct wh_store_node *old = kid_of(dir, kid->name, kid->name_size);
	if (old)
		kid_take(old);
	int r = kid_add(dir, kid);
	if (r >= 0) {
		kid->dirty = false; /* so that the folders above are marked */
		mark(kid);
	}
	return r;
}

int wh_store_node_create(struct wh_store_node *dir, const char *name, size_t size, uint32_t mode,
			 struct wh_store_node **ret_node)
{
	struct wh_store_node *n;
	if (!is_dir(dir))
		return -WH_ENOTDIR;
	if (size > WH_STORE_NAME_SIZE_MAX)
		return -WH_ENAMETOOLONG;
	if (!tree_name_valid(name, size))
		return -WH_EINVAL;
	if (depth_of(dir) >= WH_STORE_DEPTH_MAX - 1)
		return -WH_ENAMETOOLONG;
	int r = wh_store_node_find(dir, name, size, &n);
	if (r >= 0) {
		if (mode == WH_STORE_DIR || is_dir(n))
			r = mode == WH_STORE_DIR ? -WH_EEXIST : -WH_EISDIR;
		else
			r = wh_store_node_truncate(n, 0);
		if (r < 0) {
			wh_store_node_unref(n);
			return r;
		}
		n->mode = mode;
		*ret_node = n;
		return 0;
	}
	if (r != -WH_ENOENT)
		return r;
	n = node_new(dir->tx, name, size, mode);
	if (!n)
		return -WH_ENOMEM;
	n->loaded = n->base_loaded = true;
	r = put(dir, n);
	if (r < 0) {
		wh_store_node_unref(n);
		return r;
	}
	touched(n);
	*ret_node = n;
	return 0;
}

int wh_store_node_remove(struct wh_store_node *n)
{
	struct wh_store_node *dir = n->parent;
	if (n == n->tx->root)
		return -WH_EPERM;
	if (!dir)
		return -WH_ENOENT;
	touched(n);
	mark(dir);
	wh_store_node_ref(n);
	char *name = n->name;
	int r = displace(dir, name, n->name_size);
	wh_store_node_unref(n);
	return r;
}

int wh_store_node_rename(struct wh_store_node *n, struct wh_store_node *to_dir, const char *name,
			 size_t size)
{
	struct wh_store_node *old, *from_dir = n->parent;
	if (n == n->tx->root)
		return -WH_EPERM;
	if (!from_dir)
		return -WH_ENOENT;
	if (!is_dir(to_dir))
		return -WH_ENOTDIR;
	if (to_dir->tx != n->tx)
		return -WH_EXDEV;
	if (size > WH_STORE_NAME_SIZE_MAX)
		return -WH_ENAMETOOLONG;
	if (!tree_name_valid(name, size))
		return -WH_EINVAL;
	for (struct wh_store_node *up = to_dir; up; up = up->parent)
		if (up == n)
			return -WH_EINVAL;
	int r = wh_store_node_find(to_dir, name, size, &old);
	if (r >= 0) {
		bool same = old == n, dir = is_dir(old);
		wh_store_node_unref(old);
		if (same)
			return 0;
		if (dir)
			return -WH_EISDIR;
	} else if (r != -WH_ENOENT) {
		return r;
	}
	char *copy = malloc(size + 1);
	if (!copy)
		return -WH_ENOMEM;
	memcpy(copy, name, size);
	copy[size] = 0;
	wh_store_node_ref(n);
	mark(from_dir);
	r = displace(from_dir, n->name, n->name_size);
	if (r >= 0) {
		free(n->name);
		n->name = copy;
		n->name_size = size;
		bool dirty = n->dirty;
		r = put(to_dir, n);
		n->dirty = dirty;
		if (r >= 0 && n->dirty)
			mark(to_dir);
	} else {
		free(copy);
	}
	wh_store_node_unref(n);
	return r;
}

/* ---- file content ---- */

static int load(struct wh_store_node *n)
{
	if (n->loaded)
		return 0;
	int r = 0;
	void *data = NULL;
	size_t size = 0;
	if (n->mode == WH_STORE_LARGE) {
		struct wh_store_id id = id_of(&n->id);
		r = wh_store_file_open(n->tx->store, &id, &n->large);
		n->loaded = r >= 0;
		return r;
	}
	if (n->mode != WH_STORE_SUBMODULE && !oid_is_zero(&n->id))
		r = object_read(n->tx->store, &n->id, GIT_OBJECT_BLOB, &data, &size);
	if (r < 0)
		return r;
	n->data = data;
	n->size = n->room = size;
	n->loaded = true;
	return 0;
}

int wh_store_node_size(struct wh_store_node *n, uint64_t *ret_size)
{
	struct wh_store_id id = id_of(&n->id);
	if (is_dir(n) || n->mode == WH_STORE_SUBMODULE) {
		*ret_size = 0;
		return 0;
	}
	if (!n->loaded)
		return wh_store_blob_size(n->tx->store, &id, ret_size) >= 0 ? 0 : load(n);
	*ret_size = n->large ? wh_store_file_size(n->large) : n->size;
	return 0;
}

/* ---- large files ---- */

/* What the name was when the transaction began, if that was a large file: its chunks are there. */
static git_oid old_large(const struct wh_store_node *n)
{
	struct wh_store_entry e;
	git_oid none = { { 0 } };
	if (n->parent && n->parent->base &&
	    wh_store_tree_find(n->parent->base, n->name, n->name_size, &e) >= 0 &&
	    e.mode == WH_STORE_LARGE)
		none = oid_of(&e.id);
	return none;
}

static int become_large(struct wh_store_node *n)
{
	git_oid old = old_large(n);
	int r = large_from(n->tx->store, n->data, n->size, &old, &n->large);
	if (r < 0)
		return r;
	free(n->data);
	n->data = NULL;
	n->size = n->room = 0;
	n->mode = WH_STORE_LARGE;
	return 0;
}

static int become_plain(struct wh_store_node *n, uint32_t mode)
{
	uint64_t size = wh_store_file_size(n->large);
	if (size > WH_STORE_FILE_SIZE_MAX)
		return -WH_EFBIG;
	uint8_t *data = malloc((size_t)size + 1);
	int64_t got = data ? wh_store_file_read(n->large, 0, data, (size_t)size) : -WH_ENOMEM;
	if (got < 0) {
		free(data);
		return (int)got;
	}
	wh_store_file_close(n->large);
	n->large = NULL;
	n->data = data;
	n->size = (size_t)size;
	n->room = (size_t)size + 1;
	n->mode = mode;
	return 0;
}

/* Ready for bytes up to `end`. */
static int make_room(struct wh_store_node *n, uint64_t end)
{
	if (end > WH_STORE_LARGE_SIZE_MAX)
		return -WH_EFBIG;
	if (!n->large && n->mode == WH_STORE_FILE && end > WH_STORE_LARGE_MIN)
		return become_large(n);
	return !n->large && end > WH_STORE_FILE_SIZE_MAX ? -WH_EFBIG : 0;
}

int64_t wh_store_node_read(struct wh_store_node *n, uint64_t offset, void *to, size_t size)
{
	if (is_dir(n))
		return -WH_EISDIR;
	int r = load(n);
	if (r < 0)
		return r;
	if (n->large)
		return wh_store_file_read(n->large, offset, to, size);
	if (offset >= n->size)
		return 0;
	if (size > n->size - offset)
		size = (size_t)(n->size - offset);
	memcpy(to, n->data + offset, size);
	return (int64_t)size;
}

static int resize(struct wh_store_node *n, uint64_t size)
{
	if (size > WH_STORE_FILE_SIZE_MAX)
		return -WH_EFBIG;
	if (size > n->room) {
		uint64_t room = n->room + n->room / 2 > size ? n->room + n->room / 2 : size + 64;
		uint8_t *more = realloc(n->data, (size_t)room);
		if (!more)
			return -WH_ENOMEM;
		n->data = more;
		n->room = (size_t)room;
	}
	if (size > n->size)
		memset(n->data + n->size, 0, (size_t)size - n->size);
	n->size = (size_t)size;
	return 0;
}

int wh_store_node_write(struct wh_store_node *n, uint64_t offset, const void *from, size_t size)
{
	if (is_dir(n))
		return -WH_EISDIR;
	if (n->mode == WH_STORE_SUBMODULE)
		return -WH_EPERM;
	if (offset > WH_STORE_LARGE_SIZE_MAX || size > WH_STORE_LARGE_SIZE_MAX - offset)
		return -WH_EFBIG;
	int r = load(n);
	if (r >= 0)
		r = make_room(n, offset + size);
	if (r >= 0 && n->large)
		r = large_write(n->large, offset, from, size);
	else if (r >= 0 && offset + size > n->size)
		r = resize(n, offset + size);
	if (r < 0)
		return r;
	if (size && !n->large)
		memcpy(n->data + offset, from, size);
	touched(n);
	return 0;
}

int wh_store_node_truncate(struct wh_store_node *n, uint64_t size)
{
	if (is_dir(n))
		return -WH_EISDIR;
	if (n->mode == WH_STORE_SUBMODULE)
		return -WH_EPERM;
	int r = 0;
	if (!size && (!n->loaded || n->large)) { /* what was there need not be read */
		wh_store_file_close(n->large);
		n->large = NULL;
		if (n->mode == WH_STORE_LARGE)
			n->mode = WH_STORE_FILE;
		n->loaded = true;
		n->size = n->room = 0;
		n->data = NULL;
	} else {
		r = load(n);
	}
	if (r >= 0)
		r = make_room(n, size);
	if (r >= 0)
		r = n->large ? large_truncate(n->large, size) : resize(n, size);
	if (r >= 0)
		touched(n);
	return r;
}

int wh_store_node_set_mode(struct wh_store_node *n, uint32_t mode)
{
	if (is_dir(n) || n->mode == WH_STORE_SUBMODULE || mode == WH_STORE_DIR)
		return -WH_EPERM;
	if (n->mode == WH_STORE_LARGE && mode == WH_STORE_FILE)
		return 0;
	if (n->mode != mode) {
		int r = load(n);
		if (r >= 0 && n->large)
			r = become_plain(n, mode);
		if (r < 0)
			return r;
		n->mode = mode;
		mark(n);
	}
	return 0;
}

/* ---- writing trees ---- */

struct change {
	struct wh_store_node *node;
	git_oid id;
	bool gone;
};

/* The name in Git. */
static const char *raw_name(const struct wh_store_node *n, char room[LARGE_NAME_ROOM],
			    size_t *ret_size)
{
	if (n->mode != WH_STORE_LARGE) {
		*ret_size = n->name_size;
		return n->name;
	}
	*ret_size = large_raw_name(n->name, n->name_size, room);
	return room;
}

static bool is_tree(const struct wh_store_node *n)
{
	return is_dir(n) || n->mode == WH_STORE_LARGE;
}

static int compare_changes(const void *a, const void *b)
{
	const struct wh_store_node *x = ((const struct change *)a)->node,
				   *y = ((const struct change *)b)->node;
	char x_room[LARGE_NAME_ROOM], y_room[LARGE_NAME_ROOM];
	size_t x_size, y_size;
	const char *x_name = raw_name(x, x_room, &x_size), *y_name = raw_name(y, y_room, &y_size);
	return tree_compare(x_name, x_size, is_tree(x), y_name, y_size, is_tree(y));
}

static int write_file(struct wh_store_node *n)
{
	if (n->large && wh_store_file_size(n->large) <= WH_STORE_LARGE_MIN / 2) {
		int r = become_plain(n, WH_STORE_FILE);
		if (r < 0)
			return r;
	}
	if (n->large) {
		int r = large_store(n->large, &n->id);
		if (r >= 0)
			n->dirty = false;
		return r;
	}
	uint8_t *copy = malloc(n->size + 1);
	if (!copy)
		return -WH_ENOMEM;
	if (n->size)
		memcpy(copy, n->data, n->size);
	copy[n->size] = 0;
	int r = object_stage(n->tx->store, GIT_OBJECT_BLOB, copy, n->size, &n->id);
	if (r >= 0)
		n->dirty = false;
	return r;
}

/* The children that are not as in the base, with their new ids. Also such that a folder became a file. */
static int changes_of(struct wh_store_node *dir, struct change **ret_list, uint32_t *ret_count)
{
	uint32_t count = 0;
	struct change *list = malloc((dir->kid_count + 1) * sizeof *list);
	int r = list ? 0 : -WH_ENOMEM;
	for (uint32_t i = 0; i < dir->bucket_count && r >= 0; i++)
		for (struct wh_store_node *n = dir->bucket[i]; n && r >= 0; n = n->next) {
			struct wh_store_entry e;
			bool based = dir->base &&
				     wh_store_tree_find(dir->base, n->name, n->name_size, &e) >= 0;
			if (!n->gone && n->dirty)
				r = is_dir(n)   ? node_write_tree(n, &n->id)
				    : n->loaded ? write_file(n)
						: 0;
			bool empty = is_dir(n) && oid_is_zero(&n->id);
			struct wh_store_id id = id_of(&n->id);
			if (!n->gone && !empty && based && e.mode == n->mode &&
			    wh_store_id_equal(&e.id, &id))
				continue;
			if (!based && (n->gone || empty))
				continue;
			list[count++] = (struct change){ n, n->id, n->gone || empty };
		}
	if (r < 0) {
		free(list);
		return r;
	}
	qsort(list, count, sizeof *list, compare_changes);
	*ret_list = list;
	*ret_count = count;
	return 0;
}

struct writer {
	uint8_t *raw;
	uint32_t *at;
	size_t raw_size;
	uint32_t count;
};

static void put_change(struct writer *w, const struct change *c)
{
	static const struct {
		uint32_t mode;
		const char *text;
	} texts[] = { { WH_STORE_DIR, "40000 " },      { WH_STORE_LARGE, "40000 " },
		      { WH_STORE_FILE, "100644 " },    { WH_STORE_EXECUTABLE, "100755 " },
		      { WH_STORE_SYMLINK, "120000 " }, { WH_STORE_SUBMODULE, "160000 " } };
	uint8_t *p = w->raw + w->raw_size;
	char room[LARGE_NAME_ROOM];
	size_t size;
	const char *name = raw_name(c->node, room, &size);
	w->at[w->count++] = (uint32_t)w->raw_size;
	for (unsigned i = 0; i < WH_ARRAY_COUNT(texts); i++)
		if (texts[i].mode == c->node->mode) {
			size_t n = strlen(texts[i].text);
			memcpy(p, texts[i].text, n);
			p += n;
		}
	memcpy(p, name, size);
	p[size] = 0;
	p += size + 1;
	memcpy(p, c->id.id, ID_SIZE);
	w->raw_size = (size_t)(p + ID_SIZE - w->raw);
}

/* Entries [from, to) of the base as they are. */
static void put_run(struct writer *w, const struct wh_store_tree *t, uint32_t from, uint32_t to)
{
	if (from >= to)
		return;
	uint32_t begin = t->at[from], end = to < t->count ? t->at[to] : (uint32_t)t->raw_size;
	uint32_t shift = (uint32_t)w->raw_size - begin;
	memcpy(w->raw + w->raw_size, t->raw + begin, end - begin);
	for (uint32_t i = from; i < to; i++)
		w->at[w->count++] = t->at[i] + shift;
	w->raw_size += end - begin;
}

/* First entry of the base that is not before the name (as a file or as a folder). */
static uint32_t lower(const struct wh_store_tree *t, const char *name, size_t name_size,
		      bool as_dir, bool *ret_same)
{
	uint32_t low = 0, high = t ? t->count : 0;
	*ret_same = false;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct wh_store_entry e;
		tree_entry(t, middle, &e);
		int r = tree_compare(e.name, e.name_size, e.mode == WH_STORE_DIR, name, name_size,
				     as_dir);
		if (!r)
			*ret_same = true;
		if (r < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Where each change goes in the base; a name that changes between file and folder is removed in one place and added in
 * the other. */
struct edit {
	uint32_t index;
	bool removes;
	const struct change *adds;
};

static int compare_edits(const void *a, const void *b)
{
	const struct edit *x = a, *y = b;
	if (x->index != y->index)
		return x->index < y->index ? -1 : 1;
	if (!x->adds || !y->adds) /* what is added stands before what stood there */
		return x->adds ? -1 : y->adds ? 1 : 0;
	return compare_changes(x->adds, y->adds);
}

static uint32_t edits_of(const struct wh_store_tree *base, const struct change *list,
			 uint32_t count, struct edit *edits)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < count; i++) {
		const struct wh_store_node *node = list[i].node;
		char raw[LARGE_NAME_ROOM];
		size_t raw_size = large_raw_name(node->name, node->name_size, raw);
		for (unsigned form = 0; form < 3; form++) { /* file, folder, large file */
			bool same, large = form == 2;
			bool mine = !list[i].gone && large == (node->mode == WH_STORE_LARGE) &&
				    (large || is_dir(node) == (form == 1));
			uint32_t index =
				lower(base, large ? raw : node->name,
				      large ? raw_size : node->name_size, form != 0, &same);
			if (same)
				edits[n++] = (struct edit){ index, true, NULL };
			if (mine)
				edits[n++] = (struct edit){ index, false, &list[i] };
		}
	}
	qsort(edits, n, sizeof *edits, compare_edits);
	return n;
}

static int write_merged(struct wh_store_node *dir, const struct change *list, uint32_t count,
			git_oid *ret_id)
{
	struct wh_store *s = dir->tx->store;
	struct wh_store_tree *base = dir->base, *made;
	size_t room = (base ? base->raw_size : 0) + 1;
	for (uint32_t i = 0; i < count; i++)
		room += list[i].node->name_size + LARGE_SUFFIX_SIZE + 8 + ID_SIZE;
	struct writer w = { malloc(room),
			    malloc(((base ? base->count : 0) + count + 1) * sizeof(uint32_t)), 0,
			    0 };
	struct edit *edits = malloc((4ull * count + 1) * sizeof *edits);
	uint8_t *copy = NULL;
	int r = -WH_ENOMEM;
	if (!w.raw || !w.at || !edits)
		goto out;
	uint32_t n = edits_of(base, list, count, edits), next = 0;
	for (uint32_t i = 0; i < n; i++) {
		put_run(&w, base, next, edits[i].index);
		next = edits[i].index > next ? edits[i].index : next;
		if (edits[i].adds)
			put_change(&w, edits[i].adds);
		else
			next = edits[i].index + 1;
	}
	if (base)
		put_run(&w, base, next, base->count);
	r = 0;
	if (!w.raw_size) {
		memset(ret_id, 0, sizeof *ret_id);
		goto out;
	}
	copy = malloc(w.raw_size + 1);
	if (!copy) {
		r = -WH_ENOMEM;
		goto out;
	}
	memcpy(copy, w.raw, w.raw_size);
	copy[w.raw_size] = 0;
	r = object_stage(s, GIT_OBJECT_TREE, copy, w.raw_size, ret_id);
	if (r < 0)
		goto out;
	r = tree_put(s, ret_id, w.raw, w.raw_size, w.at, w.count, &made);
	free(edits);
	if (r >= 0)
		wh_store_tree_unref(made); /* into the cache: the next transaction begins with it */
	return r;
out:
	free(w.raw);
	free(w.at);
	free(edits);
	return r;
}

int node_write_tree(struct wh_store_node *dir, git_oid *ret_id)
{
	struct change *list;
	uint32_t count;
	git_oid id = { { 0 } };
	if (!dir->dirty) {
		*ret_id = dir->id;
		return 0;
	}
	int r = load_base(dir);
	if (r >= 0)
		r = changes_of(dir, &list, &count);
	if (r < 0)
		return r;
	if (dir->base)
		id = dir->base->id;
	if (count)
		r = write_merged(dir, list, count, &id);
	free(list);
	if (r < 0)
		return r;
	*ret_id = id;
	/* The overlay stays on the old base: its children are compared with that. */
	return 0;
}
