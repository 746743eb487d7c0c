/* SPDX-License-Identifier: ISC */
/* What status files say. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "storefs_priv.h"

struct text {
	char *data;
	size_t size, room;
	bool failed;
};

static void put_bytes(struct text *t, const char *from, size_t size)
{
	if (t->failed)
		return;
	if (t->size + size + 1 > t->room) {
		size_t room = (t->size + size + 1) * 2;
		char *more = realloc(t->data, room);
		if (!more) {
			t->failed = true;
			return;
		}
		t->data = more;
		t->room = room;
	}
	memcpy(t->data + t->size, from, size);
	t->size += size;
	t->data[t->size] = 0;
}

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
	char line[2048];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(line, sizeof line, format, args);
	va_end(args);
	put_bytes(t, line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
}

static void put_id(struct text *t, const struct wh_store_id *id, const char *end)
{
	char hex[WH_STORE_HEX_SIZE + 1];
	wh_store_id_format(id, hex);
	put(t, "%s%s", hex, end);
}

/* ---- diffs ---- */

static int diff_line(void *ctx, char change, const char *path, const struct wh_store_entry *o,
		     const struct wh_store_entry *n)
{
	struct text *t = ctx;
	put(t, "%c ", change);
	put_bytes(t, path, strlen(path));
	put(t, "\n");
	return t->size > TEXT_SIZE_MAX ? -WH_EFBIG : 0;
}

int diff_text(struct wh_store *s, const struct wh_store_id *old_tree,
	      const struct wh_store_id *new_tree, char **ret_text, size_t *ret_size)
{
	struct text t = { 0 };
	put(&t, "%s", "");
	int r = wh_store_diff(s, old_tree, new_tree, diff_line, &t);
	if (r < 0 || t.failed) {
		free(t.data);
		return r < 0 ? r : -WH_ENOMEM;
	}
	*ret_text = t.data;
	*ret_size = t.size;
	return 0;
}

/* n->mode says which kind of folder the diff was in. */
static int diff_of(const struct node *n, char **ret_text, size_t *ret_size)
{
	struct wh_storefs *fs = n->session->fs;
	struct wh_store_id tree = { { 0 } }, commit;
	struct wh_store_commit c;
	int r = 0;
	switch ((enum kind)n->mode) {
	case K_TX_DIFF:
		r = n->tx->dead ? -WH_ENOENT : wh_store_tx_tree(n->tx->tx, &tree);
		break;
	case K_SNAP_DIFF:
		r = wh_store_commit_read(fs->store, &n->id, &c);
		if (r >= 0) {
			tree = c.tree;
			wh_store_commit_fini(&c);
		}
		break;
	default:
		r = branch_tree(fs, n->branch, &commit, &tree);
		if (r == -WH_ENOENT)
			r = 0;
	}
	return r < 0 ? r : diff_text(fs->store, &n->id2, &tree, ret_text, ret_size);
}

/* ---- JSON ---- */

static void put_json(struct text *t, const char *s)
{
	put(t, "\"");
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\')
			put(t, "\\%c", c);
		else if (c == '\n')
			put(t, "\\n");
		else if (c < 32)
			put(t, "\\u%04x", c);
		else
			put_bytes(t, s, 1);
	}
	put(t, "\"");
}

static void commit_json(struct text *t, const struct wh_store_id *id,
			const struct wh_store_commit *c)
{
	put(t, "{\"hash\":\"");
	put_id(t, id, "\",\"tree\":\"");
	put_id(t, &c->tree, "\",\"parents\":[");
	for (unsigned i = 0; i < c->parent_count; i++) {
		put(t, "%s\"", i ? "," : "");
		put_id(t, &c->parents[i], "\"");
	}
	put(t, "],\"time\":%lld,\"author\":", (long long)c->time_s);
	put_json(t, c->author);
	put(t, ",\"message\":");
	put_json(t, c->message);
	put(t, "}\n");
}

/* ---- the others ---- */

static int log_line(void *ctx, const struct wh_store_id *id, const struct wh_store_commit *c)
{
	struct text *t = ctx;
	put_id(t, id, "");
	put(t, " %lld %s ", (long long)c->time_s, c->author);
	put_bytes(t, c->message, strcspn(c->message, "\n"));
	put(t, "\n");
	return t->size > TEXT_SIZE_MAX;
}

static void stats(const struct node *n, struct text *t)
{
	struct wh_store_stats s;
	struct wh_storefs *fs = n->session->fs;
	unsigned sessions = 0, streams = 0, waiting = 0;
	wh_store_stats(fs->store, &s);
	WH_LIST_FOR_EACH(i, &fs->sessions)
		sessions++;
	WH_LIST_FOR_EACH(i, &fs->streams) {
		streams++;
		waiting += WH_LIST_ENTRY(i, struct stream, node)->waiting != NULL;
	}
	put(t, "connections %u\nrequests %llu\nstreams %u\nwaiting %u\n", sessions,
	    (unsigned long long)fs->requests, streams, waiting);
	put(t, "commits %llu\nmerges %llu\nconflicts %llu\nflushes %llu\nsyncs %llu\n",
	    (unsigned long long)s.commits, (unsigned long long)s.merges,
	    (unsigned long long)s.conflicts, (unsigned long long)s.flushes,
	    (unsigned long long)s.syncs);
	put(t, "objects_written %llu\nbytes_written %llu\njournal_bytes %llu\ncheckpoints %llu\n",
	    (unsigned long long)s.objects_written, (unsigned long long)s.bytes_written,
	    (unsigned long long)s.journal_bytes, (unsigned long long)s.checkpoints);
	put(t, "trees_cached_bytes %llu\ntransactions_open %llu\nnodes_live %llu\n",
	    (unsigned long long)s.trees_cached_bytes, (unsigned long long)s.transactions_open,
	    (unsigned long long)s.nodes_live);
}

static void who(const struct node *n, struct text *t)
{
	WH_LIST_FOR_EACH(i, &n->session->fs->sessions) {
		struct session *s = WH_LIST_ENTRY(i, struct session, node);
		unsigned txs = 0;
		WH_LIST_FOR_EACH(j, &s->txs)
			txs++;
		put(t, "%llu %s", (unsigned long long)s->serial, s->user[0] ? s->user : "-");
		if (s->peer_known)
			put(t, " uid %u pid %d", s->uid, s->pid);
		put(t, " transactions %u\n", txs);
	}
}

static void leases(const struct node *n, struct text *t)
{
	uint64_t now = wh_loop_now(n->session->fs->loop);
	WH_LIST_FOR_EACH(i, &n->session->fs->leased) {
		struct tx *x = WH_LIST_ENTRY(i, struct tx, node);
		put(t, "lease %s %s of %s, %llu s left\n", x->branch, x->name,
		    x->owner[0] ? x->owner : "-",
		    (unsigned long long)(x->lease_end_ns > now
						 ? (x->lease_end_ns - now) / 1000000000u
						 : 0));
	}
}

static void trace(const struct node *n, struct text *t)
{
	WH_LIST_FOR_EACH(i, &n->session->fs->sessions) {
		struct session *s = WH_LIST_ENTRY(i, struct session, node);
		uint64_t from = s->trace_count > TRACE_SIZE ? s->trace_count - TRACE_SIZE : 0;
		for (uint64_t k = from; k < s->trace_count; k++)
			put(t, "%llu %s tag %u fid %u\n", (unsigned long long)s->serial,
			    wh_p9_type_name(s->trace[k % TRACE_SIZE].type),
			    s->trace[k % TRACE_SIZE].tag, s->trace[k % TRACE_SIZE].fid);
	}
}

static int commit_text(const struct node *n, struct text *t)
{
	struct wh_store_commit c;
	int r = wh_store_commit_read(n->session->fs->store, &n->id, &c);
	if (r < 0)
		return r;
	if (n->kind == K_SNAP_HASH)
		put_id(t, &n->id, "");
	if (n->kind == K_SNAP_MSG) {
		put_bytes(t, c.message, strlen(c.message));
		put(t, "\n");
	}
	for (unsigned i = 0; n->kind == K_SNAP_PARENTS && i < c.parent_count; i++)
		put_id(t, &c.parents[i], "\n");
	if (n->kind == K_COMMIT)
		commit_json(t, &n->id, &c);
	wh_store_commit_fini(&c);
	return 0;
}

static int parents_text(const struct node *n, struct text *t)
{
	const struct wh_store_id *ids;
	if (n->tx->parents_written) {
		put_bytes(t, n->tx->parents, n->tx->parents_size);
		return 0;
	}
	unsigned count = wh_store_tx_parents(n->tx->tx, &ids);
	for (unsigned i = 0; i < count; i++)
		put_id(t, &ids[i], "\n");
	return 0;
}

static void conflicts(const struct node *n, struct text *t)
{
	const char *const *paths;
	size_t count = wh_store_tx_conflicts(n->tx->tx, &paths);
	for (size_t i = 0; i < count; i++) {
		put_bytes(t, paths[i], strlen(paths[i]));
		put(t, "\n");
	}
}

static int reply(const struct node *n, struct text *t)
{
	const char *text = NULL;
	if (n->text) /* the answer to this fid's own command */
		text = n->text;
	else if (n->tx)
		text = n->kind == K_MERGE && n->tx->merged ? "ok" : NULL;
	else
		text = n->session->replies[n->kind];
	if (n->kind == K_GC || n->kind == K_FSCK) {
		char line[400];
		care_text(n, line, sizeof line);
		put(t, "%s", line);
		return 0;
	}
	if (n->kind == K_DURABILITY)
		text = n->tx->durability == WH_STORE_LAZY ? "lazy\n" : "sync\n";
	if (n->kind == K_LEASE) {
		uint64_t now = wh_loop_now(n->session->fs->loop), end = n->tx->lease_end_ns;
		put(t, "%llu\n",
		    (unsigned long long)(end > now ? (end - now + 999999999u) / 1000000000u : 0));
		return 0;
	}
	put(t, "%s", text ? text : "");
	return 0;
}

static void lag_line(void *ctx, const char *branch, unsigned commits)
{
	put(ctx, "%s %u\n", branch, commits);
}

static int fill(const struct node *n, struct text *t)
{
	struct wh_storefs *fs = n->session->fs;
	struct wh_store_id id;
	int r;
	if (n->tx && n->tx->dead && n->kind != K_CTL)
		return -WH_ENOENT;
	switch (n->kind) {
	case K_HEAD:
		r = wh_store_branch_head(fs->store, n->branch, &id);
		if (r >= 0)
			put_id(t, &id, "\n");
		else
			put(t, "\n");
		return r == -WH_ENOENT ? 0 : r;
	case K_LOG:
		r = wh_store_branch_head(fs->store, n->branch, &id);
		if (r >= 0)
			r = wh_store_log(fs->store, &id, n->path, log_line, t);
		return r == -WH_ENOENT || r > 0 ? 0 : r;
	case K_PARENTS:
		return parents_text(n, t);
	case K_MSG:
		put_bytes(t, n->tx->msg ? n->tx->msg : "", n->tx->msg_size);
		return 0;
	case K_URL:
		put_bytes(t, n->remote->url ? n->remote->url : "", n->remote->url_size);
		return 0;
	case K_REMOTE_TIMEOUT:
		if (n->remote->timeout)
			put_bytes(t, n->remote->timeout, n->remote->timeout_size);
		else
			put(t, "%u\n", REMOTE_TIMEOUT_S);
		return 0;
	case K_AUTO_PUSH:
		put_bytes(t, n->remote->auto_push ? n->remote->auto_push : "",
			  n->remote->auto_push_size);
		return 0;
	case K_REMOTE_LAG:
		remote_lag(n->remote, lag_line, t);
		return 0;
	case K_CONFLICTS:
		conflicts(n, t);
		return 0;
	case K_STATS:
		stats(n, t);
		return 0;
	case K_TRACE:
		trace(n, t);
		return 0;
	case K_WHO:
		who(n, t);
		leases(n, t);
		return 0;
	case K_REMOTE_STATE:
		put(t, "%s\n",
		    n->remote->job     ? "busy"
		    : n->remote->state ? n->remote->state
				       : "idle");
		return 0;
	case K_REMOTE_ERROR:
		put(t, "%s", n->remote->error ? n->remote->error : "");
		return 0;
	case K_SNAP_HASH:
	case K_SNAP_MSG:
	case K_SNAP_PARENTS:
	case K_COMMIT:
		return commit_text(n, t);
	default:
		return nature_of(n->kind) == N_COMMAND ? reply(n, t) : 0;
	}
}

int node_text(const struct node *n, char **ret_text, size_t *ret_size)
{
	struct text t = { 0 };
	if (n->kind == K_DIFF)
		return diff_of(n, ret_text, ret_size);
	put(&t, "%s", "");
	int r = fill(n, &t);
	if (r < 0 || t.failed) {
		free(t.data);
		return r < 0 ? r : -WH_ENOMEM;
	}
	*ret_text = t.data;
	*ret_size = t.size;
	return 0;
}

int node_size(struct node *n, uint64_t *ret_size)
{
	struct wh_store_entry e;
	char *text;
	size_t size;
	int r;
	*ret_size = 0;
	switch (nature_of(n->kind)) {
	case N_STATUS:
	case N_TEXT:
		if (n->text_taken && nature_of(n->kind) == N_STATUS) {
			*ret_size = n->text_size;
			return 0;
		}
		if (n->kind == K_DIFF ||
		    n->kind == K_LOG) /* made when it is opened: it may take long */
			return 0;
		r = node_text(n, &text, &size);
		if (r < 0)
			return r;
		free(text);
		*ret_size = size;
		return 0;
	case N_RW:
		return n->tx->dead ? -WH_ENOENT : wh_store_node_size(n->rw, ret_size);
	case N_BLOB:
		if (node_is_dir(n))
			return 0;
		if (n->kind != K_RO)
			return wh_store_blob_size(n->session->fs->store, &n->id, ret_size);
		r = ro_resolve(n, &e);
		if (r < 0 || e.mode == WH_STORE_DIR || e.mode == WH_STORE_SUBMODULE)
			return r;
		return wh_store_blob_size(n->session->fs->store, &e.id, ret_size);
	default:
		return 0;
	}
}
