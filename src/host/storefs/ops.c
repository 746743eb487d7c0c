/* SPDX-License-Identifier: ISC */
/* The 9P operations on nodes. ctx is the session. */
#include <stdio.h>
#include <stdlib.h>

#include "storefs_priv.h"

#define READ_ONLY_DIR "Directory is read-only"

static bool is_remote_text(const struct node *n)
{
	return n->kind == K_URL || n->kind == K_AUTO_PUSH || n->kind == K_REMOTE_TIMEOUT;
}

static struct node *node_of(const struct wh_p9_fid *f)
{
	return f->node;
}

static bool is_token(struct wh_p9_str text)
{
	return text.size > 6 && !memcmp(text.text, "token:", 6);
}

/* A token as attach name or as user name. The first attach decides; a later one may show the same again. */
static int take_token(struct session *s, struct wh_p9_request *q, struct wh_p9_str *aname)
{
	struct wh_storefs_token t;
	bool in_name = is_token(*aname);
	struct wh_p9_str text = in_name ? *aname : q->t.name;
	if (!is_token(text)) {
		if (s->fs->config.tokens && !s->token[0])
			return wh_p9_fail(q, -WH_EACCES, "a token is needed to attach");
		return 0;
	}
	int r = wh_storefs_token_take(wh_store_path(s->fs->store), text.text, text.size, &t);
	if (r < 0)
		return wh_p9_fail(q, -WH_EACCES,
				  r == -WH_ETIMEDOUT ? "the token has expired"
						     : "the token is not valid");
	bool all = wh_streq(t.branch, "*");
	bool same = wh_streq(s->token, t.name) && wh_streq(s->path, t.path) &&
		    s->allow == t.allow && s->until_s == t.until_s &&
		    (all || wh_streq(s->root, t.branch));
	if (s->attached && !same)
		return wh_p9_fail(q, -WH_EACCES, "another token than at first");
	if (in_name)
		*aname = wh_p9_str("", 0);
	if (s->attached)
		return 0;
	if (!all) {
		if (s->fs->config.branch && !wh_streq(s->fs->config.branch, t.branch))
			return wh_p9_fail(q, -WH_EACCES, "the token is for another branch");
		memcpy(s->root, t.branch, sizeof s->root);
	}
	memcpy(s->token, t.name, sizeof s->token);
	memcpy(s->path, t.path, sizeof s->path);
	s->allow = t.allow;
	s->until_s = t.until_s;
	s->read_only |= t.allow == WH_STOREFS_READ;
	return 0;
}

/* The first attach of a connection decides what it can reach. */
static int choose_root(struct session *s, struct node *n, struct wh_p9_str aname)
{
	char name[WH_STORE_BRANCH_SIZE_MAX + 1];
	while (aname.size && aname.text[0] == '/')
		aname = wh_p9_str(aname.text + 1, aname.size - 1u);
	if (aname.size >= 3 && !memcmp(aname.text + aname.size - 3, ",ro", 3)) {
		s->read_only = true;
		aname.size = (uint16_t)(aname.size - 3);
	}
	bool wants = aname.size > 7 && !memcmp(aname.text, "branch/", 7) &&
		     aname.size - 7u < sizeof name;
	if (aname.size && !wants)
		return -WH_ENOENT;
	if (wants) {
		memcpy(name, aname.text + 7, aname.size - 7u);
		name[aname.size - 7] = 0;
		if (!wh_store_branch_valid(name))
			return -WH_ENOENT;
	} else {
		snprintf(name, sizeof name, "%s", s->fs->config.branch ? s->fs->config.branch : "");
	}
	if (!s->attached && s->fs->config.branch)
		snprintf(s->root, sizeof s->root, "%s", s->fs->config.branch);
	else if (!s->attached && !s->root[0])
		snprintf(s->root, sizeof s->root, "%s", name);
	if (s->root[0] && *name && !wh_streq(s->root, name))
		return -WH_EACCES;
	s->attached = true;
	if (!*name && !s->root[0])
		return 0;
	n->kind = K_BRANCH;
	n->branch = strdup(*name ? name : s->root);
	return n->branch ? 0 : -WH_ENOMEM;
}

static int op_attach(void *ctx, struct wh_p9_request *q)
{
	struct session *s = ctx;
	struct node *n = node_new(s, K_ROOT);
	if (!n)
		return -WH_ENOMEM;
	s->fs->requests++;
	struct wh_p9_str aname = q->t.name2;
	int r = take_token(s, q, &aname);
	if (r >= 0)
		r = choose_root(s, n, aname);
	if (r < 0) {
		node_free(n);
		return r;
	}
	if (!s->peer_known && !is_token(q->t.name)) {
		size_t size =
			q->t.name.size < sizeof s->user - 1 ? q->t.name.size : sizeof s->user - 1;
		memcpy(s->user, q->t.name.text, size);
		s->user[size] = 0;
	}
	q->fid->node = n;
	q->r.qid = node_qid(n);
	return 0;
}

/* Is it the folder of a transaction above which the connection does not go? */
static bool is_rw_top(const struct node *n)
{
	struct wh_store_node *top = NULL;
	bool is = n->session->path[0] && !n->tx->dead && rw_root(n->session, n->tx, &top) >= 0 &&
		  top == n->rw;
	wh_store_node_unref(top);
	return is;
}

/* The way up: ".." of anything is found again from the root. */
static int parent_of(const struct node *n, struct node **ret_node)
{
	static const struct {
		enum kind kind, up;
	} ups[] = { { K_BRANCH, K_BRANCHES },     { K_TX, K_TRANSACTIONS },
		    { K_TRANSACTIONS, K_BRANCH }, { K_SNAPSHOT, K_SNAPSHOTS },
		    { K_REMOTE, K_REMOTES },      { K_BRANCH_DIFF, K_BRANCH },
		    { K_TX_DIFF, K_TX },          { K_SNAP_DIFF, K_SNAPSHOT },
		    { K_AT, K_BRANCH },           { K_SRC, K_DEBUG } };
	enum kind up = K_ROOT;
	bool path = n->path && *n->path && !path_is_top(n);
	struct node *p = node_copy(n);
	if (!p)
		return -WH_ENOMEM;
	for (size_t i = 0; i < WH_ARRAY_COUNT(ups); i++)
		if (ups[i].kind == n->kind)
			up = ups[i].up;
	if (n->kind == K_RW) {
		struct wh_store_node *above = wh_store_node_parent(n->rw);
		bool root = above == n->rw || is_rw_top(n);
		wh_store_node_unref(above);
		up = root ? K_TX : K_RW;
		if (!root) {
			wh_store_node_unref(p->rw);
			p->rw = wh_store_node_parent(n->rw);
		}
	} else if (n->kind == K_RO || n->kind == K_WATCH || n->kind == K_HISTORY) {
		up = path ? n->kind : K_BRANCH;
	} else if (n->kind >= K_SIDE_OURS && n->kind <= K_SIDE_BASE) {
		up = K_TX;
	}
	if (path_is_top(n)) { /* as it is when the branch is walked to */
		free(p->path);
		p->path = NULL;
	} else if (path) {
		char *slash = strrchr(p->path, '/');
		*(slash ? slash : p->path) = 0;
	}
	if (n->session->root[0] && (up == K_ROOT || up == K_BRANCHES))
		up = K_BRANCH; /* no way out */
	p->kind = up;
	p->mode = WH_STORE_DIR;
	*ret_node = p;
	return 0;
}

static int op_walk(void *ctx, struct wh_p9_request *q)
{
	struct session *s = ctx;
	if (session_expired(s))
		return wh_p9_fail(q, -WH_EACCES, "the token has expired");
	struct node *at = node_copy(node_of(q->fid)), *next;
	s->fs->requests++;
	if (!at)
		return -WH_ENOMEM;
	for (uint16_t i = 0; i < q->t.name_count; i++) {
		struct wh_p9_str name = q->t.names[i];
		int r;
		if (name.size == 2 && !memcmp(name.text, "..", 2))
			r = node_is_dir(at) ? parent_of(at, &next)
					    : wh_p9_fail(q, -WH_ENOTDIR, "Can't walk from a file");
		else
			r = node_step(q, at, name, &next);
		node_free(at);
		if (r < 0) /* never a part of the way: clients act on the wrong file otherwise */
			return r;
		at = next;
		q->r.qids[i] = node_qid(at);
	}
	q->r.name_count = q->t.name_count;
	q->fid2->node = at;
	return 0;
}

static bool writes(const struct wh_p9_request *q)
{
	return q->t.flags & 3u;
}

#define FLAG_TRUNC 01000u

static int open_node(struct wh_p9_request *q, struct node *n)
{
	struct wh_store_entry e;
	enum nature nature = nature_of(n->kind);
	bool strict = q->dialect == WH_P9_DIALECT_2000L;
	if (n->tx && n->tx->dead)
		return -WH_ENOENT;
	if (strict && writes(q) && nature == N_BLOB)
		return node_is_dir(n) ? -WH_EISDIR : wh_p9_fail(q, -WH_EROFS, "Read-only file");
	if (nature == N_STATUS) {
		int r = node_text(n, &n->text, &n->text_size);
		n->text_taken = r >= 0;
		return r < 0 ? r : 0;
	}
	if (n->kind == K_RO && !node_is_dir(n)) { /* what is there now, for as long as it is open */
		int r = ro_resolve(n, &e);
		if (r < 0)
			return r;
		if (e.mode != WH_STORE_DIR) {
			n->id = e.id;
			n->mode = e.mode;
		}
	}
	if (strict && q->t.flags & FLAG_TRUNC && nature == N_TEXT && n->session->read_only)
		return wh_p9_fail(q, -WH_EROFS, "Read-only file");
	if (strict && q->t.flags & FLAG_TRUNC && nature == N_TEXT && is_remote_text(n) &&
	    n->session->allow < WH_STOREFS_ADMIN)
		return wh_p9_fail(q, -WH_EACCES, "the token does not allow this");
	if (strict && q->t.flags & FLAG_TRUNC && nature == N_TEXT)
		return text_truncate(n, 0);
	if (strict && q->t.flags & FLAG_TRUNC && nature == N_RW && !node_is_dir(n))
		return wh_store_node_truncate(n->rw, 0);
	return 0;
}

static int op_open(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid);
	if (session_expired(n->session))
		return wh_p9_fail(q, -WH_EACCES, "the token has expired");
	int r = open_node(q, n);
	if (r < 0)
		return r;
	q->r.qid = node_qid(n);
	return 0;
}

/* ---- reading ---- */

static int give(struct wh_p9_request *q, const void *data, size_t size, uint64_t offset)
{
	if (offset > size && q->dialect != WH_P9_DIALECT_2000L) {
		snprintf(q->text_buffer, sizeof q->text_buffer,
			 "Offset %llu beyond end-of-file (len = %zu)", (unsigned long long)offset,
			 size);
		return wh_p9_fail(q, -WH_EINVAL, q->text_buffer);
	}
	size_t n = offset < size ? size - (size_t)offset : 0;
	if (n > q->payload_size)
		n = q->payload_size;
	wh_iov_write(q->payload, q->payload_count, 0, (const char *)data + (n ? offset : 0), n);
	q->r.count = (uint32_t)n;
	return 0;
}

/* Fills the answer from `of`, which reads as wh_store_file_read does. */
static int give_from(struct wh_p9_request *q, void *of,
		     int64_t (*reads)(void *of, uint64_t offset, void *to, size_t size))
{
	uint32_t done = 0;
	for (uint32_t i = 0; i < q->payload_count; i++) {
		int64_t got = reads(of, q->t.offset + done, q->payload[i].base, q->payload[i].size);
		if (got < 0)
			return (int)got;
		done += (uint32_t)got;
		if ((size_t)got < q->payload[i].size)
			break;
	}
	q->r.count = done;
	return 0;
}

static int64_t file_reads(void *file, uint64_t offset, void *to, size_t size)
{
	return wh_store_file_read(file, offset, to, size);
}

static int64_t node_reads(void *node, uint64_t offset, void *to, size_t size)
{
	return wh_store_node_read(node, offset, to, size);
}

static int read_large(struct wh_p9_request *q, struct node *n)
{
	int r = n->large ? 0 : wh_store_file_open(n->session->fs->store, &n->id, &n->large);
	return r < 0 ? r : give_from(q, n->large, file_reads);
}

static int read_blob(struct wh_p9_request *q, struct node *n)
{
	void *data;
	size_t size;
	if (n->mode == WH_STORE_LARGE)
		return read_large(q, n);
	if (!n->text) {
		int r = wh_store_blob_read(n->session->fs->store, &n->id, &data, &size);
		if (r < 0)
			return r;
		n->text = data;
		n->text_size = size;
	}
	return give(q, n->text, n->text_size, q->t.offset);
}

static int read_rw(struct wh_p9_request *q, struct node *n)
{
	uint64_t size;
	if (n->tx->dead)
		return -WH_ENOENT;
	int r = wh_store_node_size(n->rw, &size);
	if (r < 0)
		return r;
	if (q->t.offset > size)
		return give(q, "", (size_t)size, q->t.offset);
	return give_from(q, n->rw, node_reads);
}

static int op_read(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid);
	char *text;
	size_t size;
	int r;
	n->session->fs->requests++;
	if (session_expired(n->session))
		return wh_p9_fail(q, -WH_EACCES, "the token has expired");
	if (q->fid->qid.type & WH_P9_QID_DIR)
		return -WH_EISDIR;
	switch (nature_of(n->kind)) {
	case N_STREAM:
		return stream_read(q, n);
	case N_BLOB:
		return read_blob(q, n);
	case N_RW:
		return read_rw(q, n);
	case N_STATUS:
		return give(q, n->text, n->text_size, q->t.offset);
	default:
		r = node_text(n, &text, &size);
		if (r < 0)
			return r;
		if (n->text && q->t.offset >= n->command_at)
			r = give(q, text, size, q->t.offset - n->command_at);
		else if (nature_of(n->kind) == N_COMMAND && q->t.offset > size)
			q->r.count = 0;
		else
			r = give(q, text, size, q->t.offset);
		free(text);
		return r;
	}
}

static int op_write(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid);
	n->session->fs->requests++;
	if (session_expired(n->session))
		return wh_p9_fail(q, -WH_EACCES, "the token has expired");
	if (n->session->read_only)
		return wh_p9_fail(q, -WH_EROFS, "Read-only file");
	switch (nature_of(n->kind)) {
	case N_COMMAND:
		return command_write(q, n);
	case N_TEXT:
		if (is_remote_text(n) && n->session->allow < WH_STOREFS_ADMIN)
			return wh_p9_fail(q, -WH_EACCES, "the token does not allow this");
		return text_write(q, n);
	case N_RW:
		break;
	default:
		return wh_p9_fail(q, -WH_EROFS, "Read-only file");
	}
	if (n->tx->dead)
		return -WH_ENOENT;
	uint64_t at = q->t.offset;
	for (uint32_t i = 0; i < q->payload_count; i++) {
		int r = wh_store_node_write(n->rw, at, q->payload[i].base, q->payload[i].size);
		if (r < 0)
			return r;
		at += q->payload[i].size;
	}
	q->r.count = q->payload_size;
	return 0;
}

/* ---- attributes ---- */

static uint32_t mode_of(const struct node *n)
{
	uint32_t kind = n->kind == K_RW                ? wh_store_node_mode(n->rw)
			: nature_of(n->kind) == N_BLOB ? n->mode
						       : WH_STORE_FILE;
	if (node_is_dir(n))
		return 0040775;
	return kind == WH_STORE_SYMLINK ? 0120777 : kind == WH_STORE_EXECUTABLE ? 0100775 : 0100664;
}

static uint64_t time_of(const struct node *n)
{
	struct wh_store_id id = n->id, tree;
	struct wh_store_commit c;
	if (n->kind == K_RO || n->kind == K_HEAD || n->kind == K_BRANCH) {
		if (branch_tree(n->session->fs, n->branch, &id, &tree) < 0)
			return 0;
	} else if (n->kind != K_SNAPSHOT && n->kind != K_SNAP_MSG && n->kind != K_SNAP_HASH &&
		   n->kind != K_COMMIT) {
		return 0;
	}
	if (wh_store_commit_read(n->session->fs->store, &id, &c) < 0)
		return 0;
	uint64_t t = c.time_s > 0 ? (uint64_t)c.time_s : 0;
	wh_store_commit_fini(&c);
	return t;
}

static int op_getattr(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid);
	struct wh_p9_attr *a = &q->r.attr;
	n->session->fs->requests++;
	int r = node_size(n, &a->size);
	if (r < 0)
		return r;
	a->valid = WH_P9_GETATTR_BASIC;
	a->qid = node_qid(n);
	a->mode = mode_of(n);
	a->nlink = 1;
	a->block_size = 4096;
	a->blocks = (a->size + 511) / 512;
	a->mtime_s = a->ctime_s = a->atime_s = time_of(n);
	return 0;
}

static const char *name_of(const struct node *n)
{
	const char *p = n->kind == K_RW       ? wh_store_node_name(n->rw)
			: n->path && *n->path ? n->path
			: n->branch           ? n->branch
					      : "/";
	const char *slash = strrchr(p, '/');
	return slash && slash[1] ? slash + 1 : *p ? p : "/";
}

static int fill_stat(struct node *n, const char *name, struct wh_p9_stat *s, char **ret_link)
{
	void *data;
	size_t size;
	uint32_t mode = mode_of(n);
	*ret_link = NULL;
	int r = node_size(n, &s->length);
	if (r < 0)
		return r;
	s->qid = node_qid(n);
	s->mode = mode & 0777;
	if (node_is_dir(n))
		s->mode |= WH_P9_DMDIR;
	if (mode >> 12 == 012) {
		s->mode |= WH_P9_DMSYMLINK;
		if (n->kind == K_RW) {
			data = calloc(1, (size_t)s->length + 1);
			if (data)
				(void)wh_store_node_read(n->rw, 0, data, (size_t)s->length);
			*ret_link = data;
		} else if (wh_store_blob_read(n->session->fs->store, &n->id, &data, &size) >= 0) {
			*ret_link = data;
		}
		if (*ret_link)
			s->extension =
				wh_p9_str(*ret_link, wh_strnlen(*ret_link, WH_P9_PATH_SIZE_MAX));
	}
	s->atime = s->mtime = (uint32_t)time_of(n);
	s->name = wh_p9_str(name, strlen(name));
	s->uid = s->gid = wh_p9_str("root", 4);
	s->muid = wh_p9_str("none", 4);
	return 0;
}

static int op_stat(void *ctx, struct wh_p9_request *q)
{
	static __thread char *link; /* until the answer is encoded, which is right after */
	struct node *n = node_of(q->fid);
	n->session->fs->requests++;
	free(link);
	return fill_stat(n, name_of(n), &q->r.stat, &link);
}

/* ---- folders ---- */

static int listing_of(struct wh_p9_request *q, struct node *n, uint64_t index)
{
	n->session->fs->requests++;
	if (n->listing && index)
		return 0;
	listing_free(n->listing);
	n->listing = NULL;
	return node_list(n, &n->listing);
}

static int op_readdir(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid), *child;
	int r = listing_of(q, n, q->t.offset);
	if (r < 0)
		return r;
	for (uint64_t i = q->t.offset; i < n->listing->count; i++) {
		const struct entry *e = &n->listing->list[i];
		if (node_entry(q, n, e, &child) < 0)
			continue; /* it went away meanwhile */
		struct wh_p9_dirent d = { .qid = node_qid(child),
					  .offset = i + 1,
					  .name = wh_p9_str(e->name, strlen(e->name)) };
		d.type = (uint8_t)(mode_of(child) >> 12);
		node_free(child);
		if (!wh_p9_request_dirent(q, &d))
			break;
	}
	return 0;
}

static int op_readstat(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid), *child;
	int r = listing_of(q, n, q->fid->dir_index);
	if (r < 0)
		return r;
	while (q->fid->dir_index < n->listing->count) {
		const struct entry *e = &n->listing->list[q->fid->dir_index];
		struct wh_p9_stat s = { 0 };
		char *link = NULL;
		if (node_entry(q, n, e, &child) < 0) {
			q->fid->dir_index++;
			continue;
		}
		bool more = fill_stat(child, e->name, &s, &link) < 0;
		q->fid->dir_index += more;
		if (!more)
			more = wh_p9_request_stat(q, &s);
		free(link);
		node_free(child);
		if (!more)
			break;
	}
	return 0;
}

/* ---- making ---- */

static bool empty_branch_add(struct session *s, const char *name)
{
	for (struct empty_branch *e = s->empty; e; e = e->next)
		if (wh_streq(e->name, name))
			return true;
	struct empty_branch *e = calloc(1, sizeof *e);
	if (!e || !(e->name = strdup(name))) {
		free(e);
		return false;
	}
	e->next = s->empty;
	s->empty = e;
	return true;
}

static int make_branch(struct wh_p9_request *q, const struct node *n, struct wh_p9_str name)
{
	char branch[WH_STORE_BRANCH_SIZE_MAX + 1];
	size_t size = 0;
	for (uint16_t i = 0; i < name.size; i++) {
		if (size + 1 >= sizeof branch)
			return -WH_ENAMETOOLONG;
		bool escape = name.size - i >= 3 && !memcmp(name.text + i, "%2F", 3);
		branch[size++] = escape ? '/' : name.text[i];
		i = (uint16_t)(i + (escape ? 2 : 0));
	}
	branch[size] = 0;
	if (!wh_store_branch_valid(branch)) {
		snprintf(q->text_buffer, sizeof q->text_buffer, "Invalid branch name %.80s",
			 branch);
		return wh_p9_fail(q, -WH_EINVAL, q->text_buffer);
	}
	return empty_branch_add(n->session, branch) ? 0 : -WH_ENOMEM;
}

/* A folder, file or link of this name in n; then it can be walked to. */
static int make(struct wh_p9_request *q, struct node *n, struct wh_p9_str name, uint32_t mode)
{
	struct wh_store_node *made;
	struct tx *t;
	struct remote *r;
	bool dir = mode == WH_STORE_DIR;
	if (n->session->read_only)
		return wh_p9_fail(q, -WH_EROFS, READ_ONLY_DIR);
	if (n->session->allow < WH_STOREFS_ADMIN && (n->kind == K_BRANCHES || n->kind == K_REMOTES))
		return wh_p9_fail(q, -WH_EACCES, "the token does not allow this");
	switch (n->kind) {
	case K_BRANCHES:
		return dir ? make_branch(q, n, name)
			   : wh_p9_fail(q, -WH_EPERM, "Can only contain directories");
	case K_TRANSACTIONS:
		return dir ? tx_new(n->session, n->branch, name, &t, q)
			   : wh_p9_fail(q, -WH_EPERM, "Can only contain directories");
	case K_REMOTES:
		return dir ? remote_new(n->session, name, &r)
			   : wh_p9_fail(q, -WH_EPERM, "Can only contain directories");
	case K_RW:
		break;
	default:
		return wh_p9_fail(q, -WH_EROFS, READ_ONLY_DIR);
	}
	if (n->tx->dead)
		return -WH_ENOENT;
	int error = wh_store_node_create(n->rw, name.text, name.size, mode, &made);
	if (error < 0)
		return error;
	if (mode == WH_STORE_SYMLINK)
		error = wh_store_node_write(made, 0, q->t.name2.text, q->t.name2.size);
	wh_store_node_unref(made);
	return error;
}

static uint32_t kind_of_mode(uint32_t mode)
{
	return mode & 0100 ? WH_STORE_EXECUTABLE : WH_STORE_FILE;
}

/* The fid goes to what was made, and is open. */
static int enter(struct wh_p9_request *q, struct wh_p9_str name)
{
	struct node *next;
	int r = node_step(q, node_of(q->fid), name, &next);
	if (r < 0)
		return r;
	node_free(q->fid->node);
	q->fid->node = next;
	q->r.qid = node_qid(next);
	return 0;
}

static int op_create(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid), *there;
	uint32_t mode = kind_of_mode(q->t.mode);
	/* Linux creates what it thinks is not there: a file that exists is opened, as its flags say. */
	if (n->kind != K_RW && node_step(q, n, q->t.name, &there) >= 0) {
		node_free(there);
		return enter(q, q->t.name);
	}
	int r = make(q, n, q->t.name, mode);
	return r < 0 ? r : enter(q, q->t.name);
}

static int op_create9(void *ctx, struct wh_p9_request *q)
{
	uint32_t mode = kind_of_mode(q->t.mode);
	if (q->t.mode & WH_P9_DMDIR)
		mode = WH_STORE_DIR;
	else if (q->t.mode & WH_P9_DMSYMLINK)
		mode = WH_STORE_SYMLINK;
	if (mode == WH_STORE_SYMLINK && !q->t.name2.size)
		return wh_p9_fail(q, -WH_EINVAL, "Missing target for symlink!");
	int r = make(q, node_of(q->fid), q->t.name, mode);
	return r < 0 ? r : enter(q, q->t.name);
}

static int made_qid(struct wh_p9_request *q)
{
	struct node *n;
	int r = node_step(q, node_of(q->fid), q->t.name, &n);
	if (r < 0)
		return r;
	q->r.qid = node_qid(n);
	node_free(n);
	return 0;
}

static int op_mkdir(void *ctx, struct wh_p9_request *q)
{
	int r = make(q, node_of(q->fid), q->t.name, WH_STORE_DIR);
	return r < 0 ? r : made_qid(q);
}

static int op_symlink(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid);
	struct wh_store_node *there;
	if (n->kind == K_RW &&
	    wh_store_node_find(n->rw, q->t.name.text, q->t.name.size, &there) >= 0) {
		wh_store_node_unref(there);
		return -WH_EEXIST;
	}
	int r = make(q, n, q->t.name, WH_STORE_SYMLINK);
	return r < 0 ? r : made_qid(q);
}

static int op_readlink(void *ctx, struct wh_p9_request *q)
{
	static __thread char *link; /* until the answer is encoded */
	struct wh_p9_stat s = { 0 };
	struct node *n = node_of(q->fid);
	free(link);
	int r = fill_stat(n, "", &s, &link);
	if (r < 0)
		return r;
	if (!(s.mode & WH_P9_DMSYMLINK) || !link)
		return -WH_EINVAL;
	q->r.name = s.extension;
	return 0;
}

/* ---- removing, renaming ---- */

static int remove_node(struct wh_p9_request *q, struct node *n)
{
	struct wh_diag diag = { "" };
	struct session *s = n->session;
	if (s->read_only)
		return wh_p9_fail(q, -WH_EROFS, "Read-only file");
	if (n->kind == K_RW)
		return n->tx->dead    ? -WH_ENOENT
		       : is_rw_top(n) ? -WH_EPERM
				      : wh_store_node_remove(n->rw);
	if (s->allow < WH_STOREFS_ADMIN)
		return wh_p9_fail(q, -WH_EACCES, "the token does not allow this");
	if (n->kind == K_REMOTE) {
		remote_remove(n->remote);
		return 0;
	}
	if (n->kind != K_BRANCH)
		return wh_p9_fail(q, -WH_EPERM, "Operation not permitted");
	bool was_empty = false;
	for (struct empty_branch **e = &s->empty, *gone; (gone = *e);) {
		if (wh_streq(gone->name, n->branch)) {
			*e = gone->next;
			free(gone->name);
			free(gone);
			was_empty = true;
		} else {
			e = &gone->next;
		}
	}
	int r = wh_store_branch_set(s->fs->store, n->branch, NULL, NULL, &diag);
	return r == -WH_ENOENT && was_empty ? 0 : r;
}

static int op_remove(void *ctx, struct wh_p9_request *q)
{
	return remove_node(q, node_of(q->fid));
}

static int op_unlinkat(void *ctx, struct wh_p9_request *q)
{
	struct node *n;
	int r = node_step(q, node_of(q->fid), q->t.name, &n);
	if (r < 0)
		return r;
	bool dir = q->t.flags & 0x200; /* AT_REMOVEDIR */
	if (dir != node_is_dir(n))
		r = dir ? -WH_ENOTDIR : -WH_EISDIR;
	if (r >= 0 && dir && n->kind == K_RW) { /* rmdir(2) wants an empty one */
		struct listing *l;
		r = node_list(n, &l);
		if (r >= 0) {
			r = l->count ? -WH_ENOTEMPTY : 0;
			listing_free(l);
		}
	}
	if (r >= 0)
		r = remove_node(q, n);
	node_free(n);
	return r;
}

static int rename_to(struct wh_p9_request *q, struct node *n, struct node *dir,
		     struct wh_p9_str name)
{
	struct wh_diag diag = { "" };
	char to[WH_STORE_BRANCH_SIZE_MAX + 1];
	if (n->session->read_only)
		return wh_p9_fail(q, -WH_EROFS, "Read-only file");
	if (n->kind == K_RW) {
		if (n->tx->dead || dir->kind != K_RW)
			return n->tx->dead ? -WH_ENOENT : -WH_EXDEV;
		if (is_rw_top(n))
			return -WH_EPERM;
		return wh_store_node_rename(n->rw, dir->rw, name.text, name.size);
	}
	if (n->session->allow < WH_STOREFS_ADMIN)
		return wh_p9_fail(q, -WH_EACCES, "the token does not allow this");
	if (n->kind == K_REMOTE) {
		if (remote_find(n->session->fs, name.text, name.size))
			return wh_p9_fail(q, -WH_EEXIST, "Already exists");
		char *copy = strndup(name.text, name.size);
		if (!copy)
			return -WH_ENOMEM;
		remote_forget(n->remote);
		free(n->remote->name);
		n->remote->name = copy;
		remote_save(n->remote);
		return 0;
	}
	if (n->kind == K_ROOT)
		return wh_p9_fail(q, -WH_EPERM, "Can't rename /");
	if (n->kind != K_BRANCH)
		return wh_p9_fail(q, -WH_EPERM, "Operation not permitted");
	if (name.size >= sizeof to)
		return -WH_ENAMETOOLONG;
	memcpy(to, name.text, name.size);
	to[name.size] = 0;
	if (!wh_store_branch_valid(to))
		return wh_p9_fail(q, -WH_EINVAL, "Invalid branch name");
	int r = wh_store_branch_rename(n->session->fs->store, n->branch, to, &diag);
	if (r == -WH_EEXIST)
		return wh_p9_fail(q, -WH_EISDIR, "Is a directory");
	if (r < 0)
		return r;
	char *copy = strdup(to);
	if (copy) {
		free(n->branch);
		n->branch = copy;
	}
	return 0;
}

static int op_rename(void *ctx, struct wh_p9_request *q)
{
	return rename_to(q, node_of(q->fid), node_of(q->fid2), q->t.name);
}

static int op_renameat(void *ctx, struct wh_p9_request *q)
{
	struct node *n;
	int r = node_step(q, node_of(q->fid), q->t.name, &n);
	if (r < 0)
		return r;
	r = rename_to(q, n, node_of(q->fid2), q->t.name2);
	node_free(n);
	return r;
}

/* ---- changing attributes ---- */

static int set_size(struct wh_p9_request *q, struct node *n, uint64_t size)
{
	if (n->session->read_only)
		return wh_p9_fail(q, -WH_EROFS, "Read-only file");
	if (is_remote_text(n) && n->session->allow < WH_STOREFS_ADMIN)
		return wh_p9_fail(q, -WH_EACCES, "the token does not allow this");
	switch (nature_of(n->kind)) {
	case N_RW:
		return n->tx->dead ? -WH_ENOENT : wh_store_node_truncate(n->rw, size);
	case N_TEXT:
		return text_truncate(n, size);
	case N_COMMAND:
		return size ? wh_p9_fail(q, -WH_EINVAL, "Can't extend command file") : 0;
	default:
		return wh_p9_fail(q, -WH_EROFS, "Read-only file");
	}
}

static int set_mode(struct wh_p9_request *q, struct node *n, uint32_t mode)
{
	if (n->session->read_only)
		return wh_p9_fail(q, -WH_EROFS, "Read-only file");
	if (n->kind != K_RW || node_is_dir(n))
		return wh_p9_fail(q, -WH_EPERM, "Operation not permitted");
	if (n->tx->dead)
		return -WH_ENOENT;
	if (wh_store_node_mode(n->rw) == WH_STORE_SYMLINK)
		return 0;
	return wh_store_node_set_mode(n->rw, kind_of_mode(mode));
}

static int op_setattr(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid);
	const struct wh_p9_setattr *a = &q->t.setattr;
	int r = 0;
	if (a->valid & WH_P9_SETATTR_SIZE)
		r = set_size(q, n, a->size);
	if (r >= 0 && a->valid & WH_P9_SETATTR_MODE && nature_of(n->kind) == N_RW &&
	    !node_is_dir(n))
		r = set_mode(q, n, a->mode);
	return r; /* times and owners are not kept */
}

static int op_wstat(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid);
	const struct wh_p9_stat *s = &q->t.stat;
	bool rename = s->name.size != 0, resize = s->length != UINT64_MAX,
	     chmod = s->mode != UINT32_MAX;
	if (rename + resize + chmod > 1)
		return wh_p9_fail(q, -WH_EINVAL, "Can't rename/truncate/chmod at the same time");
	if (resize)
		return set_size(q, n, s->length);
	if (chmod)
		return set_mode(q, n, s->mode);
	if (!rename)
		return 0;
	if (memchr(s->name.text, '/', s->name.size) || s->name.size > WH_P9_NAME_SIZE_MAX)
		return -WH_EINVAL;
	if (n->kind != K_RW)
		return rename_to(q, n, n, s->name);
	struct node *dir;
	int r = parent_of(n, &dir);
	if (r < 0)
		return r;
	r = dir->kind == K_RW ? rename_to(q, n, dir, s->name)
			      : wh_p9_fail(q, -WH_EPERM, "Can't rename /");
	node_free(dir);
	return r;
}

static int op_statfs(void *ctx, struct wh_p9_request *q)
{
	q->r.statfs.type = 0x01021997; /* what Linux says for 9P */
	q->r.statfs.block_size = 4096;
	q->r.statfs.name_size_max = WH_STORE_NAME_SIZE_MAX;
	return 0;
}

static void op_clunk(void *ctx, struct wh_p9_fid *fid)
{
	node_free(fid->node);
}

static void op_flush(void *ctx, struct wh_p9_request *q)
{
	struct session *s = ctx;
	if (!stream_flush(s->fs, q) && !commits_forget(s->fs, q) && !care_flush(s->fs, q))
		(void)remote_flush(s->fs, q);
}

const struct wh_p9_fs_ops storefs_ops = { .attach = op_attach,
					  .walk = op_walk,
					  .open = op_open,
					  .create = op_create,
					  .read = op_read,
					  .write = op_write,
					  .readdir = op_readdir,
					  .getattr = op_getattr,
					  .setattr = op_setattr,
					  .statfs = op_statfs,
					  .readlink = op_readlink,
					  .symlink = op_symlink,
					  .mkdir = op_mkdir,
					  .rename = op_rename,
					  .renameat = op_renameat,
					  .unlinkat = op_unlinkat,
					  .remove = op_remove,
					  .create9 = op_create9,
					  .stat = op_stat,
					  .wstat = op_wstat,
					  .readstat = op_readstat,
					  .clunk = op_clunk,
					  .flush = op_flush };
