/* SPDX-License-Identifier: ISC */
/*
 * The tree: what is where. Fixed children are in one table; names that depend on the store are in step_dynamic and
 * list_dynamic. A node is one fid's place; nothing else is kept about files that nobody holds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <wherry/base/hash.h>

#include "storefs_priv.h"

static const struct child {
	enum kind in;
	const char *name;
	enum kind kind;
} children[] = {
	{ K_ROOT, "branch", K_BRANCHES },
	{ K_ROOT, "trees", K_TREES },
	{ K_ROOT, "commits", K_COMMITS },
	{ K_ROOT, "snapshots", K_SNAPSHOTS },
	{ K_ROOT, "remotes", K_REMOTES },
	{ K_ROOT, "debug", K_DEBUG },
	{ K_BRANCH, "head", K_HEAD },
	{ K_BRANCH, "head.live", K_HEAD_LIVE },
	{ K_BRANCH, "reflog", K_REFLOG },
	{ K_BRANCH, "fast-forward", K_FORWARD },
	{ K_BRANCH, "ro", K_RO },
	{ K_BRANCH, "transactions", K_TRANSACTIONS },
	{ K_BRANCH, "watch", K_WATCH },
	{ K_BRANCH, "diff", K_BRANCH_DIFF },
	{ K_BRANCH, "events", K_EVENTS },
	{ K_BRANCH, "log", K_LOG },
	{ K_BRANCH, "history", K_HISTORY },
	{ K_BRANCH, "at", K_AT },
	{ K_BRANCH, "apply", K_APPLY },
	{ K_TX, "rw", K_RW },
	{ K_TX, "msg", K_MSG },
	{ K_TX, "parents", K_PARENTS },
	{ K_TX, "origin", K_ORIGIN },
	{ K_TX, "ctl", K_CTL },
	{ K_TX, "merge", K_MERGE },
	{ K_TX, "diff", K_TX_DIFF },
	{ K_TX, "durability", K_DURABILITY },
	{ K_TX, "lease", K_LEASE },
	{ K_TX, "ours", K_SIDE_OURS },
	{ K_TX, "theirs", K_SIDE_THEIRS },
	{ K_TX, "base", K_SIDE_BASE },
	{ K_TX, "conflicts", K_CONFLICTS },
	{ K_SNAPSHOT, "ro", K_OBJECT },
	{ K_SNAPSHOT, "hash", K_SNAP_HASH },
	{ K_SNAPSHOT, "msg", K_SNAP_MSG },
	{ K_SNAPSHOT, "parents", K_SNAP_PARENTS },
	{ K_SNAPSHOT, "diff", K_SNAP_DIFF },
	{ K_WATCH, "tree.live", K_TREE_LIVE },
	{ K_HISTORY, "log", K_LOG },
	{ K_REMOTE, "url", K_URL },
	{ K_REMOTE, "fetch", K_FETCH },
	{ K_REMOTE, "push", K_PUSH },
	{ K_REMOTE, "head", K_REMOTE_HEAD },
	{ K_REMOTE, "state", K_REMOTE_STATE },
	{ K_REMOTE, "error", K_REMOTE_ERROR },
	{ K_REMOTE, "lag", K_REMOTE_LAG },
	{ K_REMOTE, "timeout", K_REMOTE_TIMEOUT },
	{ K_REMOTE, "auto-push", K_AUTO_PUSH },
	{ K_DEBUG, "src", K_SRC },
	{ K_DEBUG, "stats", K_STATS },
	{ K_DEBUG, "who", K_WHO },
	{ K_DEBUG, "trace", K_TRACE },
	{ K_DEBUG, "gc", K_GC },
	{ K_DEBUG, "fsck", K_FSCK },
};

enum nature nature_of(enum kind kind)
{
	switch (kind) {
	case K_HEAD:
	case K_LOG:
	case K_ORIGIN:
	case K_CONFLICTS:
	case K_SNAP_HASH:
	case K_SNAP_MSG:
	case K_SNAP_PARENTS:
	case K_COMMIT:
	case K_DIFF:
	case K_STATS:
	case K_WHO:
	case K_TRACE:
	case K_REMOTE_STATE:
	case K_REMOTE_ERROR:
	case K_REMOTE_LAG:
	case K_DOC:
		return N_STATUS;
	case K_HEAD_LIVE:
	case K_REFLOG:
	case K_TREE_LIVE:
	case K_EVENTS:
	case K_REMOTE_HEAD:
		return N_STREAM;
	case K_FORWARD:
	case K_APPLY:
	case K_CTL:
	case K_MERGE:
	case K_DURABILITY:
	case K_LEASE:
	case K_FETCH:
	case K_PUSH:
	case K_GC:
	case K_FSCK:
	case K_LEVEL:
	case K_WAIT:
		return N_COMMAND;
	case K_MSG:
	case K_PARENTS:
	case K_URL:
	case K_REMOTE_TIMEOUT:
	case K_AUTO_PUSH:
		return N_TEXT;
	case K_OBJECT:
	case K_RO:
	case K_SIDE_OURS:
	case K_SIDE_THEIRS:
	case K_SIDE_BASE:
		return N_BLOB;
	case K_RW:
		return N_RW;
	default:
		return N_DIR;
	}
}

/* ---- nodes ---- */

struct node *node_new(struct session *s, enum kind kind)
{
	struct node *n = calloc(1, sizeof *n);
	if (n) {
		n->kind = kind;
		n->session = s;
		n->mode = WH_STORE_DIR;
	}
	return n;
}

struct node *node_copy(const struct node *from)
{
	struct node *n = node_new(from->session, from->kind);
	if (!n)
		return NULL;
	n->mode = from->mode;
	n->id = from->id;
	n->id2 = from->id2;
	if (from->tx) {
		n->tx = from->tx;
		n->tx->refs++;
	}
	if (from->rw)
		n->rw = wh_store_node_ref(from->rw);
	if (from->remote) {
		n->remote = from->remote;
		n->remote->refs++;
	}
	n->branch = from->branch ? strdup(from->branch) : NULL;
	n->path = from->path ? strdup(from->path) : NULL;
	if ((from->branch && !n->branch) || (from->path && !n->path)) {
		node_free(n);
		return NULL;
	}
	return n;
}

void listing_free(struct listing *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->count; i++)
		free(l->list[i].name);
	free(l->list);
	free(l);
}

void node_free(struct node *n)
{
	if (!n)
		return;
	stream_free(n->stream);
	listing_free(n->listing);
	wh_store_node_unref(n->rw);
	if (n->tx)
		tx_unref(n->tx);
	if (n->remote)
		remote_unref(n->remote);
	free(n->branch);
	free(n->path);
	free(n->text);
	wh_store_file_close(n->large);
	free(n);
}

int branch_tree(struct wh_storefs *fs, const char *branch, struct wh_store_id *ret_commit,
		struct wh_store_id *ret_tree)
{
	struct wh_store_commit c;
	int r = wh_store_branch_head(fs->store, branch, ret_commit);
	if (r >= 0)
		r = wh_store_commit_read(fs->store, ret_commit, &c);
	if (r < 0)
		return r;
	*ret_tree = c.tree;
	wh_store_commit_fini(&c);
	return 0;
}

int ro_resolve(const struct node *n, struct wh_store_entry *ret_entry)
{
	struct wh_store_id commit, tree = { { 0 } };
	int r = branch_tree(n->session->fs, n->branch, &commit, &tree);
	if (r < 0 && r != -WH_ENOENT)
		return r;
	return wh_store_lookup(n->session->fs->store, &tree, n->path ? n->path : "", ret_entry);
}

bool node_is_dir(const struct node *n)
{
	switch (nature_of(n->kind)) {
	case N_DIR:
		return true;
	case N_BLOB:
		return n->mode == WH_STORE_DIR || n->mode == WH_STORE_SUBMODULE;
	case N_RW:
		return wh_store_node_mode(n->rw) == WH_STORE_DIR ||
		       wh_store_node_mode(n->rw) == WH_STORE_SUBMODULE;
	default:
		return false;
	}
}

/* The same thing has the same number on one connection. */
struct wh_p9_qid node_qid(const struct node *n)
{
	char b[1024];
	uint64_t serial = n->rw ? wh_store_node_serial(n->rw) : n->tx ? n->tx->serial : 0;
	size_t size = 0;
	b[size++] = (char)n->kind;
	memcpy(b + size, &serial, sizeof serial);
	size += sizeof serial;
	if (n->kind != K_RO) {
		memcpy(b + size, n->id.bytes, 20);
		memcpy(b + size + 20, n->id2.bytes, 20);
		size += 40;
	}
	struct wh_p9_qid q = { .type = node_is_dir(n) ? WH_P9_QID_DIR : WH_P9_QID_FILE };
	const char *name = n->branch ? n->branch : "", *path = n->path ? n->path : "";
	size_t name_size = strlen(name);
	if (name_size > 255)
		name_size = 255;
	memcpy(b + size, name, name_size + 1);
	size += name_size + 1;
	uint64_t h = n->rw ? serial : wh_siphash(n->session->fs->key, path, strlen(path));
	memcpy(b + size, &h, sizeof h);
	size += sizeof h;
	q.path = wh_siphash(n->session->fs->key, b, size);
	return q;
}

/* ---- names of branches as one path element: '/' is %2F ---- */

static bool branch_decode(const char *name, size_t size, char *to, size_t max)
{
	size_t n = 0;
	for (size_t i = 0; i < size; i++) {
		if (n + 1 >= max)
			return false;
		if (size - i >= 3 && !memcmp(name + i, "%2F", 3)) {
			to[n++] = '/';
			i += 2;
		} else {
			to[n++] = name[i];
		}
	}
	to[n] = 0;
	return wh_store_branch_valid(to);
}

static char *branch_encode(const char *branch)
{
	char *to = malloc(3 * strlen(branch) + 1), *p = to;
	for (; p && *branch; branch++) {
		if (*branch == '/') {
			memcpy(p, "%2F", 3);
			p += 3;
		} else {
			*p++ = *branch;
		}
	}
	if (p)
		*p = 0;
	return to;
}

static bool branch_exists(struct session *s, const char *branch)
{
	struct wh_store_id id;
	for (struct empty_branch *e = s->empty; e; e = e->next)
		if (wh_streq(e->name, branch))
			return true;
	return wh_store_branch_head(s->fs->store, branch, &id) >= 0;
}

/* ---- steps ---- */

static struct node *child_node(const struct node *in, enum kind kind)
{
	struct node *n = node_copy(in);
	if (n) {
		n->kind = kind;
		n->mode = WH_STORE_DIR;
	}
	return n;
}

static char *join(const char *a, const char *b, size_t b_size)
{
	size_t n = a ? strlen(a) : 0;
	char *p = malloc(n + b_size + 2);
	if (!p)
		return NULL;
	if (n) {
		memcpy(p, a, n);
		p[n++] = '/';
	}
	memcpy(p + n, b, b_size);
	p[n + b_size] = 0;
	return p;
}

static bool side_of(const struct node *n, enum kind kind, struct wh_store_id *ret_tree)
{
	const struct wh_store_sides *sides = n->tx->dead ? NULL : wh_store_tx_sides(n->tx->tx);
	if (!sides)
		return false;
	*ret_tree = kind == K_SIDE_OURS     ? sides->ours
		    : kind == K_SIDE_THEIRS ? sides->theirs
					    : sides->base;
	return true;
}

/* With a token for a folder, only what cannot show or change anything beside it. */
static bool path_allows(enum kind k)
{
	return k == K_HEAD || k == K_HEAD_LIVE || k == K_RO || k == K_TRANSACTIONS ||
	       k == K_WATCH || k == K_HISTORY || k == K_TREE_LIVE || k == K_LOG || k == K_RW ||
	       k == K_MSG || k == K_CTL || k == K_ORIGIN || k == K_DURABILITY;
}

static bool child_allowed(const struct node *in, enum kind k)
{
	if (!in->session->path[0])
		return true;
	return path_allows(k) && !(in->kind == K_BRANCH && k == K_LOG);
}

bool path_is_top(const struct node *n)
{
	return n->session->path[0] && n->path && wh_streq(n->path, n->session->path);
}

int rw_root(const struct session *s, struct tx *t, struct wh_store_node **ret_node)
{
	struct wh_store_node *at = wh_store_tx_root(t->tx), *next;
	const char *path = s->path;
	for (size_t n; *path; path += n + (path[n] == '/')) {
		n = strcspn(path, "/");
		int r = wh_store_node_find(at, path, n, &next);
		if (r == -WH_ENOENT && !s->read_only)
			r = wh_store_node_create(at, path, n, WH_STORE_DIR, &next);
		wh_store_node_unref(at);
		if (r < 0)
			return r;
		at = next;
	}
	if (wh_store_node_mode(at) != WH_STORE_DIR) {
		wh_store_node_unref(at);
		return -WH_ENOTDIR;
	}
	*ret_node = at;
	return 0;
}

static int step_fixed(const struct node *in, const struct child *c, struct node **ret_node)
{
	struct wh_store_id side = { { 0 } };
	bool merged = in->kind == K_TX && (c->kind == K_SIDE_OURS || c->kind == K_SIDE_THEIRS ||
					   c->kind == K_SIDE_BASE || c->kind == K_CONFLICTS);
	if (merged && !side_of(in, c->kind, &side))
		return -WH_ENOENT;
	if ((in->kind == K_TX && in->tx->dead) || !child_allowed(in, c->kind))
		return -WH_ENOENT;
	struct node *n = child_node(in, c->kind);
	if (!n)
		return -WH_ENOMEM;
	wh_store_node_unref(n->rw); /* of the folder that was left by ".." */
	n->rw = NULL;
	bool below = in->kind == K_BRANCH && in->session->path[0] &&
		     (c->kind == K_RO || c->kind == K_WATCH || c->kind == K_HISTORY);
	if (below) {
		free(n->path);
		n->path = strdup(in->session->path);
	}
	int r = below && !n->path ? -WH_ENOMEM
		: c->kind == K_RW ? rw_root(in->session, in->tx, &n->rw)
				  : 0;
	if (r < 0) {
		node_free(n);
		return r;
	}
	if (c->kind == K_RW)
		;
	else if (merged && c->kind != K_CONFLICTS)
		n->id = side;
	else if (in->kind == K_SNAPSHOT && c->kind == K_OBJECT)
		n->id = in->id2; /* the commit's tree */
	*ret_node = n;
	return 0;
}

static int commit_named(struct session *s, const char *name, size_t size,
			struct wh_store_id *ret_id)
{
	int r = wh_store_id_parse(name, size, ret_id);
	if (r >= 0 && wh_store_object_kind(s->fs->store, ret_id) != WH_STORE_OBJECT_COMMIT)
		r = -WH_ENOENT;
	return r < 0 ? -WH_ENOENT : 0;
}

static int step_commit(const struct node *in, enum kind kind, struct wh_p9_str name,
		       struct node **ret_node)
{
	struct wh_store_id id;
	struct wh_store_commit c;
	int r = commit_named(in->session, name.text, name.size, &id);
	if (r >= 0)
		r = wh_store_commit_read(in->session->fs->store, &id, &c);
	if (r < 0)
		return -WH_ENOENT;
	struct node *n = child_node(in, kind);
	if (n) {
		if (kind == K_DIFF) { /* branch, transaction or snapshot stay as they are */
			n->id2 = c.tree;
			n->mode = (uint32_t)in->kind;
		} else {
			n->id = id;
			n->id2 = c.tree;
		}
		*ret_node = n;
	}
	wh_store_commit_fini(&c);
	return n ? 0 : -WH_ENOMEM;
}

static int step_object(struct wh_p9_request *q, const struct node *in, struct wh_p9_str name,
		       struct node **ret_node)
{
	struct wh_store *s = in->session->fs->store;
	struct wh_store_tree *t;
	struct wh_store_entry e;
	struct wh_store_id tree = in->id;
	int r = 0;
	if (in->mode == WH_STORE_SUBMODULE)
		return -WH_ENOENT;
	if (in->kind == K_RO) {
		r = ro_resolve(in, &e);
		if (r >= 0 && e.mode != WH_STORE_DIR)
			return wh_p9_fail(q, -WH_ENOTDIR, "Can't walk from a file");
		tree = e.id;
	}
	if (r >= 0)
		r = wh_store_tree_open(s, &tree, &t);
	if (r < 0)
		return r;
	r = wh_store_tree_find(t, name.text, name.size, &e);
	wh_store_tree_unref(t);
	if (r < 0)
		return r;
	struct node *n = child_node(in, in->kind == K_RO ? K_RO : K_OBJECT);
	if (!n)
		return -WH_ENOMEM;
	free(n->path);
	n->path = join(in->path, name.text, name.size);
	n->mode = e.mode;
	n->id = e.id;
	if (!n->path) {
		node_free(n);
		return -WH_ENOMEM;
	}
	*ret_node = n;
	return 0;
}

/* D-<tree>, F-, X-, L-<blob> */
static int step_trees(const struct node *in, struct wh_p9_str name, struct node **ret_node)
{
	struct wh_store_id id;
	if (name.size != 42 || name.text[1] != '-' || wh_store_id_parse(name.text + 2, 40, &id) < 0)
		return -WH_ENOENT;
	char c = name.text[0];
	uint32_t mode = c == 'D'   ? WH_STORE_DIR
			: c == 'F' ? WH_STORE_FILE
			: c == 'X' ? WH_STORE_EXECUTABLE
			: c == 'L' ? WH_STORE_SYMLINK
				   : 0;
	static const char empty[] = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
	bool none = mode == WH_STORE_DIR && !memcmp(name.text + 2, empty, 40);
	int kind = none ? WH_STORE_OBJECT_TREE : wh_store_object_kind(in->session->fs->store, &id);
	if (mode == WH_STORE_FILE && kind == WH_STORE_OBJECT_TREE) {
		uint64_t size; /* a large file's */
		if (wh_store_blob_size(in->session->fs->store, &id, &size) < 0)
			return -WH_ENOENT;
		mode = WH_STORE_LARGE;
		kind = WH_STORE_OBJECT_BLOB;
	}
	if (!mode || kind != (mode == WH_STORE_DIR ? WH_STORE_OBJECT_TREE : WH_STORE_OBJECT_BLOB))
		return -WH_ENOENT;
	struct node *n = child_node(in, K_OBJECT);
	if (!n)
		return -WH_ENOMEM;
	n->mode = mode;
	n->id = none ? (struct wh_store_id){ { 0 } } : id;
	*ret_node = n;
	return 0;
}

struct nth {
	uint64_t left;
	int64_t time; /* or the newest not after this */
	struct wh_store_id id;
	bool found, by_time;
};

/* Generations follow the first parent: what the branch's head was. */
static int find_past(struct wh_store *s, const struct wh_store_id *head, struct nth *want)
{
	struct wh_store_id at = *head;
	for (;;) {
		struct wh_store_commit c;
		int r = wh_store_commit_read(s, &at, &c);
		if (r < 0)
			return r;
		if (want->by_time ? c.time_s <= want->time : !want->left--) {
			want->id = at;
			want->found = true;
		}
		bool more = !want->found && c.parent_count;
		if (more)
			at = c.parents[0];
		wh_store_commit_fini(&c);
		if (!more)
			return want->found ? 0 : -WH_ENOENT;
	}
}

/* at/~3, at/2026-11-30T12:00:00Z, at/@1796000000, at/2h, at/3d (ago) */
static int step_at(const struct node *in, struct wh_p9_str name, struct node **ret_node)
{
	char text[64], unit = 0, rest = 0;
	struct nth want = { 0 };
	struct wh_store_id head;
	struct wh_store_commit c;
	unsigned long long v;
	struct tm tm = { 0 };
	if (name.size >= sizeof text)
		return -WH_ENOENT;
	memcpy(text, name.text, name.size);
	text[name.size] = 0;
	want.by_time = true;
	if (sscanf(text, "~%19llu%c", &v, &rest) == 1) {
		want.by_time = false;
		want.left = v;
	} else if (sscanf(text, "@%19llu%c", &v, &rest) == 1) {
		want.time = (int64_t)v;
	} else if (sscanf(text, "%9llu%c%c", &v, &unit, &rest) == 2 && strchr("smhdw", unit)) {
		int64_t seconds = unit == 's'   ? 1
				  : unit == 'm' ? 60
				  : unit == 'h' ? 3600
				  : unit == 'd' ? 86400
						: 604800;
		want.time = (int64_t)time(NULL) - seconds * (int64_t)v;
	} else {
		const char *end = strptime(text, "%Y-%m-%d", &tm);
		if (end && *end)
			end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
		if (!end || *end)
			return -WH_ENOENT;
		want.time = (int64_t)timegm(&tm);
	}
	struct wh_store *s = in->session->fs->store;
	int r = wh_store_branch_head(s, in->branch, &head);
	if (r >= 0)
		r = find_past(s, &head, &want);
	if (r >= 0)
		r = wh_store_commit_read(s, &want.id, &c);
	if (r < 0)
		return -WH_ENOENT;
	struct node *n = child_node(in, K_SNAPSHOT);
	if (n) {
		n->id = want.id;
		n->id2 = c.tree;
		*ret_node = n;
	}
	wh_store_commit_fini(&c);
	return n ? 0 : -WH_ENOMEM;
}

static int step_branch_dynamic(const struct node *in, struct wh_p9_str name, struct node **ret_node)
{
	struct wh_store_id id;
	if (name.size != 47 || memcmp(name.text, "events@", 7) ||
	    commit_named(in->session, name.text + 7, 40, &id) < 0)
		return -WH_ENOENT;
	struct node *n = child_node(in, K_EVENTS);
	if (!n)
		return -WH_ENOMEM;
	n->id = id;
	*ret_node = n;
	return 0;
}

static int step_named(const struct node *in, enum kind kind, char *name, struct node **ret_node)
{
	struct node *n = name ? child_node(in, kind) : NULL;
	if (!n) {
		free(name);
		return -WH_ENOMEM;
	}
	free(n->branch);
	n->branch = name;
	*ret_node = n;
	return 0;
}

static int step_watch(const struct node *in, enum kind kind, struct wh_p9_str name, size_t cut,
		      struct node **ret_node)
{
	if (name.size <= cut || (cut && memcmp(name.text + name.size - cut, ".node", 5)))
		return -WH_ENOENT;
	struct node *n = child_node(in, kind);
	if (n) {
		free(n->path);
		n->path = join(in->path, name.text, name.size - cut);
	}
	if (!n || !n->path) {
		node_free(n);
		return -WH_ENOMEM;
	}
	*ret_node = n;
	return 0;
}

static int step_rw(struct wh_p9_request *q, const struct node *in, struct wh_p9_str name,
		   struct node **ret_node)
{
	struct wh_store_node *found;
	if (in->tx->dead)
		return -WH_ENOENT;
	int r = wh_store_node_find(in->rw, name.text, name.size, &found);
	if (r < 0)
		return r == -WH_ENOTDIR ? wh_p9_fail(q, r, "Can't walk from a file") : r;
	struct node *n = child_node(in, K_RW);
	if (!n) {
		wh_store_node_unref(found);
		return -WH_ENOMEM;
	}
	wh_store_node_unref(n->rw);
	n->rw = found;
	*ret_node = n;
	return 0;
}

static int step_tx(const struct node *in, struct wh_p9_str name, struct node **ret_node)
{
	struct tx *t = tx_find(in->session, in->branch, name.text, name.size);
	if (!t)
		return -WH_ENOENT;
	struct node *n = child_node(in, K_TX);
	if (!n)
		return -WH_ENOMEM;
	n->tx = t;
	t->refs++;
	*ret_node = n;
	return 0;
}

static int step_remote(const struct node *in, struct wh_p9_str name, struct node **ret_node)
{
	struct remote *r = remote_find(in->session->fs, name.text, name.size);
	if (!r)
		return -WH_ENOENT;
	struct node *n = child_node(in, K_REMOTE);
	if (!n)
		return -WH_ENOMEM;
	n->remote = r;
	r->refs++;
	*ret_node = n;
	return 0;
}

static int step_branch(const struct node *in, struct wh_p9_str name, struct node **ret_node)
{
	char branch[WH_STORE_BRANCH_SIZE_MAX + 1];
	if (!branch_decode(name.text, name.size, branch, sizeof branch) ||
	    !branch_exists(in->session, branch))
		return -WH_ENOENT;
	return step_named(in, K_BRANCH, strdup(branch), ret_node);
}

int node_step(struct wh_p9_request *q, const struct node *in, struct wh_p9_str name,
	      struct node **ret_node)
{
	if (!node_is_dir(in))
		return wh_p9_fail(q, -WH_ENOTDIR, "Can't walk from a file");
	for (size_t i = 0; i < WH_ARRAY_COUNT(children); i++)
		if (children[i].in == in->kind && strlen(children[i].name) == name.size &&
		    !memcmp(children[i].name, name.text, name.size))
			return step_fixed(in, &children[i], ret_node);
	switch (in->kind) {
	case K_BRANCHES:
		return step_branch(in, name, ret_node);
	case K_BRANCH:
		return in->session->path[0] ? -WH_ENOENT : step_branch_dynamic(in, name, ret_node);
	case K_TRANSACTIONS:
		return step_tx(in, name, ret_node);
	case K_RW:
		return step_rw(q, in, name, ret_node);
	case K_RO:
	case K_OBJECT:
	case K_SIDE_OURS:
	case K_SIDE_THEIRS:
	case K_SIDE_BASE:
		return step_object(q, in, name, ret_node);
	case K_WATCH:
		return step_watch(in, K_WATCH, name, 5, ret_node);
	case K_HISTORY:
		return step_watch(in, K_HISTORY, name, 5, ret_node);
	case K_AT:
		return step_at(in, name, ret_node);
	case K_SNAPSHOTS:
		return step_commit(in, K_SNAPSHOT, name, ret_node);
	case K_COMMITS:
		return step_commit(in, K_COMMIT, name, ret_node);
	case K_BRANCH_DIFF:
	case K_TX_DIFF:
	case K_SNAP_DIFF:
		return step_commit(in, K_DIFF, name, ret_node);
	case K_TREES:
		return step_trees(in, name, ret_node);
	case K_REMOTES:
		return step_remote(in, name, ret_node);
	default:
		return -WH_ENOENT;
	}
}

/* ---- listings ---- */

static int list_add(struct listing *l, char *name, enum kind kind)
{
	if (!name)
		return -WH_ENOMEM;
	if (l->count == l->room) {
		struct entry *more = realloc(l->list, (l->room = l->room * 2 + 16) * sizeof *more);
		if (!more) {
			free(name);
			return -WH_ENOMEM;
		}
		l->list = more;
	}
	l->list[l->count++] = (struct entry){ .name = name, .kind = kind };
	return 0;
}

static int list_branch(void *ctx, const char *branch, const struct wh_store_id *head)
{
	return list_add(ctx, branch_encode(branch), K_BRANCH);
}

static int list_rw(void *ctx, const char *name, size_t size, uint32_t mode)
{
	return list_add(ctx, strndup(name, size), K_RW);
}

static int list_tree(const struct node *n, const struct wh_store_id *id, const char *suffix,
		     struct listing *l)
{
	struct wh_store_tree *t;
	int r = wh_store_tree_open(n->session->fs->store, id, &t);
	if (r < 0)
		return r;
	for (size_t i = 0; i < wh_store_tree_count(t) && r >= 0; i++) {
		struct wh_store_entry e;
		wh_store_tree_entry(t, i, &e);
		if (e.name_size + strlen(suffix) > WH_STORE_NAME_SIZE_MAX)
			continue;
		char *name = malloc(e.name_size + strlen(suffix) + 1);
		if (name) {
			memcpy(name, e.name, e.name_size);
			memcpy(name + e.name_size, suffix, strlen(suffix) + 1);
		}
		r = list_add(l, name, n->kind);
		if (r >= 0) {
			l->list[l->count - 1].mode = e.mode;
			l->list[l->count - 1].id = e.id;
		}
	}
	wh_store_tree_unref(t);
	return r;
}

static int list_dynamic(struct node *n, struct listing *l)
{
	struct wh_store_entry e;
	struct session *s = n->session;
	int r = 0;
	switch (n->kind) {
	case K_BRANCHES:
		r = wh_store_branch_each(s->fs->store, list_branch, l);
		for (struct empty_branch *b = s->empty; b && r >= 0; b = b->next) {
			struct wh_store_id id;
			if (wh_store_branch_head(s->fs->store, b->name, &id) < 0)
				r = list_add(l, branch_encode(b->name), K_BRANCH);
		}
		return r;
	case K_TRANSACTIONS:
		WH_LIST_FOR_EACH(i, &s->txs) {
			struct tx *t = WH_LIST_ENTRY(i, struct tx, node);
			if (r >= 0 && wh_streq(t->branch, n->branch))
				r = list_add(l, strdup(t->name), K_TX);
		}
		WH_LIST_FOR_EACH(i, &s->fs->leased) {
			struct tx *t = WH_LIST_ENTRY(i, struct tx, node);
			if (r >= 0 && sees_leases(s) && wh_streq(t->branch, n->branch))
				r = list_add(l, strdup(t->name), K_TX);
		}
		return r;
	case K_REMOTES:
		WH_LIST_FOR_EACH(i, &s->fs->remotes) {
			struct remote *t = WH_LIST_ENTRY(i, struct remote, node);
			if (r >= 0)
				r = list_add(l, strdup(t->name), K_REMOTE);
		}
		return r;
	case K_RW:
		return n->tx->dead ? -WH_ENOENT : wh_store_node_each(n->rw, list_rw, l);
	case K_RO:
	case K_WATCH:
	case K_HISTORY:
		r = ro_resolve(n, &e);
		if (r < 0)
			return n->kind == K_RO ? r : 0;
		return e.mode != WH_STORE_DIR
			       ? 0
			       : list_tree(n, &e.id, n->kind == K_RO ? "" : ".node", l);
	case K_OBJECT:
	case K_SIDE_OURS:
	case K_SIDE_THEIRS:
	case K_SIDE_BASE:
		return n->mode == WH_STORE_SUBMODULE ? 0 : list_tree(n, &n->id, "", l);
	default:
		return 0;
	}
}

int node_list(struct node *n, struct listing **ret_listing)
{
	struct listing *l = calloc(1, sizeof *l);
	struct wh_store_id side;
	int r = l ? 0 : -WH_ENOMEM;
	for (size_t i = 0; r >= 0 && i < WH_ARRAY_COUNT(children); i++) {
		enum kind k = children[i].kind;
		if (children[i].in != n->kind || !child_allowed(n, k))
			continue;
		if (n->kind == K_TX &&
		    (k == K_CONFLICTS || (k >= K_SIDE_OURS && k <= K_SIDE_BASE)) &&
		    !side_of(n, K_SIDE_OURS, &side))
			continue;
		r = list_add(l, strdup(children[i].name), k);
	}
	if (r >= 0)
		r = list_dynamic(n, l);
	if (r < 0) {
		listing_free(l);
		return r;
	}
	*ret_listing = l;
	return 0;
}

int node_entry(struct wh_p9_request *q, const struct node *dir, const struct entry *e,
	       struct node **ret_node)
{
	if (nature_of(dir->kind) != N_BLOB)
		return node_step(q, dir, wh_p9_str(e->name, strlen(e->name)), ret_node);
	struct node *n = child_node(dir, dir->kind == K_RO ? K_RO : K_OBJECT);
	if (!n)
		return -WH_ENOMEM;
	free(n->path);
	n->path = join(dir->path, e->name, strlen(e->name));
	n->mode = e->mode;
	n->id = e->id;
	if (!n->path) {
		node_free(n);
		return -WH_ENOMEM;
	}
	*ret_node = n;
	return 0;
}
