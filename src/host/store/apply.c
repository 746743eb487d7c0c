/* SPDX-License-Identifier: ISC */
/* A transaction as text: conditions and changes, one a line (docs/spec/store-apply.md). */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "store_priv.h"

struct apply {
	struct wh_store_tx *tx;
	char *at, *end;
	const char *message;
	struct wh_diag *diag;
};

/* %XX in a path; in place. */
static void unescape(char *p)
{
	char *to = p;
	for (; *p; p++) {
		unsigned v;
		if (*p == '%' && isxdigit((unsigned char)p[1]) && isxdigit((unsigned char)p[2]) &&
		    sscanf(p + 1, "%2x", &v) == 1 && v) {
			*to++ = (char)v;
			p += 2;
		} else {
			*to++ = *p;
		}
	}
	*to = 0;
}

static char *word(char **rest)
{
	char *p = *rest + strspn(*rest, " "), *end = p + strcspn(p, " ");
	*rest = *end ? end + 1 : end;
	*end = 0;
	return p;
}

static int hash_of(struct apply *a, const char *text, struct wh_store_id *ret_id)
{
	if (wh_store_id_parse(text, strlen(text), ret_id) < 0)
		return wh_diag_set(a->diag, -WH_EINVAL, "invalid-hash %s", text);
	return 0;
}

/* `if PATH HASH`: the object there is this one; `-`: nothing is there. */
static int check_is(struct apply *a, char *path, const char *wanted)
{
	struct wh_store_id id, tree;
	struct wh_store_entry e;
	unescape(path);
	bool none = wh_streq(wanted, "-");
	int r = none ? 0 : hash_of(a, wanted, &id);
	if (r >= 0)
		r = wh_store_tx_tree(a->tx, &tree);
	if (r < 0)
		return r;
	r = wh_store_lookup(a->tx->store, &tree, path, &e);
	if (r < 0 && r != -WH_ENOENT && r != -WH_ENOTDIR)
		return r;
	if (none ? r < 0 : r >= 0 && wh_store_id_equal(&e.id, &id))
		return 0;
	return wh_diag_set(a->diag, -WH_EAGAIN, "condition failed: %s", path);
}

static int check_head(struct apply *a, const char *wanted)
{
	struct wh_store_id id, head = id_of(&a->tx->head);
	bool none = wh_streq(wanted, "-");
	int r = none ? 0 : hash_of(a, wanted, &id);
	if (r < 0)
		return r;
	if (none ? wh_store_id_is_zero(&head) : wh_store_id_equal(&head, &id))
		return 0;
	return wh_diag_set(a->diag, -WH_EAGAIN, "condition failed: head");
}

static int move(struct apply *a, char *from, char *to)
{
	void *data;
	size_t size;
	unescape(from);
	unescape(to);
	int r = wh_store_tx_get(a->tx, from, &data, &size);
	if (r == -WH_EISDIR)
		return wh_diag_set(a->diag, r, "only files can be moved: %s", from);
	if (r < 0)
		return wh_diag_set(a->diag, r, "No such file or directory: %s", from);
	r = wh_store_tx_put(a->tx, to, data, size, 0, a->diag);
	free(data);
	return r < 0 ? r : wh_store_tx_remove(a->tx, from, a->diag);
}

/* `data PATH SIZE` and SIZE bytes and a newline. */
static int put_data(struct apply *a, char *path, const char *size_text, uint32_t mode)
{
	char *stop;
	unsigned long size = strtoul(size_text, &stop, 10);
	if (*stop || !isdigit((unsigned char)*size_text) || size > (size_t)(a->end - a->at))
		return wh_diag_set(a->diag, -WH_EINVAL, "data has a wrong size: %s", size_text);
	unescape(path);
	int r = wh_store_tx_put(a->tx, path, a->at, size, mode, a->diag);
	a->at += size;
	a->at += a->at < a->end && *a->at == '\n';
	return r;
}

static int apply_line(struct apply *a, char *line)
{
	char *rest = line, *verb = word(&rest), *path;
	if (!*verb || *verb == '#')
		return 0;
	if (wh_streq(verb, "message")) {
		a->message = rest;
		return 0;
	}
	path = word(&rest);
	if (!*path)
		return wh_diag_set(a->diag, -WH_EINVAL, "Unknown line: %s", verb);
	if (wh_streq(verb, "head"))
		return check_head(a, path);
	if (wh_streq(verb, "if"))
		return check_is(a, path, rest);
	if (wh_streq(verb, "data") || wh_streq(verb, "program"))
		return put_data(a, path, rest, *verb == 'p' ? WH_STORE_EXECUTABLE : 0);
	if (wh_streq(verb, "mv"))
		return move(a, path, rest);
	unescape(path);
	if (wh_streq(verb, "rm"))
		return wh_store_tx_remove(a->tx, path, a->diag);
	if (!wh_streq(verb, "put"))
		return wh_diag_set(a->diag, -WH_EINVAL, "Unknown line: %s", verb);
	/* the rest of the line, as a line */
	size_t size = strlen(rest);
	rest[size] = '\n';
	int r = wh_store_tx_put(a->tx, path, rest, size + 1, 0, a->diag);
	rest[size] = 0;
	return r;
}

int wh_store_tx_apply(struct wh_store_tx *tx, char *text, size_t size, const char **ret_message,
		      struct wh_diag *diag)
{
	struct apply a = { .tx = tx, .at = text, .end = text + size, .diag = diag };
	int r = 0;
	while (r >= 0 && a.at < a.end) {
		char *line = a.at, *end = memchr(line, '\n', (size_t)(a.end - line));
		if (!end)
			end = a.end;
		*end = 0;
		a.at = end + 1;
		r = apply_line(&a, line);
	}
	if (r >= 0 && ret_message)
		*ret_message = a.message;
	return r;
}
