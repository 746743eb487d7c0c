/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store_priv.h"

#define AUTHOR "datakit"
#define MAIL "datakit@mobyproject.org"
#define NO_MESSAGE "(no commit message)"

/* ---- conflicts ---- */

static int find_conflict(const struct conflict_list *c, const char *path, size_t *ret_index)
{
	size_t low = 0, high = c->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int r = strcmp(c->path[middle], path);
		if (!r) {
			*ret_index = middle;
			return 1;
		}
		if (r < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_index = low;
	return 0;
}

void conflicts_add(struct conflict_list *c, const char *path)
{
	size_t i;
	if (find_conflict(c, path, &i))
		return;
	if (c->count == c->room) {
		char **more = realloc(c->path, (c->room = c->room * 2 + 8) * sizeof *more);
		wh_assert(more);
		c->path = more;
	}
	memmove(c->path + i + 1, c->path + i, (c->count - i) * sizeof *c->path);
	c->path[i] = strdup(path);
	wh_assert(c->path[i]);
	c->count++;
}

void conflicts_clear(struct conflict_list *c, const char *path)
{
	size_t n = strlen(path), kept = 0;
	for (size_t i = 0; i < c->count; i++) {
		const char *p = c->path[i];
		if (!n || (!strncmp(p, path, n) && (!p[n] || p[n] == '/')))
			free(c->path[i]);
		else
			c->path[kept++] = c->path[i];
	}
	c->count = kept;
}

void conflicts_fini(struct conflict_list *c)
{
	conflicts_clear(c, "");
	free(c->path);
	*c = (struct conflict_list){ 0 };
}

/* ---- begin and end ---- */

int commit_tree(struct wh_store *s, const git_oid *commit, git_oid *ret_tree)
{
	void *data;
	size_t size;
	struct known_commit *known = &s->known[commit->id[0] % KNOWN_COMMITS];
	if (oid_eq(&known->id, commit) && !oid_is_zero(&known->tree)) {
		*ret_tree = known->tree;
		return 0;
	}
	int r = object_read(s, commit, GIT_OBJECT_COMMIT, &data, &size);
	if (r < 0)
		return r;
	const char *text = data;
	r = size < 46 || memcmp(text, "tree ", 5) || git_oid_fromstrn(ret_tree, text + 5, 40)
		    ? -WH_EIO
		    : 0;
	free(data);
	if (r >= 0)
		*known = (struct known_commit){ *commit, *ret_tree };
	return r;
}

int wh_store_tx_begin(struct wh_store *s, const char *branch, struct wh_store_tx **ret_tx,
		      struct wh_diag *diag)
{
	if (!wh_store_branch_valid(branch))
		return wh_diag_set(diag, -WH_EINVAL, "%s is no name of a branch", branch);
	struct wh_store_tx *tx = calloc(1, sizeof *tx);
	if (!tx)
		return -WH_ENOMEM;
	tx->store = s;
	s->stats.transactions_open++;
	snprintf(tx->branch, sizeof tx->branch, "%s", branch);
	/* What is staged for the branch is where its next commit begins. */
	struct staged_ref *staged = ref_staged(s, branch);
	int r = 0;
	if (staged)
		tx->head = staged->new_id;
	else
		r = ref_read(s, branch, &tx->head);
	if (r == -WH_ENOENT)
		r = 0;
	if (r >= 0 && !oid_is_zero(&tx->head)) {
		struct wh_store_id head = id_of(&tx->head);
		r = commit_tree(s, &tx->head, &tx->head_tree);
		if (r >= 0)
			r = wh_store_tx_set_parents(tx, &head, 1);
	}
	if (r >= 0) {
		tx->root = node_root_new(tx, &tx->head_tree);
		r = tx->root ? 0 : -WH_ENOMEM;
	}
	if (r < 0) {
		wh_store_tx_free(tx);
		return wh_diag_set(diag, r, "the head of branch %s cannot be read: %s", branch,
				   strerror(-r));
	}
	*ret_tx = tx;
	return 0;
}

void wh_store_tx_free(struct wh_store_tx *tx)
{
	if (!tx)
		return;
	node_drop_tree(tx->root);
	conflicts_fini(&tx->conflicts);
	tx->store->stats.transactions_open--;
	free(tx->parents);
	free(tx->sides);
	free(tx);
}

unsigned wh_store_tx_parents(const struct wh_store_tx *tx, const struct wh_store_id **ret_ids)
{
	*ret_ids = tx->parents;
	return tx->parent_count;
}

int wh_store_tx_set_parents(struct wh_store_tx *tx, const struct wh_store_id *ids, unsigned count)
{
	struct wh_store_id *copy = malloc((count + 1) * sizeof *copy);
	if (!copy)
		return -WH_ENOMEM;
	memcpy(copy, ids, count * sizeof *copy);
	free(tx->parents);
	tx->parents = copy;
	tx->parent_count = count;
	return 0;
}

size_t wh_store_tx_conflicts(const struct wh_store_tx *tx, const char *const **ret_paths)
{
	if (ret_paths)
		*ret_paths = (const char *const *)tx->conflicts.path;
	return tx->conflicts.count;
}

const struct wh_store_sides *wh_store_tx_sides(const struct wh_store_tx *tx)
{
	return tx->sides;
}

int wh_store_tx_tree(struct wh_store_tx *tx, struct wh_store_id *ret_tree)
{
	git_oid id;
	int r = node_write_tree(tx->root, &id);
	if (r >= 0)
		*ret_tree = id_of(&id);
	return r;
}

/* ---- by path ---- */

static int walk(struct wh_store_tx *tx, const char *path, bool make, struct wh_store_node **ret_dir,
		const char **ret_name, struct wh_diag *diag)
{
	struct wh_store_node *at = wh_store_tx_root(tx), *next;
	size_t n;
	if (strlen(path) > WH_STORE_PATH_SIZE_MAX)
		return wh_diag_set(diag, -WH_ENAMETOOLONG, "a path has more than %u bytes",
				   WH_STORE_PATH_SIZE_MAX);
	while (path[n = strcspn(path, "/")]) {
		int r = wh_store_node_find(at, path, n, &next);
		if (r == -WH_ENOENT && make)
			r = wh_store_node_create(at, path, n, WH_STORE_DIR, &next);
		wh_store_node_unref(at);
		if (r < 0)
			return wh_diag_set(diag, r, "%s: %s", path, strerror(-r));
		at = next;
		path += n + 1;
	}
	*ret_dir = at;
	*ret_name = path;
	return 0;
}

int wh_store_tx_put(struct wh_store_tx *tx, const char *path, const void *data, size_t size,
		    uint32_t mode, struct wh_diag *diag)
{
	struct wh_store_node *dir, *n;
	const char *name;
	int r = walk(tx, path, true, &dir, &name, diag);
	if (r < 0)
		return r;
	if (!mode) {
		mode = WH_STORE_FILE;
		if (wh_store_node_find(dir, name, strlen(name), &n) >= 0) {
			if (n->mode == WH_STORE_EXECUTABLE)
				mode = n->mode;
			wh_store_node_unref(n);
		}
	}
	r = wh_store_node_create(dir, name, strlen(name), mode, &n);
	if (r >= 0) {
		if (mode != WH_STORE_DIR)
			r = wh_store_node_write(n, 0, data, size);
		wh_store_node_unref(n);
	}
	wh_store_node_unref(dir);
	return r < 0 ? wh_diag_set(diag, r, "%s: %s", path, strerror(-r)) : 0;
}

int wh_store_tx_remove(struct wh_store_tx *tx, const char *path, struct wh_diag *diag)
{
	struct wh_store_node *dir, *n;
	const char *name;
	int r = walk(tx, path, false, &dir, &name, diag);
	if (r < 0)
		return r;
	r = wh_store_node_find(dir, name, strlen(name), &n);
	if (r >= 0) {
		r = wh_store_node_remove(n);
		wh_store_node_unref(n);
	}
	wh_store_node_unref(dir);
	return r < 0 ? wh_diag_set(diag, r, "%s: %s", path, strerror(-r)) : 0;
}

int wh_store_tx_get(struct wh_store_tx *tx, const char *path, void **ret_data, size_t *ret_size)
{
	struct wh_store_node *dir, *n;
	const char *name;
	uint64_t size;
	int r = walk(tx, path, false, &dir, &name, NULL);
	if (r < 0)
		return r;
	r = wh_store_node_find(dir, name, strlen(name), &n);
	wh_store_node_unref(dir);
	if (r < 0)
		return r;
	r = n->mode == WH_STORE_DIR ? -WH_EISDIR : wh_store_node_size(n, &size);
	uint8_t *data = r >= 0 ? malloc((size_t)size + 1) : NULL;
	if (r >= 0 && !data)
		r = -WH_ENOMEM;
	if (r >= 0) {
		int64_t got = wh_store_node_read(n, 0, data, (size_t)size);
		r = got < 0 ? (int)got : 0;
		data[r < 0 ? 0 : size] = 0;
	}
	wh_store_node_unref(n);
	if (r < 0) {
		free(data);
		return r;
	}
	*ret_data = data;
	*ret_size = (size_t)size;
	return 0;
}

/* ---- commits ---- */

/* A name must not break the line it is in. */
static void put_name(char *to, size_t max, const char *from)
{
	size_t n = 0;
	for (; *from && n + 1 < max; from++)
		if (*from != '<' && *from != '>' && (unsigned char)*from >= ' ')
			to[n++] = *from;
	to[n] = 0;
}

int commit_stage(struct wh_store *s, const git_oid *tree, const struct wh_store_id *parents,
		 unsigned parent_count, const struct wh_store_commit_config *config,
		 git_oid *ret_id)
{
	char name[200], mail[200], who[450];
	const char *message = config->message && *config->message ? config->message : NO_MESSAGE;
	size_t room = 48 + 48ull * parent_count + 2 * sizeof who + strlen(message) + 64, n;
	git_oid empty = { { 0 } };
	char *text = malloc(room);
	if (!text)
		return -WH_ENOMEM;
	if (oid_is_zero(tree)) { /* the empty tree is an object as well */
		uint8_t *nothing = calloc(1, 1);
		int r = nothing ? object_stage(s, GIT_OBJECT_TREE, nothing, 0, &empty) : -WH_ENOMEM;
		if (r < 0) {
			free(text);
			return r;
		}
		tree = &empty;
	}
	put_name(name, sizeof name, config->author && *config->author ? config->author : AUTHOR);
	put_name(mail, sizeof mail, config->mail ? config->mail : MAIL);
	snprintf(who, sizeof who, "%s <%s> %lld +0000", name, mail, (long long)time(NULL));
	char hex[41];
	n = (size_t)snprintf(text, room, "tree %s\n", git_oid_tostr(hex, sizeof hex, tree));
	for (unsigned i = 0; i < parent_count; i++) {
		wh_store_id_format(&parents[i], hex);
		n += (size_t)snprintf(text + n, room - n, "parent %s\n", hex);
	}
	n += (size_t)snprintf(text + n, room - n, "author %s\ncommitter %s\n\n%s", who, who,
			      message);
	s->stats.commits++;
	int r = object_stage(s, GIT_OBJECT_COMMIT, text, n, ret_id);
	if (r >= 0)
		s->known[ret_id->id[0] % KNOWN_COMMITS] = (struct known_commit){ *ret_id, *tree };
	return r;
}

static int check_parents(struct wh_store_tx *tx, struct wh_diag *diag)
{
	for (unsigned i = 0; i < tx->parent_count; i++)
		if (wh_store_object_kind(tx->store, &tx->parents[i]) != WH_STORE_OBJECT_COMMIT)
			return wh_diag_set(diag, -WH_ENOENT, "No such file or directory");
	return 0;
}

/* What the branch becomes when `commit` is merged into it. */
static int join(struct wh_store *s, const git_oid *head, const git_oid *commit,
		const struct wh_store_commit_config *config, git_oid *ret_head,
		struct wh_diag *diag)
{
	struct wh_store_id head_id = id_of(head), commit_id = id_of(commit);
	if (oid_is_zero(head)) {
		*ret_head = *commit;
		return 0;
	}
	int r = wh_store_leads_to(s, &head_id, &commit_id);
	if (r != 0) {
		*ret_head = *commit;
		return r < 0 ? r : 0;
	}
	r = wh_store_leads_to(s, &commit_id, &head_id);
	if (r != 0) {
		*ret_head = *head;
		return r < 0 ? r : 0;
	}
	git_oid base = { { 0 } }, trees[3] = { { { 0 } } }, merged;
	r = merge_base(s, head, commit, &base);
	if (r == -WH_ENOENT)
		r = 0;
	else if (r >= 0)
		r = commit_tree(s, &base, &trees[0]);
	if (r >= 0)
		r = commit_tree(s, head, &trees[1]);
	if (r >= 0)
		r = commit_tree(s, commit, &trees[2]);
	if (r < 0)
		return r;
	/* As git does it, ours is the branch and theirs what comes in. */
	struct merge m = { .store = s,
			   .diag = diag,
			   .our_commit = *head,
			   .their_commit = *commit,
			   .theirs_later = true };
	r = merge_trees(&m, &trees[0], &trees[1], &trees[2], &merged);
	if (r < 0) {
		s->stats.conflicts += r == -WH_STORE_ECONFLICT;
		return r;
	}
	struct wh_store_id parents[2] = { head_id, commit_id };
	struct wh_store_commit_config c = *config;
	c.message = "Merge";
	s->stats.merges++;
	return commit_stage(s, &merged, parents, 2, &c, ret_head);
}

static int publish(struct wh_store *s, const char *branch, const git_oid *commit,
		   const struct wh_store_commit_config *config, git_oid *ret_head,
		   struct wh_diag *diag)
{
	struct staged_ref *ref;
	bool before = ref_staged(s, branch) != NULL;
	int r = ref_stage(s, branch, false, &ref, diag);
	if (r < 0)
		return r;
	r = join(s, &ref->new_id, commit, config, ret_head, diag);
	if (r < 0) {
		if (!before)
			ref_unstage(s, ref);
		return r;
	}
	ref->new_id = *ret_head;
	bool lazy = config->durability == WH_STORE_LAZY;
	ref->lazy = before ? ref->lazy && lazy : lazy;
	return config->deferred ? 0 : wh_store_flush(s, diag);
}

int wh_store_tx_commit(struct wh_store_tx *tx, const struct wh_store_commit_config *config,
		       struct wh_store_id *ret_id, struct wh_diag *diag)
{
	static const struct wh_store_commit_config none;
	git_oid tree, commit, head;
	if (tx->conflicts.count)
		return wh_diag_set(diag, -WH_STORE_ECONFLICT, "conflicts file is not empty");
	int r = check_parents(tx, diag);
	if (r >= 0)
		r = node_write_tree(tx->root, &tree);
	if (r >= 0)
		r = commit_stage(tx->store, &tree, tx->parents, tx->parent_count,
				 config ? config : &none, &commit);
	if (r >= 0)
		r = publish(tx->store, tx->branch, &commit, config ? config : &none, &head, diag);
	if (r < 0) {
		if (diag && !diag->text[0])
			wh_diag_set(diag, r, "the commit cannot be made: %s", strerror(-r));
		return r;
	}
	tx->used = true;
	if (ret_id)
		*ret_id = id_of(&head);
	return 0;
}

int wh_store_branch_merge(struct wh_store *s, const char *branch, const struct wh_store_id *commit,
			  const char *message, struct wh_store_id *ret_head, struct wh_diag *diag)
{
	git_oid id = oid_of(commit), head;
	struct wh_store_commit_config c = { .message = message };
	if (wh_store_object_kind(s, commit) != WH_STORE_OBJECT_COMMIT)
		return wh_diag_set(diag, -WH_ENOENT, "there is no such commit");
	int r = publish(s, branch, &id, &c, &head, diag);
	if (r >= 0 && ret_head)
		*ret_head = id_of(&head);
	return r;
}

/* ---- merge inside a transaction ---- */

int wh_store_tx_merge(struct wh_store_tx *tx, const struct wh_store_id *commit,
		      struct wh_diag *diag)
{
	struct wh_store *s = tx->store;
	git_oid ours = { { 0 } }, ours_commit, theirs = oid_of(commit), theirs_tree,
		base = { { 0 } }, base_tree = { { 0 } }, merged;
	struct wh_store_commit_config config = { .message = "(merge in progress)" };
	if (tx->conflicts.count)
		return wh_diag_set(diag, -WH_STORE_ECONFLICT, "conflicts file is not empty");
	if (wh_store_object_kind(s, commit) != WH_STORE_OBJECT_COMMIT)
		return wh_diag_set(diag, -WH_ENOENT, "No such file or directory");
	int r = check_parents(tx, diag);
	if (r >= 0)
		r = node_write_tree(tx->root, &ours);
	if (r >= 0)
		r = commit_tree(s, &theirs, &theirs_tree);
	if (r >= 0 && tx->parent_count) {
		/* Ours as a commit, so that the histories can be compared. */
		r = commit_stage(s, &ours, tx->parents, tx->parent_count, &config, &ours_commit);
		if (r >= 0)
			r = merge_base(s, &ours_commit, &theirs, &base);
		if (r == -WH_ENOENT)
			r = 0;
		else if (r >= 0)
			r = commit_tree(s, &base, &base_tree);
	}
	if (r < 0)
		return r;
	struct merge m = { .store = s,
			   .keep = true,
			   .conflicts = &tx->conflicts,
			   .diag = diag,
			   .their_commit = theirs,
			   .theirs_later = true };
	r = merge_trees(&m, &base_tree, &ours, &theirs_tree, &merged);
	struct wh_store_id *parents =
		r >= 0 ? realloc(tx->parents, (tx->parent_count + 1) * sizeof *parents) : NULL;
	if (!tx->sides)
		tx->sides = calloc(1, sizeof *tx->sides);
	if (r >= 0 && (!parents || !tx->sides))
		r = -WH_ENOMEM;
	if (r < 0)
		return r;
	tx->parents = parents;
	tx->parents[tx->parent_count++] = *commit;
	*tx->sides =
		(struct wh_store_sides){ id_of(&ours), id_of(&theirs_tree), id_of(&base_tree) };
	node_set_tree(tx->root, &merged);
	s->stats.conflicts += tx->conflicts.count != 0;
	return (int)tx->conflicts.count;
}
