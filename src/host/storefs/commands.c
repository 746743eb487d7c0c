/* SPDX-License-Identifier: ISC */
/*
 * Command files: each write is one command, done before it is answered. `apply` is a whole transaction in one write.
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

static int apply(struct wh_p9_request *q, struct node *n, char *text, size_t size)
{
	struct session *s = n->session;
	struct wh_store_tx *tx;
	struct wh_diag diag = { "" };
	struct wh_store_id id;
	const char *message = NULL;
	int r = wh_store_tx_begin(s->fs->store, n->branch, &tx, &diag);
	if (r < 0)
		return fail(q, r, &diag);
	r = wh_store_tx_apply(tx, text, size, &message, &diag);
	if (r >= 0) {
		struct wh_store_commit_config c = { .message = message, .deferred = true };
		session_author(s, &c);
		r = wh_store_tx_commit(tx, &c, &id, &diag);
	}
	wh_store_tx_free(tx);
	if (r < 0)
		return fail(q, r, &diag);
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
	case K_LEASE:
		return tx_command(q, n, text);
	case K_MERGE:
		return tx_merge_command(q, n, text);
	case K_FETCH:
	case K_PUSH:
		return remote_command(q, n, text);
	case K_GC:
	case K_FSCK:
		return care_command(q, n, text);
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
	bool admin = n->kind == K_FORWARD || n->kind == K_FETCH || n->kind == K_PUSH ||
		     n->kind == K_GC || n->kind == K_FSCK;
	if (admin && n->session->allow < WH_STOREFS_ADMIN)
		return wh_p9_fail(q, -WH_EACCES, "the token does not allow this");
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
