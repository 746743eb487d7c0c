/* SPDX-License-Identifier: ISC */
/*
 * Transactions as files. A commit joins the batch of this round of the loop; its Twrite is answered when the batch is
 * durable, so that all clients that commit at the same time share one sync.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "storefs_priv.h"

int tx_new(struct session *s, const char *branch, struct wh_p9_str name, struct tx **ret_tx,
	   struct wh_p9_request *q)
{
	struct wh_diag diag = { "" };
	if (tx_find(s, branch, name.text, name.size))
		return wh_p9_fail(q, -WH_EEXIST, "Already exists");
	struct tx *t = calloc(1, sizeof *t);
	if (!t)
		return -WH_ENOMEM;
	t->refs = 1;
	t->session = s;
	t->serial = ++s->fs->serial;
	wh_list_init(&t->node);
	t->name = strndup(name.text, name.size);
	t->branch = strdup(branch);
	int r = t->name && t->branch ? wh_store_tx_begin(s->fs->store, branch, &t->tx, &diag)
				     : -WH_ENOMEM;
	if (r < 0) {
		tx_unref(t);
		return r;
	}
	wh_list_push_back(&s->txs, &t->node);
	*ret_tx = t;
	return 0;
}

static struct tx *find_in(struct wh_list *list, const char *branch, const char *name, size_t size)
{
	WH_LIST_FOR_EACH(i, list) {
		struct tx *t = WH_LIST_ENTRY(i, struct tx, node);
		if (wh_streq(t->branch, branch) && strlen(t->name) == size &&
		    !memcmp(t->name, name, size))
			return t;
	}
	return NULL;
}

struct tx *tx_find(struct session *s, const char *branch, const char *name, size_t size)
{
	struct tx *t = find_in(&s->txs, branch, name, size);
	return t || !sees_leases(s) ? t : find_in(&s->fs->leased, branch, name, size);
}

void tx_unref(struct tx *t)
{
	if (--t->refs)
		return;
	wh_store_tx_free(t->tx);
	free(t->name);
	free(t->branch);
	free(t->msg);
	free(t->parents);
	free(t);
}

void tx_close(struct tx *t)
{
	if (t->dead)
		return;
	t->dead = true;
	wh_list_remove(&t->node);
	tx_unref(t);
}

/* ---- leases: transactions that outlive a connection, and are everybody's ---- */

static void lease_timer(struct wh_storefs *fs)
{
	uint64_t first = UINT64_MAX;
	WH_LIST_FOR_EACH(i, &fs->leased) {
		struct tx *t = WH_LIST_ENTRY(i, struct tx, node);
		first = t->lease_end_ns < first ? t->lease_end_ns : first;
	}
	if (first == UINT64_MAX)
		wh_loop_timer_stop(fs->loop, &fs->lease_timer);
	else
		wh_loop_timer_start(fs->loop, &fs->lease_timer, first);
}

void leases_expire(struct wh_loop_timer *timer)
{
	struct wh_storefs *fs = timer->ctx;
	uint64_t now = wh_loop_now(fs->loop);
	WH_LIST_FOR_EACH_SAFE(i, &fs->leased) {
		struct tx *t = WH_LIST_ENTRY(i, struct tx, node);
		if (t->lease_end_ns <= now)
			tx_close(t);
	}
	lease_timer(fs);
}

void leases_free(struct wh_storefs *fs)
{
	WH_LIST_FOR_EACH_SAFE(i, &fs->leased)
		tx_close(WH_LIST_ENTRY(i, struct tx, node));
	lease_timer(fs);
}

int tx_lease(struct wh_p9_request *q, struct node *n, const char *text)
{
	struct wh_storefs *fs = n->session->fs;
	char *end;
	unsigned long seconds = strtoul(text, &end, 10);
	unsigned count = 0;
	if (!isdigit((unsigned char)*text) || *end || seconds > LEASE_SECONDS_MAX)
		return wh_p9_fail(q, -WH_EINVAL, "a lease is a number of seconds, at most 604800");
	WH_LIST_FOR_EACH(i, &fs->leased)
		count++;
	if (seconds && !n->tx->lease_end_ns && count >= LEASES_MAX)
		return wh_p9_fail(q, -WH_EMFILE, "too many leases");
	wh_list_remove(&n->tx->node);
	wh_list_push_back(seconds ? &fs->leased : &n->session->txs, &n->tx->node);
	n->tx->lease_end_ns = seconds ? wh_loop_now(fs->loop) + seconds * 1000000000ull : 0;
	snprintf(n->tx->owner, sizeof n->tx->owner, "%s", n->session->user);
	lease_timer(fs);
	return 0;
}

/* ---- texts ---- */

struct place {
	char **text;
	size_t *size;
};

/* The text as it is now, ready to be changed. */
static int place_of(struct node *n, struct place *ret_place)
{
	if (n->tx && n->tx->dead)
		return -WH_ENOENT;
	if (n->kind == K_MSG)
		*ret_place = (struct place){ &n->tx->msg, &n->tx->msg_size };
	else if (n->kind == K_URL)
		*ret_place = (struct place){ &n->remote->url, &n->remote->url_size };
	else if (n->kind == K_REMOTE_TIMEOUT)
		*ret_place = (struct place){ &n->remote->timeout, &n->remote->timeout_size };
	else if (n->kind == K_AUTO_PUSH)
		*ret_place = (struct place){ &n->remote->auto_push, &n->remote->auto_push_size };
	else
		*ret_place = (struct place){ &n->tx->parents, &n->tx->parents_size };
	if (n->kind == K_PARENTS && !n->tx->parents_written) {
		char *text;
		size_t size;
		int r = node_text(n, &text, &size);
		if (r < 0)
			return r;
		free(n->tx->parents);
		n->tx->parents = text;
		n->tx->parents_size = size;
		n->tx->parents_written = true;
	}
	return 0;
}

static int resize(struct place *p, uint64_t size)
{
	if (size > TEXT_SIZE_MAX)
		return -WH_EFBIG;
	char *more = realloc(*p->text, (size_t)size + 1);
	if (!more)
		return -WH_ENOMEM;
	if (size > *p->size)
		memset(more + *p->size, 0, (size_t)size - *p->size);
	more[size] = 0;
	*p->text = more;
	*p->size = (size_t)size;
	return 0;
}

static void text_changed(struct node *n)
{
	if (!n->remote)
		return;
	remote_save(n->remote);
	if (n->remote->auto_push && n->remote->url)
		remote_push_soon(n->remote, false);
}

int text_truncate(struct node *n, uint64_t size)
{
	struct place p;
	if (n->remote && n->remote->job)
		return -WH_EBUSY;
	int r = place_of(n, &p);
	if (r >= 0)
		r = resize(&p, size);
	if (r >= 0)
		text_changed(n);
	return r;
}

int text_write(struct wh_p9_request *q, struct node *n)
{
	struct place p;
	if (n->remote && n->remote->job)
		return wh_p9_fail(q, -WH_EBUSY, "error: the remote is busy");
	int r = place_of(n, &p);
	if (r < 0)
		return r;
	if (q->t.offset > TEXT_SIZE_MAX)
		return -WH_EFBIG;
	if (q->t.offset + q->payload_size > *p.size) {
		r = resize(&p, q->t.offset + q->payload_size);
		if (r < 0)
			return r;
	}
	wh_iov_read(q->payload, q->payload_count, 0, *p.text + q->t.offset, q->payload_size);
	q->r.count = q->payload_size;
	text_changed(n);
	return 0;
}

/* ---- commit, close, merge ---- */

static int take_parents(struct wh_p9_request *q, struct tx *t)
{
	struct wh_store_id ids[64];
	unsigned count = 0;
	if (!t->parents_written)
		return 0;
	for (const char *p = t->parents; *p;) {
		size_t n = strcspn(p, "\n");
		size_t size = n;
		while (size && isspace((unsigned char)p[size - 1]))
			size--;
		if (size && count == WH_ARRAY_COUNT(ids))
			return wh_p9_fail(q, -WH_EINVAL, "too many parents");
		if (size && wh_store_id_parse(p, size, &ids[count++]) < 0) {
			snprintf(q->text_buffer, sizeof q->text_buffer, "invalid-hash %.*s",
				 size > 80 ? 80 : (int)size, p);
			return wh_p9_fail(q, -WH_EINVAL, q->text_buffer);
		}
		p += n + (p[n] != 0);
	}
	int r = wh_store_tx_set_parents(t->tx, ids, count);
	if (r >= 0)
		t->parents_written = false;
	return r;
}

static int fail(struct wh_p9_request *q, int error, const struct wh_diag *diag)
{
	if (!diag->text[0])
		return error;
	snprintf(q->text_buffer, sizeof q->text_buffer, "%s", diag->text);
	return wh_p9_fail(q, error, q->text_buffer);
}

static int commit(struct wh_p9_request *q, struct node *n)
{
	struct tx *t = n->tx;
	struct wh_diag diag = { "" };
	struct wh_store_id id;
	struct session *s = n->session;
	struct waiting_commit *w = calloc(1, sizeof *w);
	int r = w ? take_parents(q, t) : -WH_ENOMEM;
	if (r >= 0) {
		struct wh_store_commit_config c = { .message = t->msg,
						    .durability = t->durability,
						    .deferred = true };
		session_author(s, &c);
		r = wh_store_tx_commit(t->tx, &c, &id, &diag);
	}
	if (r < 0) {
		free(w);
		return fail(q, r, &diag);
	}
	w->q = q;
	w->tx = t;
	t->refs++;
	wh_list_push_back(&s->fs->commits, &w->node);
	return WH_P9_LATER;
}

bool commits_flush(struct wh_storefs *fs)
{
	struct wh_diag diag = { "" };
	if (wh_list_empty(&fs->commits))
		return false;
	int r = wh_store_flush(fs->store, &diag);
	for (struct wh_list *i; (i = wh_list_pop_front(&fs->commits));) {
		struct waiting_commit *w = WH_LIST_ENTRY(i, struct waiting_commit, node);
		if (r >= 0 && w->tx)
			tx_close(w->tx);
		if (w->q) {
			w->q->r.count = w->q->payload_size;
			wh_p9_request_done(w->q, r < 0 ? fail(w->q, r, &diag) : 0);
		}
		if (w->tx)
			tx_unref(w->tx);
		free(w);
	}
	return true;
}

bool commits_forget(struct wh_storefs *fs, struct wh_p9_request *q)
{
	WH_LIST_FOR_EACH(i, &fs->commits) {
		struct waiting_commit *w = WH_LIST_ENTRY(i, struct waiting_commit, node);
		if (w->q == q) { /* it is too late to stop it */
			w->q = NULL;
			wh_p9_request_done(q, -WH_EINTR);
			return true;
		}
	}
	return false;
}

int tx_command(struct wh_p9_request *q, struct node *n, char *text)
{
	if (n->tx->dead)
		return -WH_ENOENT;
	if (n->kind == K_DURABILITY) {
		if (!wh_streq(text, "sync") && !wh_streq(text, "group") && !wh_streq(text, "lazy"))
			return wh_p9_fail(q, -WH_EINVAL, "durability is sync, group or lazy");
		n->tx->durability = wh_streq(text, "lazy") ? WH_STORE_LAZY : WH_STORE_SYNC;
		return 0;
	}
	if (n->kind == K_LEASE)
		return tx_lease(q, n, text);
	if (wh_streq(text, "close")) {
		tx_close(n->tx);
		return 0;
	}
	if (wh_streq(text, "commit"))
		return commit(q, n);
	snprintf(q->text_buffer, sizeof q->text_buffer, "Unknown command \"%.80s\"", text);
	return wh_p9_fail(q, -WH_EINVAL, q->text_buffer);
}

int tx_merge_command(struct wh_p9_request *q, struct node *n, char *text)
{
	struct wh_store_id id;
	struct wh_diag diag = { "" };
	if (n->tx->dead)
		return -WH_ENOENT;
	if (wh_store_id_parse(text, strlen(text), &id) < 0) {
		snprintf(q->text_buffer, sizeof q->text_buffer, "invalid-hash %.80s", text);
		return wh_p9_fail(q, -WH_EINVAL, q->text_buffer);
	}
	int r = take_parents(q, n->tx);
	if (r >= 0)
		r = wh_store_tx_merge(n->tx->tx, &id, &diag);
	if (r < 0)
		return fail(q, r, &diag);
	n->tx->merged = true;
	return 0;
}
