/* SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <stdlib.h>

#include "store_priv.h"

/* ---- commits ---- */

static const char *line_of(const char *text, const char *key, size_t *ret_size)
{
	size_t n = strlen(key);
	for (const char *p = text; *p && *p != '\n';
	     p = strchr(p, '\n') ? strchr(p, '\n') + 1 : "") {
		if (strncmp(p, key, n))
			continue;
		*ret_size = strcspn(p + n, "\n");
		return p + n;
	}
	return NULL;
}

static int parents_of(const char *text, struct wh_store_commit *c)
{
	unsigned count = 0;
	for (const char *p = text; *p && *p != '\n'; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : "")
		count += !strncmp(p, "parent ", 7);
	c->parents = calloc(count + 1, sizeof *c->parents);
	if (!c->parents)
		return -WH_ENOMEM;
	for (const char *p = text; *p && *p != '\n';
	     p = strchr(p, '\n') ? strchr(p, '\n') + 1 : "") {
		if (strncmp(p, "parent ", 7))
			continue;
		if (wh_store_id_parse(p + 7, strcspn(p + 7, "\n"), &c->parents[c->parent_count++]) <
		    0)
			return -WH_EIO;
	}
	return 0;
}

int wh_store_commit_read(struct wh_store *s, const struct wh_store_id *id,
			 struct wh_store_commit *ret_commit)
{
	git_oid o = oid_of(id);
	void *data;
	size_t size, n;
	struct wh_store_commit c = { .parent_count = 0 };
	int r = object_read(s, &o, GIT_OBJECT_COMMIT, &data, &size);
	if (r < 0)
		return r;
	const char *text = data, *p = line_of(text, "tree ", &n), *body = strstr(text, "\n\n");
	r = p && wh_store_id_parse(p, n, &c.tree) >= 0 ? parents_of(text, &c) : -WH_EIO;
	if (r >= 0) {
		c.message = strdup(body ? body + 2 : "");
		p = line_of(text, "author ", &n);
		size_t name = n;
		while (p && name && p[name - 1] != '>')
			name--;
		c.author = strndup(p ? p : "", p ? name : 0);
		p = line_of(text, "committer ", &n);
		const char *end = p;
		for (size_t i = 0; p && i < n; i++)
			if (p[i] == '>')
				end = p + i + 1;
		c.time_s = end ? strtoll(end, NULL, 10) : 0;
		if (!c.message || !c.author)
			r = -WH_ENOMEM;
	}
	free(data);
	if (r < 0) {
		wh_store_commit_fini(&c);
		return r;
	}
	*ret_commit = c;
	return 0;
}

void wh_store_commit_fini(struct wh_store_commit *c)
{
	free(c->parents);
	free(c->author);
	free(c->message);
	*c = (struct wh_store_commit){ .parent_count = 0 };
}

int wh_store_leads_to(struct wh_store *s, const struct wh_store_id *old,
		      const struct wh_store_id *id)
{
	git_oid a = oid_of(id), b = oid_of(old);
	struct wh_store_commit c;
	if (wh_store_id_equal(old, id))
		return 1;
	int r = wh_store_commit_read(s, id, &c);
	if (r < 0)
		return r;
	/* Nearly always it is a parent. */
	for (unsigned i = 0; i < c.parent_count && !r; i++)
		r = wh_store_id_equal(&c.parents[i], old);
	wh_store_commit_fini(&c);
	if (r)
		return 1;
	if (wh_store_object_kind(s, old) != WH_STORE_OBJECT_COMMIT)
		return -WH_ENOENT;
	r = git_graph_descendant_of(s->repo, &a, &b);
	return r < 0 ? (r == GIT_ENOTFOUND ? 0 : -WH_EIO) : r;
}

/* ---- diff ---- */

struct diff {
	struct wh_store *store;
	int (*fn)(void *ctx, char change, const char *path, const struct wh_store_entry *old_entry,
		  const struct wh_store_entry *new_entry);
	void *ctx;
	size_t path_size;
	unsigned depth;
	char path[WH_STORE_PATH_SIZE_MAX + 1];
};

static int diff_dirs(struct diff *d, const git_oid *a, const git_oid *b);

/* One name; mode 0 = not there. */
static int diff_entry(struct diff *d, const struct wh_store_entry *a,
		      const struct wh_store_entry *b)
{
	const struct wh_store_entry *any = a->mode ? a : b;
	size_t before = d->path_size;
	static const git_oid none;
	int r = 0;
	if (a->mode == b->mode && wh_store_id_equal(&a->id, &b->id))
		return 0;
	if (before + any->name_size + 2 > sizeof d->path)
		return -WH_ENAMETOOLONG;
	if (before)
		d->path[d->path_size++] = '/';
	memcpy(d->path + d->path_size, any->name, any->name_size);
	d->path_size += any->name_size;
	d->path[d->path_size] = 0;
	bool a_dir = a->mode == WH_STORE_DIR, b_dir = b->mode == WH_STORE_DIR;
	if (a_dir || b_dir) {
		git_oid x = a_dir ? oid_of(&a->id) : none, y = b_dir ? oid_of(&b->id) : none;
		r = diff_dirs(d, &x, &y);
	}
	if (!r && a->mode && !a_dir && (b_dir || !b->mode))
		r = d->fn(d->ctx, '-', d->path, a, NULL);
	else if (!r && b->mode && !b_dir && (a_dir || !a->mode))
		r = d->fn(d->ctx, '+', d->path, NULL, b);
	else if (!r && !a_dir && !b_dir)
		r = d->fn(d->ctx, '*', d->path, a, b);
	d->path_size = before;
	d->path[before] = 0;
	return r;
}

static int diff_dirs(struct diff *d, const git_oid *a, const git_oid *b)
{
	struct wh_store_tree *x = NULL, *y = NULL;
	if (oid_eq(a, b))
		return 0;
	if (++d->depth > WH_STORE_DEPTH_MAX)
		return -WH_ENAMETOOLONG;
	int r = tree_get(d->store, a, &x);
	if (r >= 0)
		r = tree_get(d->store, b, &y);
	uint32_t i = 0, j = 0;
	while (!r && (i < x->count || j < y->count)) {
		struct wh_store_entry e = { 0 }, f = { 0 };
		int c = i == x->count ? 1 : j == y->count ? -1 : 0;
		if (i < x->count)
			tree_entry(x, i, &e);
		if (j < y->count)
			tree_entry(y, j, &f);
		if (!c)
			c = tree_compare(e.name, e.name_size, e.mode == WH_STORE_DIR, f.name,
					 f.name_size, f.mode == WH_STORE_DIR);
		if (c < 0)
			f.mode = 0;
		if (c > 0)
			e.mode = 0;
		i += c <= 0;
		j += c >= 0;
		if (e.mode)
			large_present(&e);
		if (f.mode)
			large_present(&f);
		r = diff_entry(d, &e, &f);
	}
	wh_store_tree_unref(x);
	wh_store_tree_unref(y);
	d->depth--;
	return r;
}

int wh_store_diff(struct wh_store *s, const struct wh_store_id *old_tree,
		  const struct wh_store_id *new_tree,
		  int (*fn)(void *ctx, char change, const char *path,
			    const struct wh_store_entry *old_entry,
			    const struct wh_store_entry *new_entry),
		  void *ctx)
{
	struct diff *d = calloc(1, sizeof *d);
	git_oid a = oid_of(old_tree), b = oid_of(new_tree);
	if (!d)
		return -WH_ENOMEM;
	d->store = s;
	d->fn = fn;
	d->ctx = ctx;
	int r = diff_dirs(d, &a, &b);
	free(d);
	return r;
}

/* ---- log ---- */

/* Does the commit's path differ from that of all its parents? */
static int changes_path(struct wh_store *s, const struct wh_store_commit *c, const char *path)
{
	struct wh_store_entry now, then;
	int r = wh_store_lookup(s, &c->tree, path, &now);
	if (r < 0) {
		if (r != -WH_ENOENT && r != -WH_ENOTDIR)
			return r;
		now.mode = 0;
	}
	if (!c->parent_count)
		return now.mode != 0;
	for (unsigned i = 0; i < c->parent_count; i++) {
		git_oid parent = oid_of(&c->parents[i]), tree;
		r = commit_tree(s, &parent, &tree);
		if (r < 0)
			return r;
		struct wh_store_id id = id_of(&tree);
		r = wh_store_lookup(s, &id, path, &then);
		if (r < 0)
			then.mode = 0;
		if (now.mode == then.mode && (!now.mode || wh_store_id_equal(&now.id, &then.id)))
			return 0;
	}
	return 1;
}

int wh_store_log(struct wh_store *s, const struct wh_store_id *from, const char *path,
		 int (*fn)(void *ctx, const struct wh_store_id *id,
			   const struct wh_store_commit *commit),
		 void *ctx)
{
	git_revwalk *walk = NULL;
	git_oid o = oid_of(from);
	int r = git_revwalk_new(&walk, s->repo) ? -WH_EIO : 0;
	if (r >= 0) {
		git_revwalk_sorting(walk, GIT_SORT_TOPOLOGICAL | GIT_SORT_TIME);
		if (git_revwalk_push(walk, &o))
			r = -WH_ENOENT;
	}
	while (!r && !git_revwalk_next(&o, walk)) {
		struct wh_store_commit c;
		struct wh_store_id id = id_of(&o);
		r = wh_store_commit_read(s, &id, &c);
		if (r < 0)
			break;
		int shown = path && *path ? changes_path(s, &c, path) : 1;
		r = shown > 0 ? fn(ctx, &id, &c) : shown;
		wh_store_commit_fini(&c);
	}
	git_revwalk_free(walk);
	return r;
}
