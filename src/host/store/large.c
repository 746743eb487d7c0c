/* SPDX-License-Identifier: ISC */
/*
 * Large files. A file of more than WH_STORE_LARGE_MIN bytes is kept in chunks, so that a change costs the chunks it touches. In Git
 * it is a folder NAME.wherry-chunks of folders of 64 MiB each, of chunks named by where they begin, in hexadecimal: joined in the
 * order of their names they are the file (docs/spec/store-large.md).
 *
 * Chunks end where the last bytes say so (a gear hash), so the same content in another place makes the same chunks. In memory a
 * file is a list of pieces; a piece is a chunk that is on the disk, or bytes that were written (dirty). Dirty runs are cut again when the
 * transaction is written, or when there is much of them: a transaction may write more than there is memory.
 */
#include <stdio.h>
#include <stdlib.h>

#include "store_priv.h"

#define CHUNK_MIN (16u << 10)
#define CHUNK_MASK 0xffffu /* 64 KiB on the average, and the least */
#define CHUNK_MAX JOURNAL_OBJECT_MAX
#define GROUP_SHIFT 26
#define DIRTY_PIECE_MAX (1u << 20)
#define DIRTY_MAX (32u << 20) /* then dirty pieces become chunks */
#define CLEAN_MAX (16u << 20) /* of loaded chunks */

struct piece {
	uint64_t at;
	uint32_t size, room;
	git_oid id;
	uint8_t *data; /* NULL = not loaded */
	bool dirty;
};

struct wh_store_file {
	struct wh_store *store;
	struct piece *piece;
	size_t count, room;
	uint64_t size, dirty_bytes, clean_bytes;
	git_oid old_tree; /* what its chunks may be taken from; zero = nothing */
	struct known_ids known;
	bool known_loaded;
	uint64_t gear[256];
};

/* ---- names ---- */

static const char suffix[] = WH_STORE_LARGE_SUFFIX;

bool large_name(const char *name, size_t size)
{
	return size > LARGE_SUFFIX_SIZE &&
	       !memcmp(name + size - LARGE_SUFFIX_SIZE, suffix, LARGE_SUFFIX_SIZE);
}

size_t large_raw_name(const char *name, size_t size, char *to)
{
	memcpy(to, name, size);
	memcpy(to + size, suffix, LARGE_SUFFIX_SIZE);
	return size + LARGE_SUFFIX_SIZE;
}

void large_present(struct wh_store_entry *e)
{
	if (e->mode != WH_STORE_DIR || !large_name(e->name, e->name_size))
		return;
	e->mode = WH_STORE_LARGE;
	e->name_size -= LARGE_SUFFIX_SIZE;
}

/* ---- life ---- */

static struct wh_store_file *file_new(struct wh_store *s)
{
	struct wh_store_file *f = calloc(1, sizeof *f);
	uint64_t x = 0x9e3779b97f4a7c15u;
	if (!f)
		return NULL;
	f->store = s;
	for (unsigned i = 0; i < 256;
	     i++) { /* splitmix64: any constant that mixes well does, but it must not change */
		uint64_t z = x += 0x9e3779b97f4a7c15u;
		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
		z = (z ^ z >> 27) * 0x94d049bb133111ebu;
		f->gear[i] = z ^ z >> 31;
	}
	return f;
}

void wh_store_file_close(struct wh_store_file *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->count; i++)
		free(f->piece[i].data);
	free(f->piece);
	free(f->known.id);
	free(f);
}

static struct piece *piece_add(struct wh_store_file *f, size_t index)
{
	if (f->count == f->room) {
		size_t room = f->room * 2 + 64;
		struct piece *more = realloc(f->piece, room * sizeof *more);
		if (!more)
			return NULL;
		f->piece = more;
		f->room = room;
	}
	memmove(f->piece + index + 1, f->piece + index, (f->count - index) * sizeof *f->piece);
	f->count++;
	f->piece[index] = (struct piece){ 0 };
	return &f->piece[index];
}

static bool offset_of(const struct wh_store_entry *e, size_t digits, uint64_t *ret_at)
{
	uint64_t v = 0;
	if (e->name_size != digits)
		return false;
	for (size_t i = 0; i < digits; i++) {
		char c = e->name[i];
		int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
		if (d < 0)
			return false;
		v = v << 4 | (unsigned)d;
	}
	*ret_at = v;
	return true;
}

static int group_read(struct wh_store_file *f, const struct wh_store_entry *group, uint64_t number)
{
	struct wh_store_tree *t;
	git_oid id = oid_of(&group->id);
	int r = tree_get(f->store, &id, &t);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < t->count && r >= 0; i++) {
		struct wh_store_entry e;
		uint64_t at;
		tree_entry(t, i, &e);
		struct piece *last = f->count ? &f->piece[f->count - 1] : NULL;
		if (e.mode != WH_STORE_FILE || !offset_of(&e, 12, &at) ||
		    at >> GROUP_SHIFT != number ||
		    (last ? at <= last->at || at - last->at > CHUNK_MAX : at != 0)) {
			r = -WH_EIO;
			break;
		}
		if (last)
			last->size = (uint32_t)(at - last->at);
		struct piece *p = piece_add(f, f->count);
		if (!p)
			r = -WH_ENOMEM;
		else
			*p = (struct piece){ .at = at, .id = oid_of(&e.id) };
	}
	wh_store_tree_unref(t);
	return r;
}

int wh_store_file_open(struct wh_store *s, const struct wh_store_id *id,
		       struct wh_store_file **ret_file)
{
	struct wh_store_tree *t;
	git_oid o = oid_of(id);
	struct wh_store_file *f = file_new(s);
	if (!f)
		return -WH_ENOMEM;
	int r = tree_get(s, &o, &t);
	if (r < 0) {
		wh_store_file_close(f);
		return r;
	}
	for (uint32_t i = 0; i < t->count && r >= 0; i++) {
		struct wh_store_entry e;
		uint64_t number;
		tree_entry(t, i, &e);
		r = e.mode == WH_STORE_DIR && offset_of(&e, 6, &number) ? group_read(f, &e, number)
									: -WH_EIO;
	}
	wh_store_tree_unref(t);
	if (r >= 0 && f->count) {
		struct piece *last = &f->piece[f->count - 1];
		struct wh_store_id last_id = id_of(&last->id);
		uint64_t size;
		r = wh_store_object_kind(s, &last_id) == WH_STORE_OBJECT_BLOB
			    ? wh_store_blob_size(s, &last_id, &size)
			    : -WH_EIO;
		if (r >= 0 && (!size || size > CHUNK_MAX))
			r = -WH_EIO;
		last->size = r < 0 ? 0 : (uint32_t)size;
		f->size = last->at + last->size;
	}
	f->old_tree = o;
	if (r < 0) {
		wh_store_file_close(f);
		return r == -WH_ENOENT ? -WH_EIO : r;
	}
	*ret_file = f;
	return 0;
}

uint64_t wh_store_file_size(const struct wh_store_file *f)
{
	return f->size;
}

/* ---- reading ---- */

static void forget_clean(struct wh_store_file *f)
{
	for (size_t i = 0; i < f->count && f->clean_bytes; i++)
		if (f->piece[i].data && !f->piece[i].dirty) {
			free(f->piece[i].data);
			f->piece[i].data = NULL;
		}
	f->clean_bytes = 0;
}

static int piece_load(struct wh_store_file *f, size_t index)
{
	void *data;
	size_t size;
	if (f->piece[index].data)
		return 0;
	if (f->clean_bytes > CLEAN_MAX)
		forget_clean(f);
	struct piece *p = &f->piece[index];
	int r = object_read(f->store, &p->id, GIT_OBJECT_BLOB, &data, &size);
	if (r < 0)
		return r == -WH_ENOENT || r == -WH_EINVAL ? -WH_EIO : r;
	if (size != p->size) {
		free(data);
		return -WH_EIO;
	}
	p->data = data;
	p->room = p->size;
	f->clean_bytes += size;
	return 0;
}

/* The piece that holds `at`, which lies in the file. */
static size_t piece_at(const struct wh_store_file *f, uint64_t at)
{
	size_t low = 0, high = f->count;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		if (f->piece[middle].at <= at)
			low = middle;
		else
			high = middle;
	}
	return low;
}

int64_t wh_store_file_read(struct wh_store_file *f, uint64_t offset, void *to, size_t size)
{
	size_t done = 0;
	if (offset >= f->size)
		return 0;
	if (size > f->size - offset)
		size = (size_t)(f->size - offset);
	for (size_t i = piece_at(f, offset); done < size; i++) {
		int r = piece_load(f, i);
		if (r < 0)
			return r;
		struct piece *p = &f->piece[i];
		size_t skip = (size_t)(offset + done - p->at), n = p->size - skip;
		if (n > size - done)
			n = size - done;
		memcpy((uint8_t *)to + done, p->data + skip, n);
		done += n;
	}
	return (int64_t)done;
}

/* ---- cutting ---- */

/* The first chunk of the bytes: its size, and whether its end is one by content. */
static size_t cut(const struct wh_store_file *f, const uint8_t *p, size_t size, bool *ret_natural)
{
	uint64_t h = 0;
	size_t max = size < CHUNK_MAX ? size : CHUNK_MAX;
	*ret_natural = size >= CHUNK_MAX;
	for (size_t i = CHUNK_MIN > 64 ? CHUNK_MIN - 64 : 0; i < max; i++) {
		h = (h << 1) + f->gear[p[i]];
		if (i + 1 >= CHUNK_MIN && !(h >> 40 & CHUNK_MASK)) {
			*ret_natural = true;
			return i + 1;
		}
	}
	return max;
}

static int compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(git_oid));
}

static bool known_has(const struct known_ids *k, const git_oid *id)
{
	return k && k->count && bsearch(id, k->id, k->count, sizeof *k->id, compare_ids);
}

static void known_load(struct wh_store_file *f)
{
	struct wh_store_file *old;
	struct known_ids *k = &f->known;
	struct wh_store_id id = id_of(&f->old_tree);
	if (oid_is_zero(&f->old_tree) || wh_store_file_open(f->store, &id, &old) < 0)
		return; /* then all is written */
	k->id = calloc(old->count + 1, sizeof *k->id);
	for (size_t i = 0; k->id && i < old->count; i++)
		k->id[k->count++] = old->piece[i].id;
	if (k->count)
		qsort(k->id, k->count, sizeof *k->id, compare_ids);
	wh_store_file_close(old);
}

static int chunk_store(struct wh_store_file *f, const uint8_t *data, size_t size, git_oid *ret_id)
{
	object_hash(GIT_OBJECT_BLOB, data, size, ret_id);
	if (known_has(&f->known, ret_id)) /* the former version has it: it stays where that is */
		return 0;
	uint8_t *copy = malloc(size + 1);
	if (!copy)
		return -WH_ENOMEM;
	memcpy(copy, data, size);
	copy[size] = 0;
	return object_stage(f->store, GIT_OBJECT_BLOB, copy, size, ret_id);
}

/* Pieces [from, *to) and as many behind as it takes until a chunk ends where one ended before; into chunks. */
static int cut_run(struct wh_store_file *f, size_t from, size_t *to)
{
	uint64_t at = f->piece[from].at;
	size_t have = 0, done = 0, room = 0, made = 0, made_room = 0, next = from;
	uint8_t *bytes = NULL;
	struct piece *chunks = NULL;
	int r = 0;
	while (r >= 0) {
		bool natural = false;
		size_t n = have > done ? cut(f, bytes + done, have - done, &natural) : 0;
		bool more = next < f->count && (next < *to || (have > done && !natural));
		if (more && !natural) { /* not enough bytes to say: take the next piece */
			r = piece_load(f, next);
			struct piece *p = &f->piece[next];
			if (r >= 0 && done) {
				memmove(bytes, bytes + done, have - done);
				have -= done;
				done = 0;
			}
			if (r >= 0 && have + p->size > room) {
				room = have + p->size + (1u << 20);
				uint8_t *bigger = realloc(bytes, room);
				r = bigger ? 0 : -WH_ENOMEM;
				bytes = bigger ? bigger : bytes;
			}
			if (r >= 0) {
				memcpy(bytes + have, p->data, p->size);
				have += p->size;
				next++;
			}
			continue;
		}
		if (!n)
			break;
		if (made == made_room) {
			made_room = made_room * 2 + 64;
			struct piece *bigger = realloc(chunks, made_room * sizeof *bigger);
			if (!bigger) {
				r = -WH_ENOMEM;
				break;
			}
			chunks = bigger;
		}
		chunks[made] = (struct piece){ .at = at, .size = (uint32_t)n };
		r = chunk_store(f, bytes + done, n, &chunks[made].id);
		made++;
		at += n;
		done += n;
	}
	free(bytes);
	if (r >= 0 && f->count - (next - from) + made > f->room) {
		size_t bigger = f->count + made + 64;
		struct piece *list = realloc(f->piece, bigger * sizeof *list);
		r = list ? 0 : -WH_ENOMEM;
		if (list) {
			f->piece = list;
			f->room = bigger;
		}
	}
	if (r >= 0) {
		for (size_t i = from; i < next; i++) {
			if (f->piece[i].dirty)
				f->dirty_bytes -= f->piece[i].size;
			else if (f->piece[i].data)
				f->clean_bytes -= f->piece[i].size < f->clean_bytes
							  ? f->piece[i].size
							  : f->clean_bytes;
			free(f->piece[i].data);
		}
		memmove(f->piece + from + made, f->piece + next,
			(f->count - next) * sizeof *f->piece);
		if (made)
			memcpy(f->piece + from, chunks, made * sizeof *chunks);
		f->count = f->count - (next - from) + made;
		*to = from + made;
	}
	free(chunks);
	return r;
}

static int settle(struct wh_store_file *f)
{
	if (!f->known_loaded)
		known_load(f);
	f->known_loaded = true;
	for (size_t i = 0; i < f->count;) {
		size_t end = i;
		while (end < f->count && f->piece[end].dirty)
			end++;
		if (end == i) {
			i++;
			continue;
		}
		int r = cut_run(f, i, &end);
		if (r < 0)
			return r;
		i = end;
	}
	return 0;
}

/* ---- writing ---- */

static int make_dirty(struct wh_store_file *f, size_t index)
{
	int r = piece_load(f, index);
	struct piece *p = &f->piece[index];
	if (r < 0 || p->dirty)
		return r;
	f->clean_bytes -= p->size < f->clean_bytes ? p->size : f->clean_bytes;
	f->dirty_bytes += p->size;
	p->dirty = true;
	return 0;
}

/* `from` NULL: zeros. */
static int append(struct wh_store_file *f, const uint8_t *from, uint64_t size)
{
	while (size) {
		struct piece *p = f->count ? &f->piece[f->count - 1] : NULL;
		/* a last chunk ends where the file did, not where its content says */
		if (p && !p->dirty && p->size < CHUNK_MAX) {
			int r = make_dirty(f, f->count - 1);
			if (r < 0)
				return r;
			p = &f->piece[f->count - 1];
		}
		if (!p || !p->dirty || p->size >= DIRTY_PIECE_MAX) {
			p = piece_add(f, f->count);
			if (!p)
				return -WH_ENOMEM;
			p->at = f->size;
			p->dirty = true;
		}
		size_t n =
			size < DIRTY_PIECE_MAX - p->size ? (size_t)size : DIRTY_PIECE_MAX - p->size;
		if (p->size + n > p->room) {
			uint32_t room = p->size + (uint32_t)n < DIRTY_PIECE_MAX / 4
						? (p->size + (uint32_t)n) * 2
						: DIRTY_PIECE_MAX;
			uint8_t *more = realloc(p->data, room);
			if (!more)
				return -WH_ENOMEM;
			p->data = more;
			p->room = room;
		}
		if (from)
			memcpy(p->data + p->size, from, n);
		else
			memset(p->data + p->size, 0, n);
		from = from ? from + n : NULL;
		p->size += (uint32_t)n;
		f->size += n;
		f->dirty_bytes += n;
		size -= n;
		if (f->dirty_bytes > DIRTY_MAX) {
			int r = settle(f);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

int large_write(struct wh_store_file *f, uint64_t offset, const void *from, size_t size)
{
	const uint8_t *p = from;
	int r = offset > f->size ? append(f, NULL, offset - f->size) : 0;
	while (r >= 0 && size && offset < f->size) {
		size_t i = piece_at(f, offset);
		r = make_dirty(f, i);
		if (r < 0)
			return r;
		size_t skip = (size_t)(offset - f->piece[i].at), n = f->piece[i].size - skip;
		if (n > size)
			n = size;
		memcpy(f->piece[i].data + skip, p, n);
		p += n;
		offset += n;
		size -= n;
		if (f->dirty_bytes > DIRTY_MAX)
			r = settle(f);
	}
	return r < 0 ? r : append(f, p, size);
}

int large_truncate(struct wh_store_file *f, uint64_t size)
{
	if (size >= f->size)
		return append(f, NULL, size - f->size);
	while (f->count && f->piece[f->count - 1].at >= size) {
		struct piece *p = &f->piece[--f->count];
		if (p->dirty)
			f->dirty_bytes -= p->size;
		free(p->data);
	}
	f->size = size;
	if (!f->count)
		return 0;
	int r = make_dirty(f, f->count - 1);
	struct piece *last = &f->piece[f->count - 1];
	uint32_t left = (uint32_t)(size - last->at);
	if (r >= 0) {
		f->dirty_bytes -= last->size - left;
		last->size = left;
	}
	return r;
}

int large_from(struct wh_store *s, const void *data, size_t size, const git_oid *old_tree,
	       struct wh_store_file **ret_file)
{
	struct wh_store_file *f = file_new(s);
	if (f)
		f->old_tree = *old_tree;
	int r = f ? append(f, data, size) : -WH_ENOMEM;
	if (r < 0) {
		wh_store_file_close(f);
		return r;
	}
	*ret_file = f;
	return 0;
}

/* ---- to Git ---- */

/* Pieces [from, to) as a tree, or the groups as one (digits 6). */
static int tree_stage(struct wh_store_file *f, const struct piece *list, size_t count, bool groups,
		      const struct wh_store_tree *old, git_oid *ret_id)
{
	uint8_t *raw = malloc(count * 64 + 1);
	size_t n = 0;
	struct wh_store_entry e;
	if (!raw)
		return -WH_ENOMEM;
	for (size_t i = 0; i < count; i++) {
		n += (size_t)sprintf((char *)raw + n, groups ? "40000 %06llx" : "100644 %012llx",
				     (unsigned long long)(groups ? list[i].at >> GROUP_SHIFT
								 : list[i].at)) +
		     1;
		memcpy(raw + n, list[i].id.id, ID_SIZE);
		n += ID_SIZE;
	}
	raw[n] = 0;
	object_hash(GIT_OBJECT_TREE, raw, n, ret_id);
	for (uint32_t i = 0; old && i < old->count; i++) {
		tree_entry(old, i, &e);
		git_oid was = oid_of(&e.id);
		if (oid_eq(&was, ret_id)) { /* as it was */
			free(raw);
			return 0;
		}
	}
	return object_stage(f->store, GIT_OBJECT_TREE, raw, n, ret_id);
}

int large_store(struct wh_store_file *f, git_oid *ret_tree)
{
	struct wh_store_tree *old = NULL;
	struct piece *groups = NULL;
	size_t count = 0;
	int r = settle(f);
	if (r >= 0 && f->known.count)
		r = tree_get(f->store, &f->old_tree, &old);
	if (r >= 0)
		groups = calloc(f->count + 1, sizeof *groups);
	if (!groups)
		r = r < 0 ? r : -WH_ENOMEM;
	for (size_t i = 0, end; r >= 0 && i < f->count; i = end) {
		for (end = i; end < f->count &&
			      f->piece[end].at >> GROUP_SHIFT == f->piece[i].at >> GROUP_SHIFT;)
			end++;
		groups[count].at = f->piece[i].at;
		r = tree_stage(f, f->piece + i, end - i, false, old, &groups[count++].id);
	}
	if (r >= 0)
		r = tree_stage(f, groups, count, true, NULL, ret_tree);
	free(groups);
	wh_store_tree_unref(old);
	forget_clean(f);
	return r;
}

bool large_is_whole(struct wh_store *s, const git_oid *tree)
{
	struct wh_store_file *f;
	struct wh_store_id id = id_of(tree);
	if (wh_store_file_open(s, &id, &f) < 0)
		return false;
	bool whole = true;
	for (size_t i = 0; whole && i < f->count; i++)
		whole = object_is_whole(s, &f->piece[i].id);
	wh_store_file_close(f);
	return whole;
}
