/* SPDX-License-Identifier: ISC */
/*
 * What becomes of a file that both sides changed, by rules in the file .wherry-merge at the root of ours
 * (docs/spec/store-merge.md).
 */
#include <ctype.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>

#include "store_priv.h"

#define RULES_FILE ".wherry-merge"
#define RULES_SIZE_MAX 65536u
#define CONTENT_SIZE_MAX (16u << 20) /* larger files conflict as without a rule */

struct merge_rules {
	char *text;
};

static const git_oid none;

int merge_rules_load(struct merge *m, const git_oid *ours)
{
	struct wh_store_tree *t;
	struct wh_store_entry e;
	size_t size;
	void *text;
	if (oid_is_zero(ours))
		return 0;
	int r = tree_get(m->store, ours, &t);
	if (r < 0)
		return r;
	bool there = wh_store_tree_find(t, RULES_FILE, strlen(RULES_FILE), &e) >= 0 &&
		     (e.mode == WH_STORE_FILE || e.mode == WH_STORE_EXECUTABLE);
	wh_store_tree_unref(t);
	if (!there)
		return 0;
	r = wh_store_blob_read(m->store, &e.id, &text, &size);
	if (r < 0)
		return r;
	m->rules = size <= RULES_SIZE_MAX ? calloc(1, sizeof *m->rules) : NULL;
	if (!m->rules) {
		free(text);
		return size <= RULES_SIZE_MAX ? -WH_ENOMEM : 0;
	}
	m->rules->text = text;
	return 0;
}

void merge_rules_free(struct merge *m)
{
	if (m->rules)
		free(m->rules->text);
	free(m->rules);
	m->rules = NULL;
}

/* `**` crosses folders: fnmatch does that for '*' without FNM_PATHNAME. */
static bool fits(const char *pattern, const char *path)
{
	return !fnmatch(pattern, path, strstr(pattern, "**") ? 0 : FNM_PATHNAME);
}

static void rule_of(const struct merge *m, const char *path, char *to, size_t max)
{
	char pattern[1024], rule[32];
	to[0] = 0;
	for (const char *p = m->rules ? m->rules->text : ""; *p;
	     p += strcspn(p, "\n"), p += *p == '\n') {
		char line[1100];
		size_t n = strcspn(p, "\n");
		if (n >= sizeof line || *p == '#')
			continue;
		memcpy(line, p, n);
		line[n] = 0;
		if (sscanf(line, "%1023s %31s", pattern, rule) == 2 && fits(pattern, path))
			snprintf(to, max, "%s", rule);
	}
}

/* ---- contents ---- */

struct content {
	void *data;
	size_t size;
};

static int content_of(struct wh_store *s, const git_oid *id, struct content *c)
{
	*c = (struct content){ 0 };
	if (oid_is_zero(id)) {
		c->data = calloc(1, 1);
		return c->data ? 0 : -WH_ENOMEM;
	}
	return object_read(s, id, GIT_OBJECT_BLOB, &c->data, &c->size);
}

/* The three of a file; base may be none. */
static int contents(struct wh_store *s, const git_oid *base, const git_oid *ours,
		    const git_oid *theirs, struct content c[3])
{
	memset(c, 0, 3 * sizeof *c);
	int r = content_of(s, base, &c[0]);
	if (r >= 0)
		r = content_of(s, ours, &c[1]);
	if (r >= 0)
		r = content_of(s, theirs, &c[2]);
	if (r >= 0 && (c[0].size > CONTENT_SIZE_MAX || c[1].size > CONTENT_SIZE_MAX ||
		       c[2].size > CONTENT_SIZE_MAX))
		r = -WH_STORE_ECONFLICT;
	return r;
}

static int stage_text(struct wh_store *s, const void *text, size_t size, git_oid *ret_id)
{
	char *copy = malloc(size + 1);
	if (!copy)
		return -WH_ENOMEM;
	memcpy(copy, text, size);
	copy[size] = 0;
	return object_stage(s, GIT_OBJECT_BLOB, copy, size, ret_id);
}

static int merge_lines(struct wh_store *s, const struct content c[3], bool keep_both,
		       git_oid *ret_id)
{
	git_merge_file_input in[3];
	git_merge_file_options o = GIT_MERGE_FILE_OPTIONS_INIT;
	git_merge_file_result result = { 0 };
	for (int i = 0; i < 3; i++) {
		git_merge_file_input_init(&in[i], GIT_MERGE_FILE_INPUT_VERSION);
		in[i].ptr = c[i].data;
		in[i].size = c[i].size;
	}
	if (keep_both)
		o.favor = GIT_MERGE_FILE_FAVOR_UNION;
	if (git_merge_file(&result, &in[0], &in[1], &in[2], &o))
		return -WH_EIO;
	int r = result.automergeable || keep_both ? stage_text(s, result.ptr, result.len, ret_id)
						  : -WH_STORE_ECONFLICT;
	git_merge_file_result_free(&result);
	return r;
}

static bool number_of(const struct content *c, long long *ret_number)
{
	char text[32], *end;
	if (c->size >= sizeof text)
		return false;
	memcpy(text, c->data, c->size);
	text[c->size] = 0;
	*ret_number = strtoll(text, &end, 10);
	while (isspace((unsigned char)*end))
		end++;
	return !*end && (end != text || !c->size);
}

static int merge_counter(struct wh_store *s, const struct content c[3], git_oid *ret_id)
{
	long long base, ours, theirs, sum;
	char text[32];
	if (!number_of(&c[0], &base) || !number_of(&c[1], &ours) || !number_of(&c[2], &theirs) ||
	    __builtin_sub_overflow(theirs, base, &sum) || __builtin_add_overflow(ours, sum, &sum))
		return -WH_STORE_ECONFLICT;
	int n = snprintf(text, sizeof text, "%lld\n", sum);
	return stage_text(s, text, (size_t)n, ret_id);
}

int merge_by_rule(struct merge *m, const char *path, const git_oid *base, const git_oid *ours,
		  const git_oid *theirs, git_oid *ret_id)
{
	struct content c[3];
	char rule[32];
	rule_of(m, path, rule, sizeof rule);
	if (!rule[0])
		return -WH_STORE_ECONFLICT;
	if (wh_streq(rule, "ours") || wh_streq(rule, "last-writer")) {
		*ret_id = wh_streq(rule, "ours") ? *ours : *theirs;
		return 0;
	}
	int r = contents(m->store, base ? base : &none, ours, theirs, c);
	if (r >= 0) {
		if (wh_streq(rule, "line") || wh_streq(rule, "union"))
			r = merge_lines(m->store, c, *rule == 'u', ret_id);
		else if (wh_streq(rule, "counter"))
			r = merge_counter(m->store, c, ret_id);
		else if (wh_streq(rule, "json-keys"))
			r = merge_json(m->store, c[0].data, c[1].data, c[2].data, ret_id);
		else
			r = -WH_STORE_ECONFLICT; /* a rule of a later version: do nothing that it might not mean */
	}
	for (int i = 0; i < 3; i++)
		free(c[i].data);
	return r;
}
