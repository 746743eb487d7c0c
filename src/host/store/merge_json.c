/* SPDX-License-Identifier: ISC */
/* Merges JSON objects key by key; other values as wholes. */
#include <cjson/cJSON.h>
#include <stdlib.h>

#include "store_priv.h"

#define DEPTH_MAX 100u

static bool same(const cJSON *a, const cJSON *b)
{
	return a == b || (a && b && cJSON_Compare(a, b, true));
}

static const cJSON *key_of(const cJSON *object, const char *key)
{
	return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

static int merge_values(const cJSON *base, const cJSON *ours, const cJSON *theirs, unsigned depth,
			cJSON **ret_value);

static int merge_key(const cJSON *base, const cJSON *ours, const cJSON *theirs, const char *key,
		     unsigned depth, cJSON *to)
{
	cJSON *value = NULL;
	int r = merge_values(key_of(base, key), key_of(ours, key), key_of(theirs, key), depth + 1,
			     &value);
	if (r >= 0 && value && !cJSON_AddItemToObject(to, key, value)) {
		cJSON_Delete(value);
		r = -WH_ENOMEM;
	}
	return r;
}

/* NULL = the key is not there. */
static int merge_values(const cJSON *base, const cJSON *ours, const cJSON *theirs, unsigned depth,
			cJSON **ret_value)
{
	const cJSON *taken = same(ours, theirs) || same(theirs, base) ? ours
			     : same(ours, base)                       ? theirs
								      : NULL;
	bool decided = same(ours, theirs) || same(theirs, base) || same(ours, base);
	int r = 0;
	if (decided) {
		*ret_value = taken ? cJSON_Duplicate(taken, true) : NULL;
		return taken && !*ret_value ? -WH_ENOMEM : 0;
	}
	if (!cJSON_IsObject(ours) || !cJSON_IsObject(theirs) || depth > DEPTH_MAX)
		return -WH_STORE_ECONFLICT;
	cJSON *to = cJSON_CreateObject();
	const cJSON *i;
	if (!to)
		return -WH_ENOMEM;
	cJSON_ArrayForEach(i, ours) if (r >= 0) r =
		merge_key(base, ours, theirs, i->string, depth, to);
	cJSON_ArrayForEach(i, theirs) if (r >= 0 && !key_of(ours, i->string)) r =
		merge_key(base, ours, theirs, i->string, depth, to);
	if (r < 0)
		cJSON_Delete(to);
	else
		*ret_value = to;
	return r;
}

int merge_json(struct wh_store *s, const char *base, const char *ours, const char *theirs,
	       git_oid *ret_id)
{
	cJSON *b = cJSON_Parse(base), *o = cJSON_Parse(ours), *t = cJSON_Parse(theirs),
	      *merged = NULL;
	int r = o && t ? merge_values(b, o, t, 0, &merged) : -WH_STORE_ECONFLICT;
	char *text = r >= 0 && merged ? cJSON_Print(merged) : NULL;
	if (r >= 0 && !text)
		r = -WH_ENOMEM;
	if (r >= 0) {
		size_t n = strlen(text);
		char *line = malloc(n + 2);
		if (line) {
			memcpy(line, text, n);
			memcpy(line + n, "\n", 2);
		}
		r = line ? object_stage(s, GIT_OBJECT_BLOB, line, n + 1, ret_id) : -WH_ENOMEM;
	}
	cJSON_free(text);
	cJSON_Delete(b);
	cJSON_Delete(o);
	cJSON_Delete(t);
	cJSON_Delete(merged);
	return r;
}
