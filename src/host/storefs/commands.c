/* SPDX-License-Identifier: ISC */
/*
 * Command files: each write is one command, done before it is answered. `apply` is a whole transaction in one write; its
 * lines are in docs/spec/store-tree.md.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "storefs_priv.h"

static int invalid_hash(struct wh_p9_request *q, const char *text)
{
	snprintf(q->text_buffer, sizeof q->text_buffer, "invalid-hash %.80s", text);
	return wh_p9_fail(q, -WH_EINVAL, q->text_buffer);
}

static int fail(struct wh_p9_request *q, int error, const struct wh_diag *diag)
{
	if (!diag->text[0])
		return error;
	snprintf(q->text_buffer, sizeof q->text_buffer, "%.120s", diag->text);
	return wh_p9_fail(q, error, q->text_buffer);
}

static int forward(struct wh_p9_request *q, struct node *n, const char *text)
{
	struct wh_store_id id;
	struct wh_diag diag = { "" };
	if (wh_store_id_parse(text, strlen(text), &id) < 0)
		return invalid_hash(q, text);
	int r = wh_store_branch_forward(n->session->fs->store, n->branch, &id, &diag);
	return r < 0 ? fail(q, r, &diag) : 0;
}

/* ---- apply ---- */

struct apply {
	struct wh_p9_request *q;
	struct node *n;
	struct wh_store_tx *tx;
	char *at, *end;
	char message[1024];
};

static int bad_line(struct apply *a, const char *what, const char *line)
{
	snprintf(a->q->text_buffer, sizeof a->q->text_buffer, "%s: %.80s", what, line);
	return wh_p9_fail(a->q, -WH_EINVAL, a->q->text_buffer);
}

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

/* `if PATH HASH`: the object there is this one; `-`: nothing is there. */
static int check_is(struct apply *a, char *path, const char *wanted)
{
	struct wh_store_id id, tree;
	struct wh_store_entry e;
	unescape(path);
	bool none = wh_streq(wanted, "-");
	if (!none && wh_store_id_parse(wanted, strlen(wanted), &id) < 0)
		return invalid_hash(a->q, wanted);
	int r = wh_store_tx_tree(a->tx, &tree);
	if (r < 0)
		return r;
	r = wh_store_lookup(a->n->session->fs->store, &tree, path, &e);
	if (r < 0 && r != -WH_ENOENT && r != -WH_ENOTDIR)
		return r;
	if (none ? r < 0 : r >= 0 && wh_store_id_equal(&e.id, &id))
		return 0;
	snprintf(a->q->text_buffer, sizeof a->q->text_buffer, "condition failed: %.80s", path);
	return wh_p9_fail(a->q, -WH_EAGAIN, a->q->text_buffer);
}

static int check_head(struct apply *a, const char *wanted)
{
	const struct wh_store_id *parents;
	struct wh_store_id id;
	bool none = wh_streq(wanted, "-");
	if (!none && wh_store_id_parse(wanted, strlen(wanted), &id) < 0)
		return invalid_hash(a->q, wanted);
	unsigned count = wh_store_tx_parents(a->tx, &parents);
	if (none ? !count : count == 1 && wh_store_id_equal(parents, &id))
		return 0;
	return wh_p9_fail(a->q, -WH_EAGAIN, "condition failed: head");
}

static int move(struct apply *a, char *from, char *to)
{
	void *data;
	size_t size;
	struct wh_diag diag = { "" };
	unescape(from);
	unescape(to);
	int r = wh_store_tx_get(a->tx, from, &data, &size);
	if (r < 0)
		return r == -WH_EISDIR ? bad_line(a, "only files can be moved", from)
				       : bad_line(a, "No such file or directory", from);
	r = wh_store_tx_put(a->tx, to, data, size, 0, &diag);
	free(data);
	if (r >= 0)
		r = wh_store_tx_remove(a->tx, from, &diag);
	return r < 0 ? fail(a->q, r, &diag) : 0;
}

/* `data PATH SIZE` and SIZE bytes and a newline. */
static int put_data(struct apply *a, char *path, const char *size_text, uint32_t mode)
{
	char *stop;
	struct wh_diag diag = { "" };
	unsigned long size = strtoul(size_text, &stop, 10);
	if (*stop || !*size_text || size > (size_t)(a->end - a->at))
		return bad_line(a, "data has a wrong size", size_text);
	unescape(path);
	int r = wh_store_tx_put(a->tx, path, a->at, size, mode, &diag);
	a->at += size;
	a->at += a->at < a->end && *a->at == '\n';
	return r < 0 ? fail(a->q, r, &diag) : 0;
}

static int apply_line(struct apply *a, char *line)
{
	struct wh_diag diag = { "" };
	char *rest = line, *verb = word(&rest), *path;
	int r;
	if (!*verb || *verb == '#')
		return 0;
	if (wh_streq(verb, "message")) {
		snprintf(a->message, sizeof a->message, "%s", rest);
		return 0;
	}
	path = word(&rest);
	if (!*path)
		return bad_line(a, "Unknown line", verb);
	if (wh_streq(verb, "head"))
		return check_head(a, path);
	if (wh_streq(verb, "if"))
		return check_is(a, path, rest);
	if (wh_streq(verb, "data") || wh_streq(verb, "program"))
		return put_data(a, path, rest, *verb == 'p' ? WH_STORE_EXECUTABLE : 0);
	if (wh_streq(verb, "mv"))
		return move(a, path, rest);
	unescape(path);
	if (wh_streq(verb, "put")) /* the rest of the line, as a line */
		rest[strlen(rest)] = '\n',
		r = wh_store_tx_put(a->tx, path, rest, (size_t)(a->at - rest), 0, &diag);
	else if (wh_streq(verb, "rm"))
		r = wh_store_tx_remove(a->tx, path, &diag);
	else
		return bad_line(a, "Unknown line", verb);
	return r < 0 ? fail(a->q, r, &diag) : 0;
}

static int apply_lines(struct apply *a)
{
	int r = 0;
	while (r >= 0 && a->at < a->end) {
		char *line = a->at, *end = memchr(line, '\n', (size_t)(a->end - line));
		if (!end)
			end = a->end; /* a NUL stands there, and room for it */
		*end = 0;
		a->at = end + 1;
		r = apply_line(a, line);
	}
	return r;
}

static int apply(struct wh_p9_request *q, struct node *n, char *text, size_t size)
{
	struct apply a = { .q = q, .n = n, .at = text, .end = text + size };
	struct session *s = n->session;
	struct wh_diag diag = { "" };
	struct wh_store_id id;
	char mail[128];
	int r = wh_store_tx_begin(s->fs->store, n->branch, &a.tx, &diag);
	if (r < 0)
		return fail(q, r, &diag);
	r = apply_lines(&a);
	if (r >= 0) {
		struct wh_store_commit_config c = { .message = a.message, .deferred = true };
		snprintf(mail, sizeof mail, "%s@localhost", s->user);
		c.author = s->peer_known ? s->user : NULL;
		c.mail = s->peer_known ? mail : NULL;
		r = wh_store_tx_commit(a.tx, &c, &id, &diag);
		if (r < 0)
			r = fail(q, r, &diag);
	}
	wh_store_tx_free(a.tx);
	if (r < 0)
		return r;
	struct waiting_commit *w = calloc(1, sizeof *w);
	free(n->text);
	n->text = malloc(WH_STORE_HEX_SIZE + 2);
	if (!w || !n->text) {
		free(w);
		return -WH_ENOMEM;
	}
	wh_store_id_format(&id, n->text);
	memcpy(n->text + WH_STORE_HEX_SIZE, "\n", 2);
	n->text_size = WH_STORE_HEX_SIZE + 1;
	w->q = q;
	wh_list_push_back(&s->fs->commits, &w->node);
	return WH_P9_LATER;
}

/* ---- all ---- */

static int run(struct wh_p9_request *q, struct node *n, char *text)
{
	switch (n->kind) {
	case K_FORWARD:
		return forward(q, n, text);
	case K_CTL:
	case K_DURABILITY:
		return tx_command(q, n, text);
	case K_MERGE:
		return tx_merge_command(q, n, text);
	case K_FETCH:
	case K_PUSH:
		return remote_command(q, n, text);
	case K_LEVEL:
		return 0;
	default:
		return -WH_EPERM;
	}
}

int command_write(struct wh_p9_request *q, struct node *n)
{
	if (q->payload_size > TEXT_SIZE_MAX)
		return -WH_EFBIG;
	char *text = malloc(q->payload_size + 1ull), *p = text;
	if (!text)
		return -WH_ENOMEM;
	if (q->t.offset != n->command_at && q->t.offset) {
		free(text);
		return wh_p9_fail(q, -WH_EINVAL, "Attempt to seek in stream");
	}
	size_t size = wh_iov_read(q->payload, q->payload_count, 0, text, q->payload_size);
	text[size] = 0;
	n->command_at = q->t.offset + size;
	q->r.count = (uint32_t)size;
	int r;
	if (n->kind == K_APPLY) {
		r = apply(q, n, text, size);
	} else {
		while (isspace((unsigned char)*p))
			p++;
		for (size_t end = strlen(p); end && isspace((unsigned char)p[end - 1]);)
			p[--end] = 0;
		r = run(q, n, p);
	}
	free(text);
	return r;
}
