/* SPDX-License-Identifier: ISC */
/*
 * Trees as Git has them, parsed once (where each entry begins) and kept by their hash while there is room.
 */
#include <stdlib.h>

#include "store_priv.h"

static size_t bytes_of(const struct wh_store_tree *t)
{
	return sizeof *t + t->raw_size + 4ull * t->count;
}

int tree_compare(const char *a, size_t a_size, bool a_dir, const char *b, size_t b_size, bool b_dir)
{
	size_t n = a_size < b_size ? a_size : b_size;
	int r = memcmp(a, b, n);
	if (r)
		return r;
	unsigned char x = a_size > n ? (unsigned char)a[n] : a_dir ? '/' : 0;
	unsigned char y = b_size > n ? (unsigned char)b[n] : b_dir ? '/' : 0;
	return x < y ? -1 : x > y;
}

bool tree_name_valid(const char *name, size_t size)
{
	static const char git[] = ".git";
	if (!size || size > WH_STORE_NAME_SIZE_MAX || memchr(name, '/', size) ||
	    memchr(name, 0, size))
		return false;
	if (name[0] == '.' && (size == 1 || (size == 2 && name[1] == '.')))
		return false;
	if (large_name(name, size))
		return false; /* it would be taken for a large file's folder */
	if (size != 4)
		return true;
	/* Git refuses to check out a tree with such an entry. */
	for (unsigned i = 0; i < 4; i++)
		if ((name[i] | 32) != git[i] && name[i] != git[i])
			return true;
	return false;
}

static uint32_t mode_at(const uint8_t *p, const uint8_t **ret_name)
{
	uint32_t mode = 0;
	for (; *p != ' '; p++)
		mode = mode << 3 | (uint32_t)(*p - '0');
	*ret_name = p + 1;
	return mode;
}

/* Git's files may carry other permission bits from long ago. */
static uint32_t kind_of(uint32_t mode)
{
	switch (mode & 0170000) {
	case 0040000:
		return WH_STORE_DIR;
	case 0120000:
		return WH_STORE_SYMLINK;
	case 0160000:
		return WH_STORE_SUBMODULE;
	default:
		return mode & 0100 ? WH_STORE_EXECUTABLE : WH_STORE_FILE;
	}
}

void tree_entry(const struct wh_store_tree *t, uint32_t i, struct wh_store_entry *ret_entry)
{
	const uint8_t *name;
	uint32_t end = i + 1 < t->count ? t->at[i + 1] : (uint32_t)t->raw_size;
	ret_entry->mode = kind_of(mode_at(t->raw + t->at[i], &name));
	ret_entry->name = (const char *)name;
	ret_entry->name_size = (size_t)(t->raw + end - ID_SIZE - 1 - name);
	memset(&ret_entry->id, 0, sizeof ret_entry->id);
	memcpy(ret_entry->id.bytes, t->raw + end - ID_SIZE, ID_SIZE);
}

static int parse(struct wh_store_tree *t)
{
	const uint8_t *p = t->raw, *end = t->raw + t->raw_size;
	uint32_t room = 0;
	while (p < end) {
		const uint8_t *begin = p, *space = memchr(p, ' ', (size_t)(end - p));
		if (!space || space == p || space - p > 7)
			return -WH_EIO;
		for (; p < space; p++)
			if (*p < '0' || *p > '7')
				return -WH_EIO;
		const uint8_t *nul = memchr(p, 0, (size_t)(end - p));
		if (!nul || nul == p + 1 || end - nul <= (long)ID_SIZE)
			return -WH_EIO;
		if (t->count == room) {
			room = room ? room * 2 : 16;
			uint32_t *more = realloc(t->at, room * sizeof *more);
			if (!more)
				return -WH_ENOMEM;
			t->at = more;
		}
		t->at[t->count++] = (uint32_t)(begin - t->raw);
		p = nul + 1 + ID_SIZE;
	}
	return 0;
}

static void tree_free(struct wh_store_tree *t)
{
	free(t->raw);
	free(t->at);
	free(t);
}

static void forget(struct wh_store *s, struct wh_store_tree *t)
{
	struct wh_store_tree **p = &s->tree_bucket[oid_bucket(&t->id, TREE_BUCKETS)];
	while (*p != t)
		p = &(*p)->next;
	*p = t->next;
	wh_list_remove(&t->lru);
	s->tree_bytes -= bytes_of(t);
	tree_free(t);
}

static void trim(struct wh_store *s, size_t max)
{
	while (s->tree_bytes > max && !wh_list_empty(&s->tree_lru))
		forget(s, WH_LIST_ENTRY(s->tree_lru.next, struct wh_store_tree, lru));
}

void tree_cache_clear(struct wh_store *s)
{
	trim(s, 0);
}

static struct wh_store_tree *cached(struct wh_store *s, const git_oid *id)
{
	struct wh_store_tree *t = s->tree_bucket[oid_bucket(id, TREE_BUCKETS)];
	while (t && !oid_eq(&t->id, id))
		t = t->next;
	if (t) {
		wh_list_remove(&t->lru);
		t->refs++;
	}
	return t;
}

static void keep(struct wh_store *s, struct wh_store_tree *t)
{
	struct wh_store_tree **b = &s->tree_bucket[oid_bucket(&t->id, TREE_BUCKETS)];
	t->store = s;
	t->refs = 1;
	wh_list_init(&t->lru);
	t->next = *b;
	*b = t;
	s->tree_bytes += bytes_of(t);
	trim(s, TREE_CACHE_MAX);
}

int tree_get(struct wh_store *s, const git_oid *id, struct wh_store_tree **ret_tree)
{
	void *raw = NULL;
	int r = 0;
	struct wh_store_tree *t = cached(s, id);
	if (t) {
		*ret_tree = t;
		return 0;
	}
	t = calloc(1, sizeof *t);
	if (!t)
		return -WH_ENOMEM;
	t->id = *id;
	if (!oid_is_zero(id))
		r = object_read(s, id, GIT_OBJECT_TREE, &raw, &t->raw_size);
	t->raw = raw;
	if (r >= 0 && t->raw_size > UINT32_MAX)
		r = -WH_EFBIG;
	if (r >= 0)
		r = parse(t);
	if (r < 0) {
		tree_free(t);
		return r;
	}
	keep(s, t);
	*ret_tree = t;
	return 0;
}

int tree_put(struct wh_store *s, const git_oid *id, uint8_t *raw, size_t raw_size, uint32_t *at,
	     uint32_t count, struct wh_store_tree **ret_tree)
{
	struct wh_store_tree *t = cached(s, id);
	if (!t) {
		t = calloc(1, sizeof *t);
		if (!t) {
			free(raw);
			free(at);
			return -WH_ENOMEM;
		}
		*t = (struct wh_store_tree){
			.id = *id, .raw = raw, .raw_size = raw_size, .at = at, .count = count
		};
		keep(s, t);
	} else {
		free(raw);
		free(at);
	}
	*ret_tree = t;
	return 0;
}

int wh_store_tree_open(struct wh_store *s, const struct wh_store_id *id,
		       struct wh_store_tree **ret_tree)
{
	git_oid o = oid_of(id);
	return tree_get(s, &o, ret_tree);
}

struct wh_store_tree *wh_store_tree_ref(struct wh_store_tree *t)
{
	t->refs++;
	return t;
}

void wh_store_tree_unref(struct wh_store_tree *t)
{
	if (!t || --t->refs)
		return;
	wh_list_push_back(&t->store->tree_lru, &t->lru);
	trim(t->store, TREE_CACHE_MAX);
}

size_t wh_store_tree_count(const struct wh_store_tree *t)
{
	return t->count;
}

void wh_store_tree_entry(const struct wh_store_tree *t, size_t index,
			 struct wh_store_entry *ret_entry)
{
	wh_assert(index < t->count);
	tree_entry(t, (uint32_t)index, ret_entry);
	large_present(ret_entry);
}

void wh_store_tree_id(const struct wh_store_tree *t, struct wh_store_id *ret_id)
{
	*ret_id = id_of(&t->id);
}

static bool find_as(const struct wh_store_tree *t, const char *name, size_t size, bool dir,
		    struct wh_store_entry *ret_entry)
{
	uint32_t low = 0, high = t->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct wh_store_entry e;
		const uint8_t *p;
		uint32_t end = middle + 1 < t->count ? t->at[middle + 1] : (uint32_t)t->raw_size;
		e.mode = mode_at(t->raw + t->at[middle], &p);
		size_t e_size = (size_t)(t->raw + end - ID_SIZE - 1 - p);
		int r = tree_compare(name, size, dir, (const char *)p, e_size,
				     (e.mode & 0170000) == 0040000);
		if (!r) {
			tree_entry(t, middle, ret_entry);
			return true;
		}
		if (r < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

int tree_find(const struct wh_store_tree *t, const char *name, size_t size,
	      struct wh_store_entry *ret_entry)
{
	return find_as(t, name, size, false, ret_entry) || find_as(t, name, size, true, ret_entry)
		       ? 0
		       : -WH_ENOENT;
}

int wh_store_tree_find(const struct wh_store_tree *t, const char *name, size_t size,
		       struct wh_store_entry *ret_entry)
{
	char raw[LARGE_NAME_ROOM];
	if (size > WH_STORE_NAME_SIZE_MAX || large_name(name, size))
		return -WH_ENOENT;
	if (tree_find(t, name, size, ret_entry) >= 0)
		return 0;
	if (!find_as(t, raw, large_raw_name(name, size, raw), true, ret_entry))
		return -WH_ENOENT;
	large_present(ret_entry);
	return 0;
}

int wh_store_lookup(struct wh_store *s, const struct wh_store_id *tree, const char *path,
		    struct wh_store_entry *ret_entry)
{
	struct wh_store_entry e = { .mode = WH_STORE_DIR, .id = *tree };
	while (*path) {
		struct wh_store_tree *t;
		size_t n = strcspn(path, "/");
		if (e.mode != WH_STORE_DIR)
			return -WH_ENOTDIR;
		int r = wh_store_tree_open(s, &e.id, &t);
		if (r < 0)
			return r;
		r = wh_store_tree_find(t, path, n, &e);
		wh_store_tree_unref(t);
		if (r < 0)
			return r;
		path += n;
		path += *path == '/';
	}
	e.name = NULL;
	e.name_size = 0;
	*ret_entry = e;
	return 0;
}
