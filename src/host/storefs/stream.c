/* SPDX-License-Identifier: ISC */
/*
 * Files that tell news: head.live, tree.live, reflog, events@<commit>, remotes/N/head.
 *
 * An open fid has a position. The first read gives the present line, further ones wait until there is another one. The
 * reader of Linux's v9fs repeats a read until its buffer is full or 0 bytes come, so in 9P2000.u and .L a short read is
 * followed by one of 0 bytes; in 9P2000 that would mean the end. Bytes that were sent lately can be read again, since
 * shells read ahead and seek back.
 */
#include <stdio.h>
#include <stdlib.h>

#include "storefs_priv.h"

void stream_free(struct stream *s)
{
	if (!s)
		return;
	wh_assert(!s->waiting);
	wh_list_remove(&s->node);
	free(s->line);
	free(s->last);
	free(s->queue);
	free(s);
}

static struct stream *stream_of(struct node *n)
{
	struct stream *s = n->stream;
	if (s)
		return s;
	s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->owner = n;
	s->seen = n->id;
	n->stream = s;
	wh_list_push_back(&n->session->fs->streams, &s->node);
	return s;
}

/* ---- values ---- */

static char *hash_line(const struct wh_store_id *id)
{
	char *line = malloc(WH_STORE_HEX_SIZE + 2);
	if (line) {
		wh_store_id_format(id, line);
		memcpy(line + WH_STORE_HEX_SIZE, "\n", 2);
	}
	return line;
}

static char *head_value(const struct node *n)
{
	struct wh_store_id id;
	return wh_store_branch_head(n->session->fs->store, n->branch, &id) >= 0 ? hash_line(&id)
										: strdup("\n");
}

static char *tree_value(const struct node *n)
{
	struct wh_store_entry e;
	char hex[WH_STORE_HEX_SIZE + 1], line[64];
	if (ro_resolve(n, &e) < 0)
		return strdup("\n");
	if (wh_store_id_is_zero(&e.id))
		snprintf(hex, sizeof hex, "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
	else
		wh_store_id_format(&e.id, hex);
	char c = e.mode == WH_STORE_DIR          ? 'D'
		 : e.mode == WH_STORE_EXECUTABLE ? 'X'
		 : e.mode == WH_STORE_SYMLINK    ? 'L'
						 : 'F';
	snprintf(line, sizeof line, "%c-%s\n", c, hex);
	return strdup(line);
}

/* ---- events: one line for each commit on the first-parent way from the one seen last to the head ---- */

static void event_line(struct wh_store *s, const struct wh_store_id *id, const char *what, char *to,
		       size_t max)
{
	struct wh_store_commit c;
	char hex[WH_STORE_HEX_SIZE + 1];
	wh_store_id_format(id, hex);
	if (wh_store_commit_read(s, id, &c) < 0) {
		snprintf(to, max, "%s %s\n", what, hex);
		return;
	}
	snprintf(to, max, "%s %s %lld %s %.*s\n", what, hex, (long long)c.time_s, c.author,
		 (int)strcspn(c.message, "\n"), c.message);
	wh_store_commit_fini(&c);
}

#define EVENTS_AT_ONCE 256u

static char *events_value(struct stream *st)
{
	struct wh_store *s = st->owner->session->fs->store;
	struct wh_store_id head, at, *chain = NULL;
	size_t count = 0, room = 0;
	if (wh_store_branch_head(s, st->owner->branch, &head) < 0)
		memset(&head, 0, sizeof head);
	if (wh_store_id_equal(&head, &st->seen))
		return NULL;
	bool joined = false;
	for (at = head; !wh_store_id_is_zero(&at);) {
		struct wh_store_commit c;
		if (count == room) {
			struct wh_store_id *more =
				realloc(chain, (room = room * 2 + 64) * sizeof *more);
			if (!more)
				break;
			chain = more;
		}
		chain[count++] = at;
		if (wh_store_commit_read(s, &at, &c) < 0)
			break;
		memset(&at, 0, sizeof at);
		if (c.parent_count)
			at = c.parents[0];
		wh_store_commit_fini(&c);
		if (wh_store_id_equal(&at, &st->seen)) {
			joined = true;
			break;
		}
	}
	/* Oldest first, some at a time: the rest is found again by the next read. */
	size_t send = count < EVENTS_AT_ONCE ? count : EVENTS_AT_ONCE, size = 0;
	char line[1200], *text = malloc(send * sizeof line + 256);
	if (!text) {
		free(chain);
		return NULL;
	}
	text[0] = 0;
	if (!joined) { /* the branch was moved elsewhere, or deleted, or did not lead here: say so, then go on from its head */
		event_line(s, &head, wh_store_id_is_zero(&head) ? "deleted" : "moved", text,
			   sizeof line);
		st->seen = head;
	} else {
		for (size_t i = 0; i < send; i++) {
			event_line(s, &chain[count - 1 - i], "commit", line, sizeof line);
			size_t n = strlen(line);
			memcpy(text + size, line, n + 1);
			size += n;
			st->seen = chain[count - 1 - i];
		}
	}
	free(chain);
	return text;
}

static char *remote_value(struct stream *st)
{
	struct remote *r = st->owner->remote;
	if (!r->fetches || st->fetches == r->fetches)
		return NULL;
	st->fetches = r->fetches;
	return hash_line(&r->head);
}

/* A new line to send, or NULL. */
static char *news(struct stream *st)
{
	struct node *n = st->owner;
	char *value;
	switch (n->kind) {
	case K_REFLOG:
		value = st->queue;
		st->queue = NULL;
		st->queue_size = 0;
		return value;
	case K_EVENTS:
		return events_value(st);
	case K_REMOTE_HEAD:
		return remote_value(st);
	case K_HEAD_LIVE:
		value = head_value(n);
		break;
	default:
		value = tree_value(n);
	}
	if (value && st->last && wh_streq(value, st->last)) {
		free(value);
		return NULL;
	}
	free(st->last);
	st->last = value ? strdup(value) : NULL;
	return value;
}

/* ---- reading ---- */

/* Sends from the line; 1 = sent. */
static int deliver(struct wh_p9_request *q, struct stream *s)
{
	if (!s->line)
		return 0;
	size_t n = s->line_size - s->line_at;
	if (n > q->payload_size)
		n = q->payload_size;
	wh_iov_write(q->payload, q->payload_count, 0, s->line + s->line_at, n);
	for (size_t i = 0; i < n; i++)
		s->window[(s->sent + i) % STREAM_WINDOW] = (uint8_t)s->line[s->line_at + i];
	s->sent += n;
	s->line_at += n;
	q->r.count = (uint32_t)n;
	s->owes_zero = q->dialect != WH_P9_DIALECT_2000 && n < q->t.count;
	if (s->line_at == s->line_size) {
		free(s->line);
		s->line = NULL;
	}
	return 1;
}

static bool take_news(struct stream *s)
{
	if (!s->line) {
		s->line = news(s);
		s->line_size = s->line ? strlen(s->line) : 0;
		s->line_at = 0;
	}
	return s->line != NULL;
}

static int again(struct wh_p9_request *q, struct stream *s)
{
	uint64_t back = s->sent - q->t.offset;
	if (q->t.offset > s->sent || back > STREAM_WINDOW || back > s->sent)
		return wh_p9_fail(q, -WH_EINVAL, "Attempt to seek in stream");
	uint32_t n = back < q->payload_size ? (uint32_t)back : q->payload_size;
	for (uint32_t i = 0; i < n; i++)
		wh_iov_write(q->payload, q->payload_count, i,
			     &s->window[(q->t.offset + i) % STREAM_WINDOW], 1);
	q->r.count = n;
	return 0;
}

int stream_read(struct wh_p9_request *q, struct node *n)
{
	struct stream *s = stream_of(n);
	if (!s)
		return -WH_ENOMEM;
	if (q->t.offset != s->sent)
		return again(q, s);
	if (!q->payload_size)
		return 0;
	if (s->owes_zero && !s->line) {
		s->owes_zero = false;
		return 0;
	}
	if (s->waiting)
		return wh_p9_fail(q, -WH_EBUSY, "Another read of this file waits");
	if (take_news(s))
		return deliver(q, s) ? 0 : -WH_EIO;
	s->waiting = q;
	return WH_P9_LATER;
}

static void wake(struct stream *s)
{
	struct wh_p9_request *q = s->waiting;
	if (!q || !take_news(s))
		return;
	s->waiting = NULL;
	deliver(q, s);
	wh_p9_request_done(q, 0);
}

bool stream_flush(struct wh_storefs *fs, struct wh_p9_request *q)
{
	struct node *n = q->fid ? q->fid->node : NULL;
	if (!n || !n->stream || n->stream->waiting != q)
		return false;
	n->stream->waiting = NULL;
	wh_p9_request_done(q, -WH_EINTR);
	return true;
}

static void reflog_add(struct stream *s, const struct wh_store_id *id)
{
	char line[WH_STORE_HEX_SIZE + 2] = "\n";
	if (!wh_store_id_is_zero(id)) {
		wh_store_id_format(id, line);
		line[WH_STORE_HEX_SIZE] = '\n';
		line[WH_STORE_HEX_SIZE + 1] = 0;
	}
	size_t n = strlen(line);
	if (s->queue_size + n > REFLOG_QUEUE_MAX * (WH_STORE_HEX_SIZE + 1ull))
		return; /* nobody reads it; events@<commit> is for those who may be late */
	char *more = realloc(s->queue, s->queue_size + n + 1);
	if (!more)
		return;
	memcpy(more + s->queue_size, line, n + 1);
	s->queue = more;
	s->queue_size += n;
}

void streams_moved(struct wh_storefs *fs, const char *branch, const struct wh_store_id *old_id,
		   const struct wh_store_id *new_id)
{
	WH_LIST_FOR_EACH_SAFE(i, &fs->streams) {
		struct stream *s = WH_LIST_ENTRY(i, struct stream, node);
		if (s->owner->kind == K_REMOTE_HEAD || !wh_streq(s->owner->branch, branch))
			continue;
		if (s->owner->kind == K_REFLOG)
			reflog_add(s, new_id);
		wake(s);
	}
}

void streams_remote(struct wh_storefs *fs, struct remote *r)
{
	WH_LIST_FOR_EACH_SAFE(i, &fs->streams) {
		struct stream *s = WH_LIST_ENTRY(i, struct stream, node);
		if (s->owner->kind == K_REMOTE_HEAD && s->owner->remote == r)
			wake(s);
	}
}
