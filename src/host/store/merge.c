/* SPDX-License-Identifier: ISC */
/*
 * Three-way merge of trees, name by name. There is no merge of lines: a file is a value, unless a rule for its path says
 * otherwise (merge_rules.c). The table of outcomes is in docs/spec/store-merge.md.
 */
#include <stdio.h>
#include <stdlib.h>

#include "store_priv.h"

static const git_oid none;

int merge_base(struct wh_store *s, const git_oid *a, const git_oid *b, git_oid *ret_base)
{
	int r = git_merge_base(ret_base, s->repo, a, b);
	return !r ? 0 : r == GIT_ENOTFOUND ? -WH_ENOENT : -WH_EIO;
}

/* What one side has of a name: nothing (mode 0), a file or a folder. */
struct side {
	uint32_t mode;
	git_oid id;
};

static bool is_dir(const struct side *s)
{
	return s->mode == WH_STORE_DIR;
}

/* A large file is a value here, and a tree in Git. */
static bool is_tree(const struct side *s)
{
	return is_dir(s) || s->mode == WH_STORE_LARGE;
}

static bool same(const struct side *a, const struct side *b)
{
	return a->mode == b->mode && (!a->mode || oid_eq(&a->id, &b->id));
}

static struct side side_of(const struct wh_store_tree *t, const char *name, size_t size)
{
	struct wh_store_entry e;
	struct side s = { 0 };
	if (!t || tree_find(t, name, size, &e) < 0)
		return s;
	s.mode = e.mode == WH_STORE_DIR && large_name(name, size) ? WH_STORE_LARGE : e.mode;
	s.id = oid_of(&e.id);
	return s;
}

static git_oid tree_of(const struct side *s)
{
	return is_dir(s) ? s->id : none;
}

/* The result's entries; their order is made right at the end. */
struct outcome {
	char *name;
	size_t size;
	struct side side;
};

struct result {
	struct outcome *list;
	size_t count, room;
};

static int add(struct result *r, const char *name, size_t size, const struct side *side)
{
	if (!side->mode || (is_dir(side) && oid_is_zero(&side->id)))
		return 0;
	if (r->count == r->room) {
		struct outcome *more =
			realloc(r->list, (r->room = r->room * 2 + 16) * sizeof *more);
		if (!more)
			return -WH_ENOMEM;
		r->list = more;
	}
	char *copy = malloc(size + 1);
	if (!copy)
		return -WH_ENOMEM;
	memcpy(copy, name, size);
	copy[size] = 0;
	r->list[r->count++] = (struct outcome){ copy, size, *side };
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct outcome *x = a, *y = b;
	return tree_compare(x->name, x->size, is_tree(&x->side), y->name, y->size,
			    is_tree(&y->side));
}

static int result_write(struct wh_store *s, struct result *r, git_oid *ret_id)
{
	size_t size = 1, n = 0;
	if (!r->count) {
		*ret_id = none;
		return 0;
	}
	qsort(r->list, r->count, sizeof *r->list, compare);
	for (size_t i = 0; i < r->count; i++)
		size += r->list[i].size + 8 + ID_SIZE;
	uint8_t *raw = malloc(size);
	if (!raw)
		return -WH_ENOMEM;
	for (size_t i = 0; i < r->count; i++) {
		const struct outcome *o = &r->list[i];
		n += (size_t)sprintf((char *)raw + n, "%o ",
				     is_tree(&o->side) ? WH_STORE_DIR : o->side.mode);
		memcpy(raw + n, o->name, o->size + 1);
		n += o->size + 1;
		memcpy(raw + n, o->side.id.id, ID_SIZE);
		n += ID_SIZE;
	}
	raw[n] = 0;
	return object_stage(s, GIT_OBJECT_TREE, raw, n, ret_id);
}

/* ---- one name ---- */

static int conflict(struct merge *m, const char *path, const char *why, struct side *ret_side)
{
	if (!m->keep)
		return wh_diag_set(m->diag, -WH_STORE_ECONFLICT, "Merge conflict: %s", why);
	char text[128];
	int n = snprintf(text, sizeof text, "** Conflict **\n%s\n", why);
	void *data = strdup(text);
	if (!data)
		return -WH_ENOMEM;
	ret_side->mode = WH_STORE_FILE;
	int r = object_stage(m->store, GIT_OBJECT_BLOB, data, (size_t)n, &ret_side->id);
	if (r >= 0)
		conflicts_add(m->conflicts, path);
	return r;
}

static int merge_dirs(struct merge *m, const char *path, unsigned depth, const git_oid *base,
		      const git_oid *ours, const git_oid *theirs, git_oid *ret_tree);

static int merge_content(struct merge *m, const char *path, const struct side *base,
			 const struct side *ours, const struct side *theirs, struct side *ret_side);

static int merge_name(struct merge *m, const char *path, unsigned depth, const struct side *base,
		      const struct side *ours, const struct side *theirs, struct side *ret_side)
{
	if (same(ours, theirs)) {
		*ret_side = *ours;
		return 0;
	}
	if (same(theirs, base) && !is_dir(theirs)) {
		*ret_side = *ours;
		/* a folder in place of an unchanged file is a change like any other, unless placeholders tell of it */
		if (!(m->keep && theirs->mode && is_dir(ours)))
			return 0;
	}
	if (same(ours, base) && !is_dir(ours)) {
		*ret_side = *theirs;
		if (!(m->keep && ours->mode && is_dir(theirs)))
			return 0;
	}
	if (is_dir(ours) || is_dir(theirs)) {
		if ((ours->mode && !is_dir(ours)) || (theirs->mode && !is_dir(theirs)))
			return conflict(m, path, "File vs dir", ret_side);
		git_oid b = tree_of(base), o = tree_of(ours), t = tree_of(theirs);
		ret_side->mode = WH_STORE_DIR;
		return merge_dirs(m, path, depth + 1, &b, &o, &t, &ret_side->id);
	}
	return merge_content(m, path, base, ours, theirs, ret_side);
}

/* Both are files or nothing, and differ. */
static int merge_content(struct merge *m, const char *path, const struct side *base,
			 const struct side *ours, const struct side *theirs, struct side *ret_side)
{
	struct side b = *base;
	if (is_dir(&b))
		b = (struct side){ 0 };
	if (!ours->mode || !theirs->mode) {
		if (!b.mode) { /* added on one side only */
			*ret_side = ours->mode ? *ours : *theirs;
			return 0;
		}
		const struct side *left = ours->mode ? ours : theirs;
		if (same(left, &b)) {
			*ret_side = (struct side){ 0 };
			return 0;
		}
		return conflict(m, path, "option: add/del", ret_side);
	}
	if (!m->keep && b.mode) { /* content and mode are merged on their own */
		bool content = oid_eq(&ours->id, &b.id) || oid_eq(&theirs->id, &b.id) ||
			       oid_eq(&ours->id, &theirs->id);
		bool mode = ours->mode == b.mode || theirs->mode == b.mode ||
			    ours->mode == theirs->mode;
		if (content && mode) {
			ret_side->id = oid_eq(&ours->id, &b.id) ? theirs->id : ours->id;
			ret_side->mode = ours->mode == b.mode ? theirs->mode : ours->mode;
			return 0;
		}
	}
	if ((ours->mode == WH_STORE_FILE || ours->mode == WH_STORE_EXECUTABLE) &&
	    (theirs->mode == WH_STORE_FILE || theirs->mode == WH_STORE_EXECUTABLE)) {
		int r = merge_by_rule(m, path, b.mode ? &b.id : NULL, &ours->id, &theirs->id,
				      &ret_side->id);
		ret_side->mode = b.mode == ours->mode ? theirs->mode : ours->mode;
		if (r != -WH_STORE_ECONFLICT)
			return r;
	}
	if (!b.mode)
		return conflict(m, path, "default: add/add and no common ancestor", ret_side);
	return conflict(m, path, "Changed on both branches", ret_side);
}

/* ---- folders ---- */

struct three {
	struct wh_store_tree *base, *ours, *theirs;
};

static int one(struct merge *m, const char *path, unsigned depth, const struct three *t,
	       const struct wh_store_entry *e, struct result *result)
{
	char sub[WH_STORE_PATH_SIZE_MAX + 1];
	bool large = large_name(e->name, e->name_size);
	size_t shown = e->name_size - (large ? LARGE_SUFFIX_SIZE : 0);
	struct side side = { 0 };
	struct side b = side_of(t->base, e->name, e->name_size),
		    o = side_of(t->ours, e->name, e->name_size),
		    h = side_of(t->theirs, e->name, e->name_size);
	int n = snprintf(sub, sizeof sub, "%s%s%.*s", path, *path ? "/" : "", (int)shown, e->name);
	if (n < 0 || (size_t)n >= sizeof sub)
		return wh_diag_set(m->diag, -WH_ENAMETOOLONG, "a path has more than %u bytes",
				   WH_STORE_PATH_SIZE_MAX);
	int r = merge_name(m, sub, depth, &b, &o, &h, &side);
	if (r < 0)
		return r;
	/* a placeholder is an ordinary file */
	return add(result, e->name, large && side.mode != WH_STORE_LARGE ? shown : e->name_size,
		   &side);
}

static int merge_dirs(struct merge *m, const char *path, unsigned depth, const git_oid *base,
		      const git_oid *ours, const git_oid *theirs, git_oid *ret_tree)
{
	struct three t = { 0 };
	struct result result = { 0 };
	struct wh_store_entry e;
	if (oid_eq(ours, theirs) || oid_eq(theirs, base)) {
		*ret_tree = *ours;
		return 0;
	}
	if (oid_eq(ours, base)) {
		*ret_tree = *theirs;
		return 0;
	}
	if (depth > WH_STORE_DEPTH_MAX)
		return wh_diag_set(m->diag, -WH_ENAMETOOLONG,
				   "folders are nested more than %u deep", WH_STORE_DEPTH_MAX);
	int r = tree_get(m->store, base, &t.base);
	if (r >= 0)
		r = tree_get(m->store, ours, &t.ours);
	if (r >= 0)
		r = tree_get(m->store, theirs, &t.theirs);
	for (uint32_t i = 0; r >= 0 && i < t.ours->count; i++) {
		tree_entry(t.ours, i, &e);
		r = one(m, path, depth, &t, &e, &result);
	}
	for (uint32_t i = 0; r >= 0 && i < t.theirs->count; i++) {
		struct wh_store_entry mine;
		tree_entry(t.theirs, i, &e);
		if (tree_find(t.ours, e.name, e.name_size, &mine) < 0)
			r = one(m, path, depth, &t, &e, &result);
	}
	if (r >= 0)
		r = result_write(m->store, &result, ret_tree);
	for (size_t i = 0; i < result.count; i++)
		free(result.list[i].name);
	free(result.list);
	wh_store_tree_unref(t.base);
	wh_store_tree_unref(t.ours);
	wh_store_tree_unref(t.theirs);
	return r;
}

int merge_trees(struct merge *m, const git_oid *base, const git_oid *ours, const git_oid *theirs,
		git_oid *ret_tree)
{
	int r = merge_rules_load(m, ours);
	if (r >= 0)
		r = merge_dirs(m, "", 0, base, ours, theirs, ret_tree);
	merge_rules_free(m);
	return r;
}
